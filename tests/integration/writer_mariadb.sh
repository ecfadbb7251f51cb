#!/bin/bash
# The writer for MariaDB against a real server, its events played one by one (tests/support/drive.sh), with
# both of its methods.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
source "$UMBRA_SOURCE/tests/support/drive.sh"
source "$UMBRA_SOURCE/tests/support/databases.sh"
t_tmpdir
T_TMP=$(realpath "$T_TMP")
my_setup
data=$T_TMP/tree/data sock=$T_TMP/s
mkdir "$T_TMP/tree"
chmod 0755 "$T_TMP/tree"
export DRIVE_TREES=$T_TMP/tree
t_ok "a server's data" my_init "$data"
t_ok "starts" my_start "$data" "$sock" --innodb-flush-log-at-trx-commit=0 --log-bin
sql() {
	my_sql "$sock" "$1"
}
# now SQL: what has to go on; it may take its time, though far less than the windows here
now() {
	sql "set session lock_wait_timeout = 15; set session max_statement_time = 15; $1"
}
# held SQL: gives up at once where it has to wait
held() {
	sql "set session lock_wait_timeout = 0; set session max_statement_time = 0.5; $1"
}
denied='Lock wait timeout|max_statement_time exceeded|execution was interrupted'
sql "create database d; create table d.i(id int auto_increment primary key) engine=innodb;
	create table d.a(id int auto_increment primary key) engine=aria;
	create table d.m(id int auto_increment primary key) engine=myisam"
cat >"$T_TMP/my.cnf" <<END
[client]
user = root
socket = $sock/my.sock
END
ours() {
	sql "select count(*) from information_schema.processlist where user = 'root' and command = 'Sleep' and id <> connection_id()"
}
none_of_ours() {
	[ "$(ours)" = 0 ]
}
# The writer's, and no session of a client whose end the server has not seen yet.
one_of_ours() {
	[ "$(ours)" = 1 ]
}

