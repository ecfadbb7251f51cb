# tests/support/drive.sh - drives a writer of a database without a coordinator (tests/integration/drive.c).
# Source it after tap.sh.
#
#	d_start KIND ARG...   starts it; $DRIVE_TREES names the trees of the set, one per line. D_PID
#	d_say EVENT...        sends an event, sets D_ANSWER to what was answered and D_DOCUMENT; prints the answer
#	D_WRAP=(CMD...)       runs it through that command
#	d_end                 the end of the coordinator; waits for the program
#	d_kill                kill -9; waits for it
#	d_done                instead of t_done: one more case, that no sanitizer had anything to report
#
# In a case: t_is "..." "$(...)" does not do, since d_say must run in this shell: use d_is, d_like.
#	d_is NAME EVENT WANT; d_like NAME EVENT REGEX

d_start() {
	local kind=$1 program=$UMBRA_BUILD/tests/integration/drive-$1

	shift
	[ -x "$program" ] || t_skip_all "the writer for $kind is not built here"
	rm -f "$T_TMP/d.in" "$T_TMP/d.out"
	mkfifo "$T_TMP/d.in" "$T_TMP/d.out"
	${D_WRAP[@]+"${D_WRAP[@]}"} "$program" -v "$@" <"$T_TMP/d.in" >"$T_TMP/d.out" 2>>"$T_TMP/d.log" 3>&- &
	D_PID=$!
	U_PIDS="${U_PIDS-} $!"
	exec 8>"$T_TMP/d.in" 9<"$T_TMP/d.out"
	IFS= read -r -t 120 D_ANSWER <&9
	[[ $D_ANSWER = registered* ]] || t_diag "it did not register: $D_ANSWER $(tail -n 5 "$T_TMP/d.log")"
}

d_say() {
	local line

	D_ANSWER='' D_DOCUMENT=''
	printf '%s\n' "$*" >&8 || return 1
	while IFS= read -r -t 120 line <&9; do
		case $line in
		document\ *) D_DOCUMENT=${line#document } ;;
		abort) ;;
		*) D_ANSWER=$line && break ;;
		esac
	done
	[ -n "$D_ANSWER" ]
}

d_is() {
	d_say "$2"
	t_is "$1" "$D_ANSWER" "$3"
}

d_like() {
	d_say "$2"
	t_like "$1" "$D_ANSWER" "$3"
}

d_gone_() {
	exec 8>&- 9<&-
	wait "$D_PID" 2>/dev/null
	D_PID=
}

d_end() {
	d_gone_
}

d_kill() {
	kill -9 "$D_PID"
	d_gone_
}

d_no_reports_() {
	! grep -E -A 30 'ERROR: [A-Za-z]*Sanitizer|runtime error:' "$T_TMP/d.log"
}

d_done() {
	t_ok "no sanitizer had anything to report" d_no_reports_
	t_done
}
