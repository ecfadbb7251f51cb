#!/bin/bash
# What goes wrong is said in exactly one line on standard error, "umbra: ..." with the thing's name, with
# the right exit status, and nothing is lost or half done.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
dir=$T_TMP/dir
w=$T_TMP/w
mkdir "$dir" "$w"
echo precious >"$dir/file"

# refused NAME STATUS REGEX CMD...: one line on stderr, nothing on stdout
refused() {
	local name=$1 status=$2 regex=$3 got

	shift 3
	"$@" >"$T_TMP/stdout" 2>"$T_TMP/stderr" 3>&- </dev/null
	got=$?
	t_begin "$name"
	[ $got -eq "$status" ] || t_fail "exit status $got, not $status"
	[ "$(wc -l <"$T_TMP/stderr")" -eq 1 ] || t_fail "not one line but $(wc -l <"$T_TMP/stderr")"
	[[ $(cat "$T_TMP/stderr") =~ ^umbra:\  ]] || t_fail "does not begin with 'umbra: '"
	[[ $(cat "$T_TMP/stderr") =~ $regex ]] || t_fail "does not match: $regex"
	[ ! -s "$T_TMP/stdout" ] || t_fail "printed on stdout: $(head -n 3 "$T_TMP/stdout")"
	[ -z "$t_case_failed_" ] || t_diag "said: $(cat "$T_TMP/stderr")"
	t_end
}

intact() {
	[ "$(cat "$dir/file")" = precious ]
}

# ---- without a coordinator
refused "no coordinator: create" 3 'coordinator.*start' umbra create "$dir"
refused "no coordinator: list" 3 'coordinator.*start' umbra list
refused "no coordinator: delete" 3 'coordinator.*start' umbra delete -y x
t_ok "nothing was made" test ! -e "$T_TMP/c/s"

# ---- a socket that cannot be used
touch "$T_TMP/c/file"
refused "what should be the socket is a file" 3 'coordinator' env UMBRA_SOCKET="$T_TMP/c/file" umbra list
if u_user; then
	chmod 0711 "$T_TMP/c"
	refused "another user's socket directory" 1 'access|ermission|denied|another user' \
		setpriv --reuid="$U_UID" --regid="$U_GID" --clear-groups \
		env UMBRA_SOCKET="$T_TMP/run/s" umbra list
else
	t_skip "another user's socket" "needs root"
fi
t_ok "a coordinator starts" u_coordinator
if [ -n "${U_USER-}" ]; then
	refused "another user's coordinator" 1 'ermission|denied|another user' \
		setpriv --reuid="$U_UID" --regid="$U_GID" --clear-groups env UMBRA_SOCKET="$UMBRA_SOCKET" umbra list
fi

# ---- protect
refused "protect a file" 1 'file is not a directory' umbra protect "$dir/file"
refused "protect what is not there" 1 'nowhere.*[Nn]o such' umbra protect "$T_TMP/nowhere"
refused "protect below a file" 1 '[Nn]ot a directory' umbra protect "$dir/file/x"
refused "protect nothing" 2 'directory' umbra protect
refused "protect two" 2 'directory' umbra protect "$dir" "$w"
refused "protect with a bad size" 2 'max-store' umbra protect --max-store lots "$dir"
refused "protect with a bad word" 2 'snapshots' umbra protect --snapshots perhaps "$dir"
refused "an unknown option" 2 'option' umbra protect --colour "$dir"
refused "an unknown command" 2 'frobnicate' umbra frobnicate
refused "a store inside the directory" 1 'store' umbra protect --store "$dir/st" "$dir"
t_ok "no store was made there" test ! -e "$dir/st"
refused "F-4: a store too small for anything" 1 'max-store 1000K.*1M at least' umbra protect --max-store 1000K "$dir"
t_ok "F-4: 1M will do, and more than the disk has" umbra protect --max-store 1M "$dir"
t_is "F-8: three numbers" "$(umbra status --json | u_json "'%d %d' % (j['trees'][0]['used_bytes'], j['trees'][0]['max_bytes'])")" \
	"0 1048576"
mkdir "$T_TMP/other"
refused "F-3: a store in another protected directory" 1 'store .*another protected' \
	umbra protect --store "$dir/st" "$T_TMP/other"
t_ok "F-3: no store was made there" test ! -e "$dir/st"
t_ok "unprotect" umbra unprotect "$dir"
if [ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ] && [ "$(stat -f -c %T "$dir")" != tmpfs ]; then
	shm=$(mktemp -d /dev/shm/umbra-test.XXXXXX)
	t_cleanup rm -rf "$shm"
	t_ok "a store in memory" umbra protect --store "$shm" "$dir"
	refused "C-9: it keeps nothing that is to outlive a crash" 1 'store in memory.*--store' u_snap lost "$dir"
	t_ok "C-9: it keeps what goes with its session" umbra backup "$dir" -- test -e "$dir/file"
	t_ok "unprotect" umbra unprotect "$dir"
