# tests/support/tap.sh - a small TAP library for test scripts in bash. Source it first:
#
#	source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
#
#	t_ok NAME CMD...        one case: passes if CMD exits 0; its output is shown when it does not
#	t_not NAME CMD...       one case: passes if CMD fails
#	t_is NAME GOT WANT      one case: passes if both strings are equal
#	t_like NAME GOT REGEX   one case: passes if the extended regular expression matches
#	t_skip NAME REASON      one case that could not run here; is listed loudly
#	t_skip_all REASON       the whole script cannot run here; ends it
#	t_begin NAME; t_run CMD...; t_fail TEXT...; t_end
#	                        one case of several steps: passes if every t_run did and no t_fail came
#	t_cleanup CMD...        runs CMD at the end, last one first, also after failure and signals
#	t_tmpdir                sets T_TMP to a new directory that goes away at the end
#	t_wait_for SECS CMD...  tries CMD until it exits 0; SECS is enough for a machine at rest, and four times that is
#	                        waited for: it ends what hangs, and measures nothing
#	t_need CMD...           t_skip_all unless every command is installed
#	t_need_fuse             t_skip_all unless this user can mount with FUSE
#	t_diag TEXT...          a comment in the output
#	t_done                  must be the last line: says how many cases there were
#
# A script that ends before t_done has failed, whatever it printed. Commands run without standard
# input, in this shell (so functions may set variables). Do not use `set -e`.

: "${UMBRA_SOURCE:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}"
export UMBRA_SOURCE
if [ -n "${UMBRA_BUILD:-}" ]; then
	UMBRAFS=$UMBRA_BUILD/fs/umbrafs
	UMBRA_COORDINATOR=$UMBRA_BUILD/coordinator/umbra-coordinator
	UMBRA=$UMBRA_BUILD/tools/umbra
	export UMBRAFS UMBRA_COORDINATOR UMBRA
	PATH=$UMBRA_BUILD/tools:$UMBRA_BUILD/fs:$UMBRA_BUILD/coordinator:$PATH
fi

t_count_=0
t_failed_=0
t_state_=running # running, done
t_case_=         # name of the open case
t_case_failed_=
t_cleanups_=()
t_out_=$(mktemp "${TMPDIR:-/tmp}/tap.XXXXXX") || exit 1

exec 3>&1 # where the TAP goes, whatever a case redirects

t_diag() {
	printf '%s\n' "$*" | sed 's/^/# /' >&3
}

