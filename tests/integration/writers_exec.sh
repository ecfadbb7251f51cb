#!/bin/bash
# umbra writer exec: a command that holds a lock from Freeze to Thaw (protocol L-4, W-4, W-9, W-12).
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/writers.sh"

w_setup
LOCK=$T_TMP/lock
: >"$LOCK"
t_need flock

# Whether somebody has the lock.
locked() {
	! flock -n "$LOCK" true
}

unlocked() {
	! locked
}

# The command has ended, and waits for the writer to look.
command_ended() {
	local p

	for p in $(pgrep -P "$W_PID"); do
		[ "$(sed 's/.*) //; s/ .*//' "/proc/$p/stat" 2>/dev/null || echo Z)" = Z ] || return
	done
}

# The usual life: registered, prepared.
begin() {
	w_start exec "$@" && w_event prepare-backup >/dev/null && w_event prepare-for-snapshot >/dev/null
}

w_fake
HOLD=(flock "$LOCK" sh -c 'echo ready; cat')

t_ok "it registers" begin -- "${HOLD[@]}"
t_ok "nothing is locked before the freeze" unlocked
t_is "Freeze is answered when the lock is held" "$(w_event freeze; locked && echo locked)" "ok
locked"
t_is "Thaw gives it back before it is answered" "$(w_event thaw; unlocked && echo unlocked)" "ok
unlocked"
t_is "A-14: Abort and Thaw without a freeze do nothing" "$(w_event abort; w_event post-snapshot)" "ok
ok"
w_event prepare-backup "$W_B" >/dev/null
w_event prepare-for-snapshot >/dev/null
w_event freeze >/dev/null
t_is "W-11: the Abort of another session leaves the lock" "$(w_event abort "$W_B"; locked && echo locked)" "ok
locked"
t_is "that of its own gives it back" "$(w_event abort; unlocked && echo unlocked)" "ok
unlocked"

w_event prepare-for-snapshot >/dev/null
w_event freeze >/dev/null
t_ok "SIGTERM while it is locked ends it" w_stop
t_ok "and gives the lock back first" unlocked

begin -- "${HOLD[@]}"
w_event freeze >/dev/null
w_fake_kill
t_ok "W-9: the coordinator's death gives it back" t_wait_for 30 unlocked
w_fake
w_tell '{"do": "wait", "writers": 1}' >/dev/null
w_event prepare-for-snapshot >/dev/null
w_event freeze >/dev/null
t_ok "it takes part again with the next one" locked
w_kill
t_ok "its own death gives it back, too" t_wait_for 30 unlocked

# A command that goes on when its input ends (L-4).
t_ok "L-4: it is started again" begin -- flock "$LOCK" sh -c 'trap "" HUP; echo ready; exec sleep 1000'
w_event freeze >/dev/null
w_kill
t_ok "a command that does not mind the end of its input keeps the lock" locked
t_ok "L-4: the next start" begin -- flock "$LOCK" sh -c 'trap "" HUP; echo ready; exec sleep 1000'
t_ok "ends it" unlocked
w_stop

# The command itself ends when it is told to, and leaves behind one of its own that does not.
stubborn=(flock "$LOCK" sh -c 'trap "" HUP TERM; echo ready; sleep 1000; sleep 1000')
t_ok "L-4: one whose child does not end when told to" begin -- "${stubborn[@]}"
w_event freeze >/dev/null
w_kill
t_ok "keeps the lock" locked
t_ok "L-4: the next start" begin -- "${stubborn[@]}"
t_ok "ends all of it" unlocked
w_stop

# While somebody else has it.
begin -- "${HOLD[@]}"
exec 8<"$LOCK"
flock 8
t_like "a lock that cannot be had in time is a timeout" \
	"$(w_event freeze "$W_A" '{"window_ms": 1000}')" '^fail timeout flock did not get ready: took too long'
exec 8<&-
t_is "and the next snapshot finds it free" "$(w_event prepare-for-snapshot; w_event freeze; w_event thaw)" "ok
ok
ok"
w_stop

# It must live until Thaw.
begin -- sh -c 'echo ready; echo "lost the server" >&2; exit 0'
w_event freeze >/dev/null
t_wait_for 30 command_ended
t_like "W-12: a command that ends before Thaw makes the snapshot inconsistent" "$(w_event thaw)" \
	'^fail inconsistent-snapshot sh ended while its lock was needed: exit status 0: lost the server$'
w_stop
begin -- sh -c 'echo ready; cat; echo "the lock was lost" >&2; exit 4'
w_event freeze >/dev/null
t_like "and so does one that ends with another status than 0" "$(w_event thaw)" \
	'^fail inconsistent-snapshot sh at the end of its lock: exit status 4: the lock was lost$'
w_stop
begin -- sh -c 'echo "no lock for you" >&2; exit 1'
t_like "one that never gets ready fails the freeze" "$(w_event freeze)" \
	'^fail non-retryable sh did not get ready: exit status 1: no lock for you$'
w_stop
begin -- "$T_TMP/no such program"
t_like "one that cannot be run as well" "$(w_event freeze)" \
	'^fail non-retryable .*cannot be run: No such file or directory$'
w_stop

t_ok "--ready: another line" begin --ready 'LOCK TABLES' -- flock "$LOCK" sh -c 'echo ready not; echo LOCK TABLES; cat'
t_is "is waited for" "$(w_event freeze; locked && echo locked; w_event thaw)" "ok
locked
ok"
w_stop

t_ok "--early: registers" begin --early -- "${HOLD[@]}"
t_ok "PrepareForSnapshot is answered when the lock is held" locked
t_is "Freeze and Thaw follow" "$(w_event freeze; locked && echo locked; w_event thaw; unlocked && echo unlocked)" "ok
locked
ok
unlocked"
w_event prepare-for-snapshot >/dev/null
t_is "the end of the session without a freeze gives it back" "$(w_event backup-shutdown; unlocked && echo unlocked)" "ok
unlocked"
w_stop
begin --early -- "${HOLD[@]}"
w_event prepare-for-snapshot >/dev/null
over=$(python3 -c 'import time; print(time.clock_gettime_ns(time.CLOCK_MONOTONIC))')
t_like "T-1: a Freeze that was read too late" \
	"$(locked && w_event freeze "$W_A" "{\"window_ms\": 60000, \"deadline_ns\": $over}")" '^fail timeout'
t_ok "A-2, A-14: gives back what was locked before it" t_wait_for 30 unlocked
w_stop
mkfifo "$T_TMP/end"
begin --early -- flock "$LOCK" sh -c 'echo ready; read -r _ <"$0"' "$T_TMP/end"
echo >"$T_TMP/end"
t_ok "a command that ends before the freeze" t_wait_for 30 command_ended
t_like "fails the freeze" "$(w_event freeze)" '^fail inconsistent-snapshot'
w_stop

# Much output after it is ready must not stop it.
begin -- sh -c 'echo ready; cat; head -c 1000000 /dev/zero | tr "\0" "\n"'
t_is "much to say at the end is read" "$(w_event freeze; w_event thaw)" "ok
ok"
w_stop

umbra writer exec 2>/dev/null
t_is "no command: wrong usage" "$?" 2
t_not "nothing is left noted" grep -rq . "$T_TMP/c/writers"
t_ok "no sanitizer had anything to report" w_no_reports
t_done
