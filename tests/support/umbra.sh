# tests/support/umbra.sh - a coordinator and protected directories of a script's own, and proof that
# nothing of them is left. Source it after tap.sh; begin with u_setup, end with u_end.
#
#	u_setup              t_need_fuse, t_tmpdir, a socket below $T_TMP, a place for sanitizer reports
#	u_coordinator [ARG]  starts a coordinator in the foreground of its own: U_COORDINATOR_PID
#	u_snap LABEL DIR...  a persistent snapshot set without writers (several in one second are fine)
#	u_delete ARG...      umbra delete, asked again for a moment while the kernel still uses what it read
#	u_mount LABEL DIR POINT
#	u_daemon DIR         the process id of the umbrafs of DIR
#	u_json EXPR          prints a Python expression over `j`, the JSON on standard input
#	u_user               sets U_USER, U_UID, U_GID: an ordinary user that root may become, and that
#	                     fusermount3 can name
#	u_as_user CMD...     runs CMD as that user, with a HOME and a runtime directory of its own
#	u_programs DIR       copies programs, tests and support there, for a user who may not read ours
#	t_import PREFIX CMD...  runs a program that prints TAP; its cases become ours
#	t_cases PREFIX FILE  the same for a file of lines "pass NAME", "fail NAME: WHY", "skip NAME: WHY"
#	u_end                cases: no mount, no process, no sanitizer report is left; then t_done

u_setup() {
	if [ "$(id -u)" -eq 0 ] && [ -e /dev/fuse ] && [ "$(stat -c %a /dev/fuse)" != 666 ]; then
		chmod 0666 /dev/fuse # as distributions have it
	fi
	t_need_fuse
	t_tmpdir
	T_TMP=$(realpath "$T_TMP")
	chmod 0755 "$T_TMP"
	mkdir -m 0777 "$T_TMP/san"
	chmod 0777 "$T_TMP/san"
	export UMBRA_SOCKET=$T_TMP/c/s XDG_RUNTIME_DIR=$T_TMP/run
	mkdir -m 0700 "$T_TMP/run" "$T_TMP/c"
	# Daemons have no standard error: their reports would be lost.
	export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$T_TMP/san/asan"
	export UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}log_path=$T_TMP/san/ubsan"
	export LSAN_OPTIONS="${LSAN_OPTIONS:+$LSAN_OPTIONS:}suppressions=$UMBRA_SOURCE/tests/support/lsan.supp:print_suppressions=0"
	t_cleanup u_clean
}

# Mount points of ours below T_TMP, inner ones first.
u_mounts() {
	awk -v dir="$T_TMP/" 'index($5, dir) == 1 { print length($5), $5 }' /proc/self/mountinfo |
		sort -rn | cut -d ' ' -f 2-
}

# Processes whose environment names our socket or one below T_TMP: this shell and its children do
# not count.
u_processes() {
	local p

	for p in /proc/[0-9]*; do
		case $(readlink "$p/exe" 2>/dev/null) in
		*/umbrafs | */umbra-coordinator | */umbra | */umbrafs\ * | */umbra-coordinator\ *) ;;
		*) continue ;;
		esac
		{ tr '\0' '\n' <"$p/environ"; } 2>/dev/null | grep -q "^UMBRA_SOCKET=$T_TMP/" || continue
		[ "$(sed 's/.*) //; s/ .*//' "$p/stat" 2>/dev/null)" != Z ] || continue
		echo "${p#/proc/}"
	done
}

u_none_left() {
	[ -z "$(u_mounts)" ] && [ -z "$(u_processes)" ]
}

# Unmount and end whatever is ours, also after a failure in the middle.
u_clean() {
	local point pid

	for pid in ${U_PIDS-}; do
		kill -CONT "$pid" 2>/dev/null
		kill -KILL "$pid" 2>/dev/null
	done
	for pid in $(u_processes); do
		kill -CONT "$pid" 2>/dev/null
	done
	u_mounts | while IFS= read -r point; do
		point=$(printf '%b' "$point")
		umount -l -- "$point" 2>/dev/null || fusermount3 -uz -- "$point"
	done
	for pid in $(u_processes); do
		kill -TERM "$pid"
	done
	t_wait_for 10 u_none_left && return 0
	for pid in $(u_processes); do
		kill -KILL "$pid"
	done
	t_wait_for 5 u_none_left
}

u_coordinator() {
	umbra-coordinator -f --log "$T_TMP/coordinator.log" "$@" </dev/null >/dev/null 2>&1 3>&- &
	U_COORDINATOR_PID=$!
	U_PIDS="${U_PIDS-} $!"
	t_wait_for 30 u_coordinator_answers_
}

u_coordinator_answers_() {
	umbra status >/dev/null 2>&1
}

u_coordinator_stop() {
	[ -n "${U_COORDINATOR_PID-}" ] || return 0
	kill "$U_COORDINATOR_PID"
	wait "$U_COORDINATOR_PID" 2>/dev/null
	U_COORDINATOR_PID=
}

u_snap() {
	local label=$1

	shift
	umbra create -q --context nas-rollback --no-writers --label "$label" "$@"
}

