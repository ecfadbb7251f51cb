#!/bin/bash
# A coordinator that is there and does not answer - stopped, or stuck in its log's disk - keeps nobody for ever: a
# protection can be ended, an umbrafs closes its store, a writer can be stopped. `timeout` and t_wait_for measure
# nothing: they make a failure of what would hang.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
dir=$T_TMP/data
hooks=$T_TMP/hooks
mkdir "$dir" "$hooks"

# Ends of connections at the coordinator's socket, accepted or not, and the socket itself.
connections() {
	grep -c " $UMBRA_SOCKET\$" /proc/net/unix
}
more_than() {
	[ "$(connections)" -gt "$1" ]
}
is_gone() {
	[ "$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null || echo Z)" = Z ]
}
stop() {
	kill -STOP "$1"
	t_wait_for 30 is_stopped "$1"
}
is_stopped() {
	[ "$(sed 's/.*) //; s/ .*//' "/proc/$1/stat")" = T ]
}
is_served() {
	umbra status --json | u_json "len(j['trees'])" | grep -qx 1
}

t_begin "umbra unprotect goes on without a coordinator that is stopped"
t_run u_coordinator
t_run umbra protect -q "$dir"
echo content >"$dir/file"
daemon=$(u_daemon "$dir")
t_run stop "$U_COORDINATOR_PID"
t_run timeout 30 umbra unprotect -q "$dir"
t_run is_gone "$daemon"
[ "$(cat "$dir/file")" = content ] || t_fail "the file below is not there"
kill -CONT "$U_COORDINATOR_PID"
t_end
umbra unprotect -q "$dir" 2>/dev/null

# What umbrafs says when it connects does not fit into the socket: it waits in the middle of it.
t_begin "an umbrafs in the middle of a message to a stopped coordinator ends"
t_run umbra protect -q "$dir"
text=$(head -c 8000 /dev/zero | tr '\0' x)
for i in $(seq 40); do
	t_run umbra create -q --context nas-rollback --no-writers --label "s$i" --description "$text" "$dir"
done
daemon=$(u_daemon "$dir")
t_run stop "$daemon"
kill -KILL "$U_COORDINATOR_PID"
wait "$U_COORDINATOR_PID" 2>/dev/null
t_run u_coordinator
t_run stop "$U_COORDINATOR_PID"
before=$(connections)
kill -CONT "$daemon"
t_run t_wait_for 30 more_than "$before"
t_run timeout 30 umbra unprotect -q "$dir"
t_run t_wait_for 5 is_gone "$daemon"
kill -CONT "$U_COORDINATOR_PID"
t_end
kill -KILL "$daemon" 2>/dev/null
t_wait_for 5 is_gone "$daemon"

t_begin "nothing was lost by that"
t_run umbra protect -q "$dir"
t_run t_wait_for 30 is_served
t_run test "$(umbra list --json "$dir" | u_json "len(j['snapshots'])")" = 40
t_run u_delete --for "$dir" --all
t_end

# It blocks these signals, and reads them where it waits.
for signal in TERM INT; do
	t_begin "a writer that registers with a stopped coordinator ends at SIG$signal"
	t_run stop "$U_COORDINATOR_PID"
	before=$(connections)
	umbra writer hook "$hooks" >"$T_TMP/writer.log" 2>&1 3>&- </dev/null &
	pid=$!
	U_PIDS="${U_PIDS-} $pid"
	t_run t_wait_for 30 more_than "$before"
	kill "-$signal" "$pid"
	t_run t_wait_for 5 is_gone "$pid"
	is_gone "$pid" || kill -KILL "$pid"
	wait "$pid"
	t_run test $? = 0
	kill -CONT "$U_COORDINATOR_PID"
	t_end
done

t_begin "a writer that waited for a stopped coordinator is registered when that goes on"
t_run stop "$U_COORDINATOR_PID"
before=$(connections)
umbra writer hook "$hooks" >"$T_TMP/writer.log" 2>&1 3>&- </dev/null &
pid=$!
U_PIDS="${U_PIDS-} $pid"
t_run t_wait_for 30 more_than "$before"
kill -CONT "$U_COORDINATOR_PID"
t_run t_wait_for 30 grep -q 'registered as' "$T_TMP/writer.log"
kill -TERM "$pid"
wait "$pid"
t_run test $? = 0
t_end

umbra unprotect -q "$dir"
u_coordinator_stop
u_end
