#!/bin/bash
# Other people's programs: restic, borg, rsync and tar read snapshots, through umbra backup and umbra
# mount, and what they kept is what was there; git and a compiler work in a protected directory while
# snapshots come and go; SQLite's database is whole in every one of them.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need tar rsync python3
dir=$T_TMP/live
mkdir "$dir" "$T_TMP/m"
export RESTIC_PASSWORD=test RESTIC_CACHE_DIR=$T_TMP/restic-cache
export BORG_BASE_DIR=$T_TMP/borg-base BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes \
	BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
t_ok "a coordinator starts" u_coordinator

# ---- a tree whose files change all the time; each one is consistent in itself only at an instant

mkdir -p "$dir/tree/a/b" "$dir/tree/still"
for i in $(seq 200); do seq "$i" $((i * 20)) >"$dir/tree/a/f$i"; done
head -c 5000000 /dev/urandom >"$dir/tree/a/b/big"
ln "$dir/tree/a/f1" "$dir/tree/still/link"
ln -s ../a/f2 "$dir/tree/still/sym"
truncate -s 5M "$dir/tree/still/sparse"
t_ok "protect" umbra protect "$dir"

u_snap base "$dir" >/dev/null
mkdir "$T_TMP/copy"
rsync -aHS "$dir/tree/" "$T_TMP/copy/"

same() {
	local out

	# times of directories are set by whoever restored into them
	out=$(rsync -aHSni --checksum --delete --omit-dir-times "$1/" "$2/" 2>&1) || { echo "$out"; return 1; }
	[ -z "$out" ] || { head -n 20 <<<"$out"; return 1; }
}

# While CMD runs the live files are spoilt, behind its back.
spoil() {
	local n=0
	while [ ! -e "$T_TMP/stop-spoiling" ]; do
		n=$((n + 1))
		for f in "$dir"/tree/a/f?; do echo "spoilt $n" >"$f"; done
		dd if=/dev/urandom of="$dir/tree/a/b/big" bs=100000 count=3 seek=$((n % 40)) conv=notrunc status=none
		rm -f "$dir/tree/a/f1"[0-9]
		mv "$dir/tree/still" "$dir/tree/moved" && mv "$dir/tree/moved" "$dir/tree/still"
		sync -f "$dir" 2>/dev/null
	done
}
# backup_of CMD...: umbra backup of what CMD must find just as it was at that moment
reset_tree() {
	rsync -aHS --delete "$T_TMP/copy/" "$dir/tree/"
	[ "$(stat -c %i "$dir/tree/a/f1")" = "$(stat -c %i "$dir/tree/still/link")" ] || {
		rm "$dir/tree/still/link"
		ln "$dir/tree/a/f1" "$dir/tree/still/link"
	}
	touch -r "$T_TMP/copy/still" "$dir/tree/still"
}
# with_spoiling CMD...: CMD runs inside umbra backup; spoiling begins once the snapshot is there. So what CMD finds and
# lists is the snapshot's, not what was there before or is there now (M-9).
with_spoiling() {
	local spoiler status

	rm -f "$T_TMP/stop-spoiling" "$T_TMP/go"
	(t_wait_for 60 test -e "$T_TMP/go" && spoil) >/dev/null 2>&1 3>&- &
	spoiler=$!
	U_PIDS="${U_PIDS-} $spoiler"
	GO=$T_TMP/go umbra backup "$dir" -- sh -c 'touch "$GO" && exec "$@"' sh "$@"
	status=$?
	touch "$T_TMP/stop-spoiling" "$T_TMP/go"
	wait $spoiler
	return $status
}

