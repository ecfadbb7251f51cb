#!/bin/bash
# Writer programs with everything real: under load a snapshot is consistent in the application's terms
# (protocol H-8, O-3, O-9), a failed writer is named (W-6, K-2), `umbra writers` shows it (K-4, K-5, W-7).
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"

u_setup
t_need flock python3
DIR=$T_TMP/data
LOG=$T_TMP/hook.log
mkdir "$DIR" "$T_TMP/hooks"
: >"$DIR/lock"
echo 0 >"$DIR/a"
echo 0 >"$DIR/b"
export LOG T_TMP

stop_all() {
	local pid

	for pid in ${APP_PID-} ${EXEC_PID-} ${HOOK_PID-} ${CGROUP_PID-}; do
		kill "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	return 0
}
t_cleanup stop_all

# writer NAME ARG...: starts one, waits until it is registered; its process in WRITER_PID
writer() {
	local name=$1

	shift
	umbra writer "$@" >"$T_TMP/$name.out" 2>&1 </dev/null 3>&- &
	WRITER_PID=$!
	t_wait_for 30 grep -q 'registered as' "$T_TMP/$name.out"
}

# The application: a and b are equal whenever its lock is free, and seldom otherwise.
app() {
	local n=0

	exec 9<"$DIR/lock"
	while [ ! -e "$T_TMP/stop" ]; do
		n=$((n + 1))
		flock 9
		echo $n >"$DIR/a"
		sleep 0.02
		echo $n >"$DIR/b"
		flock -u 9
	done
}

# torn PATH...: whether a snapshot shows a change that was half done
torn() {
	[ "$(cat "$1/a")" != "$(cat "$1/b")" ]
}

torn_without() {
	local path

	path=$(umbra create -q --no-writers "$DIR") || return
	torn "$path"
}

u_coordinator
umbra protect "$DIR" || t_skip_all "no protection here"
app 3>&- &
APP_PID=$!
t_ok "without writers a snapshot may be torn" t_wait_for 60 torn_without

writer exec exec --name App --instance one -- flock "$DIR/lock" sh -c 'echo ready; cat'
EXEC_PID=$WRITER_PID
t_begin "H-8: with the writer none is, under load"
for i in 1 2 3 4 5 6 7 8; do
	path=$(umbra create -q "$DIR") || t_fail "create $i: status $?"
	torn "$path" && t_fail "snapshot $i is torn: a $(cat "$path/a"), b $(cat "$path/b")"
	[ "$(cat "$path/a")" -gt 0 ] || t_fail "snapshot $i shows nothing"
done
t_end
# With the lock, since otherwise the file may be seen empty.
counted() {
	flock "$DIR/lock" cat "$DIR/b"
}
n=$(counted)
goes_on() {
	[ "$(counted)" -gt "$n" ]
}
t_ok "and the application goes on" t_wait_for 30 goes_on
mkdir "$T_TMP/restored"
t_ok "what is restored from it" umbra restore -q latest:"$DIR" --to "$T_TMP/restored" "$DIR/a" "$DIR/b"
t_is "is consistent" "$(cat "$(find "$T_TMP/restored" -name a)")" "$(cat "$(find "$T_TMP/restored" -name b)")"
t_is "umbra backup sees it consistent, too" \
	"$(umbra backup -q "$DIR" -- sh -c 'cat "$0/a"; cat "$0/b"' "$DIR" | uniq | wc -l)" 1

text=$(umbra writers)
t_like "K-4: umbra writers" "$text" "^Writer name: 'App'
   Writer Id: \{[0-9a-f-]{36}\}
   Writer Instance Id: \{[0-9a-f-]{36}\}
   State: \[[0-9]+\] [A-Z][a-z -]+
   Last error: No error
   Instance name: one
   Session Id: [0-9a-f-]{36}"
t_is "umbra writers --json" "$(umbra writers --json | u_json \
	"[(w['name'], w['instance_name'], w['error'], w['level']) for w in j['writers']]")" \
	"[('App', 'one', None, 'front-end')]"
