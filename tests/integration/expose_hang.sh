#!/bin/bash
# Exposed snapshots whose mount points lie on a file system that does not answer (protocol C-10, D-12, D-14, F-11): everything
# else of the tree goes on, other exposures too; umbrafs ends and starts; what was left is put in order when it answers again.
# As root, as an ordinary user, and as root of an ordinary user's own namespace.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need python3
# An ordinary user's mount points may lie on file systems that root has mounted, with root's help only.
[ "$(id -u)" -eq 0 ] || [ -n "${U_FAR-}" ] || t_skip_all "needs root, who mounts what hangs"
dir=$T_TMP/live
far=${U_FAR-$T_TMP/far}
state=${U_STATE-$T_TMP/state}
near=$T_TMP/near
mkdir "$dir" "$near" "$T_TMP/near2" "$T_TMP/near3"
echo old >"$dir/file"

# What hangs is ended, and fails.
in_time() {
	timeout -k 5 120 "$@"
}
# refused NAME STATUS REGEX CMD...
refused() {
	local name=$1 want=$2 regex=$3 err status

	shift 3
	err=$(in_time "$@" 2>&1 >/dev/null </dev/null)
	status=$?
	t_is "$name: refused" "$status" "$want"
	t_like "$name: why" "$err" "^umbra: .*($regex)"
}
# By the table: asking the place itself would hang.
is_mounted() {
	awk -v at="$1" '$5 == at { found = 1 } END { exit !found }' /proc/self/mountinfo
}
not_mounted() {
	! is_mounted "$1"
}
# exposed LABEL MEMBER
exposed() {
	in_time umbra list --json | u_json "next(s for s in j['snapshots'] if s['label'] == '$1')['exposed_$2']"
}
is_exposed() {
	[ "$(exposed "$1" path)" != None ] && [ "$(exposed "$1" problem)" = None ]
}
hangs() {
	touch "$state/hang"
}
answers() {
	rm "$state/hang"
}
somebody_waits() {
	test -e "$state/waiting"
}
everything_else() {
	t_ok "$1: create" in_time umbra create -q --context nas-rollback --no-writers --label "new$2" "$dir"
	echo "$1" >"$dir/changed"
	t_like "$1: diff" "$(in_time umbra diff "new$2" "$dir" 2>&1)" 'changed'
	t_like "$1: list" "$(in_time umbra list 2>&1)" "new$2"
	t_like "$1: status" "$(in_time umbra status 2>&1)" "$dir.*ready"
	t_is "$1: expose elsewhere" "$(in_time umbra expose "new$2" "$near" 2>&1)" "$near"
	t_is "$1: it is there" "$(in_time cat "$near/file")" old
	t_ok "$1: unexpose there" in_time umbra unexpose "new$2"
	t_ok "$1: delete" u_delete "new$2" --for "$dir"
}

# far_away DIR STATE: mounted there
far_away() {
	mkdir "$1" "$2" || return
	"$UMBRA_BUILD/tests/integration/hang" "$1" "$2" </dev/null >/dev/null 2>&1 3>&- &
	U_PIDS="${U_PIDS-} $!"
	t_wait_for 30 test -d "$1/a"
}

[ -n "${U_FAR-}" ] || far_away "$far" "$state"
t_ok "a file system, which answers" test -d "$far/a"
t_ok "a coordinator starts" u_coordinator
t_ok "protect" umbra protect "$dir"
for label in one two three four; do
	t_ok "a snapshot $label" u_snap "$label" "$dir"
done
t_is "C-10: exposed there" "$(in_time umbra expose one "$far/a")" "$far/a"
t_is "another" "$(in_time umbra expose two "$far/b")" "$far/b"
t_is "and another" "$(in_time umbra expose three "$far/c")" "$far/c"
t_is "one elsewhere" "$(in_time umbra expose four "$T_TMP/near2")" "$T_TMP/near2"
t_is "it is there" "$(in_time cat "$far/a/file")" old

# ---- it stops answering while something is being unmounted

hangs
umbra unexpose one </dev/null >/dev/null 2>&1 3>&- &
asked=$!
U_PIDS="$U_PIDS $asked"
t_ok "umbrafs waits for a mount point" t_wait_for 30 somebody_waits
everything_else "while unexpose hangs" 1
refused "D-12: it is still in use" 3 'exposed' umbra delete -y one
refused "asked again" 3 'not answered' umbra unexpose one
t_ok "D-12: delete with force does not wait" in_time umbra delete -q -y --force one
t_not "and it is gone" in_time umbra show one
everything_else "after delete with force" 2
t_ok "D-12: so it is with one that nobody waits for yet" in_time umbra delete -q -y --force two
everything_else "with two that hang" 3
t_ok "unprotect ends" in_time umbra unprotect "$dir"
t_ok "its mount is gone" not_mounted "$dir"
t_ok "and what is exposed elsewhere" not_mounted "$T_TMP/near2"
t_is "the files are there" "$(cat "$dir/file")" old
kill "$asked" 2>/dev/null
wait "$asked" 2>/dev/null