if command -v restic >/dev/null; then
	restic -q init -r "$T_TMP/restic" >/dev/null 2>&1
	t_ok "restic through umbra backup" with_spoiling restic -q -r "$T_TMP/restic" backup "$dir/tree"
	t_ok "restic check" restic -q -r "$T_TMP/restic" check --read-data
	t_ok "restic restore" restic -q -r "$T_TMP/restic" restore latest --target "$T_TMP/r"
	t_ok "restic gives back what was there" same "$T_TMP/r$dir/tree" "$T_TMP/copy"
	rm -rf "$T_TMP/r"
	reset_tree
	t_ok "restic again" umbra backup "$dir" -- restic -q -r "$T_TMP/restic" backup "$dir/tree"
	t_like "restic found its parent by the path" "$(restic -r "$T_TMP/restic" snapshots --json |
		u_json "len(j), j[1].get('parent') == j[0]['id']")" '^2 True$'
	t_ok "mount" umbra mount base "$T_TMP/m"
	t_ok "restic of a mount" sh -c "cd '$T_TMP/m' && restic -q -r '$T_TMP/restic' backup --tag mount tree"
	t_ok "umount" umbra umount "$T_TMP/m"
	restic -q -r "$T_TMP/restic" restore latest --tag mount --target "$T_TMP/r" >/dev/null
	t_ok "restic of a mount gives back what was there" same "$T_TMP/r/tree" "$T_TMP/copy"
	rm -rf "$T_TMP/r"
else
	t_skip "restic" "restic is not installed"
fi

if command -v borg >/dev/null; then
	reset_tree
	borg init -e none "$T_TMP/borg" >/dev/null 2>&1
	t_ok "borg through umbra backup" with_spoiling borg create "$T_TMP/borg::one" "$dir/tree"
	t_ok "borg check" borg check --verify-data "$T_TMP/borg"
	mkdir "$T_TMP/r"
	t_ok "borg extract" sh -c "cd '$T_TMP/r' && borg extract '$T_TMP/borg::one'"
	t_ok "borg gives back what was there" same "$T_TMP/r$dir/tree" "$T_TMP/copy"
	rm -rf "$T_TMP/r"
	reset_tree
	t_ok "mount" umbra mount base "$T_TMP/m"
	t_ok "borg of a mount" sh -c "cd '$T_TMP/m' && borg create '$T_TMP/borg::two' tree"
	t_ok "umount" umbra umount "$T_TMP/m"
	mkdir "$T_TMP/r"
	(cd "$T_TMP/r" && borg extract "$T_TMP/borg::two") >/dev/null 2>&1
	t_ok "borg of a mount gives back what was there" same "$T_TMP/r/tree" "$T_TMP/copy"
	rm -rf "$T_TMP/r"
else
	t_skip "borg" "borg is not installed"
fi

reset_tree
mkdir "$T_TMP/r"
t_ok "rsync through umbra backup" with_spoiling rsync -aHS "$dir/tree/" "$T_TMP/r/"
t_ok "rsync has what was there" same "$T_TMP/r" "$T_TMP/copy"
rm -rf "$T_TMP/r"
reset_tree
t_ok "tar through umbra backup" with_spoiling tar -C "$dir" -Scf "$T_TMP/t.tar" tree
mkdir "$T_TMP/r" && tar -C "$T_TMP/r" -xf "$T_TMP/t.tar"
t_ok "tar has what was there, and no file changed as it read it" same "$T_TMP/r/tree" "$T_TMP/copy"
rm -rf "$T_TMP/r"
t_ok "mount" umbra mount base "$T_TMP/m"
t_ok "rsync of a mount" rsync -aHS "$T_TMP/m/tree/" "$T_TMP/r/"
t_ok "it has what was there" same "$T_TMP/r" "$T_TMP/copy"
t_ok "tar of a mount" tar -C "$T_TMP/m" -Scf "$T_TMP/t.tar" tree
t_ok "umount" umbra umount "$T_TMP/m"
rm -rf "$T_TMP/r"
mkdir "$T_TMP/r" && tar -C "$T_TMP/r" -xf "$T_TMP/t.tar"
t_ok "it has what was there, too" same "$T_TMP/r/tree" "$T_TMP/copy"
rm -rf "$T_TMP/r"
t_ok "delete" u_delete base

