#!/bin/bash
# Small things that went wrong once: one case each, quick.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
dir=$T_TMP/dir
mkdir "$dir"
t_ok "a coordinator starts" u_coordinator

# ---- SIGTERM while the kernel waits for us, and we for the kernel
gone() {
	! kill -0 "$1" 2>/dev/null
}

term_while_dropping() {
	local i pid looker

	umbra protect "$dir" && u_snap "a$1" "$dir" && u_snap "b$1" "$dir" || return
	pid=$(u_daemon "$dir")
	(for ((i = 0; ; i++)); do stat "$dir/.snapshots/none$i"; done) >/dev/null 2>&1 3>&- &
	looker=$!
	U_PIDS="${U_PIDS-} $looker"
	umbra delete -y "a$1" "b$1" >/dev/null 2>&1 3>&- &
	sleep "0.0$1"
	kill -TERM "$pid"
	t_wait_for 15 gone "$pid"
	i=$?
	kill "$looker"
	wait "$looker" $! 2>/dev/null
	return $i
}

t_begin "SIGTERM ends a daemon that drops while others look up"
for i in 0 3; do
	t_run term_while_dropping $i || break
done
t_end

# ---- a snapshot that was served is not in use for ever
mkdir "$T_TMP/off"
echo old >"$T_TMP/off/f"
t_ok "protect" umbra protect --snapshots off "$T_TMP/off"
t_ok "create" u_snap s1 "$T_TMP/off"
echo new >"$T_TMP/off/f"
t_like "diff shows a file's old text" "$(umbra diff --content f s1 2>&1)" '[-]old'
t_ok "delete goes at once after it" umbra delete -q -y s1
t_ok "create" u_snap s2 "$T_TMP/off"
t_ok "mount it" u_mount s2 "$T_TMP/off" "$T_TMP/m"
exec 5<"$T_TMP/m/f" 6<"$T_TMP/m"
read -r line <&5
ls /dev/fd/6/ >/dev/null
daemon=$(u_daemon "$T_TMP/off")
conn=$(stat -c %d "$T_TMP/m")
if [ "$(id -u)" -eq 0 ] && { [ -e /sys/fs/fuse/connections/$conn ] || mount -t fusectl x /sys/fs/fuse/connections 2>/dev/null; } &&
	echo 1 >"/sys/fs/fuse/connections/$conn/abort"; then
	exec 5<&- 6<&-
	umount -l "$T_TMP/m"
	t_ok "delete goes when a mount was cut off with open files" umbra delete -q -y s2
else
	exec 5<&- 6<&-
	umbra umount "$T_TMP/m"
	t_skip "delete goes when a mount was cut off with open files" "cannot cut a mount off"
	u_delete s2
fi

# ---- append-only files, and the change time of chattr
f=$T_TMP/off/a
echo 1 >"$f"
was=$(stat -c %z "$f")
if chattr +a "$f" 2>/dev/null; then
	t_not "chattr moves the change time at once" test "$(stat -c %z "$f")" = "$was"
	t_ok "an append-only file can be appended to" sh -c "echo 2 >>'$f'"
	t_not "and not be overwritten" sh -c "echo 3 >'$f'"
	exec 5>>"$f"
	chattr -a "$f"
	printf 9 | dd of="$f" conv=notrunc status=none
	exec 5>&-
	t_is "and be overwritten in place afterwards" "$(cat "$f")" "9
2"
else
	t_skip "append-only files" "chattr +a is not possible here"
fi
t_ok "unprotect" umbra unprotect "$T_TMP/off"

# ---- a group that has no number in the user's namespace
in_namespace() {
	unshare -Urm bash -c '
		umbra-coordinator -f --log "$1/coordinator.log" </dev/null >/dev/null 2>&1 &
		until umbra status >/dev/null 2>&1; do sleep 0.05; done
		umbra protect "$1/foreign" && cd "$1/foreign" && rm a && mv b c && echo x >>c && cd / &&
			umbra unprotect "$1/foreign"
		status=$?
		kill %1
		wait
		exit $status' - "$U_HOME"
}

export -f in_namespace
if ! u_user; then
	t_skip "files of a group without a number" "needs root, to become a user"
elif ! u_as_user unshare -Urm true 2>/dev/null; then
	t_skip "files of a group without a number" "no user namespaces here"
else
	mkdir "$U_HOME/foreign"
	touch "$U_HOME/foreign/a" "$U_HOME/foreign/b"
	chown -R "$U_UID:0" "$U_HOME/foreign"
	u_programs "$T_TMP/programs"
	t_ok "files of a group without a number can be removed and moved" \
		u_as_user env PATH="$T_TMP/programs/build/tools:$T_TMP/programs/build/fs:$T_TMP/programs/build/coordinator:$PATH" \
		U_HOME="$U_HOME" bash -c in_namespace
	t_is "they were" "$(ls "$U_HOME/foreign")" c
fi

# ---- a user's own file that he may write and not read
write_only() {
	(
		export PATH=$T_TMP/programs/build/tools:$T_TMP/programs/build/fs:$T_TMP/programs/build/coordinator:$PATH
		d=$U_HOME/blind
		mkdir "$d" && cd "$d" && echo old >f && chmod 0200 f || exit
		umbra protect "$d" && umbra create -q --context nas-rollback --no-writers --label w "$d" >/dev/null || exit
		echo new >"$d/f" && stat -c %a "$d/f" "$d/.snapshots/w/f" && chmod 0600 "$d/f" && cat "$d/f"
		until umbra delete -q -y w 2>/dev/null || [ $? -ne 3 ]; do sleep 0.05; done # the kernel still uses what it read
		cd /
		umbra unprotect "$d"
	)
}
export -f write_only
if [ -z "${U_USER-}" ] || [ ! -d "$T_TMP/programs" ]; then
	t_skip "a file that its owner may only write" "needs root, to become a user"
else
	t_is "a file that its owner may only write keeps its mode" "$(T_TMP=$T_TMP U_HOME=$U_HOME u_as_user bash -c '
		PATH=$T_TMP/programs/build/tools:$T_TMP/programs/build/fs:$T_TMP/programs/build/coordinator:$PATH
		umbra-coordinator -f --log "$U_HOME/c.log" </dev/null >/dev/null 2>&1 &
		until umbra status >/dev/null 2>&1; do sleep 0.05; done
		write_only
		kill %1; wait' 2>&1 | grep -v protect)" "200
200
new"
fi

u_end
