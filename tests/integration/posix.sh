#!/bin/bash
# What programs rely on, case by case, in a protected directory while snapshots come and go; the same
# cases below, without Umbra, show that it is not the file system that is different.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
program=$UMBRA_BUILD/tests/integration/posix

# run_cases DIR FILE
run_cases() {
	mkdir -p "$1"
	"$program" "$1" >"$2" 2>&1 3>&-
	echo "exit status $?" >>"$2"
}

snapshots() {
	local n=0
	while [ ! -e "$T_TMP/stop" ]; do
		n=$((n + 1))
		u_snap "p$n" "$T_TMP/live" >/dev/null || echo "create p$n failed"
		[ $n -le 3 ] || u_delete "p$((n - 3))" --for "$T_TMP/live" || echo "delete p$((n - 3)) failed"
	done
	echo "$n snapshots were made meanwhile"
}

skips() {
	sed -n 's/^skip \([^:]*\): .*/\1/p' "$1"
}

# compare NAME: what could not run above has to be what could not run below
same_skips() {
	t_is "$1: nothing is missing that is there below" "$(skips "$2")" "$(skips "$T_TMP/control.out")"
}

t_ok "a coordinator starts" u_coordinator
run_cases "$T_TMP/control" "$T_TMP/control.out"
t_cases "below" "$T_TMP/control.out"

mkdir "$T_TMP/live"
t_ok "protect" umbra protect "$T_TMP/live"
snapshots >"$T_TMP/snapshots.out" 2>&1 3>&- &
loop=$!
U_PIDS="${U_PIDS-} $loop"
run_cases "$T_TMP/live" "$T_TMP/live.out"
touch "$T_TMP/stop"
wait $loop
t_diag "$(cat "$T_TMP/snapshots.out")"
t_cases "protected" "$T_TMP/live.out"
same_skips protected "$T_TMP/live.out"
t_like "snapshots came and went meanwhile" "$(cat "$T_TMP/snapshots.out")" '^[0-9]+ snapshots were made meanwhile$'
t_ok "delete all" u_delete --for "$T_TMP/live" --all
t_ok "unprotect" umbra unprotect "$T_TMP/live"
t_ok "the store is gone" test ! -e "$T_TMP/live/.umbra"

# I-9
if u_user; then
	u_programs "$T_TMP/user"
	program=$T_TMP/user/build/tests/integration/posix
	export UMBRA_BUILD=$T_TMP/user/build UMBRA_SOURCE=$T_TMP/user/src
	t_import "as $U_USER" u_as_user bash "$UMBRA_SOURCE/tests/integration/posix.sh"
elif [ "$(id -u)" -eq 0 ]; then
	t_skip "as an ordinary user" "no such user is known"
fi
u_end
