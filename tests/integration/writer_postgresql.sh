#!/bin/bash
# The writer for PostgreSQL against a real server, its events played one by one (tests/support/drive.sh).
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
source "$UMBRA_SOURCE/tests/support/drive.sh"
source "$UMBRA_SOURCE/tests/support/databases.sh"
t_tmpdir
T_TMP=$(realpath "$T_TMP")
pg_setup
data=$T_TMP/tree/data sock=$T_TMP/s
mkdir "$T_TMP/tree"
chmod 0755 "$T_TMP/tree"
db_dir "$T_TMP/inside"
export DRIVE_TREES=$T_TMP/tree
t_ok "a cluster" pg_init "$data"
echo "wal_writer_delay = 10s" >>"$data/postgresql.conf"
t_ok "starts" pg_start "$data" "$sock"
conn="host=$sock user=postgres"

sql() {
	pg_sql "$sock" "$1"
}
# How many commit records of the log are in files: what a copy of this instant would recover.
inserted() {
	sql "insert into t values (default)"
}
# A server process ends a moment after its client.
session_gone() {
	[ "$(sql "select count(*) from pg_stat_activity where application_name = 'umbra-writer'")" = 0 ]
}
sql "create table t(id serial)"

d_start postgresql "$conn"
d_is "identify" "identify" ok
t_like "the document names the cluster (M-2)" "$D_DOCUMENT" '"type":"database".*"file_sets":.*"path":"'"$data"'"'
t_like "and what is no part of it" "$D_DOCUMENT" '"exclude_files":.*postmaster.pid'
before=$(sql "select checkpoint_lsn from pg_control_checkpoint()")
d_is "prepare" "prepare-for-snapshot" ok
t_ok "made a checkpoint" test "$before" != "$(sql "select checkpoint_lsn from pg_control_checkpoint()")"
sql "set synchronous_commit = off; insert into t values (default)"
lsn=$(sql "select pg_current_wal_insert_lsn()")
d_is "freeze" "freeze s1 60000" ok
t_is "what was committed asynchronously is in the WAL" "$(sql "select pg_current_wal_flush_lsn() >= '$lsn'")" t
t_is "commits go on: a snapshot is one instant" "$(inserted)" ""
db_dir "$T_TMP/inside/ts"
t_like "no tablespace can be made meanwhile (W-12)" \
	"$(PGOPTIONS='-c lock_timeout=100ms' sql "create tablespace ts location '$T_TMP/inside/ts'")" 'lock timeout'
d_is "Identify while frozen (W-10)" "identify" ok
t_like "still frozen" \
	"$(PGOPTIONS='-c lock_timeout=100ms' sql "create tablespace ts location '$T_TMP/inside/ts'")" 'lock timeout'
d_is "an Abort of another session thaws nothing (W-11)" "abort s2" ok
d_is "thaw" "thaw s1" ok
t_ok "nothing of the writer is left in the server" t_wait_for 30 session_gone
d_is "Thaw again (A-14)" "thaw s1" ok
d_is "Abort after that (A-14)" "abort s1" ok

d_is "again" "prepare-for-snapshot" ok
d_is "freeze" "freeze s1 60000" ok
sql "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'umbra-writer'" >/dev/null
d_like "a session lost between Freeze and Thaw fails" "thaw s1" '^fail retryable:'
d_is "again: it connects anew" "prepare-for-snapshot" ok
d_is "freeze" "freeze s1 8000" ok
t_ok "the server itself ends what outlasts the window (W-4)" t_wait_for 20 session_gone
d_like "which Thaw sees" "thaw s1" '^fail retryable:'
d_is "again" "prepare-for-snapshot" ok
d_is "freeze" "freeze s1 60000" ok
d_kill
t_ok "after kill -9 nothing stays locked (W-4)" t_wait_for 20 session_gone

