#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Mappings from Python, in every mode: shared, private, read-only; after close; after fork; the same bytes in
# another process, in read(2), and in the extent itself.
. "$E2E_LIB/e2e.sh"
make_pool "$POOL" 128M
mount_pool
mount_pool "$POOL" "$E2E_DIR/mnt2"
check "the mapping table" python3 "$CXLSHM_SOURCE/tests/e2e/mapping.py" "$MNT" "$E2E_DIR/mnt2" "$POOL"
sed 's/^/     | /' "$LOG"
rm -f "$MNT"/*
check "all extents go with their names" wait_until 5 'test -z "$(ls -A "$POOL/x")"'
finish
