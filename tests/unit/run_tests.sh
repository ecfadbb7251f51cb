#!/bin/bash
# The test runner itself: a small project with programs that fail in every way must be counted right.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"

t_need meson ninja
t_tmpdir
mkdir "$T_TMP/src" "$T_TMP/bin"
cd "$T_TMP/src" || exit 1

cat >meson.build <<'END'
project('x')
bash = find_program('bash')
foreach name, seconds : {
  'good.sh': 60, 'bad.sh': 60, 'skips.sh': 60, 'skips_all.sh': 60, 'dies.sh': 60, 'hangs.sh': 8,
  'silent.sh': 60, 'short.sh': 60, 'lies.sh': 60, 'leaves.sh': 60,
}
  test(name, bash, args: files(name), protocol: 'tap', timeout: seconds)
endforeach
END
printf 'echo "ok 1 - one"; echo "ok 2 - two"; echo 1..2\n' >good.sh
printf 'echo "not ok 1 - one"; echo "ok 2 - two"; echo "the reason"; echo 1..2; exit 1\n' >bad.sh
printf 'echo "ok 1 - one # SKIP no disk"; echo 1..1\n' >skips.sh
printf 'echo "1..0 # SKIP no fuse"\n' >skips_all.sh
printf 'echo "ok 1 - one"; kill -SEGV $$\n' >dies.sh
printf 'echo "ok 1 - one"; exec sleep 60\n' >hangs.sh
printf 'exit 0\n' >silent.sh
printf 'echo 1..3; echo "ok 1 - one"\n' >short.sh
printf 'echo "ok 1 - one"; echo 1..1; exit 5\n' >lies.sh
# A process that looks like a daemon of ours and outlives its test. In the middle of its exec it has no environment to be
# known by, so the test ends only when that is over.
cp "$(command -v sleep)" "$T_TMP/bin/umbrafs"
cat >leaves.sh <<END
setsid "$T_TMP/bin/umbrafs" 1000 >/dev/null 2>&1 &
echo \$! >"$T_TMP/pid"
until [ "\$(cat /proc/\$!/comm)" = umbrafs ] && grep -qz UMBRA_TEST_RUN= /proc/\$!/environ; do :; done
echo "ok 1 - one"
echo 1..1
END

t_ok "the sample project is configured" meson setup "$T_TMP/b"
out=$(TMPDIR=$T_TMP "$UMBRA_SOURCE/tests/support/run-tests" --grace 1 --counts "$T_TMP/counts" "$T_TMP/b" 2>&1)
status=$?

t_is "the exit status says that something failed" $status 1
t_is "what ran is counted" "$(tail -n 1 <<<"$out")" "8 passed, 7 failed, 2 skipped"
t_is "the counts are written" "$(cat "$T_TMP/counts")" "8 7 2"
t_like "a failed case is named" "$out" 'FAILED bad.sh: one'
t_like "with the end of its log" "$out" 'the reason'
t_is "and beside the program's line, too" "$(grep -A1 '^FAIL bad.sh' <<<"$out" | tail -n 1)" "FAILED bad.sh: one"
t_like "a program that died is named" "$out" 'FAILED dies.sh \('
t_like "a program without an end is named" "$out" 'FAILED hangs.sh \(timed out\)'
t_like "a program without a result is named" "$out" 'FAILED silent.sh \(no result'
t_like "a program with too few results is named" "$out" 'FAILED short.sh \(planned 3 results, gave 1\)'
t_like "an exit status that contradicts is named" "$out" 'FAILED lies.sh \(exit status 5'
t_like "what was left is named" "$out" "FAILED left-overs.*process $(cat "$T_TMP/pid") \(umbrafs\), from leaves.sh"
t_not "and is ended" grep -qs umbrafs "/proc/$(cat "$T_TMP/pid")/cmdline" # a zombie has none
t_like "a skipped case is listed with its reason" "$out" 'SKIPPED skips.sh: one: no disk'
t_like "a skipped program too" "$out" 'SKIPPED skips_all.sh: no fuse'

out=$(TMPDIR=$T_TMP "$UMBRA_SOURCE/tests/support/run-tests" --only '^good' --label here "$T_TMP/b" 2>&1)
t_is "success is exit status 0, with the label" "$?/$(tail -n 1 <<<"$out")" "0/here: 2 passed, 0 failed, 0 skipped"

out=$(TMPDIR=$T_TMP "$UMBRA_SOURCE/tests/support/run-tests" --seconds 0 --only '^good' "$T_TMP/b" 2>&1)
t_is "what there was no time for has failed" "$?/$(tail -n 1 <<<"$out")" "1/0 passed, 1 failed, 0 skipped"

out=$(TMPDIR=$T_TMP "$UMBRA_SOURCE/tests/support/run-tests" --only none "$T_TMP/b" 2>&1)
t_is "no program at all is a failure" "$?/$(tail -n 1 <<<"$out")" "1/0 passed, 1 failed, 0 skipped"

t_done
