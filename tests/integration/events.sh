#!/bin/bash
# The test table of section 4 of the protocol with real processes over the real socket: a writer F
# (front-end) and a writer S (system) that fails, stalls or dies, umbra create as the requester; compared is
# the exact sequence of events that each saw, what the requester was told, and what the snapshot keeps of it.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need python3
actor=$UMBRA_BUILD/tests/integration/actor
dir=$T_TMP/data
logs=$T_TMP/logs
mkdir "$dir" "$logs"
window=20000

is_registered() {
	grep -q '^registered' "$logs/$1.log" 2>/dev/null
}
# start NAME LEVEL [HANDLER=WAY]...
start() {
	local name=$1 level=$2

	shift 2
	"$actor" "$name" "$level" "$window" "$logs" "$@" >"$logs/$name.out" 2>&1 3>&- </dev/null &
	pids[$name]=$!
	U_PIDS="${U_PIDS-} $!"
	t_wait_for 30 is_registered "$name"
}
stop() {
	local name

	for name in "${!pids[@]}"; do
		kill -KILL "${pids[$name]}" 2>/dev/null # it may stand still
		wait "${pids[$name]}" 2>/dev/null
	done
	pids=()
	rm -f "$logs"/*
}
# What a writer saw, as one line of words.
saw() {
	grep -v '^registered\|^ended' "$logs/$1.log" | tr '\n' ' ' | sed 's/ $//'
}
declare -A pids=()
label=0
# row NAME F S STATUS WANT_F WANT_S [OPTION]...: F and S are HANDLER=WAY or "-"
row() {
	local name=$1 f=$2 s=$3 status=$4 want_f=$5 want_s=$6 got

	shift 6
	label=$((label + 1))
	start F front-end ${f#-}
	start S system ${s#-}
	umbra create --label "l$label" "$@" "$dir" >"$logs/create.out" 2>"$logs/create.err"
	got=$?
	t_is "$name: exit status" "$got" "$status" || t_diag "$(cat "$logs/create.err")"
	t_is "$name: F" "$(saw F)" "$want_f"
	t_is "$name: S" "$(saw S)" "$want_s"
	t_is "$name: nobody is frozen" "$(find "$logs" -name '*.frozen')" ""
	said=$(cat "$logs/create.err")
	stop
}
result() {
	umbra show --json "l$label" | u_json "' '.join('%s %s %s' % (w['name'], w['state'], w['error']) for w in sorted(j['snapshot']['writers'], key=lambda w: w['name']))"
}

begin="prepare-backup prepare-for-snapshot"
all="$begin freeze thaw post-snapshot backup-complete backup-shutdown"

t_ok "a coordinator" u_coordinator --limit event=8 --limit end=8
t_ok "protect" umbra protect "$dir"

row "nobody fails" - - 0 "$all" "$all"
t_is "nobody fails: kept with the snapshot" "$(result)" \
	"F waiting-for-backup-complete None S waiting-for-backup-complete None"
row "A-1, A-9: S fails PrepareBackup, strict" - prepare-backup=fail 3 \
	"prepare-backup abort requester backup-shutdown" "prepare-backup abort requester backup-shutdown" \
	--require-writers
row "A-6, W-8: S fails PrepareBackup" - prepare-backup=fail 4 "$all" "prepare-backup backup-shutdown"
row "A-4: S fails PrepareForSnapshot" - prepare-for-snapshot=fail 4 "$all" "$begin backup-shutdown"
row "A-2, A-8: S fails Freeze" - freeze=fail 4 "$all" "$begin freeze abort writer backup-shutdown"
t_is "A-2: kept with the snapshot" "$(result)" \
	"F waiting-for-backup-complete None S failed-at-freeze retryable"
t_like "A-2: the requester is told" "$said" "^umbra: writer S: Freeze: refused \(retryable\): as the test wants it$"
row "W-5: S says ok with a code in Freeze" - freeze=coded 4 "$all" "$all"
row "A-2, A-8: S fails Thaw" - thaw=fail 4 "$all" "$begin freeze thaw abort writer backup-shutdown"
row "A-5: S fails PostSnapshot" - post-snapshot=fail 4 "$all" "$begin freeze thaw post-snapshot backup-shutdown"
row "A-16: S fails Freeze, strict" - freeze=fail 3 \
	"$begin freeze abort coordinator abort requester backup-shutdown" \
	"$begin freeze abort writer abort coordinator abort requester backup-shutdown" --require-writers
row "A-16: S fails Thaw, strict" - thaw=fail 3 \
	"$begin freeze thaw abort coordinator abort requester backup-shutdown" \
	"$begin freeze thaw abort writer abort coordinator abort requester backup-shutdown" --require-writers
row "W-9: S dies in PrepareForSnapshot" - prepare-for-snapshot=die 4 "$all" "prepare-backup dies prepare-for-snapshot"
t_like "W-9: the requester is told" "$said" "^umbra: writer S: PrepareForSnapshot: died"
row "T-6: S stalls in PostSnapshot" - post-snapshot=stall 4 "$all" \
	"$begin freeze thaw stalls post-snapshot"
t_like "T-6: the requester is told" "$said" "^umbra: writer S: PostSnapshot: timed out"
row "A-11: without writers" - - 0 "" "" --no-writers
row "W-13: S is excluded" - - 0 "$all" "" --exclude S
row "W-13: only S" - - 0 "" "$all" --include S

# The windows of both end while S stands still; the one of F first.
window=3000
start F front-end
window=6000
start S system freeze=stall
label=$((label + 1))
umbra create --label "l$label" "$dir" >"$logs/create.out" 2>"$logs/create.err"
t_is "T-10: S is late in Freeze: exit status" $? 4
t_is "T-10: F" "$(saw F)" "$begin freeze abort writer backup-shutdown"
t_is "T-10, T-12: both timed out" "$(result)" "F failed-at-freeze timeout S failed-at-freeze timeout"
echo >"$logs/S.go"
abort_seen() {
	[ ! -e "$logs/S.frozen" ]
}
t_ok "A-8: S goes on by itself when it can" t_wait_for 30 abort_seen
stop

t_ok "delete" umbra delete -q -y --for "$dir" --all
t_ok "unprotect" umbra unprotect "$dir"
u_end
