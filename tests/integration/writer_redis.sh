#!/bin/bash
# The writer for Redis against a real server, its events played one by one (tests/support/drive.sh), with an
# append-only file and without.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
source "$UMBRA_SOURCE/tests/support/drive.sh"
source "$UMBRA_SOURCE/tests/support/databases.sh"
t_need timeout
t_tmpdir
T_TMP=$(realpath "$T_TMP")
redis_setup
data=$T_TMP/tree/data sock=$T_TMP/s
mkdir "$T_TMP/tree"
chmod 0755 "$T_TMP/tree"
export DRIVE_TREES=$T_TMP/tree

cmd() {
	redis_cmd "$sock" "$@"
}
# What has to go on: it may take its time, though far less than the windows here.
now() {
	timeout 15 "$REDIS_CLI" -s "$sock/redis.sock" "$@" 2>&1 || echo waits
}
# Whether a change waits: it is given a moment, and then given up.
held() {
	timeout 0.3 "$REDIS_CLI" -s "$sock/redis.sock" "$@" 2>&1 || echo waits
}
# What a server on a copy of this moment says to a command.
copy_says() {
	rm -rf "$T_TMP/copy"
	cp -a "$data" "$T_TMP/copy"
	redis_start "$T_TMP/copy" "$T_TMP/s2" $copy_options || return
	redis_cmd "$T_TMP/s2" "$@"
	redis_stop "$T_TMP/s2"
}

for how in aof rdb; do
	rm -rf "$data"
	db_dir "$data"
	case $how in
	aof) copy_options="--appendonly yes" ;;
	rdb) copy_options="--appendonly no" ;;
	esac
	t_ok "$how: starts" redis_start "$data" "$sock" $copy_options
	cmd set n 1 >/dev/null
	d_start redis --lock-wait 5 --server-socket "$sock/redis.sock"
	d_is "$how: identify" "identify" ok
	t_like "$how: the document names the data (M-2)" "$D_DOCUMENT" '"type":"database".*"path":"'"$data"
	d_is "$how: prepare" "prepare-for-snapshot" ok
	t_is "$how: prepared, everything goes on" "$(now set n 2)" OK
	d_is "$how: freeze" "freeze s1 60000" ok
	t_is "$how: what was answered is in files" "$(copy_says get n)" 2
	t_is "$how: frozen, changes wait" "$(held set n 3)" waits
	t_is "$how: it can be read" "$(now get n)" 2
	d_is "$how: Identify while frozen (W-10)" "identify" ok
	d_is "$how: an Abort of another session thaws nothing (W-11)" "abort s2" ok
	t_is "$how: still frozen" "$(held set n 3)" waits
	d_is "$how: thaw" "thaw s1" ok
	t_is "$how: everything goes on" "$(now set n 4)" OK
	d_is "$how: Thaw again (A-14)" "thaw s1" ok
	d_is "$how: Abort after that (A-14)" "abort s1" ok
	t_ok "$how: only its connection is left" test "$(pgrep -P "$D_PID" | wc -l)" = 0

	d_is "$how: again" "prepare-for-snapshot" ok
	d_is "$how: freeze" "freeze s1 60000" ok
	d_is "$how: Abort thaws (A-14)" "abort s1" ok
	t_is "$how: everything goes on" "$(now set n 5)" OK

	d_is "$how: again" "prepare-for-snapshot" ok
	d_is "$how: freeze" "freeze s1 60000" ok
	cmd client unpause >/dev/null
	t_is "$how: somebody else ends the pause" "$(now set n 6)" OK
	d_like "$how: which Thaw sees" "thaw s1" '^fail inconsistent-snapshot:'

	d_is "$how: again" "prepare-for-snapshot" ok
	d_is "$how: freeze" "freeze s1 60000" ok
	cmd client kill type normal skipme yes >/dev/null
	d_like "$how: a session lost between Freeze and Thaw fails" "thaw s1" '^fail retryable:'
	t_is "$how: and ends the pause" "$(cmd set n 7)" OK

	d_is "$how: again: it connects anew" "prepare-for-snapshot" ok
	d_is "$how: freeze" "freeze s1 60000" ok
	t_is "$how: frozen" "$(held set n 8)" waits
	d_kill
	t_is "$how: after kill -9 it goes on long before the window ends (W-4)" "$(now set n 9)" OK
	d_start redis --server-socket "$sock/redis.sock"
	d_is "$how: again" "prepare-for-snapshot" ok
	d_is "$how: freeze" "freeze s1 8000" ok
	kill -STOP "$D_PID"
	t_is "$how: when the writer stands still it goes on with the window's end (W-4)" "$(timeout 60 "$REDIS_CLI" -s "$sock/redis.sock" set n 10)" OK
	kill -CONT "$D_PID"
	d_like "$how: which Thaw sees" "thaw s1" '^fail inconsistent-snapshot:'
	d_is "$how: again" "prepare-for-snapshot" ok
	d_is "$how: freeze" "freeze s1 60000" ok
	d_end
	t_is "$how: when the coordinator goes it goes on (W-9)" "$(now set n 11)" OK
	redis_stop "$sock"