# ---- programs at work while snapshots come and go

made=0
come_and_go() {
	local n=0
	while [ ! -e "$T_TMP/stop" ]; do
		n=$((n + 1))
		u_snap "w$n" "$dir" >/dev/null || echo "create w$n failed"
		[ $n -le 5 ] || u_delete "w$((n - 5))" --for "$dir" || echo "delete w$((n - 5)) failed"
		echo $n >"$T_TMP/made"
	done
}
at_least_made() {
	[ -s "$T_TMP/made" ] && [ "$(cat "$T_TMP/made")" -ge "$1" ]
}
rm -f "$T_TMP/stop"
come_and_go >"$T_TMP/snapshots.out" 2>&1 3>&- &
snapper=$!
U_PIDS="${U_PIDS-} $snapper"
t_ok "snapshots come" t_wait_for 60 at_least_made 6

if command -v git >/dev/null; then
	export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org \
		GIT_CONFIG_GLOBAL=/dev/null
	git_history() {
		git init -q "$dir/repo" && cd "$dir/repo" || return
		for i in $(seq 30); do
			for f in $(seq 5); do echo "$i $f $RANDOM" >>"file$f"; done
			mkdir -p "d$((i % 4))" && seq "$i" 500 >"d$((i % 4))/x$i"
			git add -A && git commit -q -m "change $i" || return
		done
	}
	t_ok "git: thirty commits" eval '(git_history)'
	t_ok "git gc" git -C "$dir/repo" gc -q --prune=now
	t_ok "git clone" git clone -q "$dir/repo" "$dir/clone"
	t_ok "git clone without links" git clone -q --no-hardlinks "$dir/repo" "$dir/clone2"
	t_ok "git fsck" git -C "$dir/repo" fsck --full --strict
	t_ok "git fsck of the clone" git -C "$dir/clone" fsck --full --strict
	t_is "git log is whole" "$(git -C "$dir/clone" log --oneline | wc -l)" 30
	t_is "git status is clean" "$(git -C "$dir/repo" status --porcelain)" ""
	t_ok "rebase" git -C "$dir/clone" rebase -q --root
else
	t_skip "git" "git is not installed"
fi

compiler=$(command -v cc || command -v gcc)
if [ -n "$compiler" ] && command -v make >/dev/null; then
	mkdir "$dir/src"
	for i in $(seq 80); do
		{
			echo "#include <stdio.h>"
			echo "#include <stdlib.h>"
			echo "int f$i(int x);"
			echo "int f$i(int x) { printf(\"%d\\n\", x * $i); return x + $i; }"
		} >"$dir/src/f$i.c"
	done
	{
		for i in $(seq 80); do echo "int f$i(int x);"; done
		echo "int main(void) { int x = 0;"
		for i in $(seq 80); do echo "x = f$i(x);"; done
		echo "return x == 3240 ? 0 : 1; }"
	} >"$dir/src/main.c"
	printf 'OBJ = $(patsubst %%.c,%%.o,$(wildcard *.c))\nprog: $(OBJ)\n\t$(CC) -o $@ $^\n%%.o: %%.c\n\t$(CC) -O1 -c -o $@ $<\n' \
		>"$dir/src/Makefile"
	t_ok "make -j2" make -s -j2 -C "$dir/src" CC="$compiler"
	t_ok "what it made runs" sh -c "'$dir/src/prog' >/dev/null"
	t_is "make has nothing left to do" "$(make -C "$dir/src" CC="$compiler" | grep -c -- '-c -o')" 0
	touch "$dir/src/f7.c"
	t_is "and one file after a touch" "$(make -C "$dir/src" CC="$compiler" | grep -c -- '-c -o')" 1
else
	t_skip "make" "cc or make is not installed"
