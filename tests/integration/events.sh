#!/bin/bash
# The test table of section 4 of the protocol with real processes over the real socket, row by row and by the rows'
# own names, and the rules around it: a writer F (front-end) and a writer S (system) that fails, stalls or dies; as
# the requester umbra create, or single calls (tests/support/calls.py), where one is needed that aborts, dies or goes
# on; as the provider umbrafs, or one that fails when it is told to. Compared is the exact sequence of events that
# each writer saw, what the requester was told, and what the snapshot keeps of it.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need python3
actor=$UMBRA_BUILD/tests/integration/actor
calls=$UMBRA_SOURCE/tests/support/calls.py
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
row "A-16: S fails PrepareBackup, strict" - prepare-backup=fail 3 \
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

# ---- requesters that call for themselves

# ask NAME WANT WORD...: what single calls said, as one line
ask() {
	local name=$1 want=$2

	shift 2
	t_is "$name: the requester was told" "$(python3 "$calls" requester "$@" 2>&1 | paste -sd ' ')" "$want"
}
# two [S-HANDLER=WAY]: the writers; heard NAME WANT_F WANT_S: what they saw, and their end
two() {
	start F front-end
	start S system "$@"
}
heard() {
	t_is "$1: F" "$(saw F)" "$2"
	t_is "$1: S" "$(saw S)" "$3"
	t_is "$1: nobody is frozen" "$(find "$logs" -name '*.frozen')" ""
	stop
}
snapshots() {
	umbra list --json "$dir" | u_json 'len(j["snapshots"])'
}
opening="init: ok gather: finished start: ok add: ok prepare: finished"
opening() {
	echo init gather start "add=$1" prepare
}

name="A-1, A-9: S fails PrepareBackup; requester aborts"
two prepare-backup=fail
# shellcheck disable=SC2046 # words
ask "$name" "$opening status: finished abort: ok release: ok" $(opening "$dir") status abort release
heard "$name" "prepare-backup abort requester backup-shutdown" "prepare-backup abort requester backup-shutdown"

name="A-5, A-9, A-18: S fails PostSnapshot; requester aborts"
before=$(snapshots)
two post-snapshot=fail
said="init: ok context: ok gather: finished start: ok add: ok prepare: finished create: finished abort: ok"
ask "$name" "$said complete: bad-state release: ok" \
	init context=app-rollback gather start "add=$dir" prepare create abort complete release # A-19: no BackupComplete
t_is "$name: the created set stays" "$(snapshots)" $((before + 1))
heard "$name" "$begin freeze thaw post-snapshot backup-shutdown" "$begin freeze thaw post-snapshot backup-shutdown"

name="A-17, A-25, A-26: before PrepareForBackup"
two
ask "$name" "abort: bad-state init: ok abort: ok gather: finished start: ok add: ok abort: ok abort: ok prepare: bad-state" \
	abort init abort gather start "add=$dir" abort abort prepare
ask "$name, the slot is free" "init: ok gather: finished start: ok add: ok release: ok" init gather start "add=$dir" release
heard "$name" "" ""

name="A-24: plain release after PrepareForBackup"
two
# shellcheck disable=SC2046
ask "$name" "$opening release: ok" $(opening "$dir") release
heard "$name" "prepare-backup backup-shutdown" "prepare-backup backup-shutdown"

name="A-24, A-26: AbortBackup after BackupComplete"
two
# shellcheck disable=SC2046
ask "$name" "$opening create: finished complete: finished abort: ok release: ok" $(opening "$dir") create complete abort release
heard "$name" "$all" "$all"

# K-1: umbra backup does what its command's end means. A writer past PostSnapshot hears of AbortBackup by what does not
# come (A-9).
for status in 0 7; do
	two
	umbra backup "$dir" -- sh -c "exit $status" >"$logs/backup.out" 2>&1
	t_is "K-1: a command that ends with $status" $? "$status"
	want="$begin freeze thaw post-snapshot$([ "$status" -ne 0 ] || echo " backup-complete") backup-shutdown"
	heard "K-1: a command that ends with $status" "$want" "$want"
done

# ---- requesters that die, and what the end of the connection means

# in_background WORD...: requester is its process
in_background() {
	python3 "$calls" requester "$@" >"$logs/requester.out" 2>&1 3>&- </dev/null &
	requester=$!
	U_PIDS="${U_PIDS-} $!"
}
ended() {
	kill "-$1" "$2"
	wait "$2" 2>/dev/null
}
has() {
	grep -q "$2" "$logs/$1" 2>/dev/null
}
both_shut_down() {
	has F.log '^backup-shutdown' && has S.log '^backup-shutdown'
}

name='A-21: requester killed in `prepared`'
two
# shellcheck disable=SC2046
in_background $(opening "$dir") pause
t_ok "$name: it is there" t_wait_for 30 has requester.out '^prepare: finished'
ended KILL "$requester"
t_ok "$name: BackupShutdown comes (D-4)" t_wait_for 30 both_shut_down
heard "$name" "prepare-backup backup-shutdown" "prepare-backup backup-shutdown"

# Nobody is frozen yet, so nothing but the coordinator's Abort can tell F.
name="A-3, A-21: requester killed while S prepares"
two prepare-for-snapshot=stall
# shellcheck disable=SC2046
in_background $(opening "$dir") create
t_ok "$name: it does" t_wait_for 30 has S.log '^stalls prepare-for-snapshot'
ended KILL "$requester"
t_ok "$name: F need not wait for S (A-15)" t_wait_for 30 has F.log '^abort'
echo >"$logs/S.go"
t_ok "$name: BackupShutdown comes" t_wait_for 30 both_shut_down
heard "$name" "$begin abort coordinator backup-shutdown" \
	"prepare-backup stalls prepare-for-snapshot prepare-for-snapshot abort coordinator backup-shutdown"

