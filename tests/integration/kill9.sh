#!/bin/bash
# umbrafs is killed with -9 at random moments under load. Afterwards the live files have every change
# that had returned, and the persistent snapshots are whole: those taken while the writer stood still
# equal an exact copy; those taken under load can be read to the end and stay what they were.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need rsync
seed=${UMBRA_SEED:-$RANDOM}
RANDOM=$seed
t_diag "UMBRA_SEED=$seed"
rounds=6
[ -z "${UMBRA_FULL-}" ] || rounds=40
dir=$T_TMP/live
writer=$UMBRA_BUILD/tests/integration/writer
labels=()

is_running() {
	grep -q running "$T_TMP/writer.out"
}

start_writer() {
	: >"$T_TMP/writer.out"
	"$writer" run "$dir" "$T_TMP/state" >"$T_TMP/writer.out" 2>&1 3>&- &
	writer_pid=$!
	U_PIDS="${U_PIDS-} $writer_pid"
	t_wait_for 60 is_running
}

is_stopped() {
	grep -q '^State:.*T (stopped)' "/proc/$writer_pid/status"
}

# A snapshot and a copy of one and the same moment.
still() {
	local copy=$T_TMP/copy-$1

	kill -STOP "$writer_pid" || return
	t_wait_for 60 is_stopped || return
	u_snap "$1" "$dir" >/dev/null || return
	mkdir "$copy" && rsync -aHSX --exclude=/.umbra "$dir/" "$copy/" || return
	kill -CONT "$writer_pid"
	labels+=("$1")
}

# Equal to the copy, by content.
equals_copy() {
	local m=$T_TMP/m out

	mkdir -p "$m"
	umbra mount "$1" --for "$dir" "$m" || return
	out=$(rsync -aHSXni --checksum --delete "$m/" "$T_TMP/copy-$1/" 2>&1) || out="rsync failed: $out"
	umbra umount "$m"
	[ -z "$out" ] || { head -n 20 <<<"$out"; return 1; }
}

sums() {
	(cd "$dir/.snapshots/$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) || return
}

kill_daemon() {
	local pid

	pid=$(u_daemon "$dir") || return
	kill -KILL "$pid"
	t_wait_for 30 test ! -e "/proc/$pid"
}

dead_mount() {
	! stat "$dir" >/dev/null 2>&1
}

t_ok "a coordinator starts" u_coordinator
mkdir "$dir"
t_ok "protect" umbra protect "$dir"
: >"$T_TMP/load-sums"
for round in $(seq $rounds); do
	t_ok "round $round: the writer writes" start_writer
	t_ok "round $round: a snapshot while it stands still" still "still$round"
	moment=$(date +%s%N)
	t_ok "round $round: a snapshot under load" u_snap "load$round" "$dir"
	sums "load$round" >"$T_TMP/sums-load$round"
	# Somewhere in the next half second, after at least one more change; in some rounds with a
	# snapshot just being made or dropped.
	case $((round % 3)) in
	1) (u_snap "late$round" "$dir" >/dev/null 2>&1) 3>&- & ;;
	2) [ "$round" -lt 3 ] || (umbra delete -q -y "still$((round - 2))" --for "$dir" >/dev/null 2>&1) 3>&- & ;;
	esac
	other=$!
	perl -e "select(undef, undef, undef, $((RANDOM % 500)) / 1000)" # chance, not synchronisation
	t_ok "round $round: umbrafs is killed" kill_daemon
	wait "$writer_pid"
	t_is "round $round: the writer noticed" "$(grep -c '^stopped' "$T_TMP/writer.out")" 1
	t_diag "$(tail -n 1 "$T_TMP/writer.out"), $((($(date +%s%N) - moment) / 1000000)) ms after its snapshot"
	[ -z "$other" ] || wait "$other" 2>/dev/null
	other=
	t_ok "round $round: the dead mount is noticed" dead_mount
	t_ok "round $round: unprotect takes the dead mount away" umbra unprotect "$dir"
	t_ok "round $round: the live files, below, have all that had returned" "$writer" check "$dir" "$T_TMP/state"
	t_ok "round $round: protect again" umbra protect "$dir"
	t_ok "round $round: and so they have above" "$writer" check "$dir" "$T_TMP/state"
	for label in "${labels[@]}"; do
		[ -e "$dir/.snapshots/$label" ] || [ "$label" = "still$((round - 2))" ] || [ "$label" = "$gone" ] || {
			t_is "round $round: $label is there" missing there
			continue
		}
		if [ -e "$dir/.snapshots/$label" ]; then
			t_ok "round $round: $label is whole" equals_copy "$label"
		else
			gone=$label
		fi
	done
	keep=()
	for label in "${labels[@]}"; do [ -e "$dir/.snapshots/$label" ] && keep+=("$label"); done
	labels=("${keep[@]}")
	for k in $(seq "$round"); do
		t_ok "round $round: load$k is what it was" diff "$T_TMP/sums-load$k" <(sums "load$k")
	done
done
t_ok "delete all" u_delete --for "$dir" --all
t_ok "unprotect" umbra unprotect "$dir"
t_ok "the live files are right to the end" "$writer" check "$dir" "$T_TMP/state"
t_ok "the store is gone" test ! -e "$dir/.umbra"
u_end
