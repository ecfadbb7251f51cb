#!/bin/bash
# SQLite databases under load, in a directory of which snapshots are made with their writer: each snapshot
# is copied away and must hold whole databases that need no recovery.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
source "$UMBRA_SOURCE/tests/support/databases.sh"
u_setup
t_need sqlite3 python3
[ -x "$UMBRA_BUILD/tools/writer/umbra-writer-sqlite" ] || t_skip_all "the writer for sqlite is not built here"
dir=$T_TMP/data
mkdir "$dir"
t_ok "protect" umbra protect "$dir"
for mode in wal delete; do
	sqlite3 "$dir/$mode.db" "pragma journal_mode = $mode;
		create table account(id integer primary key, money int, note text);
		with recursive n(i) as (select 1 union all select i + 1 from n where i < 50)
		insert into account select i, 1000, 'x' from n;" >/dev/null
done

# Money moves; the notes grow, so that transactions need many pages.
load() {
	local f=$1 n=0

	while [ ! -e "$T_TMP/stop" ]; do
		n=$((n + 1))
		echo "begin immediate; update account set money = money - 1, note = hex(randomblob(500)) where id = 1 + $n % 50;
			update account set money = money + 1 where id = 1 + $n * 7 % 50; commit;"
		[ $((n % 20)) -ne 0 ] || echo ".shell echo $n >$f.new && mv $f.new $f.n"
	done | sqlite3 -cmd '.timeout 60000' "$f"
}
progress() {
	[ -s "$dir/$1.db.n" ] && [ "$(cat "$dir/$1.db.n")" -gt "$2" ]
}
whole() {
	local got

	# Without a hot journal: the writer had waited for the end of the transaction.
	[ ! -s "$1/delete.db-journal" ] || { echo "a journal is left"; return 1; }
	for mode in wal delete; do
		got=$(sqlite3 "$1/$mode.db" 'pragma integrity_check; select count(*), sum(money) from account' 2>&1 | xargs)
		[ "$got" = "ok 50|50000" ] || { echo "$mode.db says: $got"; return 1; }
	done
}

t_ok "the writer registers" u_writer sqlite -v "$dir/wal.db" "$dir/delete.db"
pids=()
for mode in wal delete; do
	load "$dir/$mode.db" >"$T_TMP/load.$mode" 2>&1 3>&- &
	pids+=($!)
done
for i in 1 2 3; do
	t_ok "the databases are busy" t_wait_for 60 progress delete "$(cat "$dir/delete.db.n" 2>/dev/null || echo 0)"
	t_ok "and the other" t_wait_for 60 progress wal "$(cat "$dir/wal.db.n" 2>/dev/null || echo 0)"
	t_ok "snapshot $i, no writer fails" umbra create --label "s$i" "$dir"
	t_like "the writer froze" "$(writer_said "s$i" "$dir")" '^(waiting-for-backup-complete|stable) fine frozen$'
	t_ok "copy" copy_tree "$(snapshot_of "$dir" "s$i")" "$T_TMP/copy"
	t_ok "snapshot $i holds whole databases" whole "$T_TMP/copy"
done
t_ok "the load goes on" t_wait_for 60 progress delete "$(cat "$dir/delete.db.n")"

touch "$T_TMP/stop"
wait "${pids[@]}"
t_is "no statement of the load failed" "$(cat "$T_TMP"/load.*)" ""
u_writer_stop
t_ok "another, that waits less long" u_writer sqlite --lock-wait 1 "$dir/wal.db" "$dir/delete.db"
mkfifo "$T_TMP/hold"
sqlite3 "$dir/delete.db" <"$T_TMP/hold" >"$T_TMP/hold.out" 2>&1 3>&- &
holder=$!
exec 7>"$T_TMP/hold"
echo "begin immediate; select 'has it';" >&7
t_wait_for 20 grep -q 'has it' "$T_TMP/hold.out"
t_is "a database that stays locked: done, but a writer failed (E-4)" \
	"$(umbra create --label late "$dir" >/dev/null 2>&1; echo $?)" 4
t_like "which one, and why" "$(writer_said late "$dir")" '^failed-at-freeze retryable'
exec 7>&-
wait $holder
t_ok "the writer stops when told to" u_writer_stop
t_ok "delete the snapshots" u_delete --for "$dir" --all
t_ok "unprotect" umbra unprotect "$dir"
t_ok "the live databases are whole" whole "$dir"
U_COORDINATOR_PID=
kill "$(umbra status --json | u_json "j['info']['pid']")"
u_end