t_ok "umbra writers list is the same" umbra writers list
umbra writers nonsense 2>/dev/null
t_is "another word is wrong usage" "$?" 2

# A hook that will not.
printf '#!/bin/sh\necho "$1" >>"$LOG"\n[ "$1" != freeze ] || [ ! -e "$T_TMP/no" ] || { echo "not now" >&2; exit 1; }\n' \
	>"$T_TMP/hooks/one"
chmod 0755 "$T_TMP/hooks/one"
writer hook hook --name Hooks "$T_TMP/hooks"
HOOK_PID=$WRITER_PID
t_ok "two writers take part" umbra create -q "$DIR"
t_is "L-2: the hook gets its events in their order" "$(paste -sd , "$LOG")" \
	"prepare-backup,prepare-for-snapshot,freeze,thaw,post-snapshot,backup-complete,backup-shutdown"
: >"$LOG"
: >"$T_TMP/no"
umbra create "$DIR" >"$T_TMP/create.out" 2>&1
t_is "W-6: a writer that fails does not fail the snapshot, but the status says it" "$?" 4
t_like "K-2: and it is named" "$(cat "$T_TMP/create.out")" 'writer Hooks: Freeze: .*one freeze: exit status 1: not now'
t_like "A-2: the hook was aborted, and thawed" "$(paste -sd , "$LOG")" \
	'^prepare-backup,prepare-for-snapshot,freeze,thaw,abort(,abort)*(,backup-shutdown)?$'
t_like "K-5: umbra writers shows it as failed" "$(umbra writers | sed -n "/'Hooks'/,/^\$/p")" \
	'State: \[9\] Failed
   Last error: Non-retryable error
   Message: one freeze: exit status 1: not now'
t_is "W-7: with the session it is about" "$(umbra writers --json | u_json \
	"len({w['session_id'] for w in j['writers']})")" 1
umbra create -q --require-writers "$DIR" >/dev/null 2>&1
t_is "A-16: with --require-writers there is no snapshot" "$?" 3
rm "$T_TMP/no"
t_ok "the next one is well again" umbra create -q --require-writers "$DIR"

# W-9: the coordinator is killed while the application is frozen.
kill "$EXEC_PID"
wait "$EXEC_PID"
t_is "an ended writer is no longer listed" "$(umbra writers --json | u_json "len(j['writers'])")" 1
cat >"$T_TMP/hooks/one" <<'END'
#!/bin/sh
echo "$1" >>"$LOG"
[ "$1" != freeze ] || [ ! -p "$T_TMP/fifo" ] || read -r _ <"$T_TMP/fifo"
END
mkfifo "$T_TMP/fifo"
: >"$LOG"
umbra create -q "$DIR" >/dev/null 2>&1 &
CREATE_PID=$!
t_wait_for 30 grep -q '^freeze' "$LOG"
kill -KILL "$U_COORDINATOR_PID"
wait "$U_COORDINATOR_PID" 2>/dev/null
echo go >"$T_TMP/fifo"
wait "$CREATE_PID"
t_ok "W-9: the coordinator's death in the middle of a freeze thaws" t_wait_for 30 grep -q '^thaw' "$LOG"
rm "$T_TMP/fifo"
u_coordinator
registered_again() {
	[ "$(umbra writers --json | u_json "len(j['writers'])")" = 1 ]
}
t_ok "the writer finds the next coordinator" t_wait_for 30 registered_again
provider_again() {
	umbra create -q --no-writers "$DIR"
}
t_ok "and so does the file system" t_wait_for 60 provider_again
: >"$LOG"
t_ok "they take part as before" umbra create -q --require-writers "$DIR"
t_ok "the hook froze" grep -q '^freeze' "$LOG"
kill "$HOOK_PID"
wait "$HOOK_PID"
t_is "SIGTERM ends it with status 0" "$?" 0
HOOK_PID=

: >"$T_TMP/stop"
wait "$APP_PID"
APP_PID=
u_delete --for "$DIR" --all >/dev/null
umbra unprotect "$DIR"
u_end
