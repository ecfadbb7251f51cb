#!/bin/bash
# MariaDB under load in a protected directory, with tables of three engines, snapshots with the writer: a
# server started on a copy of each must recover, its tables must pass the check, money must add up in each
# engine, and no table may need a repair. What was answered before the snapshot is in it, also with
# innodb_flush_log_at_trx_commit = 0.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
source "$UMBRA_SOURCE/tests/support/databases.sh"
u_setup
[ -x "$UMBRA_BUILD/tools/writer/umbra-writer-mariadb" ] || t_skip_all "the writer for mariadb is not built here"
my_setup
t_need python3
dir=$T_TMP/data sock=$T_TMP/s sock2=$T_TMP/s2
db_dir "$dir"
allow=
[ "$(id -u)" -ne 0 ] || allow=--allow-other
t_ok "protect" umbra protect $allow "$dir"
data=$dir/main
t_ok "a server's data in it" my_init "$data"
t_ok "starts" my_start "$data" "$sock" --innodb-flush-log-at-trx-commit=0 --log-bin
sql() {
	my_sql "$sock" "$1"
}
sql "create database d; create table d.mark(n int) engine=innodb"
for engine in innodb aria myisam; do
	sql "use d; create table d.$engine(id int primary key, money int, note varchar(2000), key(money)) engine=$engine;
		insert into d.$engine select seq, 1000, 'x' from seq_1_to_50"
done
t_is "the tables are filled" "$(sql "select count(*), sum(money) from d.myisam")" $'50\t50000'

# Without transactions one statement is what is whole: it moves money within one.
load() {
	local n=0 engine

	while [ ! -e "$T_TMP/stop" ]; do
		n=$((n + 1))
		echo "begin; update d.innodb set money = money - 1, note = repeat('y', $n % 2000) where id = 1 + $n % 50;
			update d.innodb set money = money + 1 where id = 1 + $n * 7 % 50; commit;"
		for engine in aria myisam; do
			echo "update d.$engine set money = money + if(id = 1 + $n % 50, 1, -1), note = repeat('z', $n % 2000)
				where id in (1 + $n % 50, 1 + ($n + 1) % 50);"
		done
		[ $((n % 20)) -ne 0 ] || echo "\! echo $n >$T_TMP/n.new && mv $T_TMP/n.new $T_TMP/n"
	done | mariadb --no-defaults -u root -S "$sock/my.sock"
}
progress() {
	[ -s "$T_TMP/n" ] && [ "$(cat "$T_TMP/n")" -gt "$1" ]
}
copy_starts() {
	copy_tree "$(snapshot_of "$dir" "$1")/main" "$T_TMP/copy" || return
	my_start "$T_TMP/copy" "$sock2" --log-bin --aria-recover-options=OFF --myisam-recover-options=OFF
}

load >"$T_TMP/load.out" 2>&1 3>&- &
load_pid=$!
U_PIDS="${U_PIDS-} $load_pid"
for method in backup-stage read-lock; do
	t_ok "$method: the writer registers" u_writer mariadb --method $method --server-socket "$sock/my.sock" --user root
	t_ok "$method: the load runs" t_wait_for 60 progress "$(cat "$T_TMP/n" 2>/dev/null || echo 0)"
	sql "insert into d.mark values (1)"
	marks=$(sql "select count(*) from d.mark")
	t_ok "$method: a snapshot, no writer fails" umbra create --label $method "$dir"
	t_like "$method: the writer froze" "$(writer_said $method "$dir")" '^(waiting-for-backup-complete|stable) fine frozen$'
	t_ok "$method: a server starts on a copy of it" copy_starts $method
	t_is "$method: what was answered before is there" "$(my_sql "$sock2" "select count(*) from d.mark")" "$marks"
	# First without the recovery that an access would do.
	t_is "$method: every table is fine" "$(mariadb-check --no-defaults -u root -S "$sock2/my.sock" --check --extended --silent d 2>&1)" ""
	for engine in innodb aria myisam; do
		t_is "$method: $engine adds up" "$(my_sql "$sock2" "select count(*), sum(money) from d.$engine")" $'50\t50000'
	done
	my_stop "$sock2"
	t_ok "$method: the writer stops when told to" u_writer_stop
done
t_ok "the load goes on" t_wait_for 60 progress "$(cat "$T_TMP/n")"
touch "$T_TMP/stop"
wait "$load_pid"
t_is "no statement of the load failed" "$(cat "$T_TMP/load.out")" ""
my_stop "$sock"
t_ok "delete the snapshots" u_delete --for "$dir" --all
t_ok "unprotect" umbra unprotect "$dir"
U_COORDINATOR_PID=
kill "$(umbra status --json | u_json "j['info']['pid']")"
u_end
