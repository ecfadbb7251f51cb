#!/bin/bash
# umbra revert (X-10 to X-12): a mounted tree becomes a snapshot again in all that a backup program sees, programs see it
# at once, newer snapshots go and older ones stay exact; refused where it must be; what stops half way says so and goes on;
# umbrafs killed in the middle, the next one finishes.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need rsync python3
seed=${UMBRA_SEED:-$RANDOM}
RANDOM=$seed
t_diag "UMBRA_SEED=$seed"
dir=$T_TMP/live
t_cleanup chmod -R u+rwX "$T_TMP"
root=
[ "$(id -u)" -ne 0 ] || root=1

make_tree() {
	local d=$1 i

	mkdir -p "$d"/{keep,swap1,swap2,gone/deep,moved/in,outer/inner,closed,times}
	for i in $(seq 40); do
		head -c $((i * 700)) /dev/urandom >"$d/keep/f$i"
	done
	head -c 300000 /dev/urandom >"$d/large"
	truncate -s 5M "$d/sparse" && printf middle | dd of="$d/sparse" bs=1 seek=2000000 conv=notrunc status=none
	echo one >"$d/swap1/a" && echo two >"$d/swap2/b"
	echo deep >"$d/gone/deep/file" && echo in >"$d/moved/in/file" && echo i >"$d/outer/inner/file"
	echo linked >"$d/link1" && ln "$d/link1" "$d/keep/link2" && ln "$d/link1" "$d/link3"
	ln -s target "$d/symlink" && mkfifo "$d/fifo"
	echo type >"$d/type" && mkdir "$d/type2" && echo replaced >"$d/replaced"
	echo mode >"$d/mode" && chmod 4751 "$d/mode"
	setfattr -n user.colour -v blue "$d/mode" 2>/dev/null
	setfacl -m u:12345:r "$d/keep/f2" 2>/dev/null
	echo cut >"$d/closed/file" && chmod 0500 "$d/closed"
	[ -z "$root" ] || chown 1234:4321 "$d/keep/f3"
	touch -d '2001-02-03 04:05:06.123456789' "$d/times/old" "$d/times"
}

change_tree() {
	local d=$1 i

	echo changed >"$d/keep/f1"
	printf patch | dd of="$d/large" bs=1 seek=123456 conv=notrunc status=none
	truncate -s 1000 "$d/keep/f40" && echo more >>"$d/keep/f39" && rm "$d/keep/f5" "$d/keep/f6"
	dd if=/dev/urandom of="$d/sparse" bs=64K seek=3 count=2 conv=notrunc status=none
	fallocate -p -o 1998848 -l 4096 "$d/sparse" 2>/dev/null
	mv "$d/swap1" "$d/swap3" && mv "$d/swap2" "$d/swap1" && mv "$d/swap3" "$d/swap2"
	rm -r "$d/gone"
	mkdir -p "$d/new/below" && mv "$d/moved" "$d/new/below/moved" && echo n >"$d/new/below/n"
	mv "$d/outer/inner" "$d/inner" && mv "$d/outer" "$d/inner/outer"
	rm "$d/link1" && mv "$d/keep/link2" "$d/new/renamed" && ln "$d/new/renamed" "$d/link4" && echo x >"$d/link1"
	ln -sfn elsewhere "$d/symlink" && rm "$d/fifo" && echo file >"$d/fifo"
	rm "$d/type" && mkdir "$d/type" && rmdir "$d/type2" && echo file >"$d/type2"
	echo other >"$d/replaced.new" && mv "$d/replaced.new" "$d/replaced"
	chmod 0600 "$d/mode"
	setfattr -n user.colour -v red "$d/mode" 2>/dev/null
	setfattr -n user.more -v 1 "$d/mode" 2>/dev/null
	setfacl -b "$d/keep/f2" 2>/dev/null
	chmod 0700 "$d/closed" && rm "$d/closed/file" && echo c >"$d/closed/other" && chmod 0500 "$d/closed"
	[ -z "$root" ] || chown 0:0 "$d/keep/f3"
	touch "$d/times/old" "$d/times/young"
	for i in $(seq 20); do echo "$i" >"$d/new/$i"; done
}

