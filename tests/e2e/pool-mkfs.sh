#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# mkfs.cxlshm and fsck.cxlshm: options, refusals, what they leave, and fsck(8)'s exit codes.
. "$E2E_LIB/e2e.sh"

check "mkfs.cxlshm --plain" mkfs.cxlshm --plain --size=16M "$POOL"
pools+=("$POOL")
check "makes the directory and takes it as it is" test -f "$POOL/heap" -a -z "$(awk -v p="$POOL" '$2 == p' /proc/self/mounts)"
check_refused "mkfs over a pool" "pool" mkfs.cxlshm --plain --size=16M "$POOL"
check "mkfs --force over a pool" mkfs.cxlshm --plain --size=16M --force "$POOL"
mkdir "$E2E_DIR/full"
echo data >"$E2E_DIR/full/file"
check_refused "mkfs --plain in a directory with files" "full" mkfs.cxlshm --plain --size=16M "$E2E_DIR/full"
check_refused "even with --force" "full" mkfs.cxlshm --plain --size=16M --force "$E2E_DIR/full"
same "which keeps them" "$(cat "$E2E_DIR/full/file")" data
# Other people's files in x/, whatever lies beside it: nothing is deleted, and the file is named.
for heap in none empty zeros; do
	dir=$E2E_DIR/foreign-$heap
	mkdir -p "$dir/x"
	echo precious >"$dir/x/photo.jpg"
	: >"$dir/x/00000000000000af"
	[ $heap = empty ] && : >"$dir/heap"
	[ $heap = zeros ] && truncate -s 16M "$dir/heap"
	check_refused "mkfs --plain over somebody's x/ (heap: $heap)" "x/photo.jpg" mkfs.cxlshm --plain --size=16M "$dir"
	check_refused "even with --force (heap: $heap)" "x/photo.jpg" mkfs.cxlshm --plain --size=16M --force "$dir"
	check_refused "mkfs --remove of it (heap: $heap)" "x/photo.jpg|no pool" mkfs.cxlshm --remove "$dir"
	same "keep everything (heap: $heap)" "$(cat "$dir/x/photo.jpg"; ls "$dir/x" | wc -l)" "precious"$'\n'2
	rm "$dir/x/photo.jpg"
	check "without it --force takes what is left (heap: $heap)" mkfs.cxlshm --plain --size=16M --force "$dir"
	check "and --remove takes that (heap: $heap)" mkfs.cxlshm --remove "$dir"
	check "all of it (heap: $heap)" test ! -e "$dir"
done
for kind in --plain --quiet; do
	dir=$E2E_DIR/foreign$kind
	make_pool "$dir" 16M $kind
	mount_pool "$dir"
	cp /etc/passwd "$MNT/a"
	check "umount" unmount_pool "$MNT"
	echo precious >"$dir/x/mine"
	mkdir "$dir/x/sub"
	for command in "--remove" "--force --size=16M $kind"; do
		check_refused "mkfs $command of a pool with other files in x/ ($kind)" "x/(mine|sub)" mkfs.cxlshm $command "$dir"
		same "keeps them" "$(cat "$dir/x/mine"; ls "$dir/x" | wc -l)" "precious"$'\n'3
	done
	rm -r "$dir/x/mine" "$dir/x/sub"
	check "and the pool" fsck.cxlshm -q "$dir"
	if [ $kind = --quiet ]; then
		echo precious >"$dir/mine"
		check_refused "mkfs --remove of a tmpfs with another file" "$dir/mine" mkfs.cxlshm --remove "$dir"
		same "keeps it" "$(cat "$dir/mine")" precious
		check "and the pool" fsck.cxlshm -q "$dir"
		rm "$dir/mine"
	fi
	check "mkfs --remove" mkfs.cxlshm --remove "$dir"
done
# --if-missing: a pool stays, what was never finished is made anew, everything else fails.
IFM=$E2E_DIR/if-missing
check "--if-missing makes a pool" mkfs.cxlshm --plain --size=16M --if-missing "$IFM"
uuid() { mount_pool "$1" && field "$MNT/.cxlshm/pool" uuid && unmount_pool "$MNT"; }
first=$(uuid "$IFM")
check "--if-missing over a pool" mkfs.cxlshm --plain --size=16M --if-missing "$IFM"
same "says nothing" "$(cat "$LOG")" ""
same "and leaves it as it is" "$(uuid "$IFM")" "$first"
cp -a "$IFM" "$IFM.damaged"
printf x | dd of="$IFM.damaged/heap" bs=1 seek=20 conv=notrunc status=none
printf x | dd of="$IFM.damaged/heap" bs=1 seek=$((8192 + 20)) conv=notrunc status=none
check_refused "--if-missing over a damaged pool" "$IFM.damaged: .*(damaged|version)" mkfs.cxlshm --plain --size=16M --if-missing "$IFM.damaged"
mkdir "$IFM.text"
echo precious >"$IFM.text/heap"
check_refused "--if-missing over a file that is called heap" "$IFM.text/heap" mkfs.cxlshm --plain --size=16M --if-missing "$IFM.text"
same "which stays" "$(cat "$IFM.text/heap")" precious
for state in empty zeroed; do
	for kind in --plain --quiet; do
		dir=$IFM-$state$kind
		make_pool "$dir" 16M $kind
		: >"$dir/x/00000000000000af"
		if [ $state = empty ]; then : >"$dir/heap"
		else dd if=/dev/zero of="$dir/heap" bs=4k count=3 conv=notrunc status=none; fi
		check_refused "--if-missing over what is left of a pool ($state, $kind)" "$dir.*--force" mkfs.cxlshm $kind --size=32M --if-missing "$dir"
		check "keeps it" test -e "$dir/x/00000000000000af"
		rm "$dir/x/00000000000000af"
		check "without extents it was never finished ($state, $kind)" mkfs.cxlshm $kind --size=256M --if-missing "$dir"
		check "and is a pool now" fsck.cxlshm -q "$dir"
		same "of the new size" "$(stat -c %s "$dir/heap")" $((256 << 20))
		[ $kind = --plain ] || same "on a tmpfs of that size" "$(($(df --output=size -B1 "$dir" | tail -n 1)))" $((256 << 20))
		check "mkfs --remove" mkfs.cxlshm --remove "$dir"
	done
