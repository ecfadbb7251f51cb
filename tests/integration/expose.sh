#!/bin/bash
# Exposed snapshots (protocol C-10, C-7, C-13, D-12, D-14, F-11): mounts that outlive their session, kill -9 of
# umbrafs, and a new protect; what cannot be made again; who may. As root, as an ordinary user, and as root of an
# ordinary user's own namespace.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need python3
dir=$T_TMP/live
point="$T_TMP/a point"
mkdir -p "$dir/sub/deep" "$dir/other" "$point"
echo old >"$dir/file"
echo old >"$dir/sub/deep/file"
ln -s / "$dir/link"

# field EXPR: of the snapshot "one"
field() {
	umbra list --json | u_json "next(s for s in j['snapshots'] if s['label'] == 'one')$1"
}
# refused NAME STATUS REGEX CMD...
refused() {
	local name=$1 want=$2 regex=$3 err status

	shift 3
	err=$("$@" 2>&1 >/dev/null)
	status=$?
	t_is "$name: refused" "$status" "$want"
	t_like "$name: why" "$err" "^umbra: .*($regex)"
}
is_mounted() {
	findmnt -rn -t fuse.umbra -M "$1" >/dev/null
}
not_mounted() {
	! is_mounted "$1"
}
# umbrafs learns of it from the kernel, a moment later.
unmounted_by_hand() {
	fusermount3 -u "$point" && t_wait_for 30 noticed
}
noticed() {
	[ "$(field "['exposed_problem']")" != None ]
}
kill_daemon() {
	local pid

	pid=$(u_daemon "$dir") || return
	kill -KILL "$pid"
	t_wait_for 30 test ! -e "/proc/$pid"
}
# After a kill -9: the dead mount goes, protected again.
again() {
	umbra unprotect "$dir" && umbra protect "$dir"
}

t_ok "a coordinator starts" u_coordinator
t_ok "protect" umbra protect "$dir"
t_ok "a snapshot" u_snap one "$dir"
t_ok "one that clients have anyway" umbra create -q --no-writers --label shown "$dir"
echo new >"$dir/file"
rm -r "$dir/sub"

# ---- made, shown, used

t_is "C-10: expose prints where" "$(umbra expose one "$point")" "$point"
t_is "the snapshot is there" "$(cat "$point/file" "$point/sub/deep/file" | xargs)" "old old"
t_like "C-10: read-only" "$(touch "$point/x" 2>&1)" 'Read-only'
t_is "inode numbers are the original ones" "$(stat -c %i "$point/file")" "$(stat -c %i "$dir/file")"
t_is "C-13: the place" "$(field "['exposed_path']")" "$point"
t_is "C-4: the attribute" "$(field "['exposed_locally']")" True
t_is "C-13: all of it" "$(field "['exposed_subdir']")" None
t_is "and mounted" "$(field "['exposed_problem']")" None
t_like "list shows it" "$(umbra list)" "EXPOSED.*a point"
t_like "show shows it" "$(umbra show one)" "exposed at +$point"
t_like "status shows it" "$(umbra status)" "EXPOSED.*SNAPSHOT.*a point"
refused "C-10: exposing twice" 1 'exposed at .*already' umbra expose one
t_is "umbra umount leaves it alone" "$(umbra umount "$point" >/dev/null 2>&1; echo $?)" 1
t_ok "and it is still there" is_mounted "$point"
refused "D-12: deleting it" 3 'exposed' umbra delete -y one
t_ok "D-12: it is still there" is_mounted "$point"

# ---- what may not be

