#!/bin/bash
# Every numbered rule of docs/protocol.md is named in the code that keeps it and in a test that shows it, or
# stands in docs/protocol-notes.md as one that is not built or never happens; and no rule is named that does not
# exist. Plants faults in a small tree of its own first, to be seen to fail.
#
# A name is the number with its dash, A-7: in a comment, or in what a test says of a case. A range, A-3 to A-5,
# names its two ends. What a test shows is for people to judge; that nobody forgot to write one, for this.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"

# files_of ROOT FOLDER...: what may name a rule, one path on each line
files_of() {
	(
		cd "$1" || exit 1
		shift
		find "$@" \( -name '.?*' -o -name corpus -o -name __pycache__ \) -prune -o -type f -print 2>/dev/null |
			grep -vx 'tests/unit/rules\.sh' | LC_ALL=C sort
	)
}

# rules_of ROOT: the rules of the protocol, one on each line, the time limits of table 3.4 included; and the
# invariants of the design.
rules_of() {
	sed -nE 's/^- \*\*([A-Z]-[0-9]+)( .*)?\*\*.*/\1/p; s/^\| (T-[0-9]+) \|.*/\1/p' "$1/docs/protocol.md"
	sed -nE 's/^- \*\*(I-[0-9]+) .*/\1/p' "$1/docs/design.md"
}

# excused_of ROOT: the rules in the first column of the tables of what is not built and of what never happens. One
# with words behind it, "F-13 (growing)", is excused for a part alone: the rest has to be named as ever.
excused_of() {
	awk -F ' *[|]' '
		/^## / { on = $0 == "## Not built" || $0 == "## Never happens here" }
		on && /^\|/ { print $2 }
	' "$1/docs/protocol-notes.md" | tr ',' '\n' | sed -nE 's/^ *([A-Z]-[0-9]+)$/\1/p'
}

# named_in ROOT WHERE FOLDER...: "WHERE RULE FILE" for each name in each file
named_in() {
	local root=$1 where=$2

	shift 2
	files_of "$root" "$@" | (
		cd "$root" && xargs -r -d '\n' awk -v where="$where" '
		{
			line = " " $0
			while (match(line, /[^A-Za-z0-9_-][VSWNOHTLADCFXMEKI]-[0-9]+/)) {
				id = substr(line, RSTART + 1, RLENGTH - 1)
				line = substr(line, RSTART + RLENGTH)
				if (line !~ /^[A-Za-z_-]/ && !((FILENAME, id) in seen)) {
					seen[FILENAME, id] = 1
					print where, id, FILENAME
				}
			}
		}'
	)
}

# faults ROOT: one line for each rule that is named nowhere, and for each name without a rule
faults() {
	{
		rules_of "$1" | sed 's/^/rule /'
		excused_of "$1" | sed 's/^/excused /'
		named_in "$1" code coordinator cow fs tools
		named_in "$1" test tests
		named_in "$1" text docs CONTRIBUTING.md README.md
	} | awk '
		$1 == "rule" && ($2 in rule) { print $2 ": there twice" }
		$1 == "rule" { rule[$2] = 1; order[++n] = $2 }
		$1 == "excused" { excused[$2] = 1 }
		$1 == "code" { code[$2] = 1 }
		$1 == "test" { test[$2] = 1 }
		($1 == "code" || $1 == "test" || $1 == "text") && !($2 in rule) {
			print $2 ": named in " $3 ", but there is no such rule"
		}
		END {
			for (i = 1; i <= n; i++) {
				if (order[i] in excused)
					continue
				if (!(order[i] in code))
					print order[i] ": no code names it"
				if (!(order[i] in test))
					print order[i] ": no test names it"
			}
		}'
}

# rows_missing ROOT: the rows of the test table of section 4 that tests/integration/events.sh does not name
rows_missing() {
	awk -F ' *[|] *' '
		/^\| Fault injected / { on = 1; next }
		on && !/^\|/ { exit }
		on && $2 !~ /^-+$/ { print $2 }
	' "$1/docs/protocol.md" | while IFS= read -r row; do
		grep -qF -- "$row" "$1/tests/integration/events.sh" || printf '%s\n' "$row"
	done
}

# tables_missing ROOT: the tables of states, 2.1 and so on, that the coordinator or its unit tests do not name
tables_missing() {
	sed -nE 's/^### (2\.[0-9]+) .*/\1/p' "$1/docs/protocol.md" | while IFS= read -r table; do
		for where in coordinator tests/unit; do
			grep -rqE --include='*.[ch]' "(table|Table|protocol|moves)( of)? ${table/./\\.}\b" "$1/$where" ||
				printf '%s: not in %s\n' "$table" "$where"
		done
	done
}