else
	t_skip "C-9: a store in memory" "no tmpfs besides the test's own directory"
fi
t_ok "F-4: more than the disk holds is allowed" umbra protect --max-store 1000P "$dir"
t_ok "unprotect" umbra unprotect "$dir"
if [ -n "${U_USER-}" ]; then
	refused "protect without permission" 1 'dir.*([Pp]ermission|owner)' u_as_user umbra protect "$dir"
fi
mkdir -p "$T_TMP/own/.snapshots"
refused "it has an entry .snapshots of its own" 1 '\.snapshots.*--snapshots off' umbra protect "$T_TMP/own"
t_ok "with --snapshots off it works" umbra protect --snapshots off "$T_TMP/own"
t_is "and the entry is what it was" "$(ls -A "$T_TMP/own/.snapshots"; stat -c %F "$T_TMP/own/.snapshots")" directory
t_ok "snapshots off: create works" u_snap off "$T_TMP/own"
refused "snapshots off: in place there is no path" 1 'snapshots' umbra backup --in-place "$T_TMP/own" -- true
t_ok "snapshots off: backup works" umbra backup "$T_TMP/own" -- test -d "$T_TMP/own/.snapshots"
mkdir "$T_TMP/m"
t_ok "snapshots off: mount works" umbra mount off "$T_TMP/m"
t_ok "umount" umbra umount "$T_TMP/m"
t_ok "delete" u_delete off
t_ok "unprotect" umbra unprotect "$T_TMP/own"

refused "create, not protected" 1 'dir is not protected.*umbra protect' umbra create "$dir"
refused "unprotect, not protected" 1 'dir is not protected' umbra unprotect "$dir"
refused "list, not protected" 1 'not protected' umbra list "$dir"
t_ok "protect" umbra protect "$dir"
ln -s "$dir" "$T_TMP/sym"
mkdir -p "$dir/sub/subsub"
refused "protected already" 1 'protected already' umbra protect "$dir"
refused "protected already, by a symbolic link" 1 'protected already' umbra protect "$T_TMP/sym"
refused "inside a protected directory" 1 'dir.*protected already' umbra protect "$dir/sub/subsub"
refused "around a protected directory" 1 'dir.*protect' umbra protect "$T_TMP"
refused "the store is in use" 1 'in use|protected already' unshare -m sh -c \
	"umount -l '$dir' && exec env UMBRA_SOCKET='$T_TMP/c/s' umbra protect '$dir'"
t_ok "all that changed nothing" intact

# ---- names of snapshots
t_ok "create a" u_snap aa "$dir"
t_ok "create b" u_snap bb "$dir"
refused "an unknown snapshot: show" 1 'nosuch' umbra show nosuch
t_ok "one snapshot and its directory, without a slash" eval '(cd "$dir/.." && umbra show aa "${dir##*/}" >/dev/null)'
refused "two words that are both snapshots" 2 'one snapshot' umbra show aa "$dir/.snapshots/aa"
refused "an unknown snapshot: mount" 1 'nosuch' umbra mount nosuch "$T_TMP/m"
refused "an unknown snapshot: delete" 1 'nosuch' umbra delete -y nosuch
refused "an unknown snapshot: diff" 1 'nosuch' umbra diff nosuch
refused "an unknown snapshot: restore" 1 'nosuch' umbra restore nosuch "$dir/file"
refused "an unknown path: restore" 1 'missing' umbra restore aa "$dir/missing"
refused "a snapshot's path that is none" 1 '' umbra show "$dir/.snapshots/none"
refused "mount at what is not there" 1 'nowhere' umbra mount aa "$T_TMP/nowhere"
refused "mount at a file" 1 'not a directory' umbra mount aa "$T_TMP/c/file"
refused "umount what is not mounted" 1 'no snapshot is mounted' umbra umount "$w"
refused "umount a protected directory" 1 'protected directory' umbra umount "$dir"
refused "protect in a snapshot" 1 'snapshot' umbra protect "$dir/.snapshots/aa/sub"
refused "a bad context" 2 'context' umbra create --context holiday "$dir"
refused "a volatile context" 2 'backup' umbra create --context backup "$dir"
refused "a label with a slash" 2 'label' umbra create --label a/b "$dir"
# enough ids that two of them begin alike: with a prefix of two digits 256 are told apart
id_prefix() {
	umbra list --json "$dir" | u_json "next((p for p in {s['id'][:2] for s in j['snapshots']}
		if sum(s['id'].startswith(p) for s in j['snapshots']) > 1), '')"
}
prefix=
for i in $(seq 100); do
	u_snap "many$i" "$dir" >/dev/null
	[ $((i % 10)) -ne 0 ] || prefix=$(id_prefix)
	[ -z "$prefix" ] || break