mkdir "$T_TMP/m"
refused "C-7: a client-accessible one" 1 'app-rollback' umbra expose shown "$T_TMP/m"
t_ok "another snapshot" u_snap two "$dir"
mkdir "$T_TMP/full" && touch "$T_TMP/full/x" "$T_TMP/plain"
refused "a mount point that is not there" 1 'no such directory' umbra expose two "$T_TMP/none"
refused "one that is not empty" 1 'not empty' umbra expose two "$T_TMP/full"
refused "a file" 1 'not a directory|Not a directory' umbra expose two "$T_TMP/plain"
refused "in the protected directory" 1 'lies in the protected directory' umbra expose two "$dir/other"
refused "where one is exposed" 1 'already' umbra expose two "$point"
refused "the protected directory itself" 1 'lies in the protected' umbra expose two "$dir"
refused "a sub-directory that it does not have" 1 'no directory' umbra expose two "$T_TMP/m" --subdir nowhere
refused "a file for a sub-directory" 1 'no directory' umbra expose two "$T_TMP/m" --subdir file
refused "a link that leads out" 1 'no directory' umbra expose two "$T_TMP/m" --subdir link
refused "a sub-directory above" 1 '.' umbra expose two "$T_TMP/m" --subdir ../..
refused "unexposing what is not" 1 'not exposed' umbra unexpose two
refused "unexposing what there is not" 1 '.' umbra unexpose "$T_TMP/m"
t_is "nothing of all this is left" "$(umbra list --json | u_json "[s['label'] for s in j['snapshots'] if s['exposed_locally']]")" "['one']"
t_ok "no mount either" not_mounted "$T_TMP/m"

# ---- D-14: as long as the tree comes back

t_ok "the coordinator ends" u_coordinator_stop
t_ok "D-14: the mount does not mind" cat "$point/file"
t_ok "another coordinator" u_coordinator
t_ok "and it learns of the tree" t_wait_for 30 u_daemon "$dir"
t_is "D-14: and of the exposure" "$(field "['exposed_path']")" "$point"
t_ok "kill -9" kill_daemon
t_not "the mount is dead" ls "$point"
t_ok "protect again" again
t_is "D-14: exposed again, when protect returns" "$(cat "$point/file")" old
t_is "once" "$(findmnt -rn -t fuse.umbra -M "$point" | wc -l)" 1
t_ok "unprotect" umbra unprotect "$dir"
t_ok "nobody serves it: the mount is gone" not_mounted "$point"
t_ok "protect" umbra protect "$dir"
t_is "D-14: exposed again" "$(cat "$point/file")" old

# Killed between mount and record of a new one, or between unmounting and the record's end: all the same on disk.
t_ok "unmounted by hand" unmounted_by_hand
t_like "that is reported" "$(umbra status)" "a point \(not mounted\).*not mounted: it was unmounted"
t_is "it is exposed all the same" "$(field "['exposed_locally']")" True
refused "D-12: and so not deleted" 3 'exposed' umbra delete -y one
t_ok "kill -9 between unmounting and the end of the record" kill_daemon
t_ok "protect again" again
t_is "D-14: exposed again" "$(cat "$point/file")" old
t_ok "unmounted by hand again" unmounted_by_hand
t_is "expose makes it again, elsewhere" "$(umbra expose one "$T_TMP/m")" "$T_TMP/m"
t_is "there it is" "$(cat "$T_TMP/m/file")" old
t_ok "unprotect" umbra unprotect "$dir"
t_ok "the record is in the store" grep -q "$T_TMP/m" "$dir/.umbra/exposed.note"
sed "s|$T_TMP/m|$point|" "$dir/.umbra/exposed.note" >"$T_TMP/note" && cat "$T_TMP/note" >"$dir/.umbra/exposed.note"
t_ok "killed between record and mount: protect" umbra protect "$dir"
t_is "it is mounted where the record says" "$(cat "$point/file")" old

# ---- what cannot be made again

