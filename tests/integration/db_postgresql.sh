#!/bin/bash
# PostgreSQL under load (pgbench), cluster and a tablespace in two protected directories, snapshots of both
# with the writer: a server started on a copy of each snapshot must recover to a state in which all balances
# agree and pg_amcheck finds nothing. A commit answered before the snapshot is there, asynchronous ones too.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
source "$UMBRA_SOURCE/tests/support/databases.sh"
u_setup
[ -x "$UMBRA_BUILD/tools/writer/umbra-writer-postgresql" ] || t_skip_all "the writer for postgresql is not built here"
pg_setup
t_need python3
dir=$T_TMP/data ts=$T_TMP/ts sock=$T_TMP/s sock2=$T_TMP/s2
db_dir "$dir"
db_dir "$ts"
allow=
[ "$(id -u)" -ne 0 ] || allow=--allow-other
t_ok "protect" umbra protect $allow "$dir"
t_ok "protect another directory" umbra protect $allow "$ts"
data=$dir/main
t_ok "a cluster in it" pg_init "$data"
# So that only the writer can be why an asynchronous commit is there.
echo "wal_writer_delay = 10s" >>"$data/postgresql.conf"
t_ok "starts" pg_start "$data" "$sock"
sql() {
	pg_sql "$sock" "$1"
}
db_dir "$ts/space"
sql "create tablespace far location '$ts/space'"
sql "create table mark(n int) tablespace far"
t_ok "pgbench fills it" db_run pgbench -h "$sock" -U postgres -i -q -s 2 --tablespace=far postgres
t_ok "the writer registers" u_writer postgresql "host=$sock user=postgres"
db_run pgbench -h "$sock" -U postgres -n -c 3 -T 600 -P 1 postgres >"$T_TMP/bench.log" 2>&1 3>&- &
bench=$!
U_PIDS="${U_PIDS-} $bench"
busy() {
	[ "$(sql "select count(*) from pgbench_history")" -gt "$1" ]
}

# The tree as the snapshot has it, started: what it says.
copy_starts() {
	rm -rf "$T_TMP/copy" "$T_TMP/copy-ts"
	cp -a "$(snapshot_of "$dir" "$1")/main" "$T_TMP/copy" && cp -a "$(snapshot_of "$ts" "$1")/space" "$T_TMP/copy-ts" || return
	[ ! -e "$T_TMP/copy/backup_label" ] || { echo "a backup_label is in it"; return 1; }
	rm -f "$T_TMP/copy/postmaster.pid" "$T_TMP/copy/server.log"
	ln -sfn "$T_TMP/copy-ts" "$(find "$T_TMP/copy/pg_tblspc" -type l)"
	pg_start "$T_TMP/copy" "$sock2" 5433
}
copy_sql() {
	pg_sql "$sock2" "$1" 5433
}

for i in 1 2; do
	t_ok "the load runs" t_wait_for 60 busy "$((i * 20))"
	sql "set synchronous_commit = off; insert into mark values ($i)"
	t_ok "snapshot $i of both, no writer fails" umbra create --label "s$i" "$dir" "$ts"
	t_like "the writer took part" "$(writer_said "s$i" "$dir")" '^(waiting-for-backup-complete|stable) fine frozen$'
	t_ok "a server starts on a copy of it" copy_starts "s$i"
	t_is "all balances agree" "$(copy_sql "select (select sum(abalance) from pgbench_accounts) = b and
		(select sum(tbalance) from pgbench_tellers) = b and (select sum(delta) from pgbench_history) = b
		from (select sum(bbalance) b from pgbench_branches) x")" t
	t_ok "there was something to agree about" test "$(copy_sql "select count(*) from pgbench_history")" -gt 20
	t_is "what was committed before is there, though not waited for" "$(copy_sql "select max(n) from mark")" "$i"
	copy_sql "create extension amcheck" >/dev/null
	t_is "pg_amcheck finds nothing" "$(db_run "$PG_BIN/pg_amcheck" -h "$sock2" -p 5433 -U postgres --heapallindexed -d postgres 2>&1)" ""
	pg_stop "$T_TMP/copy"
done
t_ok "the load goes on" t_wait_for 60 busy "$(sql "select count(*) from pgbench_history")"

t_is "without the tablespace's directory: done, but a writer failed (E-4)" \
	"$(umbra create --label part "$dir" >/dev/null 2>&1; echo $?)" 4
t_like "it says so (W-12)" "$(writer_said part "$dir")" '^failed-at-prepare-snapshot inconsistent-snapshot'
mkdir "$T_TMP/else"
t_ok "protect something else" umbra protect "$T_TMP/else"
t_ok "of that a snapshot is made without a word" umbra create --label other "$T_TMP/else"
t_ok "unprotect it" umbra unprotect "$T_TMP/else"
kill "$bench"
wait "$bench"
t_is "pgbench had no error" "$(grep -iE 'error|fatal|aborted' "$T_TMP/bench.log")" ""
t_ok "the writer stops when told to" u_writer_stop
pg_stop "$data"
t_ok "delete the snapshots" u_delete --for "$dir" --all
t_ok "of the other directory" u_delete --for "$ts" --all
t_ok "unprotect" umbra unprotect "$dir"
t_ok "unprotect the other" umbra unprotect "$ts"
U_COORDINATOR_PID=
kill "$(umbra status --json | u_json "j['info']['pid']")"
u_end
