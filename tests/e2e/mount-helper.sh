#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The two commands of the README: mkfs.cxlshm, mount.cxlshm; then df, ls, a file, umount, and again.
. "$E2E_LIB/e2e.sh"

check "mkfs.cxlshm --size=64M" mkfs.cxlshm --size=64M "$POOL"
pools+=("$POOL")
same "the pool is a tmpfs of its own" "$(awk -v p="$POOL" '$2 == p { print $3 }' /proc/self/mounts)" tmpfs
check "the heap is a file" test -f "$POOL/heap"
check "extents have their folder" test -d "$POOL/x"
same "the heap is 0660" "$(stat -c %a "$POOL/heap")" 660

check "mount.cxlshm" mount.cxlshm "$POOL" "$MNT"
check "it is in /proc/mounts as fuse.cxlshm" mounted "$MNT"
# No waiting: the command returns when the mount answers.
check "it answers at once" stat "$MNT"
same "it is empty" "$(ls "$MNT")" ""
check "a file" cp /etc/passwd "$MNT/passwd"
check "the same bytes" cmp /etc/passwd "$MNT/passwd"
size=$(df --output=size -B1 "$MNT" | tail -n 1)
free=$(df --output=avail -B1 "$MNT" | tail -n 1)
check "df: the size is about the pool's ($size)" test "$size" -ge $((48 << 20)) -a "$size" -le $((64 << 20))
check "df: what is free ($free) is less" test "$free" -lt "$size" -a "$free" -gt $((32 << 20))
matches "df: the pool is the source" "$(df --output=source "$MNT" | tail -n 1)" "pool"
check "findmnt shows it" findmnt -t fuse.cxlshm "$MNT"
pid=$(daemon_of "$MNT")
matches "one daemon serves it" "$pid" '^[0-9]+$'
check "umount" umount "$MNT"
check "the daemon goes by itself" wait_until 5 test ! -e "/proc/$pid"
check "nothing is mounted there" test -z "$(ls -A "$MNT")"
check "fsck.cxlshm" fsck_clean "$POOL"

mount_pool
check "mounted again, the file is there" cmp /etc/passwd "$MNT/passwd"
check_refused "umount while a file is open" "busy" bash -c 'exec 3<"$1/passwd"; umount "$1"' - "$MNT"
check "umount -l while a file is open" bash -c 'exec 3<"$1/passwd"; umount -l "$1"; cmp /etc/passwd /proc/self/fd/3' - "$MNT"
check "mkfs.cxlshm --remove, when the daemon has gone" wait_until 5 mkfs.cxlshm --remove "$POOL"
check "nothing is left of the pool" test ! -e "$POOL/heap"
same "its tmpfs is unmounted" "$(awk -v p="$POOL" '$2 == p' /proc/self/mounts)" ""
finish
