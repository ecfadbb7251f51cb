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
t_ok "unprotect" umbra unprotect "$dir"
u_end
