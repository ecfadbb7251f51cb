#!/bin/bash
# Which room may include which: reads every #include of the tree and fails on an arrow that points
# the wrong way. Plants wrong ones in a small tree of its own first, to be seen to fail.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"

# wrong_includes ROOT: prints "file: include: why" for each wrong one
wrong_includes() {
	(
		cd "$1" || exit 1
		find . \( -name '.?*' -o -path ./build -o -path './build-*' \) -prune -o \
			-name '*.[ch]' -type f -print | sed 's,^\./,,' | LC_ALL=C sort >"$T_TMP/files"
		xargs -r -d '\n' -a "$T_TMP/files" awk '
		function wrong(why) { printf "%s: %s: %s\n", FILENAME, inc, why }
		function in_dir(path, dir) { return index(path, dir "/") == 1 }
		# What "from" may include of ours.
		function allowed(from, to) {
			if (in_dir(from, "tests"))
				return 1
			if (in_dir(from, "cow/base"))
				return in_dir(to, "cow/base")
			if (in_dir(from, "cow"))
				return in_dir(to, "cow")
			if (in_dir(from, "fs"))
				return in_dir(to, "fs") || in_dir(to, "cow") || \
				       (from ~ /^fs\/provider[^\/]*\.c$/ && in_dir(to, "coordinator/client"))
			if (in_dir(from, "coordinator/client"))
				return in_dir(to, "coordinator/client") || in_dir(to, "cow/base")
			if (in_dir(from, "coordinator"))
				return in_dir(to, "coordinator") || to == "cow/provider.h" || in_dir(to, "cow/base")
			if (in_dir(from, "tools"))
				return in_dir(to, "tools") || in_dir(to, "coordinator/client") || \
				       in_dir(to, "cow/base") || (from ~ /^tools\/[^\/]*check[^\/]*\.c$/ && in_dir(to, "cow"))
			return 0
		}
		/^[ \t]*#[ \t]*include[ \t]*["<]/ {
			inc = $0
			sub(/^[ \t]*#[ \t]*include[ \t]*/, "", inc)
			quoted = substr(inc, 1, 1) == "\""
			sub(/^["<]/, "", inc)
			sub(/[">].*$/, "", inc)
			ours = inc ~ /^(cow|fs|coordinator|tools|tests)\//
			if (inc ~ /(^|\/)\.\.?\//)
				wrong("write includes from the top of the tree")
			else if (quoted && !ours)
				wrong("no header of ours has that path from the top of the tree")
			else if (ours && !quoted)
				wrong("our headers are included with quotes")
			else if (ours && !allowed(FILENAME, inc))
				wrong("this arrow points the wrong way")
			if (in_dir(FILENAME, "tests"))
				next
			if (inc == "lmdb.h" && FILENAME !~ /^cow\/index[^\/]*\.c$/)
				wrong("only cow/index*.c may know LMDB")
			if (inc == "xxhash.h" && FILENAME != "cow/hash.c")
				wrong("only cow/hash.c may know xxHash")
			if (inc ~ /(^|\/)(fuse(_[^\/]*)?\.h$|fuse3?\/)/ && !in_dir(FILENAME, "fs"))
				wrong("only fs/ may know FUSE")
		}
		'
	)
}

# plant FILE INCLUDE-TEXT
plant() {
	mkdir -p "$T_TMP/tree/$(dirname "$1")"
	printf '/* planted */\n#include %s\n' "$2" >"$T_TMP/tree/$1"
}

# refused NAME FILE INCLUDE-TEXT, accepted ...: one planted file each
refused() {
	rm -rf "$T_TMP/tree"
	plant "$2" "$3"
	t_like "refused: $1" "$(wrong_includes "$T_TMP/tree")" "^$2: "
}

accepted() {
	rm -rf "$T_TMP/tree"
	plant "$2" "$3"
	t_is "allowed: $1" "$(wrong_includes "$T_TMP/tree")" ""
}

t_tmpdir

t_is "every include of the tree points the right way" "$(wrong_includes "$UMBRA_SOURCE")" ""
t_ok "the tree was read" grep -q '^cow/base/err\.c$' "$T_TMP/files"

refused "cow knows nothing of fs" cow/view.c '"fs/nodes.h"'
refused "cow knows nothing of the coordinator" cow/gate.h '"coordinator/set.h"'
refused "cow/base knows nothing of cow" cow/base/err.c '"cow/cow.h"'
refused "the coordinator sees no store" coordinator/set.c '"cow/cow.h"'
refused "the client library sees no daemon" coordinator/client/wire.c '"coordinator/set.h"'
refused "the client library sees no provider" coordinator/client/wire.c '"cow/provider.h"'
refused "fs reaches the daemon only in provider.c" fs/ops.c '"coordinator/client/client.h"'
refused "provider.c reaches only the client library" fs/provider.c '"coordinator/set.h"'
refused "tools see no store" tools/list.c '"cow/cow.h"'
refused "tools see no daemon" tools/list.c '"coordinator/set.h"'
refused "the product sees no tests" cow/log.c '"tests/support/fault.h"'
refused "LMDB outside of the index" cow/epoch.c '<lmdb.h>'
refused "LMDB in a header" cow/index.h '<lmdb.h>'
refused "xxHash outside of hash.c" cow/log.c '<xxhash.h>'
refused "FUSE in the store" cow/view.c '<fuse3/fuse_lowlevel.h>'
refused "FUSE in the store, the short name" cow/view.c '<fuse_lowlevel.h>'
refused "FUSE of the kernel in the store" cow/view.c '<linux/fuse.h>'
refused "a path from the file's own folder" cow/view.c '"epoch.h"'
refused "a path that climbs" cow/view.c '"../fs/nodes.h"'
refused "a header of ours in angle brackets" cow/view.c '<cow/epoch.h>'
refused "a room that nobody declared" extra/x.c '"cow/base/err.h"'
refused "with blanks around the hash" cow/view.c '   "fs/nodes.h"'

accepted "fs to cow" fs/ops.c '"cow/cow.h"'
accepted "fs to cow/base" fs/ops.c '"cow/base/err.h"'
accepted "fs to FUSE" fs/ops.c '<fuse_lowlevel.h>'
accepted "fs/provider.c to the client library" fs/provider.c '"coordinator/client/client.h"'
accepted "cow to cow" cow/view.c '"cow/epoch.h"'
accepted "index.c to LMDB" cow/index.c '<lmdb.h>'
accepted "hash.c to xxHash" cow/hash.c '<xxhash.h>'
accepted "coordinator to provider.h" coordinator/set.c '"cow/provider.h"'
accepted "coordinator to its client library" coordinator/peer.c '"coordinator/client/wire.h"'
accepted "tools to the client library" tools/list.c '"coordinator/client/client.h"'
accepted "the offline checker to cow" tools/check_offline.c '"cow/check.h"'
accepted "tests to everything" tests/unit/test_x.c '"cow/epoch_private.h"'
accepted "system headers" cow/view.c '<sys/stat.h>'

t_done