done
# Killed at any time, then tried again.
for try in $(seq 20); do
	(timeout -s KILL "0.00$((try / 2))$((try % 2 * 5))" mkfs.cxlshm --plain -q --size=16M --if-missing "$IFM.killed"; true) >"$LOG" 2>&1
	mkfs.cxlshm --plain --size=16M --if-missing "$IFM.killed" >"$LOG" 2>&1 && fsck.cxlshm -q "$IFM.killed" >>"$LOG" 2>&1 &&
		mkfs.cxlshm --remove "$IFM.killed" >>"$LOG" 2>&1 || { fail "--if-missing after a killed one: $(cat "$LOG")"; break; }
done
[ "$try" != 20 ] || ok "--if-missing after a killed one"
# Several at once on a tmpfs: one makes it, the others wait for that, and find it.
mkdir "$E2E_DIR/place"
exec 8>/run/cxlshm.lock
flock 8
check_refused "mkfs while another one has the lock" "place/p: .*/run/cxlshm.lock" mkfs.cxlshm --size=16M "$E2E_DIR/place/p"
check "makes nothing" test -z "$(ls "$E2E_DIR/place")"
make_pool "$E2E_DIR/there" 16M --plain
check "a pool that is there waits for no lock" mkfs.cxlshm --size=16M --if-missing "$E2E_DIR/there"
check "mkfs --remove of a plain one neither" mkfs.cxlshm --remove "$E2E_DIR/there"
for n in 1 2 3; do
	mkfs.cxlshm --if-missing --size=16M "$E2E_DIR/place/p" >"$E2E_DIR/made.$n" 2>&1 8<&- &
	eval "made$n=$!"
done
sleep 0.2
exec 8<&-
for n in $made1 $made2 $made3; do check "mkfs when it is not locked any more" wait "$n"; done
same "one of them made the pool" "$(cat "$E2E_DIR"/made.? | grep -c 'tmpfs of its own')" 1
same "on one tmpfs" "$(awk -v p="$E2E_DIR/place/p" '$2 == p' /proc/self/mounts | wc -l)" 1
check "mkfs --remove" mkfs.cxlshm --remove "$E2E_DIR/place/p"
check_refused "mkfs on a file" "file" mkfs.cxlshm --plain --size=16M "$E2E_DIR/full/file"
check_refused "mkfs without a pool" "usage|missing|pool" mkfs.cxlshm --size=16M
for bad in --size=0 --size=4K --size=12Q --size=99999999T --clients=0x --clients=99999999 --mode=999 --group=nosuchgroup \
	--numa=nosuch --numa=bind:77 --failure-domain=galaxy --nosuchoption; do
	size=--size=16M
	[[ $bad = --size=* ]] && size=
	check_refused "mkfs $bad" "${bad%%=*}|${bad#*=}|${bad#--}" mkfs.cxlshm --plain $size "$bad" "$E2E_DIR/bad"
	check "leaves no pool" test ! -e "$E2E_DIR/bad/heap"
done
check "--mode, --group, --clients" mkfs.cxlshm --plain --size=32M --mode=0600 --group="$(getent group nogroup | cut -d: -f1)" --clients=8 "$E2E_DIR/b"
pools+=("$E2E_DIR/b")
same "the mode and the group" "$(stat -c %a:%G "$E2E_DIR/b/heap")" 600:nogroup
check "--clients=1" mkfs.cxlshm --plain --size=32M --clients=1 "$E2E_DIR/one"
pools+=("$E2E_DIR/one")
check "one client is enough to move a directory, and to grow and delete a large file" bash -c 'mount.cxlshm "$1" "$2" && cd "$2" &&
	mkdir -p a/b c && python3 -c "import os; os.rename(\"a/b\", \"c/b\")" && test -d c/b && truncate -s 16M large && rm large' - "$E2E_DIR/one" "$MNT"
