#!/bin/bash
# umbra writer cgroup: all processes of a cgroup stand still from Freeze to Thaw (protocol L-3, L-4).
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/writers.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"

w_setup
[ "$(id -u)" -eq 0 ] || t_skip_all "making cgroups needs root"
mkdir "$T_TMP/cg"
mount -t cgroup2 umbra-test "$T_TMP/cg" 2>/dev/null || t_skip_all "cgroups of version 2 cannot be mounted here"
t_cleanup umount "$T_TMP/cg"
CG=$T_TMP/cg/umbra-test-$$
mkdir "$CG" "$CG/below" || t_skip_all "a cgroup cannot be made here"
[ -e "$CG/cgroup.freeze" ] || t_skip_all "this kernel cannot freeze cgroups (before 5.2)"

cg_clean() {
	echo 0 >"$CG/cgroup.freeze"
	[ -z "${LOAD_PID-}" ] || kill -KILL "$LOAD_PID"
	[ -z "${LOAD_PID-}" ] || wait "$LOAD_PID" 2>/dev/null
	echo "$$" >"$T_TMP/cg/cgroup.procs"
	t_wait_for 10 rmdir "$CG/below" && rmdir "$CG"
}
t_cleanup cg_clean

# into CGROUP CMD...: this shell, which has to be one of its own, becomes CMD there
into() {
	echo "$BASHPID" >"$1/cgroup.procs" && shift && exec "$@"
}

frozen() {
	grep -q '^frozen 1' "$CG/cgroup.events" && [ "$(cat "$CG/cgroup.freeze")" = 1 ]
}

running() {
	grep -q '^frozen 0' "$CG/cgroup.events" && [ "$(cat "$CG/cgroup.freeze")" = 0 ]
}

# Whether the load goes on: its file grows.
grows() {
	local before

	before=$(stat -c %s "$T_TMP/load")
	t_wait_for 10 eval "[ \"\$(stat -c %s '$T_TMP/load')\" -gt $before ]"
}

into "$CG/below" sh -c 'while :; do echo x; done >"$0"' "$T_TMP/load" &
LOAD_PID=$!
t_wait_for 30 test -s "$T_TMP/load"
w_fake

t_ok "it registers" w_start cgroup "$CG"
w_event prepare-backup >/dev/null
t_is "L-3: Freeze is ok, and all stand still" "$(w_event prepare-for-snapshot; w_event freeze
	grep frozen "$CG/cgroup.events"; stat -c %s "$T_TMP/load" >"$T_TMP/size")" "ok
ok
frozen 1"
t_is "L-3: Thaw lets them go on" "$(stat -c %s "$T_TMP/load" | cmp - "$T_TMP/size"; w_event thaw; cat "$CG/cgroup.freeze")" "ok
0"
t_ok "and they do" grows
t_is "A-14: without a freeze Thaw and Abort do nothing" "$(w_event abort; w_event post-snapshot)" "ok
ok"

w_event prepare-backup "$W_B" >/dev/null
w_event prepare-for-snapshot >/dev/null
w_event freeze >/dev/null
w_event abort "$W_B" >/dev/null
t_ok "W-11: the Abort of another session thaws nothing" frozen
w_event abort >/dev/null
t_ok "Abort thaws" running

w_event prepare-for-snapshot >/dev/null
w_event freeze >/dev/null
t_ok "SIGTERM while it is frozen ends it" w_stop
t_ok "and thaws" running

w_start cgroup "$CG"
w_event prepare-backup >/dev/null
w_event prepare-for-snapshot >/dev/null
w_event freeze >/dev/null
w_fake_kill
t_ok "W-9: the coordinator's death thaws" t_wait_for 30 running
w_fake
w_tell '{"do": "wait", "writers": 1}' >/dev/null
w_event prepare-for-snapshot >/dev/null
w_event freeze >/dev/null
w_kill
t_ok "its own death does not" frozen
t_ok "L-4: its next start" w_start cgroup "$CG"
t_ok "L-4: does" running

echo 1 >"$CG/cgroup.freeze"
t_wait_for 30 frozen
w_event prepare-for-snapshot >/dev/null
t_is "what somebody else froze" "$(w_event freeze; w_event thaw)" "ok
ok"
t_ok "is not ours to thaw" frozen
echo 0 >"$CG/cgroup.freeze"

# L-3: those who have to thaw it must not be in it.
w_stop
t_like "L-3: refused with itself inside" "$( (into "$CG" umbra writer cgroup "$CG" 2>&1); echo "status $?")" \
	'this writer program \(process [0-9]+\) is in .*invalid-argument.*status 1$'
