#!/bin/bash
# Load on the coordinator: 200 writers, sets over 64 directories, sessions one after the other. The coordinator's
# memory and descriptors do not grow with the sessions, every freeze has its thaw, and nothing is left. With
# UMBRA_FULL=1 it is 1,000 sessions; the time of a creation is printed.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need python3
crowd=$UMBRA_BUILD/tests/integration/crowd
writers=200 trees=64 sessions=60
[ "${UMBRA_SANITIZED-0}" = 0 ] || writers=50 trees=16 sessions=30
[ -z "${UMBRA_FULL-}" ] || sessions=1000

rss_kib() {
	awk '/^RssAnon/ { print $2 }' "/proc/$U_COORDINATOR_PID/status"
}
descriptors() {
	find "/proc/$U_COORDINATOR_PID/fd" -mindepth 1 | wc -l
}
is_ready() {
	grep -q '^ready' "$T_TMP/writers.out"
}
protect_all() {
	local i

	for i in $(seq "$trees"); do
		mkdir "$T_TMP/d$i" && umbra protect -q "$T_TMP/d$i" || return
		dirs+=("$T_TMP/d$i")
	done
}
unprotect_all() {
	local d

	for d in "${dirs[@]}"; do
		umbra unprotect -q "$d" || return
	done
}
run_sessions() {
	"$crowd" sessions "$1" "${dirs[@]}" >"$T_TMP/sessions.out" 2>&1 || { cat "$T_TMP/sessions.out"; return 1; }
}
counts_settle() {
	[ "$(descriptors)" -eq "$descriptors_before" ]
}
nothing_left() {
	umbra status --json | u_json "j['snapshots'], len(j['sessions']), any(t['holding'] for t in j['trees'])" |
		grep -qx '0 0 False\|(0, 0, False)'
}

dirs=()
t_ok "a coordinator" u_coordinator
t_ok "$trees directories" protect_all
"$crowd" writers "$writers" >"$T_TMP/writers.out" 2>&1 3>&- </dev/null &
writers_pid=$!
U_PIDS="${U_PIDS-} $writers_pid"
t_ok "$writers writers register" t_wait_for 60 is_ready
t_ok "the first sessions, which fill caches" run_sessions 20
rss_before=$(rss_kib) descriptors_before=$(descriptors)
t_ok "$sessions sessions one after the other" run_sessions "$sessions"
t_diag "$writers writers, $trees directories: $(cat "$T_TMP/sessions.out")"
rss_after=$(rss_kib)
t_diag "coordinator: RssAnon $rss_before KiB before, $rss_after KiB after"
t_ok "no descriptor more than before" t_wait_for 30 counts_settle
grown() {
	[ $((rss_after - rss_before)) -gt 2048 ]
}
[ "${UMBRA_SANITIZED-0}" != 0 ] || # the sanitizer keeps what is freed for a while
	t_not "its memory does not grow with sessions" grown
t_ok "nothing is left of them" t_wait_for 30 nothing_left
kill "$writers_pid"
wait "$writers_pid"
t_is "the writers ended well" $? 0
t_like "each writer froze in each session" "$(tail -n 1 "$T_TMP/writers.out")" \
	"^freezes $(((sessions + 20) * writers)) thaws $(((sessions + 20) * writers))\$"
t_ok "unprotect all" unprotect_all
u_end
