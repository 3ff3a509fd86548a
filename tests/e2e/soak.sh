#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Eight processes of random native and file operations on one pool, one killed every 50 ms, the daemon every few seconds,
# some stopped (soak.py).  Each kind of operation is done, everything can be removed afterwards, memory is back, and fsck
# finds nothing.
# SOAK_SECONDS=N sets how long, SOAK_SEED=N repeats the draws (not the races).
. "$E2E_LIB/e2e.sh"
case ${CXLSHM_TEST_LENGTH:-normal} in quick) seconds=10 ;; long) seconds=1800 ;; *) seconds=25 ;; esac
seed=${SOAK_SEED:-$(($(date +%s%N) % 1000000007))}
# Eight clients that each keep what they may of idle segments (README.md, Limits) fill 256 MiB now and then, and no call may say ENOSPC.
make_pool "$POOL" 1G
# Between two daemons the mount point shows: nothing must be done there and count as done in the pool.
mount -t tmpfs -o ro soak "$MNT"
mount_pool
free() { df --output=avail -B1 "$MNT" | tail -n 1; }
before=$(free)
note "seed $seed"
check "${SOAK_SECONDS:-$seconds} s of it" timeout $((${SOAK_SECONDS:-$seconds} + 120)) \
	python3 "$CXLSHM_SOURCE/tests/e2e/soak.py" "$POOL" "$MNT" "${SOAK_SECONDS:-$seconds}" "$seed" --totals "$E2E_DIR/totals"
sed 's/^/     | /' "$LOG"
check "each kind of operation was done" python3 "$CXLSHM_SOURCE/tests/e2e/soak.py" --judge "$E2E_DIR/totals"
check "what is left can be removed" bash -c 'cd "$1" && rm -rf cells queue native files && test -z "$(ls)"' - "$MNT"
check "all clients are gone but the daemon's" wait_until 10 'test "$(awk '\''NR > 1 && $NF == "churn"'\'' "$MNT/.cxlshm/clients" | wc -l)" = 0'
check "all extents are gone" wait_until 10 'test -z "$(ls "$POOL/x")"'
note "free before $before, now $(free), $(field "$MNT/.cxlshm/stats" segments_owned) segments still owned by the daemon's clients"
check "umount" unmount_pool "$MNT"
check "fsck" fsck_clean "$POOL"
mount_pool
check "with the last client gone, all memory is back but a few segments" test "$(free)" -ge $((before - (24 << 20)))
note "free after it: $(free)"
finish