t_like "L-3: also below it" "$(into "$CG/below" umbra writer cgroup "$CG" 2>&1)" 'this writer program .*invalid-argument'
t_like "L-3: refused with the coordinator inside" \
	"$(w_tell "{\"do\": \"info\", \"pid\": $LOAD_PID}" >/dev/null; umbra writer cgroup "$CG" 2>&1; echo "status $?")" \
	"the coordinator \(process $LOAD_PID\) is in .*invalid-argument.*status 1\$"
t_like "L-3: refused with a provider inside" \
	"$(w_tell "{\"do\": \"info\", \"pid\": 1, \"trees\": [{\"path\": \"/srv/db\", \"pid\": $LOAD_PID}]}" >/dev/null
	umbra writer cgroup "$CG" 2>&1)" "the file system of /srv/db \(process $LOAD_PID\) is in .*invalid-argument"
w_tell '{"do": "info", "trees": []}' >/dev/null
t_ok "with all of them outside it registers" w_start cgroup "$CG"
w_tell "{\"do\": \"info\", \"trees\": [{\"path\": \"/srv/db\", \"pid\": $LOAD_PID}]}" >/dev/null
t_like "L-3: a provider that came later fails the preparation" "$(w_event prepare-for-snapshot)" \
	'^fail non-retryable the file system of /srv/db .*invalid-argument'
w_tell '{"do": "info", "trees": []}' >/dev/null

# A process that cannot be stopped: it waits for a file system that does not answer.
name="L-3: ok only when all stand still: else a timeout"
mkdir -m 0700 "$T_TMP/r"
mkdir "$T_TMP/dir"
UMBRA_SOCKET=$T_TMP/r/s umbra-coordinator -f --log "$T_TMP/coordinator.log" </dev/null >/dev/null 2>&1 3>&- &
REAL_PID=$!
t_wait_for 30 test -S "$T_TMP/r/s"
if UMBRA_SOCKET=$T_TMP/r/s umbra protect "$T_TMP/dir" >"$T_TMP/protect.out" 2>&1; then
	unprotect() {
		kill -CONT "$FS_PID"
		UMBRA_SOCKET=$T_TMP/r/s umbra unprotect --force "$T_TMP/dir"
		kill "$REAL_PID"
		wait "$REAL_PID"
	}
	FS_PID=$(UMBRA_SOCKET=$T_TMP/r/s u_daemon "$T_TMP/dir")
	t_cleanup unprotect
	kill -STOP "$FS_PID"
	into "$CG/below" sh -c 'echo $$ >"$1"; exec mkdir "$0"' "$T_TMP/dir/new" "$T_TMP/stuck" &
	STUCK_PID=$!
	in_mkdir() {
		grep -q fuse "/proc/$STUCK_PID/stack" 2>/dev/null || grep -q request_wait_answer "/proc/$STUCK_PID/wchan"
	}
	if t_wait_for 10 in_mkdir; then
		w_event prepare-for-snapshot >/dev/null
		t_like "$name" "$(w_event freeze "$W_A" '{"window_ms": 2000}')" '^fail timeout .*did not stand still'
		t_ok "and it is thawed" t_wait_for 30 running
		t_ok "the others go on" grows
	else
		t_skip "$name" "cannot see where a process waits"
	fi
	kill -CONT "$FS_PID"
	wait "$STUCK_PID"
else
	kill "$REAL_PID"
	t_skip "$name" "no FUSE here: $(tail -n 1 "$T_TMP/protect.out")"
fi

# Gone with its processes.
w_event prepare-for-snapshot >/dev/null
kill -KILL "$LOAD_PID"
wait "$LOAD_PID" 2>/dev/null
LOAD_PID=
t_wait_for 10 rmdir "$CG/below"
rmdir "$CG"
t_is "a cgroup that is gone has nothing to freeze" "$(w_event freeze; w_event thaw)" "ok
ok"
w_stop
t_like "at the start it must be there" "$(umbra writer cgroup "$CG" 2>&1; echo "status $?")" 'No such file.*status 1$'
t_like "a directory that is no cgroup is refused" "$(umbra writer cgroup "$T_TMP" 2>&1)" 'no cgroup of version 2'
t_like "the root of all cgroups as well" "$(umbra writer cgroup "$T_TMP/cg" 2>&1)" 'root of all cgroups'
mkdir "$CG" "$CG/below" # for the cleanup
t_ok "no sanitizer had anything to report" w_no_reports
t_done
