#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Soak: rounds of random native and file operations by eight processes on one mounted pool, one killed with SIGKILL every
# 50 ms, the daemon killed and mounted anew every few seconds, one or two processes stopped most of the time, each for up to
# 15 s (e2e/soak.py and churn.c do the work, find wrong objects and unexpected errors, and see that nobody waits for a stopped one).
#
#   soak.sh [--seconds N] [--seed S]      CXLSHM_BUILD names the build folder
#
# After each round, of a minute at most, everything is removed, all clients leave, fsck.cxlshm must find an empty, clean
# pool, and the memory in use is compared with what it was after the first round: it must not grow.
# Default: 24 s in two rounds; CXLSHM_TEST_LENGTH=quick 12 s, long 30 minutes.  The seed repeats the draws, not the races.
# Last line: `soak: N rounds, N kills survived, ...`.  Status: 0, 1 something was wrong, 77 no FUSE or privilege here.
set -u
if [ -z "${E2E_DIR:-}" ]; then
	exec bash "$(dirname "${BASH_SOURCE[0]}")/../lib/e2e-run.sh" "${BASH_SOURCE[0]}" "$@"
fi
case ${CXLSHM_TEST_LENGTH:-normal} in quick) seconds=12 ;; long) seconds=1800 ;; *) seconds=24 ;; esac
seed=$(($(date +%s%N) % 1000000007))
while [ $# -gt 0 ]; do
	case $1 in
	--seconds) seconds=$2 ;;
	--seed) seed=$2 ;;
	*) echo "usage: soak.sh [--seconds N] [--seed S]" >&2; trap - EXIT; exit 2 ;;
	esac
	shift 2
done
. "$E2E_LIB/e2e.sh"

slack=$((9 << 20))	# two segments that were left to whoever wants them, and a page table or two
used() { df --output=used -B1 "$POOL" | tail -n 1; }
objects() { fsck.cxlshm -v "$POOL" 2>&1 | sed -nE 's/.*[^0-9]([0-9]+) objects.*/\1/p' | tail -n 1; }

rounds=$(((seconds + 59) / 60))
[ $rounds -gt 1 ] || rounds=2
each=$((seconds / rounds))
kills=0 daemons=0 stops=0 native=0 files=0 first= most=0
echo "seed $seed, $rounds rounds of $each s: soak.sh --seconds $seconds --seed $seed"
make_pool "$POOL" 256M
for ((round = 1; round <= rounds; round++)); do
	mount_pool
	check "round $round: $each s of it" timeout $((each + 120)) \
		python3 "$CXLSHM_SOURCE/tests/e2e/soak.py" "$POOL" "$MNT" "$each" $((seed + 1000 * round))
	line=$(grep -E '^[0-9]+ kills, [0-9]+ of the daemon, [0-9]+ stopped' "$LOG" | tail -n 1)
	read -r k _ d _ _ _ s _ _ _ _ n _ _ f _ <<<"${line//[,;]/} 0 0 0 0 0 0 0 0 0 0 0 0 0 0"
	kills=$((kills + k)) daemons=$((daemons + d)) stops=$((stops + s)) native=$((native + n)) files=$((files + f))
	check "what is left can be removed" bash -c 'cd "$1" && rm -rf cells queue native files && test -z "$(ls)"' - "$MNT"
	check "no native client is left" wait_until 20 \
		'test "$(awk '\''NR > 1 && $NF == "churn"'\'' "$MNT/.cxlshm/clients" | wc -l)" = 0'
	check "umount" unmount_pool "$MNT"
	check "no extent is left" test -z "$(ls "$POOL/x")"
	check "fsck finds a clean pool" fsck_clean "$POOL"
	# Inner nodes that a killed client was about to take out stay until the next removal there: of the few names in the root
	# directory at most one behind each of its 16 edges; whatever nothing leads to, fsck has found.
	check "with nothing but its root directory in it" test "$(objects)" -le 17
	now=$(used)
	first=${first:-$now}
	[ "$now" -le "$most" ] || most=$now
	check "memory in use has not grown: $((now >> 10)) KiB, after the first round $((first >> 10))" test "$now" -le $((first + slack))
	echo "progress: round $round of $rounds, $kills kills, $daemons of the daemon, $stops stops, $((now >> 10)) KiB in use"
done
echo "soak: $rounds rounds, $kills kills survived, $daemons of the daemon, $stops stopped, $((first >> 10)) KiB in use after the" \
	"first round, at most $((most >> 10)) later; $native native operations, $files on files; $failures failures"
[ "$failures" = 0 ] || echo "replay: CXLSHM_BUILD=$CXLSHM_BUILD $CXLSHM_SOURCE/tests/soak/soak.sh --seconds $seconds --seed $seed (the draws, not the races)"
finish
