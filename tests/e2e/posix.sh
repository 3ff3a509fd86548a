#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# One group of POSIX file operations (posix.py), through one mount, and looked at through a second one.
. "$E2E_LIB/e2e.sh"
make_pool "$POOL" 128M
mount_pool "$POOL" "$MNT" allow_other
mount_pool "$POOL" "$E2E_DIR/mnt2" allow_other
chmod 755 "$MNT"	# the pool's root is made 0770
rc=0
python3 "$CXLSHM_SOURCE/tests/e2e/posix.py" "$1" "$MNT" "$E2E_DIR/mnt2" >"$LOG" 2>&1 || rc=$?
grep -v '^ok' "$LOG"
same "posix.py $1: $(tail -n 1 "$LOG")" "$rc" 0
rm -rf "$MNT"/posix-*
check "removed, no extent is left" wait_until 5 'test -z "$(ls "$POOL/x")"'
finish