done
if [ -n "$prefix" ]; then
	refused "an ambiguous prefix" 1 "$prefix" umbra show "$prefix"
	before=$(umbra list --json "$dir" | u_json "len(j['snapshots'])")
	refused "an ambiguous prefix deletes nothing" 1 "$prefix" umbra delete -y "$prefix"
	t_is "all are there" "$(umbra list --json "$dir" | u_json "len(j['snapshots'])")" "$before"
else
	t_skip "an ambiguous prefix" "100 ids without two that begin alike: that happens once in 10^10"
fi
refused "a label that is taken" 1 'aa' umbra create --context nas-rollback --no-writers --label aa "$dir"
t_is "a duplicate in one set" "$(u_snap twice "$dir" "$dir" >/dev/null 2>"$T_TMP/stderr"; wc -l <"$T_TMP/stderr" | tr -d ' ')" \
	"$(grep -c '^umbra: ' "$T_TMP/stderr")"
t_ok "delete all" u_delete --for "$dir" --all

# ---- busy
sleep 1000 <"$dir/file" 3>&- &
holder=$!
U_PIDS="${U_PIDS-} $holder"
has_it_open() {
	[ "$(cat "/proc/$holder/comm")" = sleep ] && [ "/proc/$holder/fd/0" -ef "$dir/file" ]
}
t_wait_for 30 has_it_open
refused "unprotect while in use" 1 'in use.*(sleep|--force)' umbra unprotect "$dir"
t_ok "it is still protected" u_snap still "$dir"
kill $holder
wait $holder 2>/dev/null
t_ok "delete" u_delete still
t_ok "unprotect when free" umbra unprotect "$dir"

# ---- strange names
odd=$T_TMP/$'new\nline and  blanks \xff'
mkdir "$odd"
echo odd >"$odd/f"
t_ok "strange name: protect" umbra protect "$odd"
t_ok "strange name: create" u_snap odd "$odd"
echo changed >"$odd/f"
t_is "strange name: the snapshot" "$(cat "$odd/.snapshots/odd/f")" odd
t_is "strange name: list is one line each" "$(umbra list | wc -l)" 2
t_ok "strange name: diff" umbra diff odd
t_ok "strange name: restore" umbra restore odd "$odd/f"
t_is "strange name: it is back" "$(cat "$odd/f")" odd
t_ok "strange name: mount" umbra mount odd "$T_TMP/m"
t_ok "strange name: umount" umbra umount "$T_TMP/m"
t_ok "strange name: backup" umbra backup "$odd" -- cat "$odd/f"
refused "strange name: protected already" 1 'protected already' umbra protect "$odd"
t_ok "strange name: delete" u_delete odd
t_ok "strange name: unprotect" umbra unprotect "$odd"

# ---- the store of a newer version
t_ok "protect" umbra protect "$dir"
t_ok "create" u_snap keep "$dir"
echo changed >"$dir/file"
t_ok "unprotect" umbra unprotect "$dir"
cp -a "$dir/.umbra/format" "$T_TMP/format"
python3 - "$dir/.umbra/format" <<'P'
import sys
path = sys.argv[1]
data = bytearray(open(path, "rb").read())
# the version is the number behind the magic; whatever it is, a reader must not believe 0xff there
data[8] = 0xff
open(path, "wb").write(data)
P
refused "a store that another version made" 1 'store' umbra protect "$dir"
t_is "the live file below" "$(cat "$dir/file")" changed
cp -a "$T_TMP/format" "$dir/.umbra/format"
t_ok "with the old one back it works" umbra protect "$dir"
t_is "and the snapshot is there" "$(cat "$dir/.snapshots/keep/file")" precious
t_ok "restore" umbra restore keep "$dir/file"
t_ok "delete" u_delete keep
t_ok "all that lost nothing" intact

# ---- nonsense on the socket
python3 - "$UMBRA_SOCKET" <<'P' >"$T_TMP/garbage.out" 2>&1
import os, socket, sys
def talk(*parts, close=True):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(sys.argv[1])
    try:
        for p in parts:
            s.sendall(p)
        s.shutdown(socket.SHUT_WR)
        while s.recv(65536):
            pass
    except (BrokenPipeError, ConnectionResetError):
        pass
    s.close()
