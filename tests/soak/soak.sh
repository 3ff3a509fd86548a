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
# A sixth of the time is for a daemon that is not killed: what it holds of its own memory is counted (e2e/live_blocks.c) after a
# first half, when all has been removed, and after a second one.
# Over the whole run each kind of operation must have been done, not only tried.
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

used() { df --output=used -B1 "$POOL" | tail -n 1; }
objects() { fsck.cxlshm -v "$POOL" 2>&1 | sed -nE 's/.*[^0-9]([0-9]+) objects.*/\1/p' | tail -n 1; }
# Pages that the daemon has written and nobody else has: its heap and stacks, not the pool.
private_kib() { awk '$1 == "RssAnon:" { print $2 }' "/proc/$1/status"; }

kills=0 daemons=0 stops=0 native=0 files=0 first= most=0
# work TEXT SECONDS SEED [OPTIONS]: soak.py, and what it has done to the sums.
work() {
	local text=$1 seconds=$2 seed=$3 line k d s n f _; shift 3
	check "$text" timeout $((seconds + 120)) \
		python3 "$CXLSHM_SOURCE/tests/e2e/soak.py" "$POOL" "$MNT" "$seconds" "$seed" --totals "$E2E_DIR/totals" "$@"
	grep -E '^(native|file) (done|refused): ' "$LOG"
	line=$(grep -E '^[0-9]+ kills, [0-9]+ of the daemon, [0-9]+ stopped' "$LOG" | tail -n 1)
	read -r k _ d _ _ _ s _ _ _ _ n _ _ f _ <<<"${line//[,;]/} 0 0 0 0 0 0 0 0 0 0 0 0 0 0"
	kills=$((kills + k)) daemons=$((daemons + d)) stops=$((stops + s)) native=$((native + n)) files=$((files + f))
}
drain() {
	check "what is left can be removed" bash -c 'cd "$1" && rm -rf cells queue native files && test -z "$(ls)"' - "$MNT"
	check "no native client is left" wait_until 20 \
		'test "$(awk '\''NR > 1 && $NF == "churn"'\'' "$MNT/.cxlshm/clients" | wc -l)" = 0'
}
# Many requests of each kind, one after the other, so that what the daemon forgets to free at each adds up in a short run, too.
requests() {
	python3 - "$MNT/files" <<-'P'
	import os, sys
	folder = sys.argv[1]
	os.makedirs(folder + "/some", exist_ok=True)
	for turn in range(5000):
	    with open(folder + "/new", "wb") as file:
	        file.write(b"some")
	    os.rename(folder + "/new", folder + "/old")
	    os.unlink(folder + "/old")
	    if turn % 8 == 0:
	        os.mkdir(folder + "/some/more")
	        os.symlink("more", folder + "/some/link")
	        os.setxattr(folder + "/some/more", "user.note", b"some")
	        os.getxattr(folder + "/some/more", "user.note")
	        os.listdir(folder + "/some")
	        os.unlink(folder + "/some/link")
	        os.rmdir(folder + "/some/more")
	P
}
# leave: the last client goes, and nothing is left.
leave() {
	check "umount" unmount_pool "$MNT"
	check "no extent is left" test -z "$(ls "$POOL/x")"
	check "fsck finds a clean pool" fsck_clean "$POOL"
	# Inner nodes that a killed client was about to take out stay until the next removal there: of the few names in the root
	# directory at most one behind each of its 16 edges; whatever nothing leads to, fsck has found.
	check "with nothing but its root directory in it" test "$(objects)" -le 17
}

steady=$((seconds / 12))
[ $steady -lt 60 ] || steady=60
[ $steady -gt 2 ] || steady=2
rounds=$(((seconds - 2 * steady + 59) / 60))
[ $rounds -gt 1 ] || rounds=2
each=$(((seconds - 2 * steady) / rounds))
echo "seed $seed, $rounds rounds of $each s: soak.sh --seconds $seconds --seed $seed"
# Eight clients that each keep what they may of idle segments (README.md, Limits) fill 256 MiB now and then, and no call may say ENOSPC.
make_pool "$POOL" 1G
# Between two daemons the mount point shows: nothing must be done there and count as done in the pool.
mount -t tmpfs -o ro soak "$MNT"
for ((round = 1; round <= rounds; round++)); do
	mount_pool
	segment=$(field "$MNT/.cxlshm/pool" segment_bytes)
	work "round $round: $each s of it" "$each" $((seed + 1000 * round))
	drain
	leave
	now=$(used)
	first=${first:-$now}
	[ "$now" -le "$most" ] || most=$now
	# The superblock, the slots, and the segment that the root directory is in: nothing else has ever been seen to stay.  One more
	# segment may: that of a client which was killed as it was taking out a node of that directory, as long as it holds the node.
	check "memory in use has not grown by more than a segment: $((now >> 10)) KiB, after the first round $((first >> 10))" \
		test "$now" -le $((first + segment))
	echo "progress: round $round of $rounds, $kills kills, $daemons of the daemon, $stops stops, $((now >> 10)) KiB in use"
done

# The number of threads that come is not the point.
head -c 16 /dev/zero >"$E2E_DIR/live"
LD_PRELOAD=$CXLSHM_BUILD/tests/e2e/live_blocks.so LIVE_BLOCKS=$E2E_DIR/live mount_pool "$POOL" "$MNT" max_threads=4
daemon=$(daemon_of "$MNT")
before= blocks= counted=0
for half in 1 2; do
	work "a daemon that is not killed: $steady s of it" "$steady" $((seed + half)) --daemon-lives
	check "thousands of requests of each kind" requests
	drain
	# Those of its own tree that were looked at stay.
	check "it has forgotten the files" wait_until 20 'test "$(field "$MNT/.cxlshm/stats" daemon_inodes)" -le 5'
	check "and closed them" wait_until 20 'test "$(field "$MNT/.cxlshm/stats" daemon_backing_files)" = 0'
	total=$(field "$MNT/.cxlshm/stats" daemon_requests_total)
	after=$(private_kib "$daemon") live=$(od -An -td8 -N8 "$E2E_DIR/live" | tr -d ' ')
	before=${before:-$after} blocks=${blocks:-$live}
	note "the daemon has $live blocks of $(od -An -td8 -j8 -N8 "$E2E_DIR/live" | tr -d ' ') bytes after" \
		"$((total - counted)) requests, and $after KiB of its own"
	counted=$total
done
# What it does with the request that asks, and a file of its own tree that was not looked at before.
check "it has not more than three blocks more than at half time: $blocks, then $live" test "$live" -le $((blocks + 3))
# Where malloc(3) has its blocks varies as they come and go; it has been seen to level off, 1 MiB from the first look.  This is for
# what is mapped otherwise.
check "and not 4 MiB more of memory" test "$after" -le $((before + 4096))
check "it is the same one" test "$(daemon_of "$MNT")" = "$daemon"
leave
check "each kind of operation was done" python3 "$CXLSHM_SOURCE/tests/e2e/soak.py" --judge "$E2E_DIR/totals"
grep -E '^(native|file) (done|refused): ' "$LOG"
echo "soak: $rounds rounds, $kills kills survived, $daemons of the daemon, $stops stopped, $((first >> 10)) KiB in use after the" \
	"first round, at most $((most >> 10)) later; $native native operations, $files on files; $blocks blocks held by the daemon, then $live; $before KiB of its own, then $after; $failures failures"
[ "$failures" = 0 ] || echo "replay: CXLSHM_BUILD=$CXLSHM_BUILD $CXLSHM_SOURCE/tests/soak/soak.sh --seconds $seconds --seed $seed (the draws, not the races)"
finish
