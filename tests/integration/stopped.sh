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

u_coordinator_stop
u_end