check "umount" unmount_pool "$MNT"
check "--failure-domain=host" mkfs.cxlshm --plain --size=32M --failure-domain=host "$E2E_DIR/c"
pools+=("$E2E_DIR/c")
# fsync reads the file through a mapping there, to write its lines back; the kernel keeps one mount's calls apart, not two.
mkdir -p "$E2E_DIR/second"
check "fsync beside another mount's truncate in a host-mode pool" bash -c '
mount.cxlshm "$1" "$2" && mount.cxlshm "$1" "$3" && python3 -c "
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
end = time.time() + 2
rounds = 0
if os.fork() == 0:
    fd = os.open(sys.argv[2], os.O_RDWR)
    while time.time() < end:
        os.ftruncate(fd, 16 << 20); os.pwrite(fd, bytes(16 << 20), 0); os.ftruncate(fd, 0)
    os._exit(0)
while time.time() < end:
    os.fsync(fd); rounds += 1
assert os.wait()[1] == 0 and rounds > 10, rounds
os.unlink(sys.argv[1])
" "$2/cut" "$3/cut" && umount "$2" && umount "$3"' - "$E2E_DIR/c" "$MNT" "$E2E_DIR/second"
check "a host-mode pool mounts and works" bash -c 'mount.cxlshm "$1" "$2" && cp /etc/passwd "$2/a" && sync "$2/a" && cmp /etc/passwd "$2/a"' - "$E2E_DIR/c" "$MNT"
check "umount" unmount_pool "$MNT"

if unshare -Urm true 2>/dev/null; then
	check "in a user namespace" unshare -Urm mkfs.cxlshm --size=4M "$E2E_DIR/userns"
	check "the pool may go to swap, and it says why" grep -q 'swap.*user namespace' "$LOG"
fi

check_status "fsck of a clean pool: 0" 0 fsck.cxlshm "$POOL"
check_status "fsck -v: 0" 0 fsck.cxlshm -v "$POOL"
check "and it says what it looked at" grep -Eiq 'object|reference|segment' "$LOG"
check_status "fsck --repair of a clean pool: 0" 0 fsck.cxlshm --repair "$POOL"
check_status "fsck of nothing: 8" 8 fsck.cxlshm "$E2E_DIR/nothing"
check_status "fsck without arguments: 16" 16 fsck.cxlshm
check_status "fsck with an unknown option: 16" 16 fsck.cxlshm --nosuch "$POOL"
head -c 100 /dev/urandom >"$POOL/x/ffffffffffffffff"
rc=0
fsck.cxlshm "$POOL" >"$LOG" 2>&1 || rc=$?
same "fsck of a pool with a stray extent: 4" "$rc" 4
check_status "fsck --repair mends it: 1" 1 fsck.cxlshm --repair "$POOL"
check_status "and then it is clean: 0" 0 fsck.cxlshm "$POOL"

# What it has to say must not go to the file that has the number of the missing standard output: the heap.
for n in $(seq 100 199); do : >"$POOL/x/fffffffffffff$n"; done
before=$(cksum <"$POOL/heap")
check_status "fsck without standard input and output: 8" 8 bash -c 'exec fsck.cxlshm -v "$1" <&- >&-' - "$POOL"
same "leaves the heap alone" "$(cksum <"$POOL/heap")" "$before"
rm "$POOL"/x/fffffffffffff???

check "a pool to be left by a dead daemon" mkfs.cxlshm --plain --size=32M "$E2E_DIR/d"
pools+=("$E2E_DIR/d")
mount_pool "$E2E_DIR/d"
cp /etc/passwd "$MNT/a"
check_status "fsck of a mounted pool: 8" 8 fsck.cxlshm "$E2E_DIR/d"
check "says that it is in use" grep -Eiq 'in use|busy|mounted' "$LOG"
check_refused "mkfs --force of a mounted pool" "use|busy|mounted" mkfs.cxlshm --plain --size=32M --force "$E2E_DIR/d"
check_refused "mkfs --remove of a mounted pool" "use|busy|mounted" mkfs.cxlshm --remove "$E2E_DIR/d"
check "the mount is unharmed" cmp /etc/passwd "$MNT/a"
exec 9<"$MNT/a"
kill -9 "$(daemon_of "$MNT")"
umount -l "$MNT"
exec 9<&-
wait_until 5 'test -z "$(daemon_of "$MNT")"'
rc=0
fsck.cxlshm "$E2E_DIR/d" >"$LOG" 2>&1 || rc=$?
same "fsck after a kill -9 of the daemon reports its dead client: 4" "$rc" 4 || cat "$LOG"
check_status "fsck --repair recovers it: 1" 1 fsck.cxlshm --repair "$E2E_DIR/d"
check "mkfs --remove" mkfs.cxlshm --remove "$E2E_DIR/d"
check "leaves nothing, not even the directory" test ! -e "$E2E_DIR/d"
check_refused "mkfs --remove of what is no pool" "full" mkfs.cxlshm --remove "$E2E_DIR/full"
same "which keeps its files" "$(cat "$E2E_DIR/full/file")" data
finish
