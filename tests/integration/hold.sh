#!/bin/bash
# What a hold does to those who write and those who read (hold.c), and that the real coordinator, stopped
# at any moment, leaves nobody frozen.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
mkdir "$T_TMP/h"
"$UMBRA_BUILD/tests/integration/hold" "$UMBRAFS" "$T_TMP/h" >"$T_TMP/out" 2>"$T_TMP/err" 3>&-
t_cases "hold" "$T_TMP/out"
u_mounts | while IFS= read -r m; do umount -l "$m" 2>/dev/null || fusermount3 -uz "$m"; done

# ---- the real coordinator, stopped while it makes snapshots
dir=$T_TMP/dir
mkdir "$dir"
t_ok "a coordinator starts" u_coordinator
t_ok "protect" umbra protect "$dir"
: >"$dir/f"
rounds=6
frozen=0
for round in $(seq $rounds); do
	umbra create -q --context nas-rollback --no-writers --label "r$round" "$dir" >/dev/null 2>&1 3>&- &
	creator=$!
	perl -e "select(undef, undef, undef, 0.002 * $round)" # somewhere in the middle: that is chance
	kill -STOP "$U_COORDINATOR_PID"
	before=$SECONDS
	echo "round $round" >>"$dir/f" # waits while held; at most 10 s
	[ $((SECONDS - before)) -lt 3 ] || frozen=$((frozen + 1))
	kill -CONT "$U_COORDINATOR_PID"
	wait $creator
	u_delete "r$round" >/dev/null 2>&1
done
t_diag "$frozen of $rounds times it was stopped within a hold"
t_is "every write was done" "$(cat "$dir/f")" "$(seq -f 'round %g' $rounds)"
t_ok "snapshots can be made as before" u_snap last "$dir"
t_is "no hold remains" "$(umbra status --json | u_json "j['trees'][0]['holding']")" False

# ---- H-6: no write(2) that returned waits in the kernel: it is in the snapshot without fsync. H-7: what has no name is
# not, and can be used all the same.
head -c 3000000 /dev/urandom >"$T_TMP/want"
exec 5<>"$dir/nameless" 6<>"$dir/g"
cat "$T_TMP/want" >&6
echo before >&5
rm "$dir/nameless"
t_ok "snapshot" u_snap cut "$dir"
t_ok "H-6: what was written and not synced is in the snapshot" cmp "$T_TMP/want" "$dir/.snapshots/cut/g"
t_is "H-7: a file without a name is not" "$(ls -A "$dir/.snapshots/cut")" "f
g"
echo after >&5
t_is "H-7: it can be used all the same" "$(cat "/proc/$$/fd/5")" "before
after"
exec 5>&- 6>&-
t_ok "delete all" u_delete --for "$dir" --all
t_ok "unprotect" umbra unprotect "$dir"
t_ok "the store is gone" test ! -e "$dir/.umbra"
u_end