t_ok "unprotect" umbra unprotect "$dir"
rmdir "$point"
t_ok "protect without the mount point" umbra protect "$dir"
t_like "it is reported" "$(umbra status)" "not mounted: .*no such directory"
t_like "and shown" "$(umbra show one)" "exposed at +$point \(not mounted\)"
mkdir "$point"
echo mine >"$point/mine"
t_ok "unprotect" umbra unprotect "$dir"
t_ok "protect with something in it" umbra protect "$dir"
t_like "it is reported, too" "$(umbra status)" "not mounted: .*not empty"
t_is "nothing is hidden" "$(cat "$point/mine")" mine
rm "$point/mine"
t_ok "unprotect" umbra unprotect "$dir"
echo garbage >"$T_TMP/bad"
cp "$dir/.umbra/exposed.note" "$T_TMP/good"
cat "$T_TMP/bad" >"$dir/.umbra/exposed.note"
t_ok "a damaged record hinders nothing" umbra protect "$dir"
t_ok "unprotect" umbra unprotect "$dir"
cat "$T_TMP/good" >"$dir/.umbra/exposed.note"
t_ok "protect" umbra protect "$dir"
t_is "the record was kept: exposed again" "$(cat "$point/file")" old
t_ok "unprotect" umbra unprotect "$dir"
mkdir "$T_TMP/elsewhere"
rmdir "$point" && ln -s "$T_TMP/elsewhere" "$point"
t_ok "protect with a link where the directory was" umbra protect "$dir"
t_like "its owner sends nobody elsewhere" "$(umbra status)" "not mounted: .*leads to .*elsewhere"
t_ok "nothing is mounted there" not_mounted "$T_TMP/elsewhere"
t_ok "unprotect" umbra unprotect "$dir"
rm "$point" && mkdir "$point"
t_ok "protect" umbra protect "$dir"
t_is "the directory is back, and so is the snapshot" "$(cat "$point/file")" old

# ---- ended

exec 9<"$point/file"
refused "in use" 3 'in use' umbra unexpose one
t_ok "it stays" is_mounted "$point"
t_ok "unexpose, forced" umbra unexpose --force one
t_ok "the mount is gone" not_mounted "$point"
t_is "its user reads on" "$(cat <&9)" old
exec 9<&-
t_is "it is exposed no more" "$(field "['exposed_locally']")" False
t_ok "no record is left" test ! -e "$dir/.umbra/exposed.note"
t_ok "unprotect" umbra unprotect "$dir"
t_ok "protect" umbra protect "$dir"
t_ok "nor is it made again" not_mounted "$point"

# ---- the default place, a part of it, and the snapshot's end

at=$(umbra expose one --subdir sub/deep)
t_is "C-10: a default place" "$at" "$(dirname "$UMBRA_SOCKET")/exposed/one"
t_is "C-10: a sub-directory" "$(ls "$at")" file
t_is "that is told" "$(field "['exposed_subdir']")" sub/deep
t_is "others may not pass there" "$(stat -c %a "$(dirname "$at")")" 700
t_ok "unprotect" umbra unprotect "$dir"
t_ok "the place is gone with it" test ! -e "$at"
t_ok "protect" umbra protect "$dir"
t_is "D-14: it is made again" "$(cat "$at/file")" old
t_ok "kill -9" kill_daemon
t_ok "protect again" again
t_is "D-14: and after that" "$(cat "$at/file")" old
exec 9<"$at"
t_ok "D-12: delete with force" umbra delete -y --force one
t_ok "the exposure is detached" not_mounted "$at"
t_like "D-12: what is open goes stale" "$(cat /proc/self/fd/9/file 2>&1)" 'Stale'
exec 9<&-
t_ok "no record is left" test ! -e "$dir/.umbra/exposed.note"
t_ok "no place is left" test ! -e "$at"

# ---- the shell

cat >"$T_TMP/script" <<-EOF
	set context persistent nowriters
	add tree $dir alias here
	create
	expose %here% $T_TMP/m
	exec cat $T_TMP/m/file
	unexpose $T_TMP/m
	expose %here% $T_TMP/m subdir other
EOF
out=$(umbra shell -s "$T_TMP/script" 2>&1)
t_is "shell: expose with an alias, unexpose" "$?" 0 || t_diag "$out"
t_like "shell: what is exposed can be used" "$out" "exposed [0-9a-f-]{36} at $T_TMP/m.new"
t_ok "shell: a sub-directory" is_mounted "$T_TMP/m"
refused "shell: delete snapshots exposed: nothing there" 1 'no snapshot is exposed' umbra shell -s <(echo "delete snapshots exposed $T_TMP")
t_ok "shell: delete snapshots exposed" umbra shell -s <(echo "delete snapshots exposed \"$T_TMP/m\" force")
t_ok "shell: the mount is gone" not_mounted "$T_TMP/m"