for method in backup-stage read-lock; do
	d_start mariadb --method $method --defaults-file "$T_TMP/my.cnf"
	d_is "$method: identify" "identify" ok
	t_like "$method: the document names the server (M-2)" "$D_DOCUMENT" '"type":"database".*"path":"'"$data"'"'
	d_is "$method: prepare" "prepare-for-snapshot" ok
	t_is "$method: prepared, everything goes on" "$(now "insert into d.i values (); insert into d.m values ()")" ""
	d_is "$method: freeze" "freeze s1 60000" ok
	t_like "$method: frozen, no commit" "$(held "insert into d.i values ()")" "$denied"
	t_like "$method: nor elsewhere" "$(held "insert into d.a values ()")" "$denied"
	t_like "$method: nor a new table" "$(held "create table d.n(i int)")" "$denied"
	t_like "$method: it can be read" "$(now "select count(*) from d.i")" '^[0-9]+$'
	d_is "$method: Identify while frozen (W-10)" "identify" ok
	d_is "$method: an Abort of another session thaws nothing (W-11)" "abort s2" ok
	t_like "$method: still frozen" "$(held "insert into d.i values ()")" "$denied"
	d_is "$method: thaw" "thaw s1" ok
	t_is "$method: everything goes on" "$(now "insert into d.i values (); insert into d.a values (); create table d.n(i int); drop table d.n")" ""
	t_ok "$method: nothing of the writer is left in the server" t_wait_for 10 none_of_ours
	d_is "$method: Thaw again (A-14)" "thaw s1" ok
	d_is "$method: Abort after that (A-14)" "abort s1" ok

	d_is "$method: again" "prepare-for-snapshot" ok
	d_is "$method: freeze" "freeze s1 60000" ok
	d_is "$method: Abort thaws (A-14)" "abort s1" ok
	t_is "$method: everything goes on" "$(now "insert into d.m values ()")" ""

	d_is "$method: again" "prepare-for-snapshot" ok
	d_is "$method: freeze" "freeze s1 60000" ok
	t_ok "$method: the writer has a session" t_wait_for 30 one_of_ours
	sql "kill $(sql "select id from information_schema.processlist where command = 'Sleep' and id <> connection_id()")"
	d_like "$method: a session lost between Freeze and Thaw fails" "thaw s1" '^fail retryable:'
	t_is "$method: everything goes on" "$(now "insert into d.i values ()")" ""

	d_is "$method: again: it connects anew" "prepare-for-snapshot" ok
	d_is "$method: freeze" "freeze s1 60000" ok
	d_kill
	t_ok "$method: after kill -9 nothing stays locked (W-4)" t_wait_for 20 none_of_ours
	t_is "$method: everything goes on" "$(now "insert into d.i values (); create table d.n(i int); drop table d.n")" ""

	# Somebody else's change does not end.
	d_start mariadb --lock-wait 1 --method $method --defaults-file "$T_TMP/my.cnf"
	mkfifo "$T_TMP/hold"
	: >"$T_TMP/hold.out" # what an earlier one said is not what this one says
	mariadb --no-defaults -N -B -n -u root -S "$sock/my.sock" <"$T_TMP/hold" >"$T_TMP/hold.out" 2>&1 3>&- 8>&- 9<&- &
	holder=$!
	exec 7>"$T_TMP/hold"
	echo "lock tables d.m write; insert into d.m values (); select 'has it';" >&7
	t_wait_for 20 grep -q 'has it' "$T_TMP/hold.out"
	d_is "$method: a lock of somebody else does not hinder preparing" "prepare-for-snapshot" ok
	d_like "$method: what stays locked is a veto, to be tried again" "freeze s1 60000" '^fail (timeout|retryable):'
	t_is "$method: the others go on" "$(now "insert into d.i values ()")" ""
	echo "unlock tables;" >&7
	exec 7>&-
	wait $holder
	rm "$T_TMP/hold"
	d_end

	# InnoDB's own thread writes the log once in a second, and Freeze waits for that: a window with room.
	d_start mariadb --method $method --defaults-file "$T_TMP/my.cnf"
	d_is "$method: again" "prepare-for-snapshot" ok
	d_is "$method: freeze" "freeze s1 8000" ok
	kill -STOP "$D_PID"
	t_ok "$method: when the writer stands still the server ends it with the window (W-4)" t_wait_for 60 none_of_ours
	kill -CONT "$D_PID"
	d_like "$method: which Thaw sees" "thaw s1" '^fail retryable:'
	d_end
done

# W-12
db_dir "$T_TMP/outside"
sql "create table d.far(i int) engine=innodb data directory='$T_TMP/outside'"
d_start mariadb --defaults-file "$T_TMP/my.cnf"
d_like "a table elsewhere is not in the set (W-12)" "prepare-for-snapshot" '^fail inconsistent-snapshot: .*table .*outside'
sql "drop table d.far; create table d.far(i int) engine=aria data directory='$T_TMP/outside'"
d_like "nor is one behind a link (W-12)" "prepare-for-snapshot" '^fail inconsistent-snapshot: .*outside'
sql "drop table d.far"
d_is "now it is" "prepare-for-snapshot" ok
d_is "freeze" "freeze s1 60000" ok
d_end
t_is "when the coordinator goes it goes on (W-9)" "$(now "insert into d.i values ()")" ""
DRIVE_TREES=$T_TMP/nothing d_start mariadb --defaults-file "$T_TMP/my.cnf"
d_is "nothing of it in the set" "prepare-for-snapshot" ok
d_is "then freeze" "freeze s1 60000" ok
t_is "locks nothing" "$(now "insert into d.i values ()")" ""
d_is "and thaw is fine" "thaw s1" ok
d_end
sql "create user little"
d_start mariadb --server-socket "$sock/my.sock" --user little
d_is "a user without RELOAD" "prepare-for-snapshot" ok
d_like "is told what is missing" "freeze s1 60000" '^fail non-retryable: .*RELOAD'
d_end
my_stop "$sock"
d_start mariadb --defaults-file "$T_TMP/my.cnf"
d_like "without a server it is no participant" "identify" '^fail'
d_like "and prepare fails" "prepare-for-snapshot" '^fail retryable:'
d_end
d_done
