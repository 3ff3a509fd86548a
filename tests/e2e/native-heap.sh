#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A heap object that native code gave a name: read and written as a file from live memory, never mapped shared.
. "$E2E_LIB/e2e.sh"
make_pool "$POOL" 64M
mount_pool
. "$E2E_LIB/native.sh"
native_start "$POOL" tester

check "native: a heap object" native_do heap 5000 "heap bytes"
check "native: name it" native_do link heap
same "it is a file of its size" "$(stat -c '%F %s' "$MNT/heap")" "regular file 5000"
same "the file reads its bytes" "$(head -c 10 "$MNT/heap")" "heap bytes"
matches "user.cxlshm.kind says so" "$(xattr "$MNT/heap" user.cxlshm.kind)" 'heap|named'
check "native: store" native_do store 20 live
same "the file shows it at once" "$(dd if="$MNT/heap" bs=1 skip=20 count=4 status=none)" live
printf file | dd of="$MNT/heap" bs=1 seek=40 conv=notrunc status=none 2>"$LOG" || fail "write: $(cat "$LOG")"
same "native sees the file's write" "$(native_do load 40 4)" file
same "cat reads all of it" "$(wc -c <"$MNT/heap")" 5000
check "a shared mapping is ENODEV" python3 -c '
import errno, mmap, sys
f = open(sys.argv[1], "r+b")
try:
    mmap.mmap(f.fileno(), 0)
except OSError as error:
    sys.exit(error.errno != errno.ENODEV)
sys.exit("it was mapped")' "$MNT/heap"
check_refused "a write behind its end" "space|large|argument|permitted" bash -c 'dd if=/dev/zero of="$1" bs=5000 seek=1 count=1 conv=notrunc status=none; exit $?' - "$MNT/heap" ||
	same "is cut, at least" "$(stat -c %s "$MNT/heap")" 5000
check_refused "truncate to another size" "permitted|argument|supported|large" truncate -s 100 "$MNT/heap"
same "its size stays" "$(stat -c %s "$MNT/heap")" 5000
check "a hard link" ln "$MNT/heap" "$MNT/heap2"
check "rename" mv "$MNT/heap" "$MNT/renamed"
check "chmod" chmod 600 "$MNT/renamed"
check "native: drop it" native_do drop
same "the names keep it" "$(head -c 10 "$MNT/heap2")" "heap bytes"
rm "$MNT/renamed" "$MNT/heap2"
check "native: a queue" native_do queue 4
check "native: name it" native_do link queue
same "user.cxlshm.kind says so" "$(xattr "$MNT/queue" user.cxlshm.kind)" queue
same "it is an empty file" "$(stat -c '%F %s' "$MNT/queue")" "regular empty file 0"
check "which programs can read" cmp "$MNT/queue" /dev/null
check "and copy" cp -a "$MNT/queue" "$E2E_DIR/queue"
check_refused "but not write" "permitted" dd if=/dev/zero of="$MNT/queue" bs=8 count=1 conv=notrunc status=none
check "native: drop it" native_do drop
rm "$MNT/queue"
check "the native client ends well" native_stop
finish
