#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# cp, dd, tar, rsync, find, mv, rm: everyday programs agree byte for byte.
. "$E2E_LIB/e2e.sh"
make_pool "$POOL" 512M
mount_pool
head -c 100000000 /dev/urandom >"$E2E_DIR/data"

check "cp of 100 MB in" cp "$E2E_DIR/data" "$MNT/data"
check "agrees" cmp "$E2E_DIR/data" "$MNT/data"
check "cp inside the mount" cp --reflink=auto "$MNT/data" "$MNT/data2"
check "agrees" cmp "$E2E_DIR/data" "$MNT/data2"
check "cp out" cp "$MNT/data2" "$E2E_DIR/data2"
check "agrees" cmp "$E2E_DIR/data" "$E2E_DIR/data2"
rm "$MNT/data2" "$E2E_DIR/data2"
for run in 1:3000 511:2000 4096:2000 1M:40; do
	bs=${run%:*} count=${run#*:}
	check "dd bs=$bs" dd if="$E2E_DIR/data" of="$MNT/dd" bs="$bs" count="$count" status=none
	check "agrees" cmp -n "$(stat -c %s "$MNT/dd")" "$E2E_DIR/data" "$MNT/dd"
done
check "dd conv=notrunc seek= in the middle" dd if="$E2E_DIR/data" of="$MNT/dd" bs=1000 seek=777 skip=3 count=50 conv=notrunc status=none
check "agrees" cmp <(dd if="$E2E_DIR/data" bs=1000 skip=3 count=50 status=none) <(dd if="$MNT/dd" bs=1000 skip=777 count=50 status=none)
check "dd oflag=append" dd if="$E2E_DIR/data" of="$MNT/dd" bs=1k count=3 oflag=append conv=notrunc status=none
check "dd conv=fsync, sparse" dd if="$E2E_DIR/data" of="$MNT/dd2" bs=64k count=9 conv=fsync,sparse status=none

mkdir -p "$E2E_DIR/tree/include"
cp -a /usr/include/*.h /usr/include/linux "$E2E_DIR/tree/include"	# not all: that grows with what is installed
ln -s include/stdio.h "$E2E_DIR/tree/link"
ln "$E2E_DIR/tree/include/stdio.h" "$E2E_DIR/tree/hard"
mkfifo "$E2E_DIR/tree/fifo"
chmod 4711 "$E2E_DIR/tree/include/stdlib.h"
touch -d '1999-12-31 23:59:59.123456789' "$E2E_DIR/tree/include/stdlib.h"
setfattr -n user.note -v kept "$E2E_DIR/tree/include/stdlib.h"
count=$(find "$E2E_DIR/tree" | wc -l)
check "tar in, $count files" bash -c 'tar -C "$1" --xattrs -cf - tree | tar -C "$2" --xattrs -xpf -' - "$E2E_DIR" "$MNT"
check "diff -r" diff -r --no-dereference --exclude=fifo "$E2E_DIR/tree" "$MNT/tree"
list() { (cd "$1" && find . \( -type d -printf '%y %m %U:%G %p\n' \) -o -printf '%y %m %U:%G %s %T@ %n %l %p\n' | sort); }
check "modes, owners, sizes, times, links" diff <(list "$E2E_DIR/tree") <(list "$MNT/tree")
same "xattrs" "$(xattr "$MNT/tree/include/stdlib.h" user.note)" kept
same "which nothing was said about" "$(cat "$LOG")" ""
check "tar back out" bash -c 'tar -C "$1" -cf "$2" tree && tar -tf "$2" >/dev/null' - "$MNT" "$E2E_DIR/out.tar"
check "cp -a inside" cp -a "$MNT/tree" "$MNT/tree2"
check "agrees" diff <(list "$E2E_DIR/tree") <(list "$MNT/tree2")
check "mv of a tree" mv "$MNT/tree2" "$MNT/tree/moved"
same "find" "$(find "$MNT/tree" -name stdio.h | wc -l)" $((2 * $(find "$E2E_DIR/tree" -name stdio.h | wc -l)))
# With extended attributes, whose user.cxlshm.* a copy out of the mount has as ordinary ones, if they are not left out.
own() { getfattr -Rhd --absolute-names -m '^user\.cxlshm' "$1" | grep -c '^user\.'; }
mkdir -p "$E2E_DIR"/out/{tar,tar-some}
tar_out() { tar -C "$MNT" --xattrs "$@" -cf - tree | tar -C "$into" --xattrs -xpf -; }
into=$E2E_DIR/out/tar
check "tar --xattrs out" tar_out
check "takes user.cxlshm.* along" test "$(own "$into")" -gt 0
into=$E2E_DIR/out/tar-some
check "tar --xattrs out without them" tar_out --xattrs-exclude='user.cxlshm.*'
same "has none" "$(own "$into")" 0
same "but the others" "$(xattr "$into/tree/include/stdlib.h" user.note)" kept
if command -v rsync >/dev/null; then
	check "rsync -aHX in" rsync -aHX "$E2E_DIR/tree/" "$MNT/synced/"
	check "again, with nothing to be done" rsync -aHX "$E2E_DIR/tree/" "$MNT/synced/"
	check "agrees" diff <(list "$E2E_DIR/tree") <(list "$MNT/synced")
	check "rsync -aHX inside" rsync -aHX "$MNT/synced/" "$MNT/synced2/"
	check "rsync -aHX out" rsync -aHX "$MNT/synced/" "$E2E_DIR/out/all/"
	check "agrees" diff <(list "$E2E_DIR/tree") <(list "$E2E_DIR/out/all")
	check "rsync -aHX out without user.cxlshm.*" rsync -aHX --filter='-x user.cxlshm.*' "$MNT/synced/" "$E2E_DIR/out/some/"
	same "has none" "$(own "$E2E_DIR/out/some")" 0
	same "but the others" "$(xattr "$E2E_DIR/out/some/include/stdlib.h" user.note)" kept
	rm -r "$MNT/synced" "$MNT/synced2"
else
	skipped "rsync is not installed"
fi
rm -r "$E2E_DIR/out"
check "grep -r" grep -rq 'extern int printf' "$MNT/tree/include/stdio.h"
check "sed -i" sed -i s/printf/PRINTF/ "$MNT/tree/include/stdio.h"
check "gzip, gunzip" bash -c 'gzip -k "$1" && gunzip -t "$1.gz"' - "$MNT/data"
check "rm -r" rm -r "$MNT/tree"
rm "$MNT/data" "$MNT/data.gz" "$MNT/dd" "$MNT/dd2"
same "all gone" "$(ls "$MNT")" ""
same "and their extents" "$(ls "$POOL/x" | wc -l)" 0
finish