copy_tree() {
	mkdir -p "$2" && rsync -aHAXS --exclude=/.umbra "$1/" "$2/"
}

# Equal in all that rsync knows: nothing would be copied, changed or deleted.
same_tree() {
	local out

	out=$(rsync -aHAXni --checksum --delete --exclude=/.umbra --exclude=/.snapshots "$1/" "$2/" 2>&1) ||
		out="rsync failed: $out"
	[ -z "$out" ] || { head -n 20 <<<"$out"; return 1; }
}

snapshot_is() {
	local m=$T_TMP/m r

	mkdir -p "$m"
	umbra mount "$1" --for "$dir" "$m" || return
	same_tree "$2" "$m"
	r=$?
	umbra umount "$m"
	return $r
}

tree_json() {
	umbra status --json | u_json "[t for t in j['trees'] if t['path'] == '$dir'][0]$1"
}

is_reverted() {
	[ "$(tree_json "['revert']")" = None ]
}

# An exit status and what was said.
refused() {
	local name=$1 want=$2 regex=$3 err status

	shift 3
	err=$("$@" 2>&1 </dev/null)
	status=$?
	t_is "$name: status" "$status" "$want" || t_diag "$err"
	t_like "$name: said" "$err" "$regex"
}

t_ok "a coordinator starts" u_coordinator
mkdir "$dir"
make_tree "$dir"
t_ok "protect" umbra protect "$dir"
echo before >"$dir/before"
t_ok "an older snapshot" u_snap older "$dir"
copy_tree "$dir" "$T_TMP/copy-older"
rm "$dir/before" && echo between >"$dir/keep/between" && mv "$dir/keep/f7" "$dir/keep/seven"
t_ok "the snapshot to come back to" u_snap back "$dir"
copy_tree "$dir" "$T_TMP/copy-back"
inode=$(stat -c %i "$dir/gone")
change_tree "$dir"
t_ok "a newer snapshot" u_snap newer "$dir"
copy_tree "$dir" "$T_TMP/copy-newer"

# ---- only said
out=$(umbra revert -n back "$dir")
t_is "-n: status" $? 0
t_like "-n says what differs and what would go" "$out" 'would delete .* newer,.*would make .*[0-9]+ paths differ'
t_is "-n for programs" "$(umbra revert -n --json back "$dir" | u_json "(j['reverted'], len(j['deletes']), j['changed_paths'] > 20)")" "(False, 1, True)"
t_ok "-n changed nothing" same_tree "$T_TMP/copy-newer" "$dir"

# ---- refused
refused "X-10, C-8: a snapshot that is not persistent" 1 'not persistent' \
	umbra backup --in-place --context file-share-backup "$dir" -- umbra revert -y latest "$dir"
refused "no such snapshot" 1 'no snapshot|nosuch' umbra revert -y nosuch "$dir"
refused "wrong usage" 2 'needs one snapshot' umbra revert
mkdir "$dir/keep/mnt"
if mount -t tmpfs none "$dir/keep/mnt" 2>/dev/null; then
	t_cleanup umount -l "$dir/keep/mnt"
	refused "X-12: mounts below stay" 3 'mounted in the tree at .*unmount' umbra revert -y --force back "$dir"
	t_ok "it does" mountpoint -q "$dir/keep/mnt"
	umount "$dir/keep/mnt"
