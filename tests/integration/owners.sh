#!/bin/bash
# S-12: what the owner of a directory may do with its snapshots when root protects it, by the system's coordinator.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
[ "$(id -u)" -eq 0 ] || t_skip_all "needs root, to protect another user's directory"
u_setup
u_user || t_skip_all "no ordinary user is known"
u_coordinator_stop
chmod 0755 "$T_TMP" "$T_TMP/c"
u_programs "$T_TMP/user"
dir=$T_TMP/dir
point=$T_TMP/point
mkdir "$dir" "$point" "$dir/private"
echo old >"$dir/file"
echo secret >"$dir/private/secret"
chmod 0700 "$dir/private"
chown "$U_UID:$U_GID" "$dir" "$dir/file" "$point"

his() {
	u_as_user env UMBRA_SOCKET="$UMBRA_SOCKET" "$T_TMP/user/build/tools/umbra" "$@"
}

# refused NAME REGEX CMD...: exit status 1 and one line
refused() {
	local name=$1 regex=$2 out status

	shift 2
	out=$("$@" 2>&1 3>&- </dev/null)
	status=$?
	t_is "$name" "$status/$(wc -l <<<"$out")" 1/1
	t_like "$name: why" "$out" "$regex"
}

labels() {
	his list --json "$dir" | u_json "sorted(s['label'] for s in j['snapshots'])"
}

t_ok "the system's coordinator" u_coordinator --system
t_ok "root protects a user's directory" umbra protect "$dir"
t_ok "root takes a snapshot" u_snap roots "$dir"
t_ok "the owner takes one" his create -q --context nas-rollback --no-writers --label his "$dir"
echo new >"$dir/file"

# ---- the owner

t_is "C-1: the owner lists all of them" "$(labels)" "['his', 'roots']"
t_like "he may look at one" "$(his show his)" "$dir"
t_like "he sees what has changed" "$(his diff his "$dir")" 'file'
t_ok "he takes a file back" his restore roots "$dir/file"
t_is "it is the old one" "$(cat "$dir/file")" old
refused "he is not served a snapshot: he could answer in umbrafs' place" 'root alone' his mount his "$point"
t_like "nor by a backup at the directory's own path" "$(his backup "$dir" -- true 2>&1; echo "status $?")" 'root alone.*in-place.*status 1'
t_ok "he backs up in place" his backup --in-place "$dir" -- true
t_ok "he deletes his own" his delete -q -y his
t_is "root's stays" "$(labels)" "['roots']"

# ---- no owner any more

t_ok "root takes the directory" chown root:root "$dir"
refused "its former owner lists nothing" 'owns no protected' his list "$dir"
refused "nor deletes" 'owns no protected' his delete -y --force roots
t_ok "it is still there" umbra show roots
t_ok "he gets it back" chown "$U_UID" "$dir"
t_is "and lists" "$(labels)" "['roots']"
t_ok "the snapshot had the owner of its time" umbra revert -q -y roots "$dir"
t_ok "a snapshot before root takes it" u_snap before "$dir"
chown root:root "$dir"
t_ok "revert brings the owner back" umbra revert -q -y before "$dir"
t_is "and his rights" "$(labels)" "['before', 'roots']"

# ---- a member of the group

u_coordinator_stop
t_ok "a coordinator with a group" u_coordinator --system --group "$(id -gn "$U_USER")"
t_ok "its umbrafs is there" t_wait_for 60 umbra show before
chown root:root "$dir"
t_is "a member lists what is not his" "$(labels)" "['before', 'roots']"
refused "but is not served either" 'root alone' his mount before "$point"
t_ok "root is" umbra mount before "$point"
t_ok "unmounted" umbra umount "$point"
t_ok "all are deleted" u_delete --for "$dir" --all
t_ok "unprotected" umbra unprotect "$dir"
u_end
