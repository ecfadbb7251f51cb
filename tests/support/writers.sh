# tests/support/writers.sh - writer programs against a coordinator that does what the script says
# (fake_coordinator.py). Source it after tap.sh; begin with w_setup.
#
#	w_setup                    t_need, t_tmpdir; UMBRA_SOCKET below $T_TMP
#	w_fake                     starts the coordinator: W_FAKE_PID; w_fake_kill ends it with kill -9
#	w_start KIND ARG...        starts a writer, waits until it is registered: W_PID; its words go to
#	                           $T_TMP/writer.log
#	w_stop                     SIGTERM; returns its exit status
#	w_kill                     kill -9
#	w_event EVENT [SESSION [ARGUMENTS]]  sends it; prints "ok", "fail CODE MESSAGE" ...
#	w_send EVENT ...           the same without waiting; prints the serial for w_answer
#	w_tell JSON                any other command
#	W_A, W_B                   ids of two sessions

W_A=aaaaaaaa-0000-4000-8000-000000000001
W_B=bbbbbbbb-0000-4000-8000-000000000002
W_SET=cccccccc-0000-4000-8000-000000000003

w_setup() {
	t_need python3
	t_tmpdir
	T_TMP=$(realpath "$T_TMP")
	chmod 0755 "$T_TMP"
	mkdir -m 0700 "$T_TMP/c" "$T_TMP/run"
	mkdir "$T_TMP/san"
	export UMBRA_SOCKET=$T_TMP/c/s XDG_RUNTIME_DIR=$T_TMP/run
	export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$T_TMP/san/asan"
	export UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}log_path=$T_TMP/san/ubsan"
	t_cleanup w_clean_
}

w_clean_() {
	[ -z "${W_PID-}" ] || kill "$W_PID" 2>/dev/null
	[ -z "${W_PID-}" ] || wait "$W_PID" 2>/dev/null
	[ -z "${W_FAKE_PID-}" ] || kill "$W_FAKE_PID" 2>/dev/null
}

w_fake() {
	: >"$T_TMP/fake.out"
	python3 "$UMBRA_SOURCE/tests/support/fake_coordinator.py" serve "$UMBRA_SOCKET" \
		>"$T_TMP/fake.out" 2>"$T_TMP/fake.err" </dev/null 3>&- &
	W_FAKE_PID=$!
	t_wait_for 30 grep -q ready "$T_TMP/fake.out"
}

w_fake_kill() {
	kill -KILL "$W_FAKE_PID"
	wait "$W_FAKE_PID" 2>/dev/null
	W_FAKE_PID=
}

w_tell() {
	python3 "$UMBRA_SOURCE/tests/support/fake_coordinator.py" tell "$UMBRA_SOCKET" "$1"
}

w_run() {
	: >"$T_TMP/writer.log" # what an earlier one said is not what this one says
	umbra writer "$@" >"$T_TMP/writer.log" 2>&1 </dev/null 3>&- &
	W_PID=$!
}

w_start() {
	w_run "$@"
	t_wait_for 100 w_started_ && kill -0 "$W_PID" 2>/dev/null && w_tell '{"do": "wait", "writers": 1}' >/dev/null && return
	cat "$T_TMP/writer.log"
	return 1
}

# It says so, or it has ended.
w_started_() {
	grep -q 'registered as' "$T_TMP/writer.log" || ! kill -0 "$W_PID" 2>/dev/null
}

w_stop() {
	local pid=$W_PID

	W_PID=
	kill "$pid"
	wait "$pid" || return
	w_none_
}

# So that the next w_start does not take this one for its own.
w_none_() {
	[ -z "${W_FAKE_PID-}" ] || w_tell '{"do": "wait", "writers": 0}' >/dev/null
}

w_kill() {
	kill -KILL "$W_PID"
	wait "$W_PID" 2>/dev/null
	W_PID=
	w_none_
}

w_event_() {
	local set=\"$W_SET\"

	[ "$1" != prepare-backup ] || set=null
	w_tell "{\"do\": \"event\", \"event\": \"$1\", \"session\": \"${2:-$W_A}\", \"set\": $set,
		\"arguments\": ${3:-{\}} $4}"
}

# What the events of the protocol carry, where the test does not say otherwise.
w_arguments_() {
	case $1 in
	prepare-backup) echo '{"backup_type": "full", "component_mode": false, "components": []}' ;;
	prepare-for-snapshot | post-snapshot)
		echo "{\"context\": \"backup\", \"trees\": [{\"id\": \"dddddddd-0000-4000-8000-000000000005\",
			\"tree_id\": \"dddddddd-0000-4000-8000-000000000004\",
			\"tree_path\": \"$T_TMP/tree one\"}]}" ;;
	freeze) echo "{\"window_ms\": ${W_WINDOW_MS:-60000}}" ;;
	abort) echo '{"origin": "requester"}' ;;
	*) echo '{}' ;;
	esac
}

w_event() {
	w_event_ "$1" "${2-}" "${3:-$(w_arguments_ "$1")}" ""
}

w_send() {
	w_event_ "$1" "${2-}" "${3:-$(w_arguments_ "$1")}" ', "nowait": true' | sed 's/^sent //'
}

w_answer() {
	w_tell "{\"do\": \"answer\", \"serial\": $1}"
}

w_no_reports() {
	local f bad=0

	for f in "$T_TMP"/san/*; do
		[ -s "$f" ] || continue
		head -n 60 "$f"
		bad=1
	done
	return $bad
}
