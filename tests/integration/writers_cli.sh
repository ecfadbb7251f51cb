#!/bin/bash
# umbra writer systemd and container: what they ask of systemctl and podman, and what they make of the
# answers. Programs of those names are put in front of PATH; the real ones are in writers_engines.sh.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/writers.sh"

w_setup
mkdir "$T_TMP/bin" "$T_TMP/state"
PATH=$T_TMP/bin:$PATH
export T_TMP

# A command that keeps its state in a file and notes what it was asked. What FAULT says fails.
cat >"$T_TMP/bin/systemctl" <<'END'
#!/bin/bash
s=$T_TMP/state
echo "systemctl $*" >>"$s/log"
fault=$(cat "$s/fault" 2>/dev/null)
[ "$fault" != "$1" ] || { echo "Failed to $1 unit: no can do" >&2; exit 1; }
case $1 in
freeze) [ "$fault" = nothing ] || echo frozen >"$s/now" ;;
thaw) echo running >"$s/now" ;;
show)
	case "$*" in
	*FreezerState*) cat "$s/now" ;;
	*ControlGroup*) cat "$s/cgroup" 2>/dev/null || echo ;;
	esac
	;;
esac
END
cat >"$T_TMP/bin/podman" <<'END'
#!/bin/bash
s=$T_TMP/state
echo "podman $*" >>"$s/log"
fault=$(cat "$s/fault" 2>/dev/null)
now=$(cat "$s/now")
if [ "$now" = none ] && [ "$1" != --version ]; then
	echo "Error: no such container web" >&2
	exit 125
fi
[ "$fault" != "$1" ] || { echo "Error: no can do" >&2; exit 125; }
case $1 in
pause) [ "$fault" = nothing ] || { [ "$now" = running ] && echo paused >"$s/now"; } ;;
unpause) [ "$now" = paused ] && echo running >"$s/now" ;;
container)
	case "$*" in
	*Status*) cat "$s/now" ;;
	*Pid*) echo 0 ;;
	esac
	;;
