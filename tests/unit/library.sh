#!/bin/bash
# The installed library: it exports what its headers declare and nothing else; the headers are whole,
# in C and in C++; what is installed is enough to build the examples with pkg-config.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
t_tmpdir
lib=$UMBRA_BUILD/coordinator/client/libumbra.so
headers=$UMBRA_SOURCE/coordinator/client

# ---- what it exports

# declared HEADER: the functions it declares, one per line
declared() {
	cc -fpreprocessed -dD -E -P "$1" 2>/dev/null | grep -oE '\bumbra_[a-z0-9_]+\(' | tr -d '(' |
		LC_ALL=C sort -u
}

for h in "$headers"/umbra/*.h; do declared "$h"; done | LC_ALL=C sort -u >"$T_TMP/declared"
nm -D --defined-only "$lib" | awk '$2 != "A" { print $3 }' | LC_ALL=C sort >"$T_TMP/exported"
sed 's/@@UMBRA_0\.1$//' "$T_TMP/exported" >"$T_TMP/names"

t_ok "the headers declare functions" grep -qx umbra_writer_new "$T_TMP/declared"
t_is "what the headers declare is exported, with a version, and nothing else" \
	"$(diff "$T_TMP/declared" "$T_TMP/names")" ""
t_is "no name is exported without a version" "$(grep -v '@@UMBRA_0\.[0-9]*$' "$T_TMP/exported")" ""
t_like "its name carries the ABI" "$(readelf -d "$lib" | grep SONAME)" '\[libumbra\.so\.0\]'

# ---- its headers

# Each alone, in either language, with all that a strict user may switch on.
for h in "$headers"/umbra/*.h; do
	name=umbra/$(basename "$h")
	printf '#include <%s>\nint main(void) { return 0; }\n' "$name" >"$T_TMP/one.c"
	t_ok "$name is whole in C99" cc -std=c99 -pedantic -Wall -Wextra -Wshadow -Wundef \
		-Wstrict-prototypes -Werror -I "$headers" -c "$T_TMP/one.c" -o "$T_TMP/one.o"
	t_is "$name speaks of no library but ours" "$(grep -n 'json_t\|jansson' "$h")" ""
done
if command -v g++ >/dev/null; then
	cat >"$T_TMP/all.cc" <<'END'
#include <umbra/error.h>
#include <umbra/requester.h>
#include <umbra/writer.h>

static int handler(umbra_writer *, const umbra_writer_event *, void *) { return 0; }

int main()
{
	umbra_writer_handlers h = umbra_writer_handlers();
	umbra_requester *r = nullptr;
	umbra_documents *d = nullptr;
	const char *const texts[] = { "{}" };
	h.size = sizeof(h);
	h.freeze = h.thaw = handler;
	if (umbra_requester_new("/nonexistent", &r) != UMBRA_E_WRITER_INFRASTRUCTURE)
		return 1;
	if (umbra_documents_new("{}", texts, 1, &d) != UMBRA_OK || umbra_documents_writer(d, 1))
		return 3;
	umbra_documents_free(d);
	umbra_error (*restore)(umbra_requester *, const umbra_documents *) = umbra_requester_initialize_for_restore;
	if (!restore || umbra_restore_components_count(nullptr) != 0)
		return 4;
	return umbra_error_name(UMBRA_E_BAD_STATE)[0] == 'b' ? 0 : 2;
}
END
	for h in "$headers"/umbra/*.h; do
		name=umbra/$(basename "$h")
		printf '#include <%s>\nint main() { return 0; }\n' "$name" >"$T_TMP/one.cc"
		t_ok "$name is whole in C++98" g++ -std=c++98 -pedantic -Wall -Wextra -Wshadow -Wundef -Werror \
			-I "$headers" -c "$T_TMP/one.cc" -o "$T_TMP/one.o"
	done
	t_ok "a C++ program compiles against them" g++ -std=c++11 -pedantic -Wall -Wextra -Wshadow -Werror \
		-I "$headers" -c "$T_TMP/all.cc" -o "$T_TMP/all.o"
	if [ "$UMBRA_SANITIZED" = 0 ]; then
		t_ok "and finds the functions" g++ "$T_TMP/all.o" -o "$T_TMP/all" -L "$(dirname "$lib")" -lumbra
		t_ok "and runs" env LD_LIBRARY_PATH="$(dirname "$lib")" "$T_TMP/all"
	else
		t_skip "and finds the functions" "this library needs the sanitizers' runtime"
	fi
else
	t_skip "a C++ program compiles against them" "g++ is not installed"
fi

# ---- what is installed

dest=$T_TMP/dest
if ! command -v meson >/dev/null; then
	t_skip "it installs" "meson is not installed"
	t_done
fi
t_ok "it installs" meson install -C "$UMBRA_BUILD" --no-rebuild --quiet --destdir "$dest"
pc=$(find "$dest" -name umbra.pc)
t_like "with a file for pkg-config" "$pc" '/pkgconfig/umbra\.pc$'
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$dest
t_is "jansson is nothing that its users see" \
	"$(pkg-config --cflags --libs umbra | grep -o jansson)" ""
t_like "which knows the version" "$(pkg-config --modversion umbra)" '^[0-9]+\.[0-9]+\.[0-9]+$'
so=$(find "$dest" -name libumbra.so)
t_ok "the library is there" test -f "$so"
for example in requester restore writer; do
	if [ "$UMBRA_SANITIZED" = 1 ]; then
		t_skip "$example.c builds with what is installed" "this library needs the sanitizers' runtime"
		continue
	fi
	# shellcheck disable=SC2046
	t_ok "$example.c builds with what is installed" cc -std=gnu17 -Wall -Wextra -Werror \
		"$UMBRA_SOURCE/docs/examples/$example.c" -o "$T_TMP/$example" $(pkg-config --cflags --libs umbra)
	t_like "$example runs with it" \
		"$(LD_LIBRARY_PATH=${so%/*} "$T_TMP/$example" 2>&1 </dev/null)" '^usage: '
done

t_done
