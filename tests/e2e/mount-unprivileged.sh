#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A user without privilege mounts a plain pool of theirs through fusermount3: read and write work, a shared
# mapping is refused with ENODEV, and one line says why.
. "$E2E_LIB/e2e.sh"
need fusermount3 setpriv
[ -u "$(command -v fusermount3)" ] || skip "fusermount3 is not set-user-ID here"

# udev makes /dev/fuse 0666; a machine without udev has 0600.  This namespace gets one as udev makes it.
mknod "$E2E_DIR/fuse" c 10 229 && chmod 666 "$E2E_DIR/fuse" && mount --bind "$E2E_DIR/fuse" /dev/fuse || exit 1
user() { setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$E2E_DIR/home" "$@"; }
export -f user
mkdir "$E2E_DIR/home"
chown 65534:65534 "$E2E_DIR/home"
POOL=$E2E_DIR/home/pool MNT=$E2E_DIR/home/mnt
user mkdir "$POOL" "$MNT"
user test -x "$(command -v cxlshmfs)" || skip "a user cannot reach $CXLSHM_BUILD"

check "mkfs.cxlshm --plain as a user" user mkfs.cxlshm --plain --size=64M "$POOL"
pools+=("$POOL")
same "the heap is theirs" "$(stat -c %u "$POOL/heap")" 65534
mount --bind /dev/null /dev/fuse
check_refused "/dev/fuse is another device" "fusermount3 could not mount: /dev/fuse is not the FUSE device" user cxlshmfs "$POOL" "$MNT"
umount /dev/fuse
check "the mount" user cxlshmfs "$POOL" "$MNT"
cp "$LOG" "$LOG.mount"
check "is there" mounted "$MNT"
same "one line says what is missing" "$(grep -Eic 'mmap|mapping|passthrough' "$LOG.mount")" 1 || cat "$LOG.mount"
check "write" user cp /etc/passwd "$MNT/a"
check "read" user cmp /etc/passwd "$MNT/a"
check "a directory tree" user bash -c 'mkdir -p "$1/d/e/f" && mv "$1/a" "$1/d/e/f/b" && ln "$1/d/e/f/b" "$1/a" && ls -lR "$1"' - "$MNT"
check "a large file" user bash -c 'head -c 5000000 /dev/urandom >"$2/r" && cp "$2/r" "$1/r" && cmp "$1/r" "$2/r"' - "$MNT" "$E2E_DIR/home"
cat >"$E2E_DIR/home/try.py" <<'P'
import errno, mmap, sys
with open(sys.argv[1], "r+b") as f:
    try:
        mmap.mmap(f.fileno(), 0)
    except OSError as error:
        sys.exit(0 if error.errno == errno.ENODEV else f"errno {errno.errorcode[error.errno]}")
sys.exit("a shared mapping was made, which would not be the shared memory")
P
check "a shared mapping is ENODEV" user python3 "$E2E_DIR/home/try.py" "$MNT/a"
# Bounded: a daemon that does not hold its pool to its size must not fill this machine's disk.
check_refused "a full pool is ENOSPC" "no space" user dd if=/dev/zero of="$MNT/full" bs=1M count=200 status=none
check "and no more was written than the pool holds" test "$(user stat -c %s "$MNT/full")" -le $((64 << 20))
user rm -f "$MNT/full"
check "operations at random agree with the model" user fsx -m -n 1500 -l 300000 "$MNT/fsx"
check "fusermount3 -u" user fusermount3 -u "$MNT"
check "the daemon goes" wait_until 5 'test -z "$(daemon_of "$MNT")"'
check "fsck as the user" user fsck.cxlshm "$POOL"
finish
