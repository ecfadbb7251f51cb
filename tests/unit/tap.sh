#!/bin/bash
# The TAP library itself: runs small scripts with it and reads what they print.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"

t_tmpdir

# tap_of TEXT: runs TEXT as a test script; its output in $out, its exit status in $status
tap_of() {
	printf 'source "%s/tests/support/tap.sh"\n%s\n' "$UMBRA_SOURCE" "$1" >"$T_TMP/script"
	out=$(bash "$T_TMP/script" 2>&1 3>&-)
	status=$?
}

tap_of 't_ok "it passes" true; t_done'
t_is "a passing case" "$out/$status" $'ok 1 - it passes\n1..1/0'

tap_of 't_ok "it fails" sh -c "echo why; exit 3"; t_ok second true; t_done'
t_like "a failing case is shown and the script goes on" "$out/$status" \
	$'^not ok 1 - it fails\n.*why\nok 2 - second\n1..2/1$'

tap_of 't_not "fails as it should" false; t_not "passes" true; t_not "is not there" no-such-cmd; t_done'
t_is "t_not wants an orderly failure" "$(grep -c '^not ok' <<<"$out")/$status" 2/1

tap_of 't_is same a a; t_is other a b; t_like like abc ^a; t_like unlike abc ^b; t_done'
t_is "t_is and t_like compare" "$(grep -v '^#' <<<"$out")" \
	$'ok 1 - same\nnot ok 2 - other\nok 3 - like\nnot ok 4 - unlike\n1..4'

tap_of 't_skip "a # name" "no disk"; t_done'
t_is "a skip carries its reason" "$out/$status" $'ok 1 - a  name # SKIP no disk\n1..1/0'

tap_of 't_skip_all "no fuse"; t_done'
t_is "a whole script can be skipped" "$out/$status" "1..0 # SKIP no fuse/0"

tap_of 't_begin two; t_run true; t_run false; t_run true; t_end; t_begin one; t_run true; t_end; t_done'
t_is "a case of steps fails with one of them" "$(grep -v '^#' <<<"$out")/$status" \
	$'not ok 1 - two\nok 2 - one\n1..2/1'

tap_of 't_ok a true; exit 0'
t_like "ending before t_done is a failure" "$out/$status" 'not ok 2 - ended before t_done.*/1$'

tap_of 't_done'
t_like "a script without cases is a failure" "$out/$status" $'^not ok 1 .*\n1..1/1$'

tap_of 't_cleanup echo a b >/dev/null; f() { echo "$1" >>'"$T_TMP"'/order; }
	t_cleanup f first; t_cleanup f "second one"; t_ok x true; t_done'
t_is "cleanups run last one first" "$(cat "$T_TMP/order")" $'second one\nfirst'

tap_of 't_tmpdir; touch "$T_TMP/x"; echo "$T_TMP" >'"$T_TMP"'/where; kill -TERM $$; sleep 5; t_done'
t_like "a signal ends the script as a failure" "$out/$status" 'not ok 1 - ended before t_done.*/143$'
t_not "and its directory is gone" test -e "$(cat "$T_TMP/where")"

tap_of 'n=0; f() { n=$((n + 1)); [ $n -ge 3 ]; }; t_ok waits t_wait_for 5 f; t_is n "$n" 3
	t_not never t_wait_for 0 false; t_done'
t_is "waiting ends with success or with its time" "$status" 0

t_done