# Somebody else has the lock; the wait is limited, by ourselves and by the server.
d_start postgresql --lock-wait 1 "$conn"
mkfifo "$T_TMP/hold"
psql -X -q -h "$sock" -U postgres -d postgres <"$T_TMP/hold" >"$T_TMP/hold.out" 2>&1 3>&- 8>&- 9<&- &
holder=$!
exec 7>"$T_TMP/hold"
echo "begin; lock table pg_tablespace in row exclusive mode; select 'has it';" >&7
t_wait_for 20 grep -q 'has it' "$T_TMP/hold.out"
d_is "a lock of somebody else does not hinder preparing" "prepare-for-snapshot" ok
d_like "what stays locked is a veto, to be tried again" "freeze s1 60000" '^fail (timeout|retryable):'
echo "commit;" >&7
exec 7>&-
wait $holder

# W-12: a tablespace, then the WAL, outside of the set.
t_is "a tablespace elsewhere" "$(sql "create tablespace ts location '$T_TMP/inside/ts'")" ""
d_like "is not in the set (W-12)" "prepare-for-snapshot" '^fail inconsistent-snapshot: .*tablespace.*inside/ts'
d_end
DRIVE_TREES=$T_TMP/tree$'\n'$T_TMP/inside d_start postgresql "$conn"
d_is "unless that is in the set, too" "prepare-for-snapshot" ok
d_is "freeze" "freeze s1 60000" ok
d_is "thaw" "thaw s1" ok
d_end
DRIVE_TREES=$T_TMP/nothing d_start postgresql "$conn"
d_is "nothing of it in the set" "prepare-for-snapshot" ok
d_is "then freeze" "freeze s1 60000" ok
t_ok "touches nothing" t_wait_for 30 session_gone
d_is "and thaw is fine" "thaw s1" ok
d_end
sql "drop tablespace ts"

# A role that is allowed little.
sql "create role little login; grant pg_read_all_settings to little" >/dev/null
d_start postgresql "host=$sock user=little"
d_is "a role that may read settings only can prepare" "prepare-for-snapshot" ok
d_is "freeze" "freeze s1 60000" ok
t_is "without the lock a tablespace can be made" "$(sql "create tablespace ts location '$T_TMP/inside/ts'")" ""
d_like "but Thaw sees it (W-12)" "thaw s1" '^fail inconsistent-snapshot: .*inside/ts'
d_end
sql "drop tablespace ts"
sql "create role nothing login"
d_start postgresql "host=$sock user=nothing"
d_like "one that may not even that says so" "prepare-for-snapshot" '^fail non-retryable: .*pg_read_all_settings'
d_end
D_PID=
t_is "no password on the command line" \
	"$("$UMBRA_BUILD/tests/integration/drive-postgresql" "password=x" >/dev/null 2>&1 </dev/null; echo $?)" 2

pg_stop "$data"
d_start postgresql --lock-wait 1 "$conn"
d_like "without a server it is no participant" "identify" '^fail'
d_like "and prepare fails" "prepare-for-snapshot" '^fail retryable:'
mv "$data/pg_wal" "$T_TMP/inside/" && ln -s "$T_TMP/inside/pg_wal" "$data/pg_wal"
t_ok "the WAL elsewhere" pg_start "$data" "$sock"
d_like "is not in the set (W-12)" "prepare-for-snapshot" '^fail inconsistent-snapshot: .*inside/pg_wal'
d_end

rm "$data/pg_wal" # the server that runs has its WAL open, and is not needed any more
mv "$T_TMP/inside/pg_wal" "$data/"

# The same path is something else for us: as if the server were in a container.
mkdir -p "$T_TMP/other/global"
head -c 8192 /dev/urandom >"$T_TMP/other/global/pg_control"
chmod -R a+rX "$T_TMP/other"
if unshare -m true 2>/dev/null; then
	D_WRAP=(unshare -m sh -c "mount --bind '$T_TMP/other' '$data' && exec \"\$@\"" sh)
	d_start postgresql "$conn"
	d_like "a cluster that is not the server's is refused" "prepare-for-snapshot" '^fail non-retryable: .*not the cluster'
	d_end
	rm -rf "$T_TMP/other"
	cp -a "$data" "$T_TMP/other"
	d_start postgresql "$conn"
	d_like "nor is a directory taken in which the server does not work" "prepare-for-snapshot" \
		'^fail inconsistent-snapshot: .*started before umbra protect'
	d_end
else
	t_skip "a cluster that is not the server's is refused" "needs a mount namespace"
fi
d_done