esac
END
chmod 0755 "$T_TMP/bin"/*

now() {
	cat "$T_TMP/state/now"
}

is_now() {
	[ "$(now)" = "$1" ]
}

fault() {
	echo "$1" >"$T_TMP/state/fault"
}

# asked REGEX: whether it was asked that since the last time
asked() {
	grep -Eq -- "$1" "$T_TMP/state/log" && : >"$T_TMP/state/log"
}

w_fake

# common KIND NAME FROZEN: what holds for both. FROZEN: what it is called when it stands still.
common() {
	local kind=$1 frozen=$3 freeze=freeze thaw=thaw

	[ "$kind" = systemd ] || freeze=pause thaw=unpause
	fault ''
	echo running >"$T_TMP/state/now"
	t_ok "$kind: registers" w_start "$kind" "$2"
	w_event prepare-backup >/dev/null
	t_is "$kind: Freeze" "$(w_event prepare-for-snapshot; w_event freeze; now)" "ok
ok
$frozen"
	t_ok "$kind: asks for it by name" asked "$freeze -- $2\$"
	t_is "$kind: Thaw" "$(w_event thaw; now)" "ok
running"
	t_ok "$kind: asks for it by name" asked "$thaw -- $2\$"
	t_is "$kind: A-14: Abort without a freeze" "$(w_event abort; grep -c "$thaw" "$T_TMP/state/log")" "ok
0"

	fault "$freeze"
	w_event prepare-for-snapshot >/dev/null
	t_like "$kind: what it cannot freeze is fail, with its words" "$(w_event freeze)" \
		"^fail non-retryable .* $freeze: exit status [0-9]+: .*no can do"
	fault nothing
	t_wait_for 30 asked "$thaw"
	w_event prepare-for-snapshot >/dev/null
	t_like "$kind: success that is none is fail" "$(w_event freeze)" '^fail non-retryable .* is running'
	t_wait_for 30 asked "$thaw"

	fault ''
	w_event prepare-for-snapshot >/dev/null
	w_event freeze >/dev/null
	fault "$thaw"
	t_like "$kind: a thaw that fails is said" "$(w_event thaw)" "^fail non-retryable .* $thaw: exit status"
	fault ''
	w_event abort >/dev/null
	t_ok "$kind: a further Abort thaws it" is_now running

	w_event prepare-for-snapshot >/dev/null
	w_event freeze >/dev/null
	echo running >"$T_TMP/state/now"
	fault "$thaw"
	t_is "$kind: thawed by somebody else is thawed" "$(w_event thaw)" ok
	fault ''

	echo "$frozen" >"$T_TMP/state/now"
	w_event prepare-for-snapshot >/dev/null
	t_is "$kind: what somebody else froze is not ours to thaw" "$(w_event freeze; w_event thaw; now)" "ok
ok
$frozen"
	echo running >"$T_TMP/state/now"

	w_event prepare-for-snapshot >/dev/null
	w_event freeze >/dev/null
	t_ok "$kind: SIGTERM while it is frozen" w_stop
	t_ok "$kind: thaws" is_now running
	w_start "$kind" "$2"
	w_event prepare-for-snapshot >/dev/null
	w_event freeze >/dev/null
	w_kill
	t_ok "$kind: its own death does not" is_now "$frozen"
	t_ok "$kind: L-4: the next start" w_start "$kind" "$2"
	t_ok "$kind: L-4: does" is_now running
	w_event prepare-for-snapshot >/dev/null
	w_event freeze >/dev/null
	w_fake_kill
	t_ok "$kind: W-9: the coordinator's death does" t_wait_for 30 is_now running
	w_fake
	w_tell '{"do": "wait", "writers": 1}' >/dev/null
}

common systemd app.service frozen
w_stop
t_ok "systemd: --user" w_start systemd --user app.service
w_event prepare-for-snapshot >/dev/null
w_event freeze >/dev/null
t_ok "systemd: --user is handed on" asked 'freeze --user -- app.service'
w_stop
cgroup=$(sed -n 's/^0:://p' /proc/self/cgroup)
if [ -n "$cgroup" ] && [ "$cgroup" != / ]; then
	echo "$cgroup" >"$T_TMP/state/cgroup"
	t_like "systemd: L-3: refused with itself inside" "$(umbra writer systemd app.service 2>&1)" 'invalid-argument'
	rm "$T_TMP/state/cgroup"
else
	t_skip "systemd: L-3: refused with itself inside" "this runs in no cgroup of its own"
fi

common container web paused
echo exited >"$T_TMP/state/now"
w_event prepare-for-snapshot >/dev/null
t_is "container: one that does not run writes nothing" "$(w_event freeze; w_event thaw)" "ok
ok"
echo restarting >"$T_TMP/state/now"
w_event prepare-for-snapshot >/dev/null
t_like "container: one that is just starting: try again" "$(w_event freeze)" '^fail retryable container web is restarting'
echo none >"$T_TMP/state/now"
w_event prepare-for-snapshot >/dev/null
t_like "container: one that is not there is said" "$(w_event freeze)" '^fail non-retryable .*no such container'
echo running >"$T_TMP/state/now"
w_event prepare-for-snapshot >/dev/null
w_event freeze >/dev/null
echo none >"$T_TMP/state/now"
t_is "container: one that was removed meanwhile needs no thaw" "$(w_event thaw)" ok
w_stop
t_like "container: --engine must be there" "$(umbra writer container --engine "$T_TMP/none" web 2>&1; echo "status $?")" \
	'cannot be run.*status 1$'
umbra writer container 2>/dev/null
t_is "container: no name: wrong usage" "$?" 2
umbra writer systemd 2>/dev/null
t_is "systemd: no name: wrong usage" "$?" 2
t_ok "no sanitizer had anything to report" w_no_reports
t_done
