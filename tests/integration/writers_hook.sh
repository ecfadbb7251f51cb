#!/bin/bash
# umbra writer hook: the programs of a directory are run for each event (protocol L-2, L-4, A-14).
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/writers.sh"

w_setup
HOOKS=$T_TMP/hooks
LOG=$T_TMP/log
mkdir "$HOOKS"
export LOG T_TMP

# hook NAME [BODY]: notes that it was called, then does what BODY says
hook() {
	printf '#!/bin/bash\necho "%s $1" >>"$LOG"\n%s\n' "$1" "${2-}" >"$HOOKS/$1"
	chmod 0755 "$HOOKS/$1"
}

# What was called, on one line; and a new leaf.
called() {
	paste -sd , "$LOG"
	: >"$LOG"
}

thawed_by_itself() {
	grep -q "$1" "$LOG"
}

refuses() {
	umbra writer hook "$HOOKS" 2>&1
	[ $? -eq 1 ]
}

: >"$LOG"
hook 10-first
hook 20-second
hook 30-last
hook 20-second~ # an editor's leftover
printf 'no program\n' >"$HOOKS/README"
w_fake

t_begin "registers with the class of its kind and DIR as its instance"
t_run w_start hook "$HOOKS"
t_end
regs=$(w_tell '{"do": "registrations"}')
t_like "W-1: the registration names it" "$regs" "\"instance_name\": \"$HOOKS\""

t_is "L-2: freeze in name order" "$(w_event prepare-backup; w_event prepare-for-snapshot; called >/dev/null
	w_event freeze; called)" "ok
ok
ok
10-first freeze,20-second freeze,30-last freeze"
t_ok "L-4: a mark says that it is frozen" grep -rq "$W_A" "$T_TMP/c/writers"
t_is "L-2: thaw in reverse order" "$(w_event thaw; called)" "ok
30-last thaw,20-second thaw,10-first thaw"
t_not "no mark is left after thaw" grep -rq . "$T_TMP/c/writers"
t_is "all other events by their names" "$(for e in post-snapshot backup-complete backup-shutdown pre-restore post-restore; do
	w_event $e
done; called | tr , '\n' | grep 10-first)" "ok
ok
ok
ok
ok
10-first post-snapshot
10-first backup-complete
10-first backup-shutdown
10-first pre-restore
10-first post-restore"

hook 10-first 'env | grep ^UMBRA_ | grep -v SOCKET | sort >"$T_TMP/env.$1"; cat >"$T_TMP/stdin.$1"'
w_event prepare-backup >/dev/null
w_event prepare-for-snapshot >/dev/null
w_event freeze >/dev/null
t_is "the environment says event, session, set and trees" "$(grep -E '^UMBRA_(EVENT|SESSION|SET|TREE|SNAPSHOT)' "$T_TMP/env.freeze")" "UMBRA_EVENT=freeze
UMBRA_SESSION=$W_A
UMBRA_SET=$W_SET
UMBRA_TREES=1
UMBRA_TREE_1=$T_TMP/tree one"
t_like "the event's arguments come on standard input" "$(cat "$T_TMP/stdin.freeze")" '^\{"window_ms": ?60000\}$'
w_event thaw >/dev/null
w_event post-snapshot >/dev/null
t_ok "post-snapshot: the snapshot's id" grep -qx UMBRA_SNAPSHOT_ID_1=dddddddd-0000-4000-8000-000000000005 \
	"$T_TMP/env.post-snapshot"
hook 10-first

called >/dev/null
hook 20-second '[ "$1" != freeze ] || { echo "the disk is on fire" >&2; exit 3; }'
w_event prepare-for-snapshot >/dev/null
t_like "L-2: a status other than 0 is fail, with its words" "$(w_event freeze)" \
	'^fail non-retryable 20-second freeze: exit status 3: the disk is on fire$'
t_ok "A-2: the failed freeze is aborted at once" t_wait_for 30 thawed_by_itself '10-first abort'
t_is "L-2: nobody behind it froze, and all thaw in reverse order" "$(called)" \
	"10-first prepare-for-snapshot,20-second prepare-for-snapshot,30-last prepare-for-snapshot,10-first freeze,20-second freeze,30-last thaw,20-second thaw,10-first thaw,30-last abort,20-second abort,10-first abort"
hook 20-second '[ "$1" != freeze ] || exit 75'
t_like "exit status 75 says: try again" "$(w_event freeze)" '^fail retryable'
t_wait_for 30 thawed_by_itself '10-first abort'
called >/dev/null

hook 20-second '[ "$1" != thaw ] || exit 1'
w_event freeze >/dev/null
called >/dev/null
t_like "a failed thaw is said" "$(w_event thaw)" '^fail non-retryable 20-second thaw: exit status 1'
t_wait_for 30 thawed_by_itself '10-first abort'
t_is "the others thaw all the same, and abort thaws again" "$(called)" \
	"30-last thaw,20-second thaw,10-first thaw,30-last thaw,20-second thaw,10-first thaw,30-last abort,20-second abort,10-first abort"
hook 20-second
w_event abort >/dev/null
t_is "L-2: a further Abort thaws what is still frozen" "$(called)" \
	"30-last thaw,20-second thaw,10-first thaw,30-last abort,20-second abort,10-first abort"
t_is "A-14: Abort without a freeze thaws nothing" "$(w_event abort; called)" "ok
30-last abort,20-second abort,10-first abort"

# W-11: session B is armed, too; what is frozen is A's.
w_event prepare-backup "$W_B" >/dev/null
w_event prepare-for-snapshot "$W_A" >/dev/null
w_event freeze "$W_A" >/dev/null
called >/dev/null
t_is "W-11: the Abort of another session thaws nothing of this one" "$(w_event abort "$W_B"; called)" "ok
30-last abort,20-second abort,10-first abort"
t_is "the Abort of its own does" "$(w_event abort "$W_A"; called)" "ok
30-last thaw,20-second thaw,10-first thaw,30-last abort,20-second abort,10-first abort"

