#!/bin/bash
# tools/check itself, on a small project: its last line and its exit status must tell the truth.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"

t_need meson ninja
t_tmpdir
mkdir -p "$T_TMP/p/tools" "$T_TMP/p/tests/support"
cp "$UMBRA_SOURCE/tools/check" "$T_TMP/p/tools/"
cp "$UMBRA_SOURCE/tests/support/run-tests" "$T_TMP/p/tests/support/"
cd "$T_TMP/p" || exit 1
cat >meson.build <<'END'
project('x', 'c')
executable('x', 'x.c')
test('t', find_program('bash'), args: files('t.sh'), protocol: 'tap')
END
echo "option('tests', type: 'feature')" >meson_options.txt

# check_says NAME WANTED-LAST-LINE WANTED-STATUS OPTION...
check_says() {
	local name=$1 last=$2 want=$3 out status
	shift 3
	out=$(TMPDIR=$T_TMP tools/check --no-setup --build-dir "$T_TMP/b" "$@" 2>&1)
	status=$?
	t_is "$name: the last line" "$(tail -n 1 <<<"$out")" "$last"
	t_is "$name: the exit status" "$status" "$want"
	t_is "$name: one such line" "$(grep -cE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' <<<"$out")" 1
}

echo 'int main(void) { return 0; }' >x.c
echo 'echo "ok 1 - a"; echo "ok 2 - b # SKIP why"; echo 1..2' >t.sh
check_says "all passes" "2 passed, 0 failed, 2 skipped" 0
check_says "--quick" "1 passed, 0 failed, 1 skipped" 0 --quick
check_says "no time" "0 passed, 1 failed, 0 skipped" 1 --quick --minutes 0

echo 'echo "not ok 1 - a"; echo "ok 2 - b"; echo 1..2; exit 1' >t.sh
check_says "a case fails" "2 passed, 2 failed, 0 skipped" 1

echo 'echo "1..0 # SKIP nothing here"' >t.sh
check_says "nothing ran" "0 passed, 0 failed, 1 skipped" 1 --quick

echo 'int main(void) { int unused; return 0; }' >x.c
check_says "a warning fails the build" "0 passed, 1 failed, 0 skipped" 1 --quick

t_done
