#!/bin/bash
# Mounts in mounts: below a protected directory, a protected directory inside another file system in
# user space, one inside another, and a directory that somebody is using while it gets protected.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
[ "$(id -u)" -eq 0 ] || t_skip_all "mounting a tmpfs needs root"
dir=$T_TMP/dir
t_ok "a coordinator starts" u_coordinator

# ---- a file system mounted inside, after protecting
mkdir -p "$dir/inner" "$dir/plain"
echo hidden >"$dir/inner/below"
echo f >"$dir/plain/f"
t_ok "protect" umbra protect "$dir"
t_ok "mount a tmpfs inside" mount -t tmpfs tmpfs "$dir/inner"
echo live >"$dir/inner/f"
t_ok "create" u_snap one "$dir"
echo changed >"$dir/inner/f"
t_is "it is live" "$(cat "$dir/inner/f")" changed
t_is "the rest is in the snapshot" "$(cat "$dir/.snapshots/one/plain/f")" f
t_is "what is mounted is not" "$(cat "$dir/.snapshots/one/inner/f" 2>&1 | grep -c changed)" 0
t_is "diff does not see it" "$(umbra diff one)" ""
t_ok "a tree walk ends" find "$dir" -name none
t_ok "delete" u_delete one
t_not "unprotect is refused while something is mounted inside" umbra unprotect "$dir"
t_ok "umount inside" umount "$dir/inner"
t_is "what was below is there again" "$(cat "$dir/inner/below")" hidden
t_ok "unprotect" umbra unprotect "$dir"

# ---- mounted before protecting
mkdir "$dir/plain/a" "$dir/plain/b"
t_ok "mount a tmpfs inside" mount -t tmpfs tmpfs "$dir/inner"
echo live >"$dir/inner/f"
umbra protect "$dir" >"$T_TMP/out" 2>&1
status=$?
t_diag "protect over a mount inside: exit status $status: $(cat "$T_TMP/out")"
t_is "protect over a mount inside works" $status 0
t_like "and tells of it" "$(cat "$T_TMP/out")" 'inner is mounted below'
t_ok "create" u_snap two "$dir"
t_is "it is an empty directory in the snapshot" "$(ls -A "$dir/.snapshots/two/inner")" ""
t_is "a mounted snapshot shows it as a directory, empty" "$(
	mkdir -p "$T_TMP/m"
	umbra mount two "$T_TMP/m" && stat -c %F "$T_TMP/m/inner" && ls -A "$T_TMP/m/inner"
	umbra umount "$T_TMP/m"
)" directory
# A tmpfs's root has number 1 or 2, which may be anything here.
t_is "two mounts are two directories" "$(
	mount -t tmpfs tmpfs "$dir/plain/a" && mount -t tmpfs tmpfs "$dir/plain/b" || exit
	umbra mount two "$T_TMP/m" && ls -A "$T_TMP/m/plain/a" "$T_TMP/m/plain/b" "$T_TMP/m/plain"
	stat -c %i "$T_TMP/m/inner" "$T_TMP/m/plain/a" | sort -u | wc -l
	umbra umount "$T_TMP/m"
	umount "$dir/plain/a" "$dir/plain/b"
)" "$T_TMP/m/plain:
a
b
f

$T_TMP/m/plain/a:

$T_TMP/m/plain/b:
2"
t_is "what is live there can be used" "$(cat "$dir/inner/f" 2>&1; echo x >"$dir/inner/g" && cat "$dir/inner/g")" "live
x"
t_ok "delete" u_delete two
t_ok "unprotect" umbra unprotect "$dir"
t_is "and it is there as before" "$(cat "$dir/inner/f")" live
t_ok "umount" umount "$dir/inner"

# ---- one protected directory inside another
t_ok "protect the outer" umbra protect "$dir"
t_not "the inner of a protected one is refused" umbra protect "$dir/plain"
t_ok "nothing is mounted there" test "$(stat -c %d "$dir/plain")" = "$(stat -c %d "$dir")"
t_ok "unprotect" umbra unprotect "$dir"
t_ok "protect the inner" umbra protect "$dir/plain"
t_not "the outer of a protected one is refused" umbra protect "$dir"
t_ok "unprotect" umbra unprotect "$dir/plain"

# ---- inside a file system in user space: a mounted snapshot is one
mkdir -p "$T_TMP/m" "$dir/plain/sub"
t_ok "protect" umbra protect "$dir"
t_ok "create" u_snap three "$dir"
t_ok "mount" umbra mount three "$T_TMP/m"
t_not "protect inside a mounted snapshot is refused" umbra protect "$T_TMP/m/plain"
t_ok "umount" umbra umount "$T_TMP/m"
t_ok "delete" u_delete three
t_ok "unprotect" umbra unprotect "$dir"
# A piece of a protected directory, mounted elsewhere, is another one.
mkdir "$T_TMP/bind"
t_ok "protect" umbra protect "$dir"
t_ok "mount a piece of it elsewhere" mount --bind "$dir/plain" "$T_TMP/bind"
if umbra protect "$T_TMP/bind" >"$T_TMP/out" 2>&1; then
	t_ok "protect in another file system in user space: create" u_snap four "$T_TMP/bind"
	echo y >"$T_TMP/bind/f"
	t_is "protect in another: the snapshot" "$(cat "$T_TMP/bind/.snapshots/four/f")" f
	t_is "protect in another: the file" "$(cat "$dir/plain/f")" y
	t_ok "protect in another: delete" u_delete four
	t_ok "protect in another: unprotect" umbra unprotect "$T_TMP/bind"
else
	t_like "protect in another file system in user space: cleanly refused" "$(cat "$T_TMP/out")" '^umbra: '
	t_is "in one line" "$(wc -l <"$T_TMP/out")" 1
	t_diag "$(cat "$T_TMP/out")"
fi
t_ok "unmount the piece" umount "$T_TMP/bind"
t_ok "unprotect" umbra unprotect "$dir"

# ---- somebody is in there
busy=$T_TMP/busy
mkdir -p "$busy/cwd"
echo before >"$busy/log"
(
	cd "$busy/cwd" || exit
	exec 5>>../log 6<../log
	touch "$T_TMP/inside"
	until [ -e "$T_TMP/go" ]; do sleep 0.05; done # the condition that the script sets
	echo "through the old descriptor" >&5
	echo here >made-in-cwd
	touch "$T_TMP/went"
	until [ -e "$T_TMP/end" ]; do sleep 0.05; done
) 3>&- &
user=$!
U_PIDS="${U_PIDS-} $user"
t_wait_for 30 test -e "$T_TMP/inside"
t_ok "protect a directory that is used" umbra protect "$busy"
t_ok "create" u_snap five "$busy"
touch "$T_TMP/go"
t_ok "who was in there goes on" t_wait_for 30 test -e "$T_TMP/went"
t_ok "what it wrote is there" grep -q "old descriptor" "$busy/log"
t_is "new users are protected" "$(echo new >"$busy/new"; ls "$busy/.snapshots/five")" "cwd
log"
touch "$T_TMP/end"
wait $user
t_ok "delete" u_delete five
t_ok "unprotect" umbra unprotect "$busy"
t_is "all is below" "$(cat "$busy/cwd/made-in-cwd" "$busy/new")" "here
new"
u_end
