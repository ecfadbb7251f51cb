#!/bin/bash
# A mount can outlive its unmounting: another mount namespace has a copy, or a file is open after umbra unprotect --force.
# The protection ends all the same at that moment: what is changed below from then on is not taken for the contents of a
# persistent snapshot (I-4), and the directory can be protected again. A copy answers errors.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
unshare -m true 2>/dev/null || t_skip_all "no mount namespace of its own"
dir=$T_TMP/data
mkdir "$dir"

# Somebody else's mount namespace, with a copy of every mount, until let_go.
hold_copies() {
	mkfifo "$T_TMP/hold"
	unshare -m --propagation private sh -c 'echo ready; exec cat "$1"' sh "$T_TMP/hold" \
		>"$T_TMP/holder.out" 2>&1 3>&- &
	holder=$!
	U_PIDS="${U_PIDS-} $holder"
	exec 8>"$T_TMP/hold"
	t_wait_for 30 grep -q ready "$T_TMP/holder.out"
}
let_go() {
	exec 8>&-
	wait "$holder" 2>/dev/null
	rm -f "$T_TMP/hold"
}
has_ended() {
	case $(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) in
	'' | Z) ;;
	*) return 1 ;;
	esac
}
begin() {
	printf 'text\n' >"$dir/f"
	printf 'text\n' >"$dir/g"
	t_ok "$1: protect" umbra protect -q "$dir" &&
		t_ok "$1: a persistent snapshot" u_snap "$1" "$dir"
	pid=$(u_daemon "$dir")
}
# $1: name of the snapshot. f was changed below, g was not.
shows_no_other_bytes() {
	t_ok "$1: protect again" umbra protect -q "$dir"
	t_is "$1: what was changed meanwhile is an error" \
		"$(LC_ALL=C cat "$dir/.snapshots/$1/f" 2>&1 | sed 's/.*: //')" "Stale file handle"
	t_is "$1: what was not is there" "$(cat "$dir/.snapshots/$1/g")" text
	t_is "$1: the live file has it" "$(cat "$dir/f")" "$1"
	t_ok "$1: delete" u_delete --for "$dir" --all
	t_ok "$1: unprotect" umbra unprotect -q "$dir"
}

t_ok "a coordinator starts" u_coordinator

begin elsewhere
t_ok "elsewhere: another namespace has a copy" hold_copies
umbra unprotect -q "$dir" >"$T_TMP/unprotect.out" 2>&1 3>&- 8>&- &
unprotecting=$!
U_PIDS="$U_PIDS $unprotecting"
t_ok "elsewhere: unprotect ends the daemon" t_wait_for 60 has_ended "$pid"
echo elsewhere >"$dir/f"
t_ok "elsewhere: the copy is dead" sh -c "! nsenter -t '$holder' -m cat '$dir/f'"
let_go
t_ok "elsewhere: unprotect" wait "$unprotecting"
shows_no_other_bytes elsewhere

begin by-hand
t_ok "by-hand: another namespace has a copy" hold_copies
t_ok "by-hand: umount" umount "$dir"
t_ok "by-hand: the daemon ends" t_wait_for 60 has_ended "$pid"
echo by-hand >"$dir/f"
let_go
t_wait_for 60 has_ended "$pid"
shows_no_other_bytes by-hand

begin in-use
exec 9<>"$dir/f"
t_ok "in-use: unprotect --force" umbra unprotect -q --force "$dir"
echo in-use >"$dir/f"
t_ok "in-use: the daemon has ended" has_ended "$pid"
t_ok "in-use: who has it open is told" sh -c '! cat <&9'
exec 9>&-
t_wait_for 60 has_ended "$pid"
shows_no_other_bytes in-use

u_end