u_delete() {
	local end=$((SECONDS + 120)) status

	while umbra delete -q -y "$@" >"$T_TMP/delete.out" 2>&1; status=$?; [ $status -eq 3 ]; do
		[ $SECONDS -lt $end ] || break
		sleep 0.05
	done
	cat "$T_TMP/delete.out"
	return $status
}

u_mount() {
	mkdir -p "$3" && umbra mount "$1" --for "$2" "$3"
}

u_json() {
	python3 -c "import json, sys
j = json.load(sys.stdin)
print($1)"
}

u_daemon() {
	umbra status --json | u_json "next(t['pid'] for t in j['trees'] if t['path'] == '$1')"
}

u_user() {
	local name

	[ "$(id -u)" -eq 0 ] || return 1
	for name in games daemon nobody; do
		U_UID=$(id -u "$name" 2>/dev/null) || continue
		U_GID=$(id -g "$name")
		U_USER=$name
		U_HOME=$T_TMP/user-home
		mkdir -p "$U_HOME/run" "$U_HOME/tmp"
		chown -R "$U_UID:$U_GID" "$U_HOME"
		chmod 0700 "$U_HOME/run"
		return 0
	done
	return 1
}

u_as_user() {
	(
		cd "$U_HOME" &&
			setpriv --reuid="$U_UID" --regid="$U_GID" --clear-groups \
				env HOME="$U_HOME" USER="$U_USER" XDG_RUNTIME_DIR="$U_HOME/run" TMPDIR="$U_HOME/tmp" \
				XDG_CONFIG_HOME="$U_HOME/.config" XDG_STATE_HOME="$U_HOME/.local/state" \
				UMBRA_SOCKET="$U_HOME/run/s" U_ROOT_DOES_IT=1 "$@"
	)
}

u_programs() {
	mkdir -p "$1/build/fs" "$1/build/coordinator" "$1/build/tools" "$1/build/tests/integration" \
		"$1/src/tests/integration" || return
	cp "$UMBRAFS" "$1/build/fs/" && cp "$UMBRA_COORDINATOR" "$1/build/coordinator/" &&
		cp "$UMBRA" "$1/build/tools/" &&
		cp -r "$UMBRA_SOURCE/tests/support" "$1/src/tests/" &&
		cp "$UMBRA_SOURCE"/tests/integration/*.sh "$1/src/tests/integration/" || return
	find "$UMBRA_BUILD/tests/integration" -maxdepth 1 -type f -perm -u+x \
		-exec cp {} "$1/build/tests/integration/" \; || return
	chmod -R go+rX "$1"
}

t_import() {
	local prefix=$1 out=$T_TMP/import.$RANDOM line seen=0 plan=''

	shift
	"$@" >"$out" 2>&1 3>&- </dev/null
	while IFS= read -r line; do
		if [[ $line =~ ^(ok|not\ ok)\ [0-9]+\ -\ (.*)$ ]]; then
			local result=${BASH_REMATCH[1]} name=${BASH_REMATCH[2]}
			seen=$((seen + 1))
			if [[ $name =~ ^(.*)\ #\ SKIP\ (.*)$ ]]; then
				t_result_ "$result" "$prefix: ${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
			else
				t_result_ "$result" "$prefix: $name"
			fi
		elif [[ $line =~ ^1\.\.([0-9]+)(\ #\ SKIP\ (.*))?$ ]]; then
			plan=${BASH_REMATCH[1]}
			if [ "$plan" = 0 ]; then
				seen=1 plan=1
				t_skip "$prefix" "${BASH_REMATCH[3]}"
			fi
		else
			t_diag "$prefix: ${line#\# }"
		fi
	done <"$out"
	rm -f "$out"
	[ "$plan" = "$seen" ] || t_is "$prefix: came to its end" "planned '$plan', gave $seen" "as planned"
}

t_cases() {
	local prefix=$1 word rest n=0

	while read -r word rest; do
		case $word in
		pass) t_result_ ok "$prefix: $rest" ;;
		skip)
			# As an ordinary user in the wake of root, who ran it: nothing is missing.
			[ "${rest#*: }" = "needs root" ] && [ -n "${U_ROOT_DOES_IT-}" ] ||
				t_skip "$prefix: ${rest%%: *}" "${rest#*: }"
			;;
		fail)
			t_result_ 'not ok' "$prefix: ${rest%%: *}"
			t_diag "${rest#*: }"
			;;
		done) n=-1000000 ;;
		*) t_diag "$word $rest" ;;
		esac
		n=$((n + 1))
	done <"$2"
	if [ $n -gt 0 ]; then
		t_is "$prefix: came to its end" no yes
	fi
}

u_no_reports() {
	local f bad=0

	for f in "$T_TMP"/san/*; do
		[ -s "$f" ] || continue
		head -n 60 "$f"
		bad=1
	done
	return $bad
}

u_end() {
	u_coordinator_stop
	if ! t_ok "no mount and no process is left" t_wait_for 30 u_none_left; then
		t_diag "mounts: $(u_mounts)"
		for pid in $(u_processes); do
			t_diag "process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
		done
	fi
	t_ok "no sanitizer had anything to report" u_no_reports
	t_done
}
