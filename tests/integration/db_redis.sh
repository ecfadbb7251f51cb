#!/bin/bash
# Redis under load in a protected directory, with an append-only file and with dumps only, snapshots with the
# writer: the files of each snapshot must pass Redis' own check as they are, a server started on a copy must
# find every transaction whole, and every change that was answered before the snapshot.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
source "$UMBRA_SOURCE/tests/support/databases.sh"
u_setup
[ -x "$UMBRA_BUILD/tools/writer/umbra-writer-redis" ] || t_skip_all "the writer for redis is not built here"
redis_setup
t_need python3
dir=$T_TMP/data sock=$T_TMP/s sock2=$T_TMP/s2
db_dir "$dir"
allow=
[ "$(id -u)" -ne 0 ] || allow=--allow-other
t_ok "protect" umbra protect $allow "$dir"
check_rdb=$(dirname "$REDIS")/redis-check-rdb check_aof=$(dirname "$REDIS")/redis-check-aof

# n, and the sum of what moves between the accounts, in one transaction; the answers come one by one.
load() {
	local n=0

	while [ ! -e "$T_TMP/stop" ]; do
		n=$((n + 1))
		echo "multi
incr n
hincrby money $((n % 50)) 1
hincrby money $((n * 7 % 50)) -1
set note:$((n % 100)) $(printf '%0500d' $n)
exec"
	done | "$REDIS_CLI" -s "$sock/redis.sock" >/dev/null
}
progress() {
	[ "$(redis_cmd "$sock" get n)" -gt "$1" ]
}
copy_sum() {
	redis_cmd "$sock2" eval "local s = 0 for _, v in ipairs(redis.call('hvals', 'money')) do s = s + v end return s" 0
}

for how in aof rdb; do
	data=$dir/$how
	db_dir "$data"
	rm -f "$T_TMP/stop"
	case $how in
	aof) options=(--appendonly yes --appendfsync everysec --save "") ;;
	rdb) options=(--appendonly no --save 3600 1) ;;
	esac
	t_ok "$how: a server starts" redis_start "$data" "$sock" "${options[@]}"
	t_ok "$how: the writer registers" u_writer redis --server-socket "$sock/redis.sock"
	redis_cmd "$sock" set n 0 >/dev/null
	load 2>"$T_TMP/load.out" 3>&- &
	load_pid=$!
	U_PIDS="${U_PIDS-} $load_pid"
	for i in 1 2; do
		t_ok "$how: the load runs" t_wait_for 60 progress "$((i * 200))"
		before=$(redis_cmd "$sock" get n)
		t_ok "$how: snapshot $i, no writer fails" umbra create --label "$how$i" "$dir"
		t_like "$how: the writer froze" "$(writer_said "$how$i" "$dir")" '^(waiting-for-backup-complete|stable) fine frozen$'
		copy_tree "$(snapshot_of "$dir" "$how$i")/$how" "$T_TMP/copy"
		if [ $how = rdb ]; then
			t_ok "$how: redis-check-rdb is content" "$check_rdb" "$T_TMP/copy/dump.rdb"
		else
			t_ok "$how: redis-check-aof is content" "$check_aof" "$T_TMP/copy/appendonlydir/appendonly.aof.manifest"
		fi
		t_ok "$how: a server starts on a copy of it" redis_start "$T_TMP/copy" "$sock2" "${options[@]}" \
			--aof-load-truncated no
		t_ok "$how: what was answered before is there" test "$(redis_cmd "$sock2" get n)" -ge "$before"
		t_is "$how: every transaction is whole" "$(copy_sum)" 0
		redis_stop "$sock2"
	done
	t_ok "$how: the load goes on" t_wait_for 60 progress "$(redis_cmd "$sock" get n)"
	touch "$T_TMP/stop"
	wait "$load_pid"
	t_is "$how: the load had no error" "$(cat "$T_TMP/load.out")" ""
	t_ok "$how: the writer stops when told to" u_writer_stop
	redis_stop "$sock"
done

# A server that was there before the mount writes below it.
mkdir "$T_TMP/early"
db_dir "$T_TMP/early/data"
chmod 0755 "$T_TMP/early"
t_ok "a server in a directory that is not protected yet" redis_start "$T_TMP/early/data" "$sock" --appendonly yes
if umbra protect $allow "$T_TMP/early" >/dev/null 2>&1; then
	t_ok "the writer registers" u_writer redis --server-socket "$sock/redis.sock"
	t_is "what it writes would not be in a snapshot: a writer failed (E-4)" \
		"$(umbra create --label early "$T_TMP/early" >/dev/null 2>&1; echo $?)" 4
	t_like "it says so" "$(writer_said early "$T_TMP/early")" '^failed-at-prepare-snapshot inconsistent-snapshot'
	t_ok "the writer stops when told to" u_writer_stop
	redis_stop "$sock"
	t_ok "delete it" u_delete --for "$T_TMP/early" --all
	t_ok "unprotect" umbra unprotect "$T_TMP/early"
else
	t_skip "a server that was there before the mount" "umbra protect refuses directories in use"
	redis_stop "$sock"
fi
t_ok "delete the snapshots" u_delete --for "$dir" --all
t_ok "unprotect" umbra unprotect "$dir"
U_COORDINATOR_PID=
kill "$(umbra status --json | u_json "j['info']['pid']")"
u_end
