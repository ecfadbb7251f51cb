#!/bin/bash
# A snapshot is the same tree to a backup tool (I-10): names, links, times, modes, owners, xattrs, ACLs,
# holes, inode numbers, special files. At several stages the tree stands still for a snapshot and an
# exact copy; afterwards everything in it is changed; each snapshot must still equal its copy, to rsync,
# to tar and by stat. Snapshots go in random order, and the others stay right.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need rsync tar getfattr setfattr getfacl setfacl python3
seed=${UMBRA_SEED:-$RANDOM}
t_diag "UMBRA_SEED=$seed"
dir=$T_TMP/live
root=
[ "$(id -u)" -ne 0 ] || root=yes
stages=3

# Can the file system below do it?
probe=$T_TMP/probe
: >"$probe"
xattr='' acl=''
setfattr -n user.x -v 1 "$probe" 2>/dev/null && xattr=yes
setfacl -m u:12345:r "$probe" 2>/dev/null && acl=yes

# ---- a nasty tree; $1 is where, $2 makes its contents different

long_name() {
	printf '\377%.0s' $(seq 255)
}

build() {
	local d=$1 tag=$2 i

	mkdir -p "$d/plain/deep/er/still" "$d/empty" "$d/empty2/empty3" "$d/names" "$d/links" "$d/sparse" "$d/modes" \
		"$d/times" "$d/special" "$d/xattr" "$d/acl" "$d/many"
	for i in $(seq 60); do
		seq "$i" $((i * 40)) | sed "s/^/$tag /" >"$d/plain/f$i"
	done
	head -c 3000000 /dev/urandom >"$d/plain/big"
	cp -r "$d/plain/f1" "$d/plain/f2" "$d/plain/deep/er/still/"
	: >"$d/plain/nothing"
	for i in $(seq 400); do echo "$tag $i" >"$d/many/m$i"; done

	echo "$tag" >"$d/names/$(long_name)"
	echo "$tag" >"$d/names/$(printf 'y%.0s' $(seq 255))"
	echo "$tag" >"$d/names/new
line"
	echo "$tag" >"$d/names/$(printf 'not utf \303\050')"
	echo "$tag" >"$d/names/ blank "
	echo "$tag" >"$d/names/-rf"
	echo "$tag" >"$d/names/back\\slash"
	mkdir "$d/names/$(printf 'dir\001\377')"
	echo "$tag" >"$d/names/$(printf 'dir\001\377')/inside"

	echo "$tag linked" >"$d/links/a"
	ln "$d/links/a" "$d/links/b"
	ln "$d/links/a" "$d/plain/deep/c"
	echo "$tag two" >"$d/links/x"
	ln "$d/links/x" "$d/links/y"
	ln -s nowhere "$d/links/dangling"
	ln -s "../plain/f1" "$d/links/sym"
	ln -s "$(printf 'z%.0s' $(seq 4000))" "$d/links/long"
	ln "$d/links/dangling" "$d/links/dangling2"

	truncate -s 6M "$d/sparse/hole"
	truncate -s 30M "$d/sparse/huge" # rsync reads every hole
	printf x | dd of="$d/sparse/middle" bs=1 seek=5000000 conv=notrunc status=none
	truncate -s 9M "$d/sparse/middle"
	dd if=/dev/urandom of="$d/sparse/pieces" bs=4096 count=1 status=none
	for i in 10 20 100 1000; do
		dd if=/dev/urandom of="$d/sparse/pieces" bs=4096 count=2 seek=$i conv=notrunc status=none
	done

	for i in 0644 0600 0755 4755 2755 6711 1777 0444 0000; do
		[ $i != 0000 ] || [ -n "$root" ] || continue
		echo "$tag $i" >"$d/modes/$i"
		chmod $i "$d/modes/$i"
	done
	mkdir "$d/modes/sticky" "$d/modes/setgid"
	chmod 1777 "$d/modes/sticky"
	chmod 2775 "$d/modes/setgid"

	for i in 1 2 3; do
		echo "$tag" >"$d/times/t$i"
		touch -d "2001-02-03 04:05:0$i.12345678$i" "$d/times/t$i"
	done
	touch -d "1969-12-31 23:59:59.5 UTC" "$d/times/t1"
	ln -s t1 "$d/times/link"
	touch -h -d "2005-05-05 05:05:05.555555555" "$d/times/link"

	mkfifo "$d/special/fifo"
	python3 -c "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])" "$d/special/sock" 2>/dev/null ||
		(cd "$d/special" && python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('sock')")
	if [ -n "$root" ]; then
		mknod "$d/special/null" c 1 3
		mknod "$d/special/block" b 240 77
		chown 1234:4321 "$d/plain/f7" "$d/empty" "$d/special/fifo"
		chown -h 1234:4321 "$d/links/sym"
	fi

	if [ -n "$xattr" ]; then
		for i in $(seq 10); do
			echo "$tag" >"$d/xattr/x$i"
			setfattr -n user.tag -v "$tag $i" "$d/xattr/x$i"
		done
		setfattr -n user.big -v "$(printf 'v%.0s' $(seq 3000))" "$d/xattr/x1"
		setfattr -n user.binary -v 0x00ff00fe0a "$d/xattr/x2"
		setfattr -n user.dir -v "$tag" "$d/xattr" "$d/empty"
		if [ -n "$root" ]; then
			setfattr -n trusted.t -v "$tag" "$d/xattr/x3" "$d/xattr"
			setfattr -n security.umbra -v "$tag" "$d/xattr/x4"
			setfattr -h -n trusted.link -v "$tag" "$d/links/sym"
		fi
	fi
	if [ -n "$acl" ]; then
		echo "$tag" >"$d/acl/file"
		setfacl -m u:12345:rw,g:54321:r,m:rw "$d/acl/file"
		mkdir "$d/acl/dir"
		setfacl -m u:12345:rwx,d:u:12345:rwx,d:g:54321:rx,d:m:rwx "$d/acl/dir"
		echo "$tag" >"$d/acl/dir/heir"
	fi
	# times of directories and files that no present clock would give
	find "$d" -depth -name '*[3579]' -exec touch -h -d "2010-01-01 01:01:01.010101010" {} +
	touch -d "2011-11-11 11:11:11.111111111" "$d/plain" "$d/empty" "$d/names"
}

# ---- everything in it changes; $2 selects what

change() {
	local d=$1 n=$2 f

	for f in "$d"/plain/f*; do
		case $(((${#f} + n + $(stat -c %i "$f")) % 6)) in
		0) echo "overwritten $n" >"$f" ;;
		1) rm "$f" ;;
		2) truncate -s 17 "$f" ;;
		3) echo "appended $n" >>"$f" ;;
		4) dd if=/dev/zero of="$f" bs=100 count=1 seek=1 conv=notrunc status=none ;;
		5) echo "replaced $n" >"$d/plain/tmp" && mv "$d/plain/tmp" "$f" ;;
		esac
	done
	dd if=/dev/urandom of="$d/plain/big" bs=10000 count=20 seek=$((n * 30)) conv=notrunc status=none
	fallocate -p -o $((n * 500000)) -l 200000 "$d/plain/big" 2>/dev/null
	echo "$n" >>"$d/plain/nothing"
	for f in "$d"/many/*[$n$((n + 4))]; do rm -f "$f"; done
	for f in "$d"/many/*$((n + 1))?; do [ ! -e "$f" ] || mv "$f" "$f.moved$n"; done
	for f in $(seq 50); do echo "$f" >"$d/many/new$n-$f"; done

	(
		cd "$d/names" || exit
		find . -type f -print0 | while IFS= read -r -d '' f; do
			echo "name $n" >>"$f"
			[ ${#f} -gt 200 ] || mv -- "$f" "$f.$n"
		done
	)
	mv "$d/plain/deep" "$d/empty/deep$n"
	mkdir -p "$d/plain/deep/er/still"
	echo "new $n" >"$d/plain/deep/c"

	echo "link $n" >>"$d/links/a"
	rm "$d/links/b"
	ln "$d/links/x" "$d/links/b$n"
	ln "$d/links/b$n" "$d/links/b"
	ln -sfn "elsewhere$n" "$d/links/dangling"
	ln -sfn "$n" "$d/links/long"

	echo "$n" >>"$d/sparse/hole"
	dd if=/dev/urandom of="$d/sparse/huge" bs=5000 count=1 seek=$((n * 1000)) conv=notrunc status=none
	truncate -s $((n * 1000000)) "$d/sparse/middle"
	fallocate -p -o 40000 -l 60000 "$d/sparse/pieces" 2>/dev/null
	dd if=/dev/urandom of="$d/sparse/pieces" bs=4096 count=3 seek=500 conv=notrunc status=none

	find "$d/modes" -exec chmod 07$((n % 8))5 {} +
	touch "$d"/times/* "$d"/times
	touch -h "$d/times/link" 2>/dev/null # the directories swap their names
	rm -f "$d/special/fifo" "$d/special/null"
	mkfifo "$d/special/fifo"
	rm -f "$d/special/sock"
	[ -z "$root" ] || chown -R "$n:$n" "$d/special" "$d/plain/nothing"

	if [ -n "$xattr" ]; then
		setfattr -n user.tag -v "changed $n" "$d"/xattr/x[135]
		setfattr -x user.tag "$d/xattr/x2" "$d/xattr/x4" 2>/dev/null
		setfattr -n user.tag -v "again $n" "$d/xattr/x2"
		setfattr -n user.new$n -v 1 "$d/xattr/x8" "$d/xattr"
		[ -z "$root" ] || setfattr -n trusted.t -v "$n" "$d/xattr/x3"
	fi
	if [ -n "$acl" ]; then
		setfacl -b "$d/acl/file"
		setfacl -m "u:$((n + 500)):r" "$d/acl/file" "$d/acl/dir"
		setfacl -k "$d/acl/dir"
	fi
	rmdir "$d/empty2/empty3" 2>/dev/null || mkdir "$d/empty2/empty3"
	mv "$d/times" "$d/times.$n" && mv "$d/modes" "$d/times" && mv "$d/times.$n" "$d/modes"
}

# ---- what stat says, and a mount of its own must say as well

# facts DIR: one line per thing: type, mode, owner, links, size, blocks, times to the nanosecond, inode
facts() {
	(cd "$1" && find . -path ./.umbra -prune -o -path ./.snapshots -prune -o \
		-printf '%y %m %U:%G %n %s %b %T@ %C@ %i %l %p\0' | sed -z 's/\n/\\n/g' | tr '\0' '\n' | LC_ALL=C sort)
}

# Directories' sizes and blocks are the file system's own affair, and links to directories follow them.
births() {
	(cd "$1" && find . -path ./.umbra -prune -o -path ./.snapshots -prune -o -print0 | LC_ALL=C sort -z |
		xargs -0 stat -c '%W %w' | tr '\0' '\n')
}

exact_copy() {
	# -A and -X: where the file system has them
	rsync -aHS --numeric-ids ${acl:+-A} ${xattr:+-X} --exclude=/.umbra --exclude=/.snapshots "$1/" "$2/"
}

same_rsync() {
	local out

	out=$(rsync -aHSni --numeric-ids ${acl:+-A} ${xattr:+-X} --delete --checksum "$1/" "$2/" 2>&1) ||
		{ echo "rsync failed: $out"; return 1; }
	[ -z "$out" ] || { head -n 30 <<<"$out"; return 1; }
}

same_tar() {
	local out

	# tar does not compare sockets; it says so on each one
	out=$(tar -C "$1" --acls --xattrs --xattrs-include='*' --sparse -cf - . 2>/dev/null |
		tar -C "$2" --compare --acls --xattrs --xattrs-include='*' -f - 2>&1 | grep -v 'Contents differ$') || true
	[ -z "$out" ] || { head -n 30 <<<"$out"; return 1; }
}

same_files() {
	diff -r --no-dereference "$1" "$2" 2>&1 | grep -v ' is a \(fifo\|socket\|character\|block\).* while ' | head -n 30 |
		{ ! grep .; }
}

same_sizes() {
	[ "$(du -s --apparent-size -B1 "$1/sparse" | cut -f 1)" = "$(du -s --apparent-size -B1 "$2/sparse" | cut -f 1)" ] ||
		{ echo "apparent sizes differ"; return 1; }
	local f a b
	for f in hole huge middle pieces; do
		a=$(stat -c %b "$1/sparse/$f" 2>/dev/null) b=$(awk -v f="./sparse/$f" '$NF == f { print $6 }' "$3")
		[ "$a" = "$b" ] || { echo "$f has $a blocks, had $b"; return 1; }
	done
}

same_facts() {
	diff "$2" <(facts "$1") >"$T_TMP/diff" || { head -n 30 "$T_TMP/diff"; return 1; }
}

same_births() {
	diff "$2" <(births "$1") >"$T_TMP/diff" || { head -n 10 "$T_TMP/diff"; return 1; }
}

# check_stage N WHEN
check_stage() {
	local n=$1 when=$2 m=$T_TMP/m$1

	t_begin "stage $n $when: the mounted snapshot is what was there"
	mkdir -p "$m"
	t_run umbra mount "s$n" --for "$dir" "$m"
	t_run same_rsync "$m" "$T_TMP/copy$n" || t_fail "rsync finds differences"
	t_run same_tar "$m" "$T_TMP/copy$n" || t_fail "tar finds differences"
	t_run same_files "$m" "$T_TMP/copy$n" || t_fail "diff finds differences"
	t_run same_sizes "$m" "$T_TMP/copy$n" "$T_TMP/facts$n" || t_fail "sparse files differ"
	t_run same_facts "$m" "$T_TMP/facts$n" || t_fail "stat finds differences"
	t_run same_births "$m" "$T_TMP/births$n" || t_fail "birth times differ"
	t_run umbra umount "$m"
	t_end
}

# check_below N WHEN: the same through .snapshots, without the inode numbers
check_below() {
	t_begin "stage $1 $2: so it is below .snapshots"
	t_run same_rsync "$dir/.snapshots/s$1" "$T_TMP/copy$1" || t_fail "rsync finds differences"
	t_end
}

t_ok "a coordinator starts" u_coordinator
mkdir "$dir"
build "$dir" before
t_ok "protect" umbra protect "$dir"
build "$dir/second" inside # made through the mount
for n in $(seq $stages); do
	[ "$n" = 1 ] || change "$dir" "$n"
	[ "$n" != 3 ] || change "$dir/second" "$n"
	mkdir "$T_TMP/copy$n"
	# ext4 counts other blocks as long as it has not allocated them
	sync "$dir"/sparse/* "$dir"/second/sparse/* "$dir"/plain/big "$dir"/second/plain/big
	facts "$dir" >"$T_TMP/facts$n"
	births "$dir" >"$T_TMP/births$n"
	t_ok "stage $n: snapshot" u_snap "s$n" "$dir"
	t_ok "stage $n: exact copy of the live tree" exact_copy "$dir" "$T_TMP/copy$n"
	check_stage "$n" "at once"
done
change "$dir" 7
change "$dir/second" 8
for n in $(seq $stages); do
	check_stage "$n" "after all the changes"
	check_below "$n" "after all the changes"
done
rm -rf "$dir/second" "$dir/plain" "$dir/names" "$dir/links"
for n in $(seq $stages); do check_stage "$n" "after much was deleted"; done
t_ok "unprotect" umbra unprotect "$dir"
t_ok "protect again" umbra protect "$dir"
change "$dir/second" 9 2>/dev/null
build "$dir/third" again
order=$(seq $stages | shuf --random-source=<(yes "$seed"))
left=$(seq $stages)
for n in $order; do
	t_ok "drop stage $n" u_delete "s$n" --for "$dir"
	left=$(grep -vx "$n" <<<"$left")
	for k in $left; do check_stage "$k" "after stage $n was dropped"; done
done
t_ok "unprotect at last" umbra unprotect "$dir"
t_ok "the store is gone" test ! -e "$dir/.umbra"
u_end