# t_result_ ok|"not ok" NAME [SKIP-REASON]
t_result_() {
	local name=${2//\#/}

	name=${name//$'\n'/ }
	t_count_=$((t_count_ + 1))
	[ "$1" = ok ] || t_failed_=$((t_failed_ + 1))
	printf '%s %d - %s%s\n' "$1" "$t_count_" "$name" "${3:+ # SKIP ${3//$'\n'/ }}" >&3
}

t_show_out_() {
	[ -s "$t_out_" ] && tail -n 60 "$t_out_" | tr -d '\000' | sed 's/^/#   /' >&3
	return 0
}

# Run CMD quietly; keeps its output in $t_out_.
t_quietly_() {
	"$@" >"$t_out_" 2>&1 3>&- </dev/null
}

t_ok() {
	local name=$1 status
	shift
	t_quietly_ "$@"
	status=$?
	if [ $status -eq 0 ]; then
		t_result_ ok "$name"
	else
		t_result_ 'not ok' "$name"
		t_diag "exit status $status: $*"
		t_show_out_
	fi
	return $status
}

t_not() {
	local name=$1 status
	shift
	t_quietly_ "$@"
	status=$?
	if [ $status -ne 0 ] && [ $status -lt 126 ]; then
		t_result_ ok "$name"
		return 0
	fi
	t_result_ 'not ok' "$name" # 126 and up: not found, killed
	t_diag "should have failed by itself, exit status $status: $*"
	t_show_out_
	return 1
}

t_is() {
	if [ "$2" = "$3" ]; then
		t_result_ ok "$1"
		return 0
	fi
	t_result_ 'not ok' "$1"
	t_diag "     got: $2"
	t_diag "expected: $3"
	return 1
}

t_like() {
	if [[ $2 =~ $3 ]]; then
		t_result_ ok "$1"
		return 0
	fi
	t_result_ 'not ok' "$1"
	t_diag "          got: $2"
	t_diag "does not match: $3"
	return 1
}

t_skip() {
	t_result_ ok "$1" "${2:-no reason given}"
}

t_skip_all() {
	if [ $t_count_ -gt 0 ]; then
		t_skip "the rest of this script" "$*"
		t_done
	fi
	printf '1..0 # SKIP %s\n' "$*" >&3
	t_state_=done
	exit 0
}

t_begin() {
	[ -z "$t_case_" ] || t_end
	t_case_=$1
	t_case_failed_=
}

t_run() {
	local status

	t_quietly_ "$@"
	status=$?
	if [ $status -ne 0 ]; then
		t_case_failed_=1
		t_diag "${t_case_:-outside of a case}: exit status $status: $*"
		t_show_out_
	fi
	return $status
}

t_fail() {
	t_case_failed_=1
	t_diag "${t_case_:-outside of a case}: $*"
	return 1
}

t_end() {
	local failed=$t_case_failed_ name=$t_case_

	t_case_=
	t_case_failed_=
	if [ -z "$name" ]; then
		t_result_ 'not ok' "t_end without t_begin"
	elif [ -n "$failed" ]; then
		t_result_ 'not ok' "$name"
	else
		t_result_ ok "$name"
	fi
}

t_cleanup() {
	t_cleanups_+=("$(printf '%q ' "$@")")
}

t_tmpdir() {
	T_TMP=$(mktemp -d "${TMPDIR:-/tmp}/t.XXXXXX") || exit 1
	# One file system only: a mount that was not taken down must not be emptied.
	t_cleanup rm -rf --one-file-system -- "$T_TMP"
}

t_wait_for() {
	local end=$((SECONDS + $1 * 4 + 1))
	shift
	until "$@" </dev/null; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

t_need() {
	local cmd
	for cmd; do
		command -v "$cmd" >/dev/null || t_skip_all "$cmd is not installed"
	done
}

t_need_fuse() {
	[ -e /dev/fuse ] || t_skip_all "there is no /dev/fuse"
	{ : <>/dev/fuse; } 2>/dev/null || t_skip_all "this user may not open /dev/fuse"
	if [ "$(id -u)" -ne 0 ]; then
		command -v fusermount3 >/dev/null || t_skip_all "fusermount3 is not installed"
	fi
}

t_done() {
	[ -z "$t_case_" ] || t_end
	if [ $t_count_ -eq 0 ]; then
		t_result_ 'not ok' "the script has no case"
	fi
	printf '1..%d\n' $t_count_ >&3
	t_state_=done
	[ $t_failed_ -eq 0 ] || exit 1
	exit 0
}

t_at_exit_() {
	local status=$? i

	trap '' INT TERM HUP
	trap - EXIT
	if [ "$t_state_" != done ]; then
		[ -z "$t_case_" ] || t_result_ 'not ok' "$t_case_"
		t_result_ 'not ok' "ended before t_done (exit status $status)"
		printf '1..%d\n' $t_count_ >&3
		[ $status -ne 0 ] || status=1
	fi
	for ((i = ${#t_cleanups_[@]} - 1; i >= 0; i--)); do
		if ! eval "${t_cleanups_[i]}" >"$t_out_" 2>&1 3>&- </dev/null; then
			t_diag "cleanup failed: ${t_cleanups_[i]}"
			t_show_out_
		fi
	done
	rm -f "$t_out_"
	exit $status
}

trap t_at_exit_ EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