# ---- F-11

t_ok "unprotect" umbra unprotect "$dir"
rm -rf "$dir/.umbra"
head -c 700000 /dev/urandom >"$dir/big"
t_ok "protect with a small store" umbra protect --max-store 1M "$dir"
t_ok "a snapshot" u_snap one "$dir"
t_is "exposed" "$(umbra expose one "$point")" "$point"
exec 9<"$point"
fill() {
	local i

	for i in 1 2 3; do
		u_snap "fill$i" "$dir" && dd if=/dev/urandom of="$dir/big" bs=100000 count=7 conv=notrunc || return
	done
}
gone() {
	! umbra show one
}
t_ok "more is overwritten than the store holds" fill
t_ok "F-11: it is dropped all the same" t_wait_for 30 gone
t_like "F-11: what is open goes stale" "$(ls /proc/self/fd/9/sub 2>&1; cat /proc/self/fd/9/file 2>&1)" 'Stale'
exec 9<&-
t_ok "F-11: the mount goes" t_wait_for 30 not_mounted "$point"
t_ok "no record is left" t_wait_for 30 test ! -e "$dir/.umbra/exposed.note"

# ---- whose mount point

if [ "$(id -u)" -ne 0 ]; then
	t_ok "another snapshot" u_snap three "$dir"
	refused "somebody else's mount point" 1 'not yours|ermission' umbra expose three /etc
	refused "a place where all may write" 1 'not yours|not empty' umbra expose three /tmp
fi
t_ok "unprotect" umbra unprotect "$dir"

if [ -z "${U_INNER-}" ] && [ "$(id -u)" -eq 0 ]; then
	if u_user; then
		u_programs "$T_TMP/user"
		t_ok "the coordinator ends" u_coordinator_stop
		chmod 0755 "$T_TMP/c"
		t_ok "the system's coordinator" u_coordinator --system --group "$(id -gn "$U_USER")"
		chown "$U_UID" "$dir"
		t_ok "a tree of an ordinary user, protected by root" umbra protect "$dir"
		t_ok "he may take a snapshot" u_as_user env UMBRA_SOCKET="$UMBRA_SOCKET" "$T_TMP/user/build/tools/umbra" create -q \
			--context nas-rollback --no-writers --label his "$dir"
		refused "but not have root mount it" 1 'root alone' u_as_user env UMBRA_SOCKET="$UMBRA_SOCKET" \
			"$T_TMP/user/build/tools/umbra" expose his "$U_HOME/tmp"
		refused "X-10: nor may he have root revert it" 1 'root alone' u_as_user env UMBRA_SOCKET="$UMBRA_SOCKET" \
			"$T_TMP/user/build/tools/umbra" revert -y his "$dir"
		t_is "root may" "$(umbra expose his "$point")" "$point"
		t_is "and others see it" "$(u_as_user cat "$point/file")" new
		refused "nor may he unexpose it" 1 'root alone' u_as_user env UMBRA_SOCKET="$UMBRA_SOCKET" \
			"$T_TMP/user/build/tools/umbra" unexpose his
		t_ok "unprotect" umbra unprotect "$dir"
		t_ok "the mount is gone" not_mounted "$point"
		export UMBRA_BUILD=$T_TMP/user/build UMBRA_SOURCE=$T_TMP/user/src U_INNER=1
		script=$UMBRA_SOURCE/tests/integration/expose.sh
		t_import "as $U_USER" u_as_user bash "$script"
		if u_as_user unshare -Urm true 2>/dev/null; then
			t_import "as root of a namespace of $U_USER" u_as_user unshare -Urm bash "$script"
		else
			t_skip "as root of a user namespace" "an ordinary user cannot make one here"
		fi
	else
		t_skip "as an ordinary user" "no such user is known"
		t_skip "as root of a user namespace" "no such user is known"
	fi
fi
u_end