# ---- providers that fail

# provider NAME [CALL=WAY]...: another tree, $T_TMP/NAME
provider() {
	local name=$1

	shift
	python3 "$calls" provider "$T_TMP/$name" "$@" >"$logs/$name.out" 2>&1 3>&- </dev/null &
	provider=$!
	U_PIDS="${U_PIDS-} $!"
	t_wait_for 30 has "$name.out" '^registered'
}

name="A-7: provider fails in end preparation; no AbortBackup"
provider lame prepare=fail
two
# shellcheck disable=SC2046
ask "$name" "$opening create: insufficient-storage" $(opening "$T_TMP/lame") create
t_ok "$name: the connection ends" t_wait_for 30 both_shut_down
heard "$name" "prepare-backup backup-shutdown" "prepare-backup backup-shutdown"
ended TERM "$provider"

name="A-10: S fails PrepareBackup, the provider fails to open"
provider lame open=fail
two prepare-backup=fail
# shellcheck disable=SC2046
in_background $(opening "$T_TMP/lame") create pause
t_ok "$name: it fails" t_wait_for 30 has requester.out '^create: insufficient-storage'
t_is "$name: F" "$(saw F)" "$begin freeze abort provider"
t_is "$name: S, which was not told PrepareForSnapshot" "$(saw S)" "prepare-backup"
ended KILL "$requester"
t_ok "$name: BackupShutdown comes" t_wait_for 30 both_shut_down
heard "$name" "$begin freeze abort provider backup-shutdown" "prepare-backup backup-shutdown"
ended TERM "$provider"

provider stiff hold=silent
name="A-21: requester killed while writers are frozen"
two
# shellcheck disable=SC2046
in_background $(opening "$T_TMP/stiff") create
t_ok "$name: they are" t_wait_for 30 has stiff.out '^hold'
ended KILL "$requester"
t_ok "$name: BackupShutdown comes" t_wait_for 30 both_shut_down
heard "$name" "$begin freeze abort coordinator backup-shutdown" "$begin freeze abort coordinator backup-shutdown"
name="A-20: AbortBackup while writers are frozen"
two
# shellcheck disable=SC2046
ask "$name" "$opening create&: ok abort: ok wait: cancelled release: ok" $(opening "$T_TMP/stiff") 'create&' abort wait release
t_like "$name: F" "$(saw F)" "^(prepare-backup|$begin|$begin freeze) abort requester backup-shutdown$"
t_is "$name: one Abort to S" "$(grep -c abort "$logs/S.log")" 1
stop
ended TERM "$provider"

# The windows of both end while S stands still; the one of F first.
name="S late in Freeze; F's window ends first"
window=3000
start F front-end
window=6000
start S system freeze=stall
label=$((label + 1))
umbra create --label "l$label" "$dir" >"$logs/create.out" 2>"$logs/create.err"
t_is "T-10: $name: exit status" $? 4
t_is "T-10: $name: F" "$(saw F)" "$begin freeze abort writer backup-shutdown"
t_is "T-10, T-12: both timed out" "$(result)" "F failed-at-freeze timeout S failed-at-freeze timeout"
echo >"$logs/S.go"
abort_seen() {
	[ ! -e "$logs/S.frozen" ]
}
t_ok "A-8: S goes on by itself when it can" t_wait_for 30 abort_seen
t_is "A-8: so S saw" "$(saw S | sed 's/ backup-shutdown//')" "$begin stalls freeze freeze abort writer"
stop
window=20000

# ---- the limit of the hold, and the coordinator's own end

u_coordinator_stop
t_ok "a coordinator whose holds last a second" u_coordinator --limit event=8 --limit end=8 --limit hold=1 --limit commit=1
for abort in "" " abort: ok"; do
	name="A-3, H-4: hold exceeds 10 s"
	[ -z "$abort" ] || name="A-12, A-23: the same; requester then aborts"
	provider slow open=silent
	two
	# shellcheck disable=SC2046,SC2086
	ask "$name" "$opening create: hold-writes-timeout$abort release: ok" $(opening "$T_TMP/slow") create ${abort:+abort} release
	# A-12: another origin, another Abort; A-13: nothing else follows; A-23
	want="$begin freeze abort provider${abort:+ abort requester} backup-shutdown"
	heard "$name" "$want" "$want"
	ended TERM "$provider"
done
name="A-3: the coordinator is told to stop"
provider last
two
# shellcheck disable=SC2046
in_background $(opening "$T_TMP/last") pause
t_ok "$name: a backup is under way" t_wait_for 30 has requester.out '^prepare: finished'
u_coordinator_stop
t_ok "$name: they hear of it" t_wait_for 30 both_shut_down
t_is "$name: F" "$(saw F)" "prepare-backup abort coordinator backup-shutdown"
ended KILL "$requester"
ended TERM "$provider"
stop
t_ok "another one" u_coordinator

is_served() {
	umbra status --json | u_json "len(j['trees'])" | grep -qx 1
}
t_ok "it serves the directory" t_wait_for 30 is_served
t_ok "delete" u_delete --for "$dir" --all
t_ok "unprotect" umbra unprotect "$dir"
u_end
