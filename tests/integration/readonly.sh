#!/bin/bash
# C-14: a snapshot is read-only in every way, below .snapshots and in a mount of its own, for root as well: each kind of
# change fails with EROFS and leaves nothing behind; reading moves no access time; modes, owners, links, xattrs and times
# are those of the commit, whatever happens to the live files.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need python3
dir=$T_TMP/data
mkdir -p "$dir/d/sub" "$T_TMP/m"
echo text >"$dir/d/f"
ln "$dir/d/f" "$dir/d/second"
ln -s f "$dir/d/link"
mkfifo "$dir/d/fifo"
chmod 0751 "$dir/d"
chmod 4640 "$dir/d/f"
touch -d '2020-02-02 02:02:02.123456789' "$dir/d/f" "$dir/d/sub"
touch -h -d '2021-01-01 01:01:01.000000001' "$dir/d/link"
xattr=
if setfattr -n user.x -v old "$dir/d/f" 2>/dev/null; then
	xattr=yes
fi

# All that stat and the xattrs tell, but for what differs by where it is seen; and for the access time of the link:
# nobody can read one without moving it (docs/protocol-notes.md).
facts() {
	(cd "$1/d" && stat -c '%n %f %u %g %h %s %t:%T %x %y %z' . f second fifo sub &&
		stat -c '%n %f %u %g %h %s %y %z' link && readlink link &&
		cat f && { [ -z "$xattr" ] || getfattr --only-values -n user.x f; })
}
# mutations DIR: tries each kind of change in there; prints those that did not fail with EROFS
mutations() {
	python3 - "$1/d" <<'P'
import ctypes, errno, os, sys
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)

def copy_into():
    os.open('f', os.O_RDWR)

def rename_exchange():
    if libc.renameat2(-100, b'f', -100, b'link', 2) < 0:
        raise OSError(ctypes.get_errno(), '')

ways = {
    'open for writing': lambda: os.open('f', os.O_WRONLY), 'open for both': copy_into,
    'open with truncation': lambda: os.open('f', os.O_RDONLY | os.O_TRUNC),
    'create': lambda: os.open('new', os.O_CREAT | os.O_WRONLY),
    'create without a name': lambda: os.open('.', os.O_TMPFILE | os.O_WRONLY),
    'truncate': lambda: os.truncate('f', 1), 'unlink': lambda: os.unlink('f'), 'rmdir': lambda: os.rmdir('sub'),
    'mkdir': lambda: os.mkdir('new'), 'rename': lambda: os.rename('f', 'new'), 'rename to exchange': rename_exchange,
    'link': lambda: os.link('f', 'new'), 'symlink': lambda: os.symlink('x', 'new'), 'mkfifo': lambda: os.mkfifo('new'),
    'chmod': lambda: os.chmod('f', 0o600), 'chown': lambda: os.chown('f', os.getuid(), os.getgid()),
    'lchown': lambda: os.lchown('link', os.getuid(), os.getgid()),
    'utimens': lambda: os.utime('f'), 'utimens of a directory': lambda: os.utime('sub', (1, 1)),
    'setxattr': lambda: os.setxattr('f', 'user.new', b'x'), 'removexattr': lambda: os.removexattr('f', 'user.x'),
}
for name, way in ways.items():
    try:
        way()
        print(name + ': done')
    except OSError as e:
        if e.errno != errno.EROFS:
            print(name + ': ' + errno.errorcode.get(e.errno, str(e.errno)))
P
}

t_ok "a coordinator starts" u_coordinator
t_ok "protect" umbra protect "$dir"
facts "$dir" >"$T_TMP/want"
t_ok "create" u_snap one "$dir"
# The live side goes on in every way.
echo "other text" >>"$dir/d/f"
chmod 0600 "$dir/d/f"
touch "$dir/d/f" "$dir/d/sub"
rm "$dir/d/second" "$dir/d/fifo"
ln -sfn elsewhere "$dir/d/link"
[ -z "$xattr" ] || setfattr -n user.x -v new "$dir/d/f"
t_ok "mount" umbra mount one "$T_TMP/m"
for where in "$dir/.snapshots/one" "$T_TMP/m"; do
	name=$([ "$where" = "$T_TMP/m" ] && echo "a mount" || echo ".snapshots")
	t_is "C-14: $name: modes, owners, links, xattrs and times are those of the commit" "$(facts "$where")" "$(cat "$T_TMP/want")"
	t_is "C-14: $name: each change is EROFS" "$(mutations "$where")" ""
	# facts has read the file, the link and the directory before
	ls "$where/d/sub" >/dev/null
	t_is "C-14: $name: nothing was left behind, and no access time has moved" "$(facts "$where")" "$(cat "$T_TMP/want")"
done
t_ok "umount" umbra umount "$T_TMP/m"
t_ok "delete" u_delete one
t_ok "unprotect" umbra unprotect "$dir"
u_end