# ---- it does not answer at the start

t_ok "protect does not wait for it for ever" in_time umbra protect "$dir"
t_is "D-14: what lies elsewhere is exposed again" "$(in_time cat "$T_TMP/near2/file")" old
t_like "status says what is not" "$(in_time umbra status)" 'far/c \(not mounted\).*not answered yet'
everything_else "while a start hangs" 4
refused "expose again" 3 'not answered' umbra expose three "$near"
t_ok "unexpose with force does not wait" in_time umbra unexpose --force three
t_is "it is not exposed any more" "$(exposed three path)" None
t_is "so it can be exposed elsewhere" "$(in_time umbra expose three "$T_TMP/near3")" "$T_TMP/near3"
t_is "there it is" "$(in_time cat "$T_TMP/near3/file")" old
pid=$(u_daemon "$dir")
t_ok "SIGTERM" kill -TERM "$pid"
t_ok "ends umbrafs: its mount is gone" t_wait_for 60 not_mounted "$dir"
t_ok "and what is exposed elsewhere" not_mounted "$T_TMP/near3"

# ---- it answers again

t_ok "protect" in_time umbra protect "$dir"
t_is "D-14: exposed where it is recorded now" "$(in_time cat "$T_TMP/near3/file")" old
answers
t_ok "the mount of a snapshot that was deleted goes" t_wait_for 60 not_mounted "$far/a"
t_ok "and that of the other" t_wait_for 60 not_mounted "$far/b"
t_ok "and that of one that was unexposed" t_wait_for 60 not_mounted "$far/c"
done_with() {
	! grep -q "$far" "$dir/.umbra/exposed.note"
}
t_ok "nothing of it is left in the record" t_wait_for 60 done_with
t_is "C-10: exposed there again" "$(in_time umbra expose two "$far/b" 2>&1 | grep -c 'no snapshot')" 1
u_snap five "$dir"
t_is "another one is" "$(in_time umbra expose five "$far/b")" "$far/b"
t_ok "unprotect" in_time umbra unprotect "$dir"
t_ok "its mount is gone" not_mounted "$far/b"
hangs
t_ok "protect while it hangs" in_time umbra protect "$dir"
t_ok "umbrafs waits for a mount point" t_wait_for 30 somebody_waits
answers
t_ok "D-14: it is exposed as soon as that answers" t_wait_for 60 is_exposed five
t_is "there it is" "$(in_time cat "$far/b/file")" old

# ---- F-11

t_ok "unexpose" in_time umbra unexpose five
t_ok "unprotect" in_time umbra unprotect "$dir"
rm -rf "$dir/.umbra"
head -c 700000 /dev/urandom >"$dir/big"
t_ok "protect with a small store" in_time umbra protect --max-store 1M "$dir"
t_ok "a snapshot" u_snap full "$dir"
t_is "exposed" "$(in_time umbra expose full "$far/d")" "$far/d"
hangs
fill() {
	local i

	for i in 1 2 3; do
		in_time umbra create -q --context nas-rollback --no-writers --label "fill$i" "$dir" &&
			dd if=/dev/urandom of="$dir/big" bs=100000 count=7 conv=notrunc || return
	done
}
gone() {
	! in_time umbra show full
}
t_ok "more is overwritten than the store holds" fill
t_ok "F-11: it is dropped all the same" t_wait_for 30 gone
t_ok "umbrafs waits for the mount point" t_wait_for 30 somebody_waits
everything_else "after an overflow" 5
answers
t_ok "F-11: the mount goes when that answers" t_wait_for 60 not_mounted "$far/d"
t_ok "unprotect" in_time umbra unprotect "$dir"

[ -n "${U_FAR-}" ] || t_ok "nothing is left on the file system" umount "$far"

if [ -z "${U_INNER-}" ] && [ "$(id -u)" -eq 0 ]; then
	if u_user; then
		u_programs "$T_TMP/user"
		export UMBRA_BUILD=$T_TMP/user/build UMBRA_SOURCE=$T_TMP/user/src U_INNER=1
		script=$UMBRA_SOURCE/tests/integration/expose_hang.sh
		far_away "$U_HOME/far" "$U_HOME/state" && chown "$U_UID" "$U_HOME/state"
		t_import "as $U_USER" u_as_user env U_FAR="$U_HOME/far" U_STATE="$U_HOME/state" bash "$script"
		rm -f "$U_HOME/state/hang"
		t_ok "nothing is left on the file system" umount "$U_HOME/far"
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
