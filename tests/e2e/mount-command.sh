#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# mount(8) itself: `mount -t cxlshm`, an fstab line, `mount -o remount`, and `umount`.
. "$E2E_LIB/e2e.sh"

# mount(8) finds helpers in /sbin only.  This namespace gets an /sbin of its own with ours in it.
mkdir "$E2E_DIR/sbin"
cp -a /usr/sbin/. "$E2E_DIR/sbin/" || exit 1
for program in mount.cxlshm mkfs.cxlshm fsck.cxlshm cxlshmfs; do
	ln -sf "$(command -v $program)" "$E2E_DIR/sbin/$program"
done
[ -e "$E2E_DIR/sbin/mount.fuse.cxlshm" ] || ln -sf mount.cxlshm "$E2E_DIR/sbin/mount.fuse.cxlshm"	# as installed: what mount -o remount looks for
mount --bind "$E2E_DIR/sbin" /usr/sbin || exit 1

check "mkfs -t cxlshm" mkfs -t cxlshm --size=64M "$POOL"
pools+=("$POOL")
check "mount -t cxlshm" mount -t cxlshm "$POOL" "$MNT"
check "it answers" cp /etc/passwd "$MNT/a"
check "umount" unmount_pool "$MNT"

check "mount -t cxlshm -o ro" mount -t cxlshm -o ro "$POOL" "$MNT"
check_refused "and it is read-only" "read-only" touch "$MNT/b"
rc=0
mount -o remount,rw "$MNT" >"$LOG" 2>&1 || rc=$?
if [ "$rc" = 0 ]; then
	check "remount,rw made it writable" touch "$MNT/b"
else
	check "remount is refused with a word about it" grep -Eiq 'remount' "$LOG"
	check_refused "and it is read-only still" "read-only" touch "$MNT/b"
	same "with a mount(8) exit status" "$((rc == 1 || rc == 32))" 1
fi
check "the mount works still" cmp /etc/passwd "$MNT/a"
check "umount" unmount_pool "$MNT"

echo "$POOL $MNT cxlshm noauto,ro,nodev,nosuid,noatime 0 0" >"$E2E_DIR/fstab"
check "mount by an fstab line" mount -T "$E2E_DIR/fstab" "$MNT"
check "it is there" cmp /etc/passwd "$MNT/a"
matches "with the line's options" "$(awk -v m="$MNT" '$2 == m { print $4 }' /proc/self/mounts)" 'ro.*nosuid.*nodev'
check "umount" unmount_pool "$MNT"

echo "$POOL $MNT cxlshm defaults,nofail,_netdev,x-systemd.automount 0 2" >"$E2E_DIR/fstab"
check "mount -a with common fstab options" mount -T "$E2E_DIR/fstab" -a
check "it is there" cmp /etc/passwd "$MNT/a"
check "umount" unmount_pool "$MNT"
check_status "fsck -t cxlshm" 0 fsck -t cxlshm "$POOL"
finish
