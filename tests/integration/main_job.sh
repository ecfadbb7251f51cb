#!/bin/bash
# The main job on real files with a database under load, as a person would do it: protect, create, list,
# show, look into .snapshots, mount, diff, versions, restore, backup, delete, unprotect. As root, as an
# ordinary user, and as root of an ordinary user's own namespace. What is live stays what it was, plain
# files without a trace of Umbra at the end.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need sqlite3 tar python3
dir=$T_TMP/data
sums() {
	(cd "$1/docs" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}

# Money moves between accounts; the sum never changes in any state that a transaction leaves.
load() {
	local n=0 a b
	while [ ! -e "$T_TMP/stop" ]; do
		n=$((n + 1)) a=$((n * 37 % 100 + 1)) b=$((n * 61 % 100 + 1))
		echo "begin; update account set money = money - 1 where id = $a;" \
			"update account set money = money + 1 where id = $b; commit;"
		[ $((n % 50)) -ne 0 ] || { echo "$n" >"$T_TMP/progress.new" && mv "$T_TMP/progress.new" "$T_TMP/progress"; }
	done | sqlite3 "$dir/bank.db"
}
progress() {
	[ -s "$T_TMP/progress" ] && [ "$(cat "$T_TMP/progress")" -gt "$1" ]
}
bank_is_whole() {
	local c=$T_TMP/bank.$RANDOM got
	mkdir "$c" && cp "$1"/bank.db* "$c/" || return
	got=$(sqlite3 "$c/bank.db" 'pragma integrity_check; select count(*), sum(money) from account;' 2>&1 | xargs)
	rm -rf "$c"
	[ "$got" = "ok 100|100000" ] || { echo "the database says: $got"; return 1; }
}
snapshot_path() {
	umbra list --json "$dir" | u_json "next(s['path'] for s in j['snapshots'] if s['label'] == '$1')"
}

mkdir -p "$dir/docs"
find /usr/share/doc /etc -xdev -type f -readable -size -100k 2>/dev/null | LC_ALL=C sort | head -n 300 |
	while IFS= read -r f; do cp --parents -p "$f" "$dir/docs" 2>/dev/null; done
for i in $(seq 30); do seq "$i" 2000 >"$dir/docs/own$i"; done
mkdir "$dir/docs/sub"
echo "in sub" >"$dir/docs/sub/file"
ln -s own1 "$dir/docs/link"
sqlite3 "$dir/bank.db" 'create table account(id integer primary key, money int);
	with recursive n(i) as (select 1 union all select i + 1 from n where i < 100)
	insert into account select i, 1000 from n;'
sums "$dir" >"$T_TMP/before"
[ "$(wc -l <"$T_TMP/before")" -gt 30 ] || t_skip_all "no files to work with"

t_ok "protect starts a coordinator and mounts" umbra protect "$dir"
t_is "it is of type fuse.umbra" "$(stat -f -c %T "$dir"; awk -v d="$dir" '$5 == d' /proc/self/mountinfo |
	sed 's/.* - //; s/ .*//')" "fuseblk
fuse.umbra"
t_is "the files are there" "$(sums "$dir" | diff - "$T_TMP/before")" ""
load >"$T_TMP/load.out" 2>&1 3>&- &
load_pid=$!
U_PIDS="${U_PIDS-} $load_pid"
t_ok "the database is busy" t_wait_for 60 progress 0
t_ok "create, writers and all" umbra create --label first --description "the first one" "$dir"
first=$(snapshot_path first)
t_like "it has a name that Samba reads" "$first" '/\.snapshots/@GMT-[0-9]{4}\.[0-9]{2}\.[0-9]{2}-[0-9]{2}\.[0-9]{2}\.[0-9]{2}$'
t_ok "the load goes on" t_wait_for 60 progress "$(cat "$T_TMP/progress")"

own=docs/own7
echo spoilt >"$dir/$own"
rm "$dir/docs/own8"
mv "$dir/docs/own9" "$dir/docs/renamed"
rm -r "$dir/docs/sub"
echo new >"$dir/docs/new"
t_ok "create --no-writers, another context" u_snap second "$dir"

t_like "list shows both" "$(umbra list "$dir" | awk 'NR > 1 { print $2 }' | xargs)" '^first second$'
t_is "list --json knows them" "$(umbra list --json "$dir" | u_json "' '.join(s['label'] for s in j['snapshots'])")" \
	"first second"
t_like "show tells what is known" "$(umbra show first)" 'the first one'
t_is "show --json" "$(umbra show --json first | u_json "j['snapshot']['description']")" "the first one"
t_like "status names the directory" "$(umbra status)" "$dir"
t_is ".snapshots is not listed, but there" "$(find "$dir" -maxdepth 1 -name '.[su]*'; [ -d "$dir/.snapshots" ] && echo there)" there
t_is "browse: all the files as they were" "$(sums "$first" | diff - "$T_TMP/before")" ""
t_is "browse: a link" "$(readlink "$first/docs/link")" own1
t_ok "browse: the database is whole" bank_is_whole "$first"
t_ok "and in the second" bank_is_whole "$dir/.snapshots/second"
t_like "it cannot be written to" "$(touch "$first/docs/x" 2>&1)" 'Read-only file system'
t_like "nor changed" "$(rm -f "$first/docs/own1" 2>&1)" 'Read-only file system'

