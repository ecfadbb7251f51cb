#!/bin/bash
# umbra shell (protocol section 11): scripts with real writers over the real socket. Compared are exit statuses
# (E-4), what each writer saw, what is left, and that every way to end a shell ends its session properly (K-3).
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need python3
actor=$UMBRA_BUILD/tests/integration/actor
dir="$T_TMP/my data"
other=$T_TMP/other
logs=$T_TMP/logs
mkdir "$dir" "$other" "$logs"
declare -A pids=()

has_line() {
	grep -q "$2" "$logs/$1.log" 2>/dev/null
}
start() {
	local name=$1 level=$2

	shift 2
	"$actor" "$name" "$level" 20000 "$logs" "$@" >"$logs/$name.out" 2>&1 3>&- </dev/null &
	pids[$name]=$!
	U_PIDS="${U_PIDS-} $!"
	t_wait_for 30 has_line "$name" '^registered'
}
stop() {
	local name

	for name in "${!pids[@]}"; do
		kill -KILL "${pids[$name]}" 2>/dev/null
		wait "${pids[$name]}" 2>/dev/null
	done
	pids=()
	rm -f "$logs"/*
}
# What a writer saw, as one line of words.
saw() {
	grep -v '^registered\|^ended' "$logs/$1.log" 2>/dev/null | tr '\n' ' ' | sed 's/ $//'
}
# script [OPTION]...: runs standard input as a script of lines; sets status, out, err
script() {
	cat >"$T_TMP/script"
	umbra shell "$@" -s "$T_TMP/script" >"$T_TMP/out" 2>"$T_TMP/err" 3>&- </dev/null
	status=$?
	out=$(cat "$T_TMP/out") err=$(cat "$T_TMP/err")
}
snapshots() {
	umbra list --json | u_json "len(j['snapshots'])"
}
no_session() {
	umbra status --json | u_json "len(j['sessions'])" | grep -qx 0
}
t_ok "a coordinator starts" u_coordinator
t_ok "protect" umbra protect -q "$dir"
t_ok "protect another" umbra protect -q "$other"
echo old >"$dir/file"
echo old >"$other/file"
whole='prepare-backup prepare-for-snapshot freeze thaw post-snapshot'

# ---- a backup from begin to end

start F front-end
start S system
cat >"$T_TMP/job" <<'END'
#!/bin/bash
[ "$1" = "two words" ] && [ -n "$SHADOW_SET" ] && [ -n "$SHADOW_1" ] && [ "$SHADOW_1" = "$data" ] &&
	[ "$SHADOW_2" != "$SHADOW_1" ] && [ "$colour" = "dark red" ] || exit 9
echo new >"$LIVE/file"
cat "$UMBRA_SNAPSHOT_1/file" "$UMBRA_SNAPSHOT_2/file"
END
chmod +x "$T_TMP/job"
LIVE=$dir script <<END
# a backup
SET CONTEXT volatile
set metadata "$T_TMP/meta data"
add alias colour "dark red"
add tree "$dir" alias data
add tree '$other'
REM it's a remark
begin backup
create
exec "$T_TMP/job" "two words"
end backup
END
t_is "a whole backup: exit status" "$status" 0 || t_diag "$err"
t_is "the program it runs sees both snapshots as they were" "$(tail -n 2 <<<"$out" | xargs)" "old old"
t_is "W-6: F saw all of it" "$(saw F)" "$whole backup-complete backup-shutdown"
t_is "and so did S" "$(saw S)" "$whole backup-complete backup-shutdown"
t_is "D-2: volatile snapshots are gone" "$(snapshots)" 0
t_is "X-2: both kinds of documents are kept" "$(u_json "json.loads(j['document'])['kind'] + ' ' + type(j['writer_documents']).__name__ +
	' ' + json.loads(j['document'])['backup_type']" <"$T_TMP/meta data")" "umbra-backup list full"
t_is "nothing is beside them" "$(find "$T_TMP" -name 'meta data.*')" ""
t_is "K-4: what was created is shown as vssadmin does" "$(grep -c 'Contained 2 shadow copies at creation time\|Shadow Copy ID: {' <<<"$out")" 3
stop

# ---- ends that are none

start F front-end
script <<END
add tree "$dir"
begin backup
create
END
t_is "no end backup: exit status" "$status" 0
t_like "it is said" "$err" 'no end backup'
t_is "D-5: no BackupComplete comes, BackupShutdown does" "$(saw F)" "$whole backup-shutdown"
stop

start F front-end
script <<END
add tree "$dir"

begin backup
create
exec false
end backup
exec touch "$T_TMP/never"
END
t_is "a failing program ends the script" "$status" 1
t_like "it is named, with its status" "$err" 'false ended with exit status 1'
t_like "and the line" "$err" 'script ends with an error in line 5'
t_is "K-3: the backup does not count" "$(saw F)" "$whole backup-shutdown"
t_not "what follows is not run" test -e "$T_TMP/never"
stop

start F front-end
script <<END
add tree "$dir"
create
exec sh -c 'test -f "\$UMBRA_SNAPSHOT_PATH/file" && echo %SHADOW_1%' 
END
t_is "create without begin backup: exit status" "$status" 0
t_is "the writers are told at once that the copy is complete" "$(saw F)" "$whole backup-complete backup-shutdown"
t_is "'...' is left as it stands" "$(tail -n 1 <<<"$out")" "%SHADOW_1%"
stop

# ---- writers that fail

start F front-end freeze=fail
script <<END
set context persistent
add tree "$dir"
create
END
t_is "E-4: a writer that fails in the midst: exit status" "$status" 4
t_like "K-2: it is named" "$err" 'writer F: Freeze: refused'
t_is "the snapshot is there" "$(snapshots)" 1
script <<'END'
delete snapshots all
END
t_is "delete snapshots all" "$status $(snapshots)" "0 0"

script <<END
set context persistent
set option requirewriters
add tree "$dir"
create
END
t_is "A-16: requirewriters: exit status" "$status" 3
t_is "nothing is made" "$(snapshots)" 0
stop

start F front-end post-snapshot=fail
start S system
script <<END
set context persistent
writer verify F
add tree "$dir"
create
exec touch "$T_TMP/never"
END
t_is "writer verify, and it fails: exit status" "$status" 3 || t_diag "$err"
t_like "it is said which" "$err" 'F must not fail'
t_is "A-18: what was created is deleted, persistent though it is" "$(snapshots)" 0
t_is "A-9: S, past PostSnapshot, gets no Abort" "$(saw S)" "$whole backup-shutdown"
stop

start F front-end prepare-backup=fail
start S system
script <<END
writer verify F
add tree "$dir"
create
END
t_is "writer verify fails before the set: exit status" "$status" 3
t_is "A-1, A-22: both get Abort" "$(saw F), $(saw S)" \
	"prepare-backup abort requester backup-shutdown, prepare-backup abort requester backup-shutdown"
stop

start F front-end
start S system
script <<END
writer verify Nobody
add tree "$dir"
create
END
t_is "writer verify of one who is not there: exit status" "$status" 1
t_like "it is said" "$err" 'Nobody has to take part'
t_is "nobody heard of it" "$(saw F)$(saw S)" ""
script <<END
writer exclude F
writer verify S
add tree "$dir"
create
END
t_is "writer exclude: exit status" "$status" 0 || t_diag "$err"
t_is "W-13: F hears nothing" "$(saw F)" ""
t_is "S does" "$(saw S)" "$whole backup-complete backup-shutdown"
script <<END
writer exclude F
writer verify F
add tree "$dir"
create
END
t_is "one cannot have both" "$status" 1
script <<END
set context clientaccessible nowriters
begin backup
add tree "$dir"
create
end backup
list snapshots id %SHADOW_1%
delete snapshots set %SHADOW_SET%
END
t_is "nowriters: exit status" "$status" 0 || t_diag "$err"
t_like "list snapshots id" "$out" 'Type: ClientAccessible'
t_is "S-6: no writer is called; delete snapshots set" "$(saw F)$(snapshots)" 0
stop

# ---- restore: what is in the documents, who is there, and telling them (X-2 to X-7)

# document NAME DIR...: what NAME says of itself: a component in each DIR, c1, c2 ...
document() {
	local name=$1 i=0 list= d

	shift
	for d; do
		i=$((i + 1))
		list+="${list:+, }{\"type\": \"file-group\", \"name\": \"c$i\", \"file_sets\": [{\"path\": \"$d\", \"pattern\": \"*\", \"recursive\": true}]}"
	done
	echo "{\"version\": \"1.0\", \"restore_method\": {\"method\": \"restore-if-can-replace\"}, \"components\": [$list]}" \
		>"$logs/$name.document"
}
forget() {
	sed -i 1q "$logs/$1.log"
}
document F "$dir/a" "$other/b" "$T_TMP/elsewhere"
document S "$dir"
start F front-end
start S system
script <<END
set metadata "$T_TMP/saved"
add tree "$dir"
add tree "$other"
begin backup
create
end backup
END
t_is "a backup of two writers with components: exit status" "$status" 0 || t_diag "$err"
components() {
	u_json "' '.join(sorted(w['name'] + ':' + c['name'] + ('+' if c.get('succeeded') else '-')
		for w in json.loads(j['document'])['writers'] for c in w['components']))" <"$1"
}
t_is "M-5, M-7: those whose files are in the set, and they succeeded" "$(components "$T_TMP/saved")" "F:c1+ F:c2+ S:c1+"
script <<END
set metadata "$T_TMP/half"
add tree "$other"
begin backup
create
END
t_is "of the other tree alone, and never ended (M-7)" "$(components "$T_TMP/half")" "F:c2-"
forget F
forget S
echo '[{"name": "c1", "target": "alternate"}]' >"$logs/F.targets"
script <<END
load metadata "$T_TMP/saved"
simulate restore
END
t_is "simulate restore: exit status" "$status" 0 || t_diag "$err"
t_is "no writer heard of it (section 11)" "$(saw F)$(saw S)" ""
t_is "it shows what would be restored" "$(grep -c 'To be restored: yes' <<<"$out")" 3
script <<END
load metadata "$T_TMP/saved"
begin restore
exec sh -c "cat '$logs/F.log' '$logs/S.log' | grep -c restore"
end restore
END
t_is "a restore: exit status" "$status" 0 || t_diag "$err"
t_is "X-3, X-7: F is told before and after" "$(saw F)" "pre-restore c1=undefined c2=undefined post-restore c1=all c2=all"
t_is "and so is S" "$(saw S)" "pre-restore c1=undefined post-restore c1=all"
t_is "X-4: what is run in between comes after PreRestore, before PostRestore" "$(tail -n 1 <<<"$out")" 2
t_is "X-3: it is shown where the writer wants it" "$(grep -c 'Target: alternate' <<<"$out")" 1
forget F
forget S
script <<END
writer exclude S
load metadata "$T_TMP/saved"
begin restore
exec false
END
t_is "a program that fails ends the restore: exit status" "$status" 1
t_is "X-5: F hears that it failed" "$(saw F)" "pre-restore c1=undefined c2=undefined post-restore c1=failed c2=failed"
t_like "it is said" "$err" 'no end restore'
t_is "S, excluded, hears nothing" "$(saw S)" ""
forget F
script <<END
writer exclude S
load metadata "$T_TMP/saved"
begin restore
end restore none
list metadata
END
t_is "end restore none: exit status" "$status" 0 || t_diag "$err"
t_like "X-7" "$(saw F)" 'post-restore c1=none c2=none$'
forget F
script <<END
load metadata "$T_TMP/half"
begin restore
exec touch "$T_TMP/never"
END
t_is "M-7: what was not backed up well is not restored: exit status" "$status" 1
t_like "it is said" "$err" 'c2 of writer F was not backed up well'
t_is "nobody heard of it" "$(saw F)$(saw S)" ""
script --json <<END
load metadata "$T_TMP/saved"
simulate restore
END
t_is "--json: the components, and which would be restored" \
	"$(u_json "[(w['name'], [c['restore'] for c in w['components']]) for w in j['writers']]" <<<"$out")" \
	"[('F', [True, True]), ('S', [True])]"

# Who is not there, and who comes anew.
kill "${pids[S]}"
wait "${pids[S]}"
gone() {
	! umbra writers | grep -q "'S'"
}
t_ok "S has gone" t_wait_for 30 gone
script <<END
load metadata "$T_TMP/saved"
list metadata
simulate restore
begin restore
end restore
END
t_is "E-4: a writer that is not there: exit status" "$status" 4 || t_diag "$err"
t_like "it is said" "$err" 'writer S is not there'
t_like "and listed" "$out" "Writer name: 'S'.*Now: not there"
t_like "the other one is told" "$(saw F)" 'post-restore c1=all c2=all$'
forget F
for must in S c3; do
	script <<END
load metadata "$T_TMP/saved"
writer verify $must
simulate restore
END
	t_is "writer verify $must, and it cannot be: exit status" "$status" 1
	t_like "writer verify $must: it is said" "$err" "$must has to be restored"
	script <<END
load metadata "$T_TMP/saved"
writer verify $must
begin restore
END
	t_is "writer verify $must: begin restore fails likewise" "$status $(saw F)" "1 "
done
rm "$logs/S.log"
start S system pre-restore=fail
script <<END
load metadata "$T_TMP/saved"
begin restore
end restore
END
t_is "a writer that fails PreRestore: exit status" "$status" 4 || t_diag "$err"
t_like "K-2: it is named" "$err" 'writer S: PreRestore: refused'
t_is "X-3: a new instance stands for the old one; failed, it gets no PostRestore" "$(saw S)" "pre-restore c1=undefined"
forget F
forget S
script <<END
load metadata "$T_TMP/saved"
writer verify S
begin restore
exec touch "$T_TMP/never"
END
t_is "writer verify, and it fails: exit status" "$status" 3
t_like "X-5: F is told of the end all the same" "$(saw F)" 'post-restore c1=failed c2=failed$'
t_not "what follows is not run" test -e "$T_TMP/never"
rm -f "$logs"/*.targets
stop

# ---- lists, deletion, aliases, reset

script --json <<END
set context persistent nowriters
add tree "$dir"
create
reset
set context persistent nowriters
add tree "$dir"
create
reset
list snapshots tree "$dir"
delete snapshots oldest "$dir"
list snapshots all
list trees
list writers
list providers
END
t_is "--json: one document for each that prints: exit status" "$status" 0 || t_diag "$err"
t_is "and what is in them" "$(python3 -c "
import json, sys
d, text = [], sys.stdin.read()
while text.strip():
    o, n = json.JSONDecoder().raw_decode(text.lstrip())
    d.append(o)
    text = text.lstrip()[n:]
first, second = [x['snapshots'][0]['id'] for x in d[:2]]
print([s['id'] for s in d[2]['snapshots']] == [first, second], [s['id'] for s in d[3]['snapshots']] == [first],
      [s['id'] for s in d[4]['snapshots']] == [second], len(d[5]['trees']), d[6], len(d[7]['providers']))
" <"$T_TMP/out")" "True True True 2 {'writers': []} 2"
script <<END
delete shadows volume "$dir"
list shadows
list volumes
list providers
END
t_is "diskshadow's words for them" "$status $(snapshots)" "0 0"
t_like "trees as vssadmin has volumes" "$out" "Volume path: $dir"

script <<END
add alias x "a b"
exec sh -c "test '%x%' = 'a b' && test \"\$x\" = 'a b'"
reset
exec true %x%
END
t_is "reset forgets aliases" "$status" 2
t_like "it is said which is missing" "$err" 'no alias x'
script <<END
add tree "$dir"
create
exec sh -c "test -n %SHADOW_1% && test -d '%UMBRA_SNAPSHOT_1%'"
reset
list snapshots
set
END
t_is "D-2: reset lets volatile snapshots go" "$status $(grep -c 'Shadow Copy ID' <<<"$out")" "0 1"
t_is "and forgets the tree" "$(grep -c '^tree ' <<<"$out")" 0

t_like "set shows what was said" "$(printf '%s\n' "add tree '$dir' alias x" "add alias y z" set | umbra shell)" \
	'context +backup.*tree +.*my data alias x.*alias +y = z'

# ---- what it refuses

echo '{"version": "1.0", "kind": "other"}' >"$T_TMP/foreign"
echo '{"version": "1.0", "kind": "umbra-metadata", "document": "{}", "writer_documents": []}' >"$T_TMP/nothing"
# refuses STATUS REGEX LINE...
refuses() {
	local want=$1 regex=$2

	shift 2
	script < <(printf '%s\n' "$@")
	t_is "refused: ${*: -1}" "$status" "$want" || t_diag "$err"
	t_like "as it should be: ${*: -1}" "$err" "$regex"
}
refuses 1 'create needs a tree' 'create'
refuses 1 'is not protected' "add tree $logs"
refuses 1 'in the snapshot set already' "add tree \"$dir\"" "add tree \"$dir/.\""
refuses 2 'there is no command frob' 'frob'
refuses 2 'usage: add alias NAME VALUE' 'add alias x'
refuses 2 'cannot be followed by this' 'set nonsense'
refuses 2 'cannot be an alias' "add tree \"$dir\" alias 1x"
refuses 2 'not closed' "add tree \"$dir"
refuses 1 'no backup was begun' 'end backup'
refuses 1 'this session has its snapshot set|snapshot set is complete' "add tree \"$dir\"" create create
refuses 1 'invalid-argument' 'set option txfrecover'
refuses 1 'excludes' 'set option noautorecover rollbackrecover'
refuses 1 '.' 'set option plex' "add tree \"$dir\"" create
refuses 1 'hardware providers' import
refuses 1 'hardware providers' "mask x"
refuses 1 'cannot be made independent' "break x"
refuses 1 'no snapshot|not protected|there is no' 'revert x'
refuses 2 'usage: revert SNAPSHOT' 'revert'
refuses 2 'usage: revert SNAPSHOT' 'revert x y'
refuses 1 'load metadata FILE' 'begin restore'
refuses 1 'load metadata FILE' 'simulate restore'
refuses 1 'load metadata FILE' 'list metadata'
refuses 1 'no restore was begun' 'end restore'
refuses 1 'No such file' "load metadata $T_TMP/none"
refuses 1 'is damaged' "load metadata \"$dir/file\""
refuses 1 'no file that set metadata' "load metadata $T_TMP/foreign"
refuses 1 'a backup has begun' "load metadata \"$T_TMP/saved\"" 'begin backup' 'begin restore'
refuses 1 'has its snapshot set|set is complete' "load metadata \"$T_TMP/saved\"" "add tree \"$dir\"" create 'begin restore'
refuses 1 'nothing that a writer could restore' "load metadata \"$T_TMP/saved\"" 'begin restore'
refuses 1 'invalid-document|document' "load metadata $T_TMP/nothing" 'simulate restore'
refuses 1 'no snapshot is exposed' 'delete snapshots exposed /mnt'
refuses 1 'no snapshot is exposed' 'unexpose /mnt'
refuses 2 'usage: expose' 'expose'
refuses 2 'usage: unexpose' 'unexpose a b'
refuses 1 'one in the working directory needs its path|cannot be run' 'exec no-such-program'
refuses 1 'No such file' 'exec /no/such/program'
t_is "C-5, A-25: nothing of all this is left" "$(snapshots)" 0
t_like "a line that is too long" "$(head -c 70000 /dev/zero | tr '\0' x | umbra shell 2>&1; echo "=$?")" 'longer than 64 KiB.*=1$'
t_like "a line with a NUL in it" "$(printf 'he\0lp\n' | umbra shell 2>&1; echo "=$?")" 'NUL byte.*=1$'
t_is "the last line needs no newline, and \\r before one is no harm" "$(printf 'exec echo a\r\nexec echo b' | umbra shell | xargs)" "a b"
umbra shell -s "$T_TMP/none" >"$T_TMP/out" 2>"$T_TMP/err"
t_is "no such script" "$?" 1
t_is "without a coordinator it can be left again" "$(echo exit | UMBRA_SOCKET=$T_TMP/c/none umbra shell; echo $?)" 0
t_is "K-6: but nothing is worked on" "$(echo 'list trees' | UMBRA_SOCKET=$T_TMP/c/none umbra shell 2>/dev/null; echo $?)" 3

# ---- by pipe: the slot, and signals at each place

mkfifo "$T_TMP/in"
# piped [OPTION]...: a shell that reads what is written to descriptor 7; its pid
piped() {
	: >"$T_TMP/out" # what an earlier one said is not what this one says
	: >"$T_TMP/err"
	umbra shell "$@" <"$T_TMP/in" >"$T_TMP/out" 2>"$T_TMP/err" 3>&- &
	shell_pid=$!
	U_PIDS="${U_PIDS-} $shell_pid"
	exec 7>"$T_TMP/in"
}
ended() {
	exec 7>&-
	wait "$shell_pid"
	status=$?
}
said() {
	grep -q "$1" "$T_TMP/out"
}
# What a program prints is there before the shell has seen its end; a signal meanwhile would be the program's.
runs_nothing() {
	! pgrep -P "$shell_pid" >"$T_TMP/running"
}

start F front-end
piped
printf '%s\n' "add tree '$dir'" "begin backup" "exec echo here" >&7
t_ok "what is said is done at once" t_wait_for 30 said '^here'
t_ok "S-9: while nothing is created the slot is free" umbra create -q --no-writers "$other"
printf '%s\n' "create" "exec cat" "exec echo there" >&7
t_ok "what it runs does not read the script" t_wait_for 30 said '^there'
t_wait_for 30 runs_nothing
kill -TERM "$shell_pid"
ended
t_is "SIGTERM while it waits for a line: exit status" "$status" 1
t_like "it is said" "$(cat "$T_TMP/err")" 'interrupted'
t_is "K-3: the writers are told" "$(saw F)" "$whole backup-shutdown"
stop

start F front-end prepare-for-snapshot=stall
piped -v
printf '%s\n' "add tree '$dir'" "create" "exec touch '$T_TMP/never'" >&7
t_ok "a creation stands still" t_wait_for 30 has_line F '^stalls prepare-for-snapshot'
kill -HUP "$shell_pid"
# The writer may go on only when Abort is on its way, else the set would be complete before.
is_aborting() {
	grep -q 'F: abort' "$T_TMP/err"
}
t_ok "SIGHUP leads to AbortBackup" t_wait_for 30 is_aborting || t_diag "$(cat "$T_TMP/err")"
echo x >"$logs/F.go"
ended
t_is "SIGHUP in the midst of create: exit status" "$status" 1
t_like "K-3, A-20: F gets Abort, then BackupShutdown" "$(saw F)" 'prepare-for-snapshot .*abort [a-z ]*backup-shutdown$'
t_ok "no session is left" t_wait_for 30 no_session
t_not "what follows is not run" test -e "$T_TMP/never"
stop

start F front-end
piped
printf '%s\n' "add tree '$dir'" "begin backup" "create" \
	"exec sh -c 'trap \"echo stopped; kill \\\$!; exit 0\" TERM; sleep 1000 & echo ready; wait'" "end backup" >&7
t_ok "a program runs" t_wait_for 30 said '^ready'
kill -TERM "$shell_pid"
ended
t_ok "a signal is handed on to it" said '^stopped'
t_is "and ends the shell: exit status" "$status" 1
t_is "K-3: the backup does not count" "$(saw F)" "$whole backup-shutdown"
stop

document F "$dir"
start F front-end post-restore=stall
script <<END
set metadata "$T_TMP/saved"
add tree "$dir"
begin backup
create
end backup
END
forget F
piped -v
printf '%s\n' "load metadata '$T_TMP/saved'" "begin restore" "exec echo begun" >&7
t_ok "a restore begins" t_wait_for 30 said '^begun'
t_wait_for 30 runs_nothing
kill -TERM "$shell_pid"
t_ok "SIGTERM in the midst of it: PostRestore comes" t_wait_for 30 has_line F '^stalls post-restore' &&
	echo x >"$logs/F.go"
ended
t_is "exit status" "$status" 1
t_is "X-5: and says that it failed" "$(saw F)" "pre-restore c1=undefined stalls post-restore post-restore c1=failed"
t_ok "no session is left" t_wait_for 30 no_session
forget F
piped
printf '%s\n' "load metadata '$T_TMP/saved'" "begin restore" "reset" "exec echo reset" >&7
t_ok "reset in the midst of it waits for the writer" t_wait_for 30 has_line F '^stalls post-restore' &&
	echo x >"$logs/F.go"
t_ok "and goes on" t_wait_for 30 said '^reset'
ended
t_is "reset: exit status" "$status" 0
stop

piped
printf '%s\n' "set context persistent nowriters" "add tree '$dir'" "create" "exec echo made" >&7
t_ok "a persistent one" t_wait_for 30 said '^made'
kill -KILL "$shell_pid"
ended
t_ok "even after kill -9 the session ends" t_wait_for 30 no_session
t_is "D-14: what is persistent stays" "$(umbra list --json "$dir" | u_json "len(j['snapshots'])")" 1
u_delete --for "$dir" --all >/dev/null
u_delete --for "$other" --all >/dev/null

# ---- by hand

cat >"$T_TMP/hand.py" <<'END'
import os, pty, sys, select
def until(fd, want, seen=b''):
    while want not in seen:
        if not select.select([fd], [], [], 60)[0]:
            sys.exit('no %r in %r' % (want, seen))
        try:
            more = os.read(fd, 4096)
        except OSError:
            more = b''
        if not more:
            sys.exit('ended without %r: %r' % (want, seen))
        seen += more
    return seen
pid, fd = pty.fork()
if pid == 0:
    os.environ['TERM'] = 'vt100'
    os.execvp('umbra', ['umbra', 'shell'])
until(fd, b'umbra> ')
os.write(fd, b'frob\r')
until(fd, b'there is no command frob')
os.write(fd, b'exec printf <%%s>\\\\n after\r')
until(fd, b'<after>')
os.write(fd, b'exec stty -a\r')
seen = until(fd, b'icanon')
if b'-icanon' in seen:
    sys.exit('the terminal is not given back: %r' % seen)
until(fd, b'umbra> ', seen[seen.index(b'icanon'):])
os.write(fd, sys.argv[1].encode() + (b'' if sys.argv[1] == '\x03' else b'\r'))
try:
    while os.read(fd, 4096):
        pass
except OSError:
    pass # the terminal is gone
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(0 if status == int(sys.argv[2]) else 'exit status %d' % status)
END
t_ok "by hand: an error does not end it, exit does" python3 "$T_TMP/hand.py" exit 0
t_ok "nor does a line with nothing but a remark" python3 "$T_TMP/hand.py" "# so
quit" 0
t_ok "K-3: SIGINT ends it" python3 "$T_TMP/hand.py" $'\003' 1
t_ok "and so does the end of the input" python3 "$T_TMP/hand.py" $'\004' 0

t_ok "unprotect" umbra unprotect "$dir"
t_ok "unprotect the other" umbra unprotect "$other"
u_end
