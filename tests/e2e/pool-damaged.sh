#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# fsck.cxlshm, mkfs.cxlshm and the daemon, the programs themselves, on pools with one byte or word changed (damage.py):
# statuses their man pages have, the path in what they say, an end.  tests/fuzz/flips.c does so much more often by their calls.
. "$E2E_LIB/e2e.sh"
case ${CXLSHM_TEST_LENGTH:-normal} in quick) count=25 ;; long) count=2000 ;; *) count=60 ;; esac
make_pool "$POOL" 4M --plain
mount_pool "$POOL"
mkdir "$MNT/dir" "$MNT/dir/inner"
for n in $(seq 30); do echo "file $n" >"$MNT/dir/file$n"; done
ln "$MNT/dir/file1" "$MNT/dir/inner/hard"
ln -s dir "$MNT/symlink"
python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.some", b"value")' "$MNT/dir/file2"
unmount_pool "$MNT"
mkdir "$E2E_DIR/damaged" "$E2E_DIR/damaged/mnt"
check "whatever is damaged in a pool of files" python3 "$CXLSHM_SOURCE/tests/e2e/damage.py" "$POOL" "$E2E_DIR/damaged" "$count" "${DAMAGE_SEED:-$RANDOM}"
note "$(tail -n 1 "$LOG")"
finish