done

# While the disk is busy Redis answers, and writes to its append-only file later.
rm -rf "$data"
db_dir "$data"
cp "$UMBRA_BUILD/tests/integration/slow_sync.so" "$T_TMP/"
chmod a+rx "$T_TMP/slow_sync.so"
copy_options="--appendonly yes"
LD_PRELOAD=$T_TMP/slow_sync.so SLOW_SYNC=$T_TMP/busy \
	t_ok "a server with a slow disk" redis_start "$data" "$sock" --appendonly yes --appendfsync everysec
d_start redis --server-socket "$sock/redis.sock"
d_is "prepare" "prepare-for-snapshot" ok
touch "$T_TMP/busy"
syncs() {
	cmd set n 1 >/dev/null
	cmd info persistence | grep -q 'aof_pending_bio_fsync:[1-9]'
}
waits() {
	cmd set n 2 >/dev/null
	cmd info persistence | grep -q 'aof_buffer_length:[1-9]'
}
t_ok "the disk is busy" t_wait_for 20 syncs
t_ok "a change is answered and not in the file" t_wait_for 20 waits
d_is "freeze" "freeze s1 60000" ok
t_is "what was answered is in files now" "$(copy_says get n)" 2
d_is "thaw" "thaw s1" ok
rm "$T_TMP/busy"
d_end
redis_stop "$sock"

# W-12, and what cannot be done
rm -rf "$data"
db_dir "$data"
db_dir "$T_TMP/outside"
ln -s "$T_TMP/outside" "$data/appendonlydir"
t_ok "its append-only files elsewhere" redis_start "$data" "$sock" --appendonly yes
d_start redis --server-socket "$sock/redis.sock"
d_like "are not in the set (W-12)" "prepare-for-snapshot" '^fail inconsistent-snapshot: .*outside'
d_end
DRIVE_TREES=$T_TMP/nothing d_start redis --server-socket "$sock/redis.sock"
d_is "nothing of it in the set" "prepare-for-snapshot" ok
d_is "then freeze" "freeze s1 60000" ok
t_is "stops nothing" "$(now set n 1)" OK
d_is "and thaw is fine" "thaw s1" ok
d_end
cmd config set requirepass secret >/dev/null
d_start redis --server-socket "$sock/redis.sock"
d_like "without the password" "prepare-for-snapshot" '^fail non-retryable: .*(NOAUTH|Authentication)'
d_end
REDISCLI_AUTH=wrong d_start redis --server-socket "$sock/redis.sock"
d_like "with a wrong one" "prepare-for-snapshot" '^fail non-retryable: .*WRONGPASS'
d_end
REDISCLI_AUTH=secret d_start redis --server-socket "$sock/redis.sock"
d_is "with the right one" "identify" ok
d_end
redis_stop "$sock"
rm "$data/appendonlydir"
t_ok "a server that saves nothing" redis_start "$data" "$sock" --save "" --appendonly no
d_start redis --server-socket "$sock/redis.sock"
d_like "has nothing for a snapshot" "prepare-for-snapshot" '^fail non-retryable: .*nothing on disk'
cmd config set save "3600 1" >/dev/null
d_end
d_start redis --recent-dump --server-socket "$sock/redis.sock"
d_is "content with a recent dump" "prepare-for-snapshot" ok
d_is "freeze" "freeze s1 60000" ok
t_is "stops nothing" "$(now set n 1)" OK
d_is "thaw" "thaw s1" ok
d_end
redis_stop "$sock"
d_start redis --server-socket "$sock/redis.sock"
d_like "without a server it is no participant" "identify" '^fail'
d_like "and prepare fails" "prepare-for-snapshot" '^fail retryable:'
d_end
d_done
