#!/bin/bash
# I-6, W-4: nobody stays frozen. Requester, writer, provider and coordinator are each killed with -9, and stopped,
# at each step of a creation. Afterwards both writers run, no hold is in force, nothing unfinished is listed, and
# the next snapshot can be made. Time limits are short, so that the test need not be long, and yet long enough for who is
# neither killed nor stopped, on a machine that does other things as well.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need python3
actor=$UMBRA_BUILD/tests/integration/actor
dir=$T_TMP/data
logs=$T_TMP/logs
limits=()
for limit in identify=5 event=4 end=4 flush=3 hold=3 commit=3 prepare=5; do
	limits+=(--limit "$limit")
done
mkdir "$dir" "$logs"

has_line() {
	grep -q "$2" "$logs/$1.log" 2>/dev/null
}
start() {
	local name=$1 level=$2

	shift 2
	"$actor" "$name" "$level" 4000 "$logs" "$@" >"$logs/$name.out" 2>&1 3>&- </dev/null &
	pids[$name]=$!
	U_PIDS="${U_PIDS-} $!"
	t_wait_for 30 has_line "$name" '^registered'
}
not_frozen() {
	[ ! -e "$logs/$1.frozen" ]
}
is_gone() {
	[ "$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null || echo Z)" = Z ]
}
nobody_works() {
	umbra status --json | u_json "'idle' if not j['sessions'] and not any(t['holding'] for t in j['trees']) else 'busy'" |
		grep -qx idle
}
# Each listed snapshot is one that was created, and can be read.
listed_are_whole() {
	local path

	umbra list --json "$dir" | u_json "'\n'.join(s['path'] for s in j['snapshots'])" >"$logs/list" || return
	while IFS= read -r path; do
		[ -z "$path" ] || [ "$(cat "$path/file")" = content ] || return
	done <"$logs/list"
}
is_served() {
	umbra status --json | u_json "len(j['trees'])" | grep -qx 1
}
can_write() {
	timeout 60 sh -c "echo content >'$dir/file'"
}
# Whoever opens a FIFO waits for the other side; should A not be there, it is a failure and no hang.
let_go() {
	timeout 120 sh -c 'echo >"$0"' "$logs/A.go"
}
next_one() {
	local go

	# Where A still lives it stands still again; this time it need not wait for the limit.
	echo >"$logs/A.go" 3>&- &
	go=$!
	timeout 120 umbra create "$dir" >"$logs/next" 2>&1
	status=$?
	kill $go 2>/dev/null
	wait $go 2>/dev/null
	[ $status -eq 0 ] || [ $status -eq 4 ] || { cat "$logs/next"; return 1; }
}

declare -A pids=()
# one VICTIM SIGNAL STEP
one() {
	local victim=$1 signal=$2 step=$3 pid

	t_begin "$victim gets SIG$signal at $step"
	t_run u_coordinator "${limits[@]}"
	t_run umbra protect -q "$dir"
	echo content >"$dir/file"
	start A front-end "$step=stall"
	start B system
	umbra create "$dir" >"$logs/create.out" 2>&1 3>&- </dev/null &
	pids[requester]=$!
	U_PIDS="${U_PIDS-} $!"
	t_run t_wait_for 30 has_line A "^stalls $step"
	case $victim in
	requester) pid=${pids[requester]} ;;
	writer) pid=${pids[A]} ;;
	provider) pid=$(u_daemon "$dir") ;;
	coordinator) pid=$U_COORDINATOR_PID ;;
	esac
	kill "-$signal" "$pid"
	[ "$victim" = writer ] || t_run let_go

	# While it is dead or stopped all others go on.
	t_run t_wait_for 30 not_frozen B
	[ "$victim" = writer ] || t_run t_wait_for 30 not_frozen A
	if [ "$signal" = STOP ]; then
		kill -CONT "$pid"
		[ "$victim" != writer ] || t_run let_go
		t_run t_wait_for 30 not_frozen A
	elif [ "$victim" = coordinator ]; then
		wait "$U_COORDINATOR_PID" 2>/dev/null
		t_run u_coordinator "${limits[@]}"
		t_run t_wait_for 30 is_served
	elif [ "$victim" = provider ]; then
		t_run umbra unprotect -q --force "$dir"
		t_run umbra protect -q "$dir"
	fi
	t_run t_wait_for 40 is_gone "${pids[requester]}"
	t_run t_wait_for 30 nobody_works
	t_run can_write
	t_run listed_are_whole
	t_run next_one
	t_end
	for pid in "${pids[@]}"; do
		kill -KILL "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	pids=()
	u_delete --for "$dir" --all >/dev/null 2>&1
	umbra unprotect -q "$dir"
	u_coordinator_stop
	rm -rf "$logs" "${dir:?}"/* && mkdir "$logs"
}

steps="prepare-for-snapshot freeze thaw post-snapshot"
[ -z "${UMBRA_FULL-}" ] || steps="prepare-backup $steps"
[ "${UMBRA_SANITIZED-0}" = 0 ] || steps="freeze thaw"
for victim in requester writer provider coordinator; do
	for signal in KILL STOP; do
		for step in $steps; do
			one "$victim" "$signal" "$step"
		done
	done
done
u_end
