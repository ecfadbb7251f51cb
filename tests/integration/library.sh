#!/bin/bash
# The examples do what they say, with a coordinator and a protected directory: a requester in C and
# one in Python, and a writer whose two files are in step in every snapshot (W-4, O-3).
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need cc
client=$UMBRA_BUILD/coordinator/client
examples=$UMBRA_SOURCE/docs/examples
dir=$T_TMP/live
mkdir "$dir"
san=()
if [ "$UMBRA_SANITIZED" = 1 ]; then
	readelf -d "$client/libumbra.so" | grep -q libasan || t_skip_all "built with a sanitizer that cc cannot link"
	san=(-fsanitize=address,undefined)
fi
export LD_LIBRARY_PATH=$client
for e in requester restore writer; do
	t_ok "$e.c builds" cc "${san[@]}" -I "$UMBRA_SOURCE/coordinator/client" "$examples/$e.c" -o "$T_TMP/$e" \
		-L "$client" -lumbra
done
t_ok "a coordinator starts" u_coordinator
t_ok "protect" umbra protect "$dir"
echo one >"$dir/file"

t_is "requester.c runs a command in the snapshot" "$("$T_TMP/requester" "$dir" cat file)" one
t_is "which keeps showing what was" \
	"$("$T_TMP/requester" "$dir" sh -c 'echo two >"$1/file"; cat file' sh "$dir")" one
t_is "while the live file has changed" "$(cat "$dir/file")" two
"$T_TMP/requester" "$dir" sh -c 'exit 7' >/dev/null 2>&1
t_is "the command's exit status is handed on" $? 7
t_is "the snapshots went with their sessions (D-2)" "$(umbra list --json "$dir" | u_json 'len(j["snapshots"])')" 0
"$T_TMP/requester" "$T_TMP" true >"$T_TMP/out" 2>&1
t_is "what is not protected is refused" $? 1
t_like "in the protocol's words" "$(cat "$T_TMP/out")" '^object-not-found: '
if command -v python3 >/dev/null; then
	t_is "requester.py lists the snapshot" "$(python3 "$examples/requester.py" "$dir")" file
	python3 "$examples/requester.py" "$T_TMP" >"$T_TMP/out" 2>&1
	t_is "requester.py fails where it must" $? 1
	t_like "with the protocol's words" "$(cat "$T_TMP/out")" 'object-not-found: '
else
	t_skip "requester.py lists the snapshot" "python3 is not installed"
fi

# ---- the writer

mkdir "$dir/app"
"$T_TMP/writer" "$dir/app" >"$T_TMP/writer.out" 2>"$T_TMP/writer.err" &
writer=$!
stop_writer() { [ -z "$writer" ] || kill "$writer"; }
t_cleanup stop_writer
t_wait_for 20 grep -q '^writer ' "$T_TMP/writer.out"

# in_step: snapshots, one after the other, in each of which both files have the same numbers
in_step() {
	local i

	for i in $(seq 10); do
		"$T_TMP/requester" "$dir" cmp app/a app/b || { echo "snapshot $i"; return 1; }
	done
}
t_ok "the writer's files are in step in every snapshot" in_step
t_is "no writer failed" "$("$T_TMP/requester" "$dir" true 2>&1)" ""
size=$(stat -c %s "$dir/app/b")
grown() { [ "$(stat -c %s "$dir/app/b")" -gt "$size" ]; }
t_ok "it goes on after Thaw" t_wait_for 20 grown
mkdir "$T_TMP/other"
t_ok "protect another directory" umbra protect "$T_TMP/other"
t_like "W-12: it fails a set that its files are not in" "$("$T_TMP/requester" "$T_TMP/other" true 2>&1)" \
	'^writer Example: failed-at-prepare-snapshot \(inconsistent-snapshot\)$'
kill "$writer"
wait "$writer"
t_is "it stops when it is told to" $? 0
writer=
t_is "and had nothing to complain of" "$(cat "$T_TMP/writer.err")" ""

# ---- a restore of a backup that umbra shell made

logs=$T_TMP/logs
mkdir "$logs" "$dir/db"
echo good >"$dir/db/f"
cat >"$logs/R.document" <<END
{"version": "1.0", "restore_method": {"method": "stop-restore-start"},
 "components": [{"type": "database", "name": "db", "file_sets": [{"path": "$dir/db", "pattern": "*"}]}]}
END
echo '[{"name": "db", "target": "alternate"}]' >"$logs/R.targets"
"$UMBRA_BUILD/tests/integration/actor" R back-end 20000 "$logs" >/dev/null 2>&1 3>&- </dev/null &
U_PIDS="${U_PIDS-} $!"
t_wait_for 30 grep -qs '^registered' "$logs/R.log"
cat >"$T_TMP/script" <<END
set metadata $T_TMP/documents
add tree $dir
begin backup
create
exec cp $dir/db/f $T_TMP/copy
end backup
END
# What the writer saw of restores, as one line; and forgets it.
restores_seen() {
	grep restore "$logs/R.log" | tr '\n' ' '
	sed -i '/restore/d' "$logs/R.log"
}
t_ok "a backup with umbra shell" umbra shell -s "$T_TMP/script"
echo bad >"$dir/db/f"
t_is "restore.c says where the writer wants it (X-3)" \
	"$("$T_TMP/restore" "$T_TMP/documents" cp "$T_TMP/copy" "$dir/db/f" 2>&1)" "db of R: to its alternate place"
t_is "the command has put it back" "$(cat "$dir/db/f")" good
t_is "the writer was told, before and after (X-7)" "$(restores_seen)" "pre-restore db=undefined post-restore db=all "
"$T_TMP/restore" "$T_TMP/documents" sh -c 'exit 7' >/dev/null 2>&1
t_is "a command that fails: its exit status is handed on" $? 7
t_is "and the writer is told so (X-5)" "$(restores_seen)" "pre-restore db=undefined post-restore db=failed "
"$T_TMP/restore" "$dir/db/f" true >"$T_TMP/out" 2>&1
t_is "what is no document is refused" "$?" 1

# Its thaw would never come: it must know, and say so.
: >"$T_TMP/writer.out" # what the former said is not what this one says
"$T_TMP/writer" "$dir/app" >"$T_TMP/writer.out" 2>"$T_TMP/writer.err" &
writer=$!
t_wait_for 20 grep -q '^writer ' "$T_TMP/writer.out"
kill -9 "$U_COORDINATOR_PID"
wait "$writer"
t_is "it ends when the coordinator is killed" $? 1
writer=
t_like "and says why" "$(cat "$T_TMP/writer.err")" '^connection to the coordinator lost'
t_ok "unprotect" umbra unprotect "$dir"
t_ok "unprotect the other" umbra unprotect "$T_TMP/other"
u_end
