#!/bin/bash
# The writer for SQLite against SQLite itself, its events played one by one (tests/support/drive.sh):
# what is locked and what is not, in each journal mode; that nothing stays locked, whatever happens.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/drive.sh"
t_need sqlite3 python3
t_tmpdir
T_TMP=$(realpath "$T_TMP")
dir=$T_TMP/data
export DRIVE_TREES=$dir

# sql FILE TEXT: gives up at once where somebody else has the lock
sql() {
	sqlite3 -cmd '.timeout 0' "$1" "$2" 2>&1
}
add='insert into t default values;'
count='select count(*) from t;'
state() {
	(cd "$dir" && cat a.db* b.db* | sha256sum)
}
locked='database is locked'

for mode in delete wal truncate persist; do
	rm -rf "$dir"
	mkdir "$dir"
	for f in a b; do
		sql "$dir/$f.db" "pragma journal_mode = $mode; create table t(id integer primary key); $add" >/dev/null
	done
	d_start sqlite "$dir/b.db" "$dir/a.db"
	d_is "$mode: identify" "identify" ok
	d_is "$mode: prepare" "prepare-for-snapshot" ok
	t_is "$mode: prepared, everything goes on" "$(sql "$dir/a.db" "$add $count")" 2
	d_is "$mode: freeze" "freeze s1 60000" ok
	before=$(state)
	t_like "$mode: frozen, the one cannot be written" "$(sql "$dir/a.db" "$add")" "$locked"
	t_like "$mode: nor the other" "$(sql "$dir/b.db" "$add")" "$locked"
	t_is "$mode: it can be read" "$(sql "$dir/a.db" "$count")" 2
	[ $mode = wal ] ||
		t_is "$mode: no byte has changed" "$(state)" "$before"
	t_is "$mode: no hot journal" "$(find "$dir" -name '*-journal' -size +0 -exec sh -c 'head -c 8 "$1" | tr -d "\0"' - {} \;)" ""
	mkdir "$T_TMP/copy"
	cp "$dir"/*.db "$dir"/*-wal "$T_TMP/copy/" 2>/dev/null
	t_is "$mode: a copy made meanwhile is whole" "$(sql "$T_TMP/copy/a.db" "pragma integrity_check; $count" | xargs)" "ok 2"
	rm -r "$T_TMP/copy"
	d_is "$mode: Identify while frozen (W-10)" "identify" ok
	t_like "$mode: still frozen" "$(sql "$dir/a.db" "$add")" "$locked"
	t_like "$mode: the document has both databases (M-2)" "$D_DOCUMENT" '"type":"database".*"name":"a.db".*"name":"b.db"'
	d_is "$mode: an Abort of another session thaws nothing (W-11)" "abort s2" ok
	t_like "$mode: still frozen" "$(sql "$dir/b.db" "$add")" "$locked"
	d_is "$mode: thaw" "thaw s1" ok
	t_is "$mode: everything goes on" "$(sql "$dir/a.db" "$add $count")" 3
	t_is "$mode: the other, too" "$(sql "$dir/b.db" "$add $count")" 2
	d_is "$mode: Thaw without a freeze (A-14)" "thaw s1" ok
	d_is "$mode: Abort after that (A-14)" "abort s1" ok

	d_is "$mode: again" "prepare-for-snapshot" ok
	d_is "$mode: freeze" "freeze s1 60000" ok
	d_is "$mode: Abort thaws (A-14)" "abort s1" ok
	t_is "$mode: everything goes on" "$(sql "$dir/b.db" "$add $count")" 3
	d_is "$mode: Freeze needs a PrepareForSnapshot" "freeze s1 60000" "fail retryable: Freeze came without PrepareForSnapshot"

	d_is "$mode: again" "prepare-for-snapshot" ok
	d_is "$mode: freeze" "freeze s1 60000" ok
	t_like "$mode: frozen" "$(sql "$dir/a.db" "$add")" "$locked"
	d_kill
	t_is "$mode: after kill -9 it goes on at once (W-4)" "$(sql "$dir/a.db" "$add $count")" 4
	d_start sqlite "$dir/a.db" "$dir/b.db"
	d_is "$mode: again" "prepare-for-snapshot" ok
	d_is "$mode: freeze" "freeze s1 60000" ok
	d_end
	t_is "$mode: when the coordinator goes, too (W-9)" "$(sql "$dir/a.db" "$add $count")" 5
done

# Somebody else in the middle of a transaction.
d_start sqlite --lock-wait 3 "$dir/a.db" "$dir/b.db"
mkfifo "$T_TMP/hold"
sqlite3 "$dir/b.db" <"$T_TMP/hold" >"$T_TMP/hold.out" 2>&1 3>&- 8>&- 9<&- &
holder=$!
exec 7>"$T_TMP/hold"
echo "begin immediate; $add select 'has it';" >&7
t_wait_for 20 grep -q 'has it' "$T_TMP/hold.out"
d_is "another transaction does not hinder preparing" "prepare-for-snapshot" ok
d_like "a database that stays locked is a veto, to be tried again" "freeze s1 60000" '^fail retryable: locking .*b\.db'
t_ok "the first database was let go" test "$(sql "$dir/a.db" "$add")" = ""
echo "commit;" >&7
exec 7>&-
wait $holder
d_is "again" "prepare-for-snapshot" ok
d_is "now it is free" "freeze s1 60000" ok
mv "$dir/b.db" "$dir/old.db" && cp "$dir/old.db" "$dir/b.db"
d_like "a database replaced while it was locked fails Thaw" "thaw s1" '^fail inconsistent-snapshot: .*replaced'
t_is "and is not locked any more" "$(sql "$dir/old.db" "$add")" ""
d_end

# W-12: all, none or a part of it in the set.
mkdir "$T_TMP/other"
sql "$T_TMP/other/c.db" "create table t(id integer primary key); $add"
d_start sqlite "$dir/a.db" "$T_TMP/other/c.db"
d_like "a part of it in the set is a veto (W-12)" "prepare-for-snapshot" '^fail inconsistent-snapshot: .*c\.db'
d_end
d_start sqlite "$T_TMP/other/c.db"
d_is "nothing of it in the set" "prepare-for-snapshot" ok
d_is "then freeze" "freeze s1 60000" ok
t_is "locks nothing" "$(sql "$T_TMP/other/c.db" "$add $count")" 2
d_is "and thaw is fine" "thaw s1" ok
d_end
ln -s "$T_TMP/other/c.db" "$dir/c.db"
d_start sqlite "$dir/c.db" "$dir/a.db"
d_like "a link that leads out of the set (W-12)" "prepare-for-snapshot" '^fail inconsistent-snapshot: .*other/c\.db'
d_end
ln "$dir/a.db" "$dir/again.db"
d_start sqlite "$dir/a.db" "$dir/again.db"
d_like "one file under two names is refused" "prepare-for-snapshot" '^fail non-retryable: .*one file'
d_end
d_start sqlite "$dir/none.db"
d_like "a database that is not there" "prepare-for-snapshot" '^fail non-retryable: .*none.db.*No such file'
d_say "identify"
t_like "is no participant" "$D_ANSWER" '^fail'
d_end
t_ok "and was not made" test ! -e "$dir/none.db"
mkdir "$dir/mounted"
if unshare -m true 2>/dev/null; then
	D_WRAP=(unshare -m sh -c "mount -t tmpfs none '$dir/mounted' && sqlite3 '$dir/mounted/d.db' 'create table t(id)' && exec \"\$@\"" sh)
	d_start sqlite "$dir/a.db" "$dir/mounted/d.db"
	d_like "what is mounted inside of a tree is not in the set (N-5)" "prepare-for-snapshot" \
		'^fail inconsistent-snapshot: .*mounted/d\.db'
	d_end
	D_WRAP=()
else
	t_skip "what is mounted inside of a tree is not in the set (N-5)" "needs a mount namespace"
fi
head -c 5000 /dev/urandom >"$dir/random.db"
d_start sqlite "$dir/random.db"
d_like "what is no database" "prepare-for-snapshot" '^fail non-retryable: .*not a database'
d_end
d_done