fi
rmdir "$dir/keep/mnt"
copy_tree "$dir" "$T_TMP/copy-newer"
mkdir "$T_TMP/point"
t_ok "the newer snapshot is exposed" umbra expose -q newer "$T_TMP/point"
refused "X-10: a newer snapshot is exposed" 3 ': a newer snapshot is in use' umbra revert -y back "$dir"
t_ok "its mount goes, by hand" fusermount3 -u "$T_TMP/point"
refused "X-10, D-12: recorded as exposed is in use, mounted or not" 3 ': a newer snapshot is in use' umbra revert -y back "$dir"
t_ok "the newer snapshot was not dropped" test -e "$dir/.snapshots/newer"
exec 9<"$dir/keep/f1"
refused "X-10: files are open" 3 'are open \(.*force' umbra revert -y back "$dir"
t_ok "and nothing was reverted" same_tree "$T_TMP/copy-newer" "$dir"
t_ok "the newer snapshot is still there" test -e "$dir/.snapshots/newer"

# ---- forced, while it is open
ls -lR "$dir" >/dev/null # the kernel remembers names, attributes and pages
cat "$dir"/keep/* >/dev/null
stat "$dir/gone/deep/file" 2>/dev/null # and that there is none
t_ok "revert --force" umbra revert -y --force back "$dir"
t_ok "X-12: the tree is what it was" same_tree "$T_TMP/copy-back" "$dir"
t_is "what was open shows what is there" "$(cat <&9 | cksum)" "$(cksum <"$T_TMP/copy-back/keep/f1")"
exec 9<&-
t_ok "D-12: with force the exposure went with its snapshot" t_wait_for 30 test ! -e "$dir/.umbra/exposed.note"
t_is "a removed directory is the same inode again" "$(stat -c %i "$dir/gone")" "$inode"
t_is "a name that was known not to be there is there" "$(cat "$dir/gone/deep/file")" deep
t_is "X-11: newer ones are gone, older ones stay" "$(umbra list --json "$dir" | u_json "sorted(s['label'] for s in j['snapshots'])")" "['back', 'older']"
t_ok "I-3: the snapshot is exact" snapshot_is back "$T_TMP/copy-back"
t_ok "and so is the older one" snapshot_is older "$T_TMP/copy-older"
t_is "nothing is left to say" "$(tree_json "['revert']")" None
t_ok "changes go on" sh -c "echo new >'$dir/new' && rm '$dir/keep/f8' && mv '$dir/swap1' '$dir/swap9'"
t_ok "the snapshot does not show them" snapshot_is back "$T_TMP/copy-back"
t_ok "nothing differs, nothing is done" umbra revert -q back "$dir"
t_ok "and it is what it was" same_tree "$T_TMP/copy-back" "$dir"
t_ok "to the older one" umbra revert -y older --for "$dir"
t_ok "it is what it was then" same_tree "$T_TMP/copy-older" "$dir"
t_ok "below the mount, too" sh -c "umbra unprotect '$dir'"
t_ok "with nobody in between" same_tree "$T_TMP/copy-older" "$dir"
t_ok "protect again" umbra protect "$dir"
t_ok "the snapshot is still exact" snapshot_is older "$T_TMP/copy-older"

# ---- by a snapshot of an earlier daemon
change_tree "$dir" 2>/dev/null
t_ok "revert to a snapshot of an earlier daemon" umbra revert -y older "$dir"
t_ok "the tree is what it was at that" same_tree "$T_TMP/copy-older" "$dir"
t_ok "unprotect" umbra unprotect "$dir"
echo unseen >"$dir/keep/f9"
t_ok "protect after a change that nobody watched" umbra protect "$dir"
refused "what was changed unseen cannot come back" 1 'keep/f9.*not protected' umbra revert -y older "$dir"
t_is "and nothing is touched" "$(cat "$dir/keep/f9")" unseen
t_ok "delete all" u_delete --for "$dir" --all

# ---- a name that is no UTF-8
odd=$T_TMP/odd
mkdir "$odd"
echo 1 >"$odd/n"$'\377'
t_ok "protect a directory with such a name" umbra protect "$odd"
t_ok "a snapshot of it" u_snap odd "$odd"
t_ok "unprotect it" umbra unprotect "$odd"
echo 2 >"$odd/n"$'\377'
t_ok "protect it after a change that nobody watched" umbra protect "$odd"
refused "what is said of such a name arrives" 1 'n\\xff.*not protected' umbra revert -y odd "$odd"
t_ok "delete its snapshot" u_delete --for "$odd" --all
t_ok "unprotect it again" umbra unprotect "$odd"

# ---- something in the way
guard() {
	chattr +i "$dir/keep/f10" 2>/dev/null && lsattr "$dir/keep/f10" | grep -q '^[^ ]*i'
}
echo stays >"$dir/keep/f10"
t_ok "a snapshot" u_snap stop "$dir"
copy_tree "$dir" "$T_TMP/copy-stop"
echo changed >"$dir/keep/f10" && rm "$dir/keep/f11" && echo x >"$dir/keep/f12"
if [ -n "$root" ] && guard; then
	refused "what cannot be done is said" 1 'not finished.*keep/f10' umbra revert -y stop "$dir"
	t_is "status tells" "$(tree_json "['revert']['state']")" stopped
	t_like "for people, too" "$(umbra status)" 'half reverted.*reverted in part.*keep/f10'
	t_ok "the rest was done" test -e "$dir/keep/f11"
	t_ok "changes are possible meanwhile" chattr -i "$dir/keep/f10"
	refused "no snapshot is made meanwhile" 3 'reverted' u_snap never "$dir"
	refused "D-12: nor is this one deleted" 3 'in use|in-use' umbra delete -y stop --for "$dir"
	echo later >"$dir/keep/f12"
	kill -9 "$(u_daemon "$dir")"
	t_ok "umbrafs is killed, protect again" sh -c "umbra unprotect --force '$dir'; umbra protect '$dir'"
	t_is "what was done since it stopped is not taken away by that" "$(cat "$dir/keep/f12")" later
	t_is "it has still stopped" "$(tree_json "['revert']['state']")" stopped
	t_ok "the next try goes on" umbra revert -y stop "$dir"
	t_ok "it is done" same_tree "$T_TMP/copy-stop" "$dir"
	t_ok "snapshots are made again" u_snap again "$dir"
else
	[ -n "${U_INNER-}" ] || t_skip "a revert that stops half way" "needs root and a file system with chattr +i"
	t_ok "revert" umbra revert -y stop "$dir"
fi

# ---- the shell
echo shell >"$dir/keep/f10"
t_ok "revert in the shell" sh -c "echo 'revert stop force' | umbra shell"
t_ok "did it" same_tree "$T_TMP/copy-stop" "$dir"

# ---- killed in the middle (X-10)
mkdir "$dir/many"
(cd "$dir/many" && for i in $(seq 600); do echo "$i" >"$i"; done)
t_ok "a snapshot of many files" u_snap many "$dir"
copy_tree "$dir" "$T_TMP/copy-many"
for round in 1 2 3; do
	(cd "$dir/many" && for i in $(seq 600); do [ $((i % 3)) -eq 0 ] && rm "$i" || echo "$i$i" >"$i"; done; mkdir d && mv 1* d/)
	change_tree "$dir" 2>/dev/null
	pid=$(u_daemon "$dir")
	umbra revert -y many "$dir" >"$T_TMP/revert.out" 2>&1 3>&- &
	job=$!
	perl -e "select(undef, undef, undef, $((RANDOM % 400)) / 1000)" # chance, not synchronisation
	kill -KILL "$pid"
	wait "$job"
	t_diag "round $round: status $?: $(head -n 1 "$T_TMP/revert.out")"
	t_wait_for 30 test ! -e "/proc/$pid"
	t_ok "round $round: unprotect takes the dead mount away" umbra unprotect "$dir"
	t_diag "round $round: $(ls "$dir/.umbra" | grep -c '^revert$') marker, $(ls "$dir/.umbra/grave" | wc -l) in the graveyard"
	t_ok "round $round: protect again" umbra protect "$dir"
	# X-10: changes are turned away from the first moment, or it is over already. Just after the mount the kernel may know
	# no mode of the root yet, and throw away the first that it is told when the revert has it forget the root's attributes.
	out=$(touch "$dir/touched" 2>&1) || t_like "round $round: a change meanwhile" "$out" 'busy|denied'
	t_ok "round $round: it is continued until done" t_wait_for 120 is_reverted
	rm -f "$dir/touched"
	t_ok "round $round: revert what may not have begun" umbra revert -y many "$dir"
	t_ok "round $round: the tree is what it was" same_tree "$T_TMP/copy-many" "$dir"
	t_ok "round $round: the snapshot is exact" snapshot_is many "$T_TMP/copy-many"
done
t_ok "delete all at the end" u_delete --for "$dir" --all
t_ok "the tree stays" same_tree "$T_TMP/copy-many" "$dir"
t_ok "unprotect at the end" umbra unprotect "$dir"
t_ok "the store is gone" test ! -e "$dir/.umbra"

# ---- what others keep to themselves (X-10)
# A tree of an ordinary user's with two directories of root's: one that he may not read, and one that he may only pass through.
make_foreign_tree() {
	local d=$1

	mkdir -p "$d/sub" "$d/empty" "$d/secret/below" "$d/through"
	echo one >"$d/sub/a" && ln "$d/sub/a" "$d/sub/b"
	echo two >"$d/through/c" && ln "$d/through/c" "$d/sub/d"
	chown -R "$U_UID:$U_GID" "$d" && chown -R 0:0 "$d/secret" "$d/through" && chown "$U_UID" "$d/through/c"
	chmod 0700 "$d/secret" && chmod 0711 "$d/through"
}

# The name of FILE that is on record goes, with the snapshot that knew it, and then FILE changes by another: nothing leads there.
lose() {
	local d=$1 name=$2 file=$3

	echo more >>"$d/$name" && rm "$d/$name" && u_snap "at-${file##*/}" "$d" && u_delete "before-${file##*/}" --for "$d" &&
		echo changed >"$d/$file"
}