fi

at=$(cat "$T_TMP/made")
touch "$T_TMP/stop"
wait $snapper
t_is "each snapshot was made and deleted" "$(cat "$T_TMP/snapshots.out")" ""
t_diag "$at snapshots meanwhile"
t_ok "delete all" u_delete --for "$dir" --all

# ---- a database under load, both journals

sqlite_under_load() {
	local mode=$1 db=$dir/$1.db n ok=0 got max=0 c=$T_TMP/check

	rm -f "$T_TMP/stop-sql" "$T_TMP/sql-progress"
	sqlite3 "$db" "pragma journal_mode=$mode;
		create table account(id integer primary key, money int);
		create table log(n integer primary key, a int, b int, pad text);
		with recursive n(i) as (select 1 union all select i + 1 from n where i < 200)
		insert into account select i, 1000 from n;" >/dev/null
	(
		n=0
		while [ ! -e "$T_TMP/stop-sql" ]; do
			n=$((n + 1)) a=$((n * 37 % 200 + 1)) b=$((n * 61 % 200 + 1))
			echo "begin; update account set money = money - 1 where id = $a;
				update account set money = money + 1 where id = $b;
				insert into log values ($n, $a, $b, '$n-padding-padding-padding-padding-padding'); commit;"
			[ $((n % 20)) -ne 0 ] || echo "$n" >"$T_TMP/sql-progress"
		done | sqlite3 "$db"
	) >"$T_TMP/sql.out" 2>&1 3>&- &
	local load=$!
	U_PIDS="${U_PIDS-} $load"
	t_ok "SQLite, $mode: the load runs" t_wait_for 60 test -s "$T_TMP/sql-progress"
	t_begin "SQLite, $mode: whole in every one of 20 snapshots"
	for n in $(seq 20); do
		u_snap "sql$n" "$dir" >/dev/null || t_fail "create sql$n"
		rm -rf "$c" && mkdir "$c" && cp "$dir/.snapshots/sql$n/$mode.db"* "$c/" || t_fail "copy"
		# accounts as the log says, no gap in the log, and never less than the snapshot before
		got=$(sqlite3 "$c/$mode.db" "pragma integrity_check;
			select sum(money) from account; select count(*) - coalesce(max(n), 0) from log;
			select count(*) from account where money != 1000
				- (select count(*) from log where a = account.id) + (select count(*) from log where b = account.id);
			select coalesce(max(n), 0) from log;" 2>&1 | xargs)
		[[ $got =~ ^ok\ 200000\ 0\ 0\ ([0-9]+)$ ]] || { t_fail "snapshot $n: $got"; continue; }
		[ "${BASH_REMATCH[1]}" -ge "$max" ] || t_fail "snapshot $n is older than the one before"
		max=${BASH_REMATCH[1]}
		ok=$((ok + 1))
		[ "$n" -le 4 ] || u_delete "sql$((n - 4))" >/dev/null || t_fail "delete sql$((n - 4))"
	done
	t_end
	touch "$T_TMP/stop-sql"
	wait $load
	t_is "SQLite, $mode: the load had no error" "$(cat "$T_TMP/sql.out")" ""
	t_diag "$mode: $max transactions in the last snapshot, $ok good ones"
	t_ok "SQLite, $mode: time passed between them" test "$max" -gt 20
	t_is "SQLite, $mode: live it is whole" "$(sqlite3 "$db" 'pragma integrity_check; select sum(money) from account;' | xargs)" \
		"ok 200000"
	t_ok "SQLite, $mode: delete all" u_delete --for "$dir" --all
}
if command -v sqlite3 >/dev/null; then
	sqlite_under_load delete
	sqlite_under_load wal
else
	t_skip "SQLite" "sqlite3 is not installed"
fi

t_ok "unprotect" umbra unprotect "$dir"
t_ok "the store is gone" test ! -e "$dir/.umbra"
u_end