mkdir "$T_TMP/m"
t_ok "mount" umbra mount first "$T_TMP/m"
t_is "the mounted one has the same files" "$(sums "$T_TMP/m" | diff - "$T_TMP/before")" ""
t_is "with the live inode numbers" "$(stat -c %i "$T_TMP/m/docs/own1")" "$(stat -c %i "$dir/docs/own1")"
t_is "while mounted it is in use: try again later" "$(umbra delete -y first >/dev/null 2>&1; echo $?)" 3
t_is "and so for programs" "$(umbra delete -y --json first 2>/dev/null | u_json "(j['snapshots'], [s['label'] for s in j['failed']], j['deleted'])")" \
	"([], ['first'], False)"
t_ok "umount" umbra umount "$T_TMP/m"

diff_lines() {
	umbra diff "$@" | grep docs | LC_ALL=C sort -k 2 | sed 's/  */ /g'
}
t_like "diff against now" "$(diff_lines first)" "M docs/own7"
t_is "diff of the two" "$(diff_lines first second | grep -v '^m docs$' | cut -c 1-40)" "A docs/new
M docs/own7
D docs/own8
R docs/own9 -> docs/renamed
D docs/sub
D docs/sub/file"
t_like "diff --content" "$(umbra diff --content "$dir/$own" first 2>&1)" 'spoilt'
t_is "versions" "$(umbra versions --json "$dir/$own" | u_json "len(j['versions'])")" 2

t_ok "restore a file" umbra restore first "$dir/$own"
t_ok "it is back" grep -qxF "$(cd "$dir/docs" && sha256sum ./own7)" "$T_TMP/before"
t_ok "restore what was deleted, also a directory" umbra restore first "$dir/docs/own8" "$dir/docs/sub"
t_is "they are back" "$(cat "$dir/docs/sub/file")" "in sub"
t_ok "restore elsewhere" umbra restore first "$dir/docs/own9" --to "$T_TMP/elsewhere"
t_ok "it is there" cmp "$T_TMP/elsewhere/own9" "$first/docs/own9"
mv "$dir/docs/renamed" "$dir/docs/own9"
rm "$dir/docs/new"
t_is "now everything is as it was" "$(sums "$dir" | diff - "$T_TMP/before")" ""

t_ok "backup -- tar" umbra backup "$dir" -- tar -C "$T_TMP" -cf "$T_TMP/data.tar" data
mkdir "$T_TMP/x" && tar -C "$T_TMP/x" -xf "$T_TMP/data.tar"
t_is "the archive holds the files" "$(sums "$T_TMP/x/data" | diff - "$T_TMP/before")" ""
t_ok "and a whole database" bank_is_whole "$T_TMP/x/data"
t_is "its exit status is handed on" "$(umbra backup "$dir" -- sh -c 'exit 42' >/dev/null 2>&1; echo $?)" 42
t_is "a command killed by a signal" "$(umbra backup "$dir" -- sh -c 'kill -TERM $$' >/dev/null 2>&1; echo $?)" 143
t_is "backup leaves no snapshot" "$(umbra list --json "$dir" | u_json "len(j['snapshots'])")" 2

t_ok "delete -n only says so" umbra delete -n first
t_is "both are still there" "$(umbra list --json "$dir" | u_json "len(j['snapshots'])")" 2
t_ok "delete" u_delete first
t_ok "the second is not hurt" bank_is_whole "$dir/.snapshots/second"
t_ok "unprotect is refused while in use" test "$(umbra unprotect "$dir" >/dev/null 2>&1; echo $?)" -ne 0
touch "$T_TMP/stop"
wait $load_pid
t_diag "$(cat "$T_TMP/progress") transfers; $(cat "$T_TMP/load.out")"
t_ok "unprotect with a persistent snapshot" umbra unprotect "$dir"
t_ok "the store stays" test -d "$dir/.umbra"
t_is "the live files are plain" "$(sums "$dir" | diff - "$T_TMP/before")" ""
t_ok "protect again" umbra protect "$dir"
t_ok "the snapshot is back" bank_is_whole "$dir/.snapshots/second"
t_ok "delete the last one" u_delete --for "$dir" --all
t_ok "unprotect" umbra unprotect "$dir"
t_ok "not a trace is left" test ! -e "$dir/.umbra"
t_is "the live files are identical" "$(sums "$dir" | diff - "$T_TMP/before")" ""
t_ok "the live database too" bank_is_whole "$dir"
U_COORDINATOR_PID=
pid=$(umbra status --json | u_json "j['info']['pid']")
t_ok "the coordinator ends on SIGTERM" kill "$pid"

if [ -z "${U_INNER-}" ] && [ "$(id -u)" -eq 0 ]; then
	if u_user; then
		u_programs "$T_TMP/user"
		export UMBRA_BUILD=$T_TMP/user/build UMBRA_SOURCE=$T_TMP/user/src U_INNER=1
		script=$UMBRA_SOURCE/tests/integration/main_job.sh
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
elif [ -z "${U_INNER-}" ]; then
	t_skip "as root" "the tests do not run as root"
	if unshare -Urm true 2>/dev/null; then
		t_import "as root of a namespace" env U_INNER=1 unshare -Urm bash "$0"
	else
		t_skip "as root of a user namespace" "an ordinary user cannot make one here"
	fi
fi
u_end
