#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The build as users get it: plain.sh BUILD DESTDIR installs it there and looks at what came.
set -u
build=$1 dest=$2
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
failures=0
check() { # TEXT COMMAND...
	local text=$1; shift
	if "$@" >"$dest.log" 2>&1; then echo "ok   $text"; else
		echo "FAIL $text"
		sed 's/^/     | /' "$dest.log" | tail -n 12
		failures=$((failures + 1))
	fi
}
found() { find "$dest" -name "$1" | grep -q .; }
check "meson install" meson install -C "$build" --no-rebuild --destdir "$dest"
for file in cxlshmfs mount.cxlshm mkfs.cxlshm fsck.cxlshm cxlshm.h libcxlshm.so libcxlshm.a '*cxlshm*.pc' 'cxlshmfs@.service' \
	'mount.cxlshm.8*' 'mkfs.cxlshm.8*' 'fsck.cxlshm.8*' 'cxlshmfs.1*' 'cxlshm.7*' 'libcxlshm.3*'; do
	check "installed: $file" found "$file"
done
check "mount.cxlshm is where mount(8) looks" test -e "$dest/sbin/mount.cxlshm" -o -e "$dest/usr/sbin/mount.cxlshm"
library=$(find "$dest" -name 'libcxlshm.so' | head -n 1)
symbols=$(nm -D --defined-only "$library" | awk '$2 ~ /[TDBRVW]/ { sub(/@.*/, "", $3); print $3 }')
check "the library exports its interface" grep -qx cxlshm_pool_open <<<"$symbols"
check "and nothing else: $(grep -v '^cxlshm_' <<<"$symbols" | head -n 3 | tr '\n' ' ')" bash -c '! grep -v "^cxlshm_" <<<"$1"' - "$symbols"
archive=$(find "$dest" -name libcxlshm.a | head -n 1)
own=$(nm -g --defined-only "$archive" | awk 'NF == 3 { print $3 }')
check "the static library has it, too" grep -qx cxlshm_pool_open <<<"$own"
check "and nothing else: $(grep -v '^cxlshm_' <<<"$own" | head -n 3 | tr '\n' ' ')" bash -c '! grep -v "^cxlshm_" <<<"$1"' - "$own"
declared=$(sed 's,/\*.*\*/,,' "$source/include/cxlshm.h" | grep -oE '\bcxlshm_[a-z_]+\(' | tr -d '(' | sort -u)
for name in $declared; do
	grep -qx "$name" <<<"$symbols" || check "exported: $name" false
	grep -qx "$name" <<<"$own" || check "in the static library: $name" false
done
check "no crash point is in it" bash -c '! nm "$1" 2>/dev/null | grep -q crash_hit' - "$library"

# The header, by every standard that it says it takes; and by one that it does not it says what is missing.
for how in 'cc -std=c11' 'cc -std=c11 -pedantic' 'cc -std=gnu99' 'cc -std=c99 -D_POSIX_C_SOURCE=199309L' 'cc -std=gnu89' 'c++ -std=c++11'; do
	check "the header compiles: $how" bash -c 'echo "#include <cxlshm.h>" | $1 -x "$2" -Wall -Wextra -Werror -fsyntax-only -I "$3" -' - \
		"$how" "$([[ $how = c++* ]] && echo c++ || echo c)" "$source/include"
done
check "or says what it needs" bash -c 'echo "#include <cxlshm.h>" | cc -std=c99 -x c -fsyntax-only -I "$1" - 2>&1 | grep -q "needs struct timespec"' - \
	"$source/include"

# The README's example, as a user builds it: by pkg-config, shared and static; and it runs.
pc=$(dirname "$(find "$dest" -name '*cxlshm*.pc' | head -n 1)")
name=$(basename "$(find "$pc" -name '*cxlshm*.pc' | head -n 1)" .pc)
export PKG_CONFIG_PATH=$pc PKG_CONFIG_SYSROOT_DIR=$dest PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
awk '/^```c$/ { on = 1; n = 0; text = ""; next } /^```/ && on { on = 0; if (text ~ /main *\(/) { printf "%s", text; exit } }
	on { text = text $0 "\n" }' "$source/README.md" >"$dest.c" 2>/dev/null
check "the README has an example" test -s "$dest.c"
check "it links to the shared library" bash -c 'cc -Wall -Wextra -o "$1.shared" "$1.c" $(pkg-config --cflags --libs "$2")' - "$dest" "$name"
check "it links to the static one" bash -c 'cc -Wall -Wextra -o "$1.static" "$1.c" $(pkg-config --cflags "$2") "$3" -lnuma -lpthread' - \
	"$dest" "$name" "$archive"
check "and by pkg-config --static" bash -c 'cc -Wall -Wextra -o "$1.static" "$1.c" $(pkg-config --cflags --static --libs "$2" | sed "s/-lcxlshm/-Wl,-Bstatic & -Wl,-Bdynamic/")' - \
	"$dest" "$name"
mkdir -p "$dest.pool"
export LD_LIBRARY_PATH=${library%/*}
mkfs=$(find "$dest" -name mkfs.cxlshm | head -n 1)
check "mkfs.cxlshm --plain as installed" "$mkfs" --plain --size=64M "$dest.pool"
if [ -x "$dest.shared" ]; then
	for kind in shared static; do
		check "the example runs ($kind)" timeout 20 "$dest.$kind" "$dest.pool"
		sed 's/^/     | /' "$dest.log" | head -n 5
	done
	check "and leaves a clean pool" "$(find "$dest" -name fsck.cxlshm | head -n 1)" "$dest.pool"
fi
echo "$failures failed"
[ $failures = 0 ]