if [ -n "${U_FOREIGN-}" ]; then
	t_ok "protect a tree with directories of others" umbra protect "$U_FOREIGN"
	t_cleanup sh -c "umbra unprotect --force '$U_FOREIGN' 2>/dev/null || true"
	t_ok "a snapshot" u_snap before-a "$U_FOREIGN"
	t_ok "a file that no record leads to" lose "$U_FOREIGN" sub/b sub/a
	t_ok "a revert passes by what may not be read" umbra revert -y at-a "$U_FOREIGN"
	t_is "and finds the file where it may" "$(tr '\n' ' ' <"$U_FOREIGN/sub/a")" "one more "
	t_ok "delete it" u_delete at-a --for "$U_FOREIGN"
	t_ok "another snapshot" u_snap before-c "$U_FOREIGN"
	t_ok "one where nobody may look" lose "$U_FOREIGN" sub/d through/c
	t_ok "X-10: the revert comes to its end" umbra revert -y at-c "$U_FOREIGN"
	t_is "what it cannot do is left out" "$(cat "$U_FOREIGN/through/c")" changed
	t_is "nothing is left to be done" "$(umbra status --json | u_json "[t for t in j['trees'] if t['path'] == '$U_FOREIGN'][0]['revert']")" None
	t_ok "snapshots are made again" u_snap after "$U_FOREIGN"
	t_ok "the tree of others is unprotected" umbra unprotect "$U_FOREIGN"
fi

if [ -n "$root" ] && [ -z "${U_INNER-}" ]; then
	if u_user; then
		u_programs "$T_TMP/user"
		make_foreign_tree "$U_HOME/foreign"
		export U_FOREIGN=$U_HOME/foreign
		export UMBRA_BUILD=$T_TMP/user/build UMBRA_SOURCE=$T_TMP/user/src U_INNER=1
		t_import "as $U_USER" u_as_user bash "$UMBRA_SOURCE/tests/integration/revert.sh"
	else
		t_skip "as an ordinary user" "no such user is known"
	fi
fi
u_end
