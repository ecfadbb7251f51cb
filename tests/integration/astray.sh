#!/bin/bash
# Commands do what they do to the tree that is meant, wherever those who own the directories above or in it lead a path.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
dir=$T_TMP/above/tree
outside=$T_TMP/outside
umask 022
mkdir -p "$dir/way" "$dir/deep/down" "$outside"
echo old >"$dir/file"
echo inside >"$dir/way/f"
echo old >"$dir/deep/down/f"
ln "$dir/file" "$dir/name2"
mkfifo "$dir/fifo"
chmod 0620 "$dir/fifo"
echo "not of the tree" >"$outside/f"

# refused NAME REGEX CMD...: exit status 1 and that message
refused() {
	local name=$1 regex=$2 out status

	shift 2
	out=$("$@" 2>&1 3>&- </dev/null)
	status=$?
	t_is "$name" "$status" 1
	t_like "$name: why" "$out" "$regex"
}

t_ok "a coordinator starts" u_coordinator
t_ok "protect" umbra protect "$dir"

# ---- links in the snapshot

mv "$dir/way" "$dir/kept"
ln -s "$outside" "$dir/way"
t_ok "a snapshot in which a directory is a link" u_snap link "$dir"
rm "$dir/way"
mv "$dir/kept" "$dir/way"
refused "restore follows no link of the snapshot" 'not in the snapshot' umbra restore link "$dir/way/f"
refused "restore --to neither" 'not in the snapshot' umbra restore --to "$T_TMP/to0" link "$dir/way/f"
t_is "the file is as it was" "$(cat "$dir/way/f")" inside

# ---- what is restored

rm -r "$dir/way" "$dir/deep" "$dir/file" "$dir/name2" "$dir/fifo"
chmod 0777 "$dir"
t_ok "a directory that others may write to" umbra restore link "$dir"
t_is "hard links are" "$(stat -c %h "$dir/file")" 2
t_is "modes of what is no file, too" "$(stat -c %a "$dir/fifo")" 620
t_is "nothing else is left there" "$(find "$dir" -name '.umbra-restore*' | wc -l)" 0
rm -r "$dir/deep"
chmod 0777 "$dir"
t_ok "a file whose directories are gone" umbra restore link "$dir/deep/down/f"
t_is "they have their modes" "$(stat -c %a "$dir/deep" "$dir/deep/down" | uniq)" 755
(umask 027 && umbra restore --to "$T_TMP/to" link "$dir/file" 2>/dev/null)
t_is "a directory for --to heeds the umask" "$(stat -c %a "$T_TMP/to")" 750

# ---- a directory above the tree is renamed, another put there

mv "$T_TMP/above" "$T_TMP/moved"
mkdir -p "$dir"
echo decoy >"$dir/file"
for how in "a directory" "a link"; do
	refused "$how in its place: restore" 'leads elsewhere|not protected' umbra restore link "$dir/file"
	t_is "$how: what is there stays" "$(cat "$dir/file")" decoy
	refused "$how: backup" 'leads elsewhere|not protected' umbra backup "$dir" -- cat "$dir/file"
	t_is "$how: diff does not read it" "$(umbra diff --content link "$dir" 2>/dev/null | grep -c decoy)" 0
	rm -r "$T_TMP/above"
	mkdir -p "$T_TMP/decoys/tree"
	echo decoy >"$T_TMP/decoys/tree/file"
	ln -s "$T_TMP/decoys" "$T_TMP/above"
done
rm "$T_TMP/above"
mv "$T_TMP/moved" "$T_TMP/above"
t_ok "back again: restore" umbra restore link "$dir/file"
t_is "back again: backup" "$(umbra backup "$dir" -- cat "$dir/file" 2>/dev/null)" old
t_is "deleted, for programs" "$(umbra delete -q -y --json link | u_json "([s['label'] for s in j['snapshots']], j['failed'], j['deleted'])")" \
	"(['link'], [], True)"
t_ok "unprotect" umbra unprotect "$dir"

# ---- whose mount is unmounted, whose daemon is waited for

gone() {
	! kill -0 "$1" 2>/dev/null
}

if [ "$(id -u)" -eq 0 ]; then
	t_ok "protect again" umbra protect "$dir"
	first=$(u_daemon "$dir")
	mv "$T_TMP/above" "$T_TMP/moved"
	mkdir -p "$dir"
	t_ok "another directory at the same path is protected" umbra protect "$dir"
	kill "$first"
	t_ok "the first daemon ends" t_wait_for 60 gone "$first"
	t_is "its mount is gone, though a directory above was renamed" "$(cat "$T_TMP/moved/tree/file")" old
	t_is "the other's is there" "$(findmnt -n -o FSTYPE "$dir")" fuse.umbra
	if u_user; then
		# Before the daemon in /proc: both go by their arguments.
		t_ok "the other goes" umbra unprotect "$dir"
		u_as_user bash -c 'echo $$ >"$HOME/pid"; exec -a umbrafs python3 -c "import signal; signal.pause()" "$1"' - "$dir" &
		t_wait_for 60 test -s "$U_HOME/pid"
		t_ok "somebody calls himself umbrafs" t_wait_for 60 grep -qs ^umbrafs "/proc/$(cat "$U_HOME/pid")/cmdline"
		t_ok "the other comes" umbra protect "$dir"
		t_is "unprotect waits for its own daemon alone, and says what becomes of the files" \
			"$(UMBRA_SOCKET=$T_TMP/none umbra unprotect "$dir" 2>&1)" \
			"umbra: $dir is not protected any more; its files stay as they are"
		kill "$(cat "$U_HOME/pid")"
		wait $!
	else
		t_skip "somebody calls himself umbrafs" "no ordinary user is known"
		t_ok "the other goes" umbra unprotect "$dir"
	fi
fi
u_end