talk(b'{"method":"io.umbra.GetIn')                 # truncated
talk(b'')
talk(b'\0' * 1000)
talk(os.urandom(10 << 20))                        # 10 MB of garbage
talk(b'{"method":"' + b'x' * (10 << 20))           # 10 MB without an end
talk(b'{"method":"io.umbra.ListTrees"}\0' * 2000)
talk(b'[' * 500000 + b'\0')
talk(b'{"method":"io.umbra.AddToSnapshotSet","parameters":{"path":17}}\0')
talk(b'{"method":"io.umbra.RegisterProvider","more":true,"parameters":{"tree":{}}}\0')
talk(b'{"method":"io.umbra.ProviderAnswer","oneway":true,"parameters":{"serial":1}}\0')
print("survived")
P
t_is "garbage: each connection came to an end" "$(tail -n 1 "$T_TMP/garbage.out")" survived
t_ok "garbage: others are not affected" u_snap after "$dir"
t_is "garbage: it is the same coordinator" "$(umbra status --json | u_json "j['info']['pid']")" "$U_COORDINATOR_PID"
t_ok "delete" u_delete after

# ---- the coordinator goes away and comes again
kill -KILL "$U_COORDINATOR_PID"
wait "$U_COORDINATOR_PID" 2>/dev/null
refused "the coordinator was killed" 3 'coordinator.*start' umbra create "$dir"
t_ok "the directory still works" intact
t_ok "another one starts" u_coordinator
knows_dir() { u_daemon "$dir" >/dev/null 2>&1; }
t_ok "the directory comes back to it" t_wait_for 30 knows_dir
t_ok "create" u_snap again "$dir"
t_ok "delete" u_delete again
t_ok "unprotect" umbra unprotect "$dir"

# ---- a full disk
full_disk() {
	local img=$T_TMP/img mnt=$T_TMP/small n out

	truncate -s 64M "$img"
	mkfs.ext4 -q -F "$img" && mkdir "$mnt" && mount -o loop "$img" "$mnt" 2>"$T_TMP/mount.err" || {
		t_skip "a full disk" "no loop mount: $(cat "$T_TMP/mount.err")"
		return
	}
	mkdir "$mnt/d"
	head -c 20000000 /dev/urandom >"$mnt/d/a"
	t_ok "full: protect" umbra protect "$mnt/d"
	for n in 1 2 3 4 5; do
		u_snap "full$n" "$mnt/d" >/dev/null || t_fail "create full$n"
		# each snapshot costs 6 MB: five do not fit beside the data
		dd if=/dev/urandom of="$mnt/d/a" bs=1M count=6 seek=$((n * 2)) conv=notrunc status=none 2>"$T_TMP/dd.err"
	done
	head -c 20000000 /dev/urandom >"$T_TMP/new"
	t_ok "full: overwriting goes on when old values do not fit any more" \
		dd if="$T_TMP/new" of="$mnt/d/a" bs=1M conv=notrunc status=none
	t_ok "full: and is right" cmp "$T_TMP/new" "$mnt/d/a"
	out=$(umbra list --json "$mnt/d" | u_json "' '.join(s['label'] for s in j['snapshots'])")
	t_diag "left after that: $out"
	t_ok "full: the oldest one went" test "${out#*full1}" = "$out"
	t_like "full: that is reported" "$(umbra status 2>&1; cat "$T_TMP/coordinator.log")" 'full|room|space'
	# what is left can be read to the end or is gone; never wrong
	for n in $out; do
		t_ok "full: $n can be read" sh -c "cat '$mnt/d/.snapshots/$n/a' | wc -c | grep -qx 20000000"
	done
	t_not "full: new data end with the real ENOSPC" dd if=/dev/zero of="$mnt/d/b" bs=1M status=none
	t_ok "full: there was room for what the file system has" test "$(stat -c %s "$mnt/d/b")" -gt 20000000
	rm "$mnt/d/b"
	# the last close of a removed file is told to the daemon after rm has returned
	t_ok "full: writing works again" t_wait_for 30 dd if=/dev/zero of="$mnt/d/c" bs=1M count=1 status=none
	t_ok "full: the other data are right" cmp "$T_TMP/new" "$mnt/d/a"
	umbra -q delete -y --for "$mnt/d" --all >/dev/null 2>&1 || u_delete --for "$mnt/d" --all >/dev/null
	t_ok "full: unprotect" umbra unprotect "$mnt/d"
	t_ok "full: live below" cmp "$T_TMP/new" "$mnt/d/a"
	t_ok "full: unmount" umount "$mnt"
}
if [ "$(id -u)" -ne 0 ]; then
	t_skip "a full disk" "a loop mount needs root"
else
	full_disk
fi

u_end