# A program past its limit, and all that it started, is killed (L-2).
hook 20-second '[ "$1" != freeze ] || { sleep 1000 & echo $! >"$T_TMP/pids"; echo $$ >>"$T_TMP/pids"; wait; }'
gone() {
	local p

	for p in $(cat "$T_TMP/pids"); do
		case $(sed 's/.*) //; s/ .*//' "/proc/$p/stat" 2>/dev/null) in
		'' | Z | X) ;;
		*) return 1 ;;
		esac
	done
}
w_event prepare-for-snapshot >/dev/null
t_like "L-2: past its limit it fails as timeout" "$(w_event freeze "$W_A" '{"window_ms": 10000}')" \
	'^fail timeout 20-second freeze: took too long and was killed'
t_ok "and is killed, with what it started" t_wait_for 30 gone
t_ok "and what had frozen thaws" t_wait_for 30 thawed_by_itself '10-first thaw'
t_wait_for 30 thawed_by_itself '10-first abort'

# Told to stop in the middle of a freeze.
called >/dev/null
rm -f "$T_TMP/pids"
w_send freeze >/dev/null
t_wait_for 30 test -s "$T_TMP/pids"
t_ok "SIGTERM in the middle of a freeze ends it with status 0" w_stop
t_ok "what had frozen is thawed before it ends" thawed_by_itself '10-first thaw'
t_ok "and what ran was killed" t_wait_for 30 gone
hook 20-second

# The coordinator dies between freeze and thaw (W-9).
t_ok "it is started again" w_start hook "$HOOKS"
w_event prepare-for-snapshot >/dev/null
w_event freeze >/dev/null
called >/dev/null
w_fake_kill
t_ok "W-9: the coordinator's death thaws" t_wait_for 30 thawed_by_itself '10-first thaw'
w_fake
t_ok "it registers again with the next coordinator" w_tell '{"do": "wait", "writers": 1}'
t_is "and takes part" "$(w_event prepare-for-snapshot; w_event freeze)" "ok
ok"

# It dies itself (L-4).
called >/dev/null
w_kill
t_is "killed, it thaws nothing" "$(called)" ""
t_ok "L-4: it is started again" w_start hook "$HOOKS"
t_is "L-4: and thaws what it finds frozen" "$(called)" "30-last thaw,20-second thaw,10-first thaw"
t_begin "only one of them for one directory"
t_run eval '! umbra writer hook "$HOOKS" 2>"$T_TMP/second"'
t_run grep -q 'another umbra writer hook' "$T_TMP/second"
t_end
t_ok "SIGTERM ends it" w_stop
t_is "with nothing frozen nothing is thawed" "$(called)" ""

# What others may change is not run.
t_ok "without a coordinator it waits" eval 'w_fake_kill; w_run hook "$HOOKS"; t_wait_for 30 grep -q "waiting for the coordinator" "$T_TMP/writer.log"'
t_ok "and can be stopped" w_stop
chmod 0777 "$HOOKS/30-last"
t_like "L-2: a program that others may write is refused" "$(refuses)" "30-last may be written by others"
chmod 0755 "$HOOKS/30-last"
chmod 0775 "$HOOKS"
t_like "a directory that others may write is refused" "$(refuses)" "hooks may be written by others"
chmod 1777 "$HOOKS"
t_like "also a sticky one: others could add programs" "$(refuses)" "hooks may be written by others"
chmod 0755 "$HOOKS"
mkdir -m 0777 "$T_TMP/open"
cp "$HOOKS/10-first" "$T_TMP/open/program"
ln -s "$T_TMP/open/program" "$HOOKS/15-link"
t_like "a link to where others may write is refused" "$(refuses)" "open may be written by others"
rm "$HOOKS/15-link"
mv "$HOOKS" "$T_TMP/open/hooks"
HOOKS=$T_TMP/open/hooks
t_like "a directory above that others may write is refused" "$(refuses)" "open may be written by others"
chmod 0755 "$T_TMP/open"
if [ "$(id -u)" -eq 0 ]; then
	chown 65534 "$HOOKS/30-last"
	t_like "a program of somebody else is refused" "$(refuses)" "30-last belongs to somebody else"
	chown 0 "$HOOKS/30-last"
else
	t_skip "a program of somebody else is refused" "needs root"
fi

# It became unsafe while it runs: nothing of it is run any more.
w_fake
w_start hook "$HOOKS"
called >/dev/null
chmod 0777 "$HOOKS/30-last"
w_event prepare-backup >/dev/null
t_like "L-2: refused also when it changes later" "$(w_event freeze)" \
	'^fail non-retryable .*30-last may be written by others'
chmod 0755 "$HOOKS/30-last"
t_ok "it ends" w_stop
t_not "nothing was run meanwhile" grep -q freeze "$LOG"

umbra writer hook 2>/dev/null
t_is "no directory: wrong usage" "$?" 2
umbra writer hook --window 0 "$HOOKS" 2>/dev/null
t_is "a window of 0 seconds: wrong usage" "$?" 2
t_like "T-1: a window longer than the coordinator takes: wrong usage, and how long it may be" \
	"$(umbra writer hook --window 3601 "$HOOKS" 2>&1; echo "status $?")" \
	'--window is a number of seconds from 1 to 3600, not 3601.*status 2$'
umbra writer hook "$T_TMP/none" 2>/dev/null
t_is "a directory that is not there: failed" "$?" 1
t_ok "no sanitizer had anything to report" w_no_reports
t_done