# ---- a small tree that is right, and what is wrong with it when something is missing ----

small() {
	rm -rf "$T_TMP/tree"
	mkdir -p "$T_TMP"/tree/{docs,coordinator,cow,fs,tools,tests/unit,tests/integration,tests/fuzz/corpus}
	(
		cd "$T_TMP/tree" || exit 1
		printf '%s\n' '- **A-1 [W]** One.' '- **A-2** Two, and not A-1.' '- **X-10 [?]** Ten.' \
			'| T-1 | window | 60 s |' '| Fault injected | F gets |' '|---|---|' '| S fails | Abort |' \
			'### 2.1 Session' >docs/protocol.md
		echo '- **I-1 One.** Text.' >docs/design.md
		printf '%s\n' '## Not built' '| rules | why |' '| X-10 | A-2 is not, either |' \
			'## Kept in a way of our own' '- **A-1** so' >docs/protocol-notes.md
		echo '/* table 2.1: A-1, A-2 (T-1), I-1. UTF-8, GPL-2, SHA-1 */' >coordinator/set.c
		echo 'Test(x, y) /* table of 2.1; A-1; "A-2", T-1 I-1 */' >tests/unit/test_x.c
		echo 'row "A-1: S fails"' >tests/integration/events.sh
	)
}
# found NAME WANT: what is said of the small tree as it is now
found() {
	t_is "$1" "$(faults "$T_TMP/tree" | LC_ALL=C sort | paste -sd ';')" "$2"
}

t_tmpdir

small
found "a tree that is right" ""
sed -i 's/A-2//' "$T_TMP/tree/coordinator/set.c"
found "a rule without code; a note about another rule is no excuse" "A-2: no code names it"
small
sed -i 's/T-1//' "$T_TMP/tree/tests/unit/test_x.c"
found "a time limit without a test" "T-1: no test names it"
small
sed -i 's/A-1/A-10/' "$T_TMP/tree/tests/unit/test_x.c"
rm "$T_TMP/tree/tests/integration/events.sh"
found "a longer number is another rule" "A-10: named in tests/unit/test_x.c, but there is no such rule;A-1: no test names it"
small
sed -i '/X-10/d' "$T_TMP/tree/docs/protocol-notes.md"
found "a rule that nobody names" "X-10: no code names it;X-10: no test names it"
small
sed -i 's/| X-10 |/| X-10 (the half) |/' "$T_TMP/tree/docs/protocol-notes.md"
found "an excuse for a part" "X-10: no code names it;X-10: no test names it"
small
echo '# E-9' >"$T_TMP/tree/tools/check"
echo 'D-7' >"$T_TMP/tree/docs/writers.md"
found "names without a rule" "D-7: named in docs/writers.md, but there is no such rule;E-9: named in tools/check, but there is no such rule"
small
sed -i 's/I-1//' "$T_TMP/tree/coordinator/set.c"
found "an invariant without code" "I-1: no code names it"
small
echo 'A-2 T-1' >"$T_TMP/tree/tests/fuzz/corpus/x"
sed -i 's/T-1//' "$T_TMP/tree/tests/unit/test_x.c"
found "inputs of a fuzzer name nothing" "T-1: no test names it"
small
echo '- **A-2** Again.' >>"$T_TMP/tree/docs/protocol.md"
found "a number that is given twice" "A-2: there twice"
small
t_is "a row that is there" "$(rows_missing "$T_TMP/tree")" ""
sed -i 's/S fails/S dies/' "$T_TMP/tree/docs/protocol.md"
t_is "a row that is not" "$(rows_missing "$T_TMP/tree")" "S dies"
t_is "a table that is there" "$(tables_missing "$T_TMP/tree")" ""
sed -i 's/2\.1/2.11/' "$T_TMP/tree/tests/unit/test_x.c"
t_is "a table that is not" "$(tables_missing "$T_TMP/tree")" "2.1: not in tests/unit"

# ---- ours ----

t_is "the rules were read: sections V S W N O H T L A D C F X M E K, and I" \
	"$(rules_of "$UMBRA_SOURCE" | sed 's/-.*//' | LC_ALL=C sort -u | tr -d '\n')" ACDEFHIKLMNOSTVWX
t_ok "all of them" [ "$(rules_of "$UMBRA_SOURCE" | wc -l)" -ge 182 ]
t_is "each rule is named where it is kept and where it is shown, or its absence explained" \
	"$(faults "$UMBRA_SOURCE" | LC_ALL=C sort)" ""
t_is "each row of the test table of section 4 is in tests/integration/events.sh" "$(rows_missing "$UMBRA_SOURCE")" ""
t_is "the tables of states are named" "$(tables_missing "$UMBRA_SOURCE")" ""
t_done
