#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What tests/faults does to native clients, done to a daemon: its heap is truncated under it, its wall clock jumps by years, it
# runs out of address space.  No request waits for ever, no other mount minds, nothing is left, and a pool that is whole stays so.
. "$E2E_LIB/e2e.sh"
. "$E2E_LIB/native.sh"
OTHER=$E2E_DIR/other
ask() { timeout 20 "$@"; }

# ended_badly TEXT COMMAND...: within 20 s, with an error, and not by a signal.
ended_badly() {
	local text=$1 rc=0; shift
	ask "$@" >"$LOG" 2>&1 || rc=$?
	if [ "$rc" -gt 0 ] && [ "$rc" -lt 124 ]; then ok "$text: $(tail -n 1 "$LOG" | tr -d '\0' | sed 's/.*: //')"
	else fail "$text (status $rc: $*)"; tr -d '\0' <"$LOG" | tail -n 5 | cut -c 1-200 | sed 's/^/     | /'; fi
}

# ---- a heap cut short ----
#
# Who touches what a truncated file no longer has gets SIGBUS from the kernel.  The daemon dies of it, and the kernel answers
# for it; what it must not do is live on and not answer, or take what is left for a pool.
make_pool "$OTHER" 32M
mount_pool "$OTHER" "$OTHER-mnt"
other=$(daemon_of "$OTHER-mnt")
echo before >"$OTHER-mnt/file"
hold "$OTHER-mnt/file" shared
other_in=$hold_in other_out=$hold_out

# cut TEXT BYTES OPTION...: mkfs.cxlshm OPTION..., and the heap truncated to so many bytes.
cut() {
	local text=$1 bytes=$2 pool=$E2E_DIR/cut pid i; shift 2
	check "$text: mkfs.cxlshm" mkfs.cxlshm --size=64M "$@" "$pool" || return
	mount_pool "$pool" "$MNT"
	pid=$(daemon_of "$MNT")
	mkdir "$MNT/folder"
	for i in $(seq 50); do echo "$i" >"$MNT/folder/file$i"; done
	head -c 300000 /dev/urandom >"$MNT/mapped"
	hold "$MNT/mapped" shared
	# Heap objects that reach to where half of it is cut off: the daemon reads them where they lie.
	native_start "$pool" filler
	for i in 1 2 3 4 5; do native_do heap 8000000 "text $i" && native_do link "heap$i" && native_do drop || fail "a heap object"; done
	check "$text: the native client ends well" native_stop
	same "$text: before it, all can be read" "$(head -c 6 "$MNT/heap5")$(cat "$MNT/folder/file7")" "text 57"
	truncate -s "$bytes" "$pool/heap"
	# At once, so that some are under way when it dies.
	for i in $(seq 8); do
		(
			rc=0
			case $i in 1) ask ls -l "$MNT/folder" ;; 2) ask mkdir "$MNT/more" ;; 3) ask mv "$MNT/folder/file1" "$MNT/folder/file2" ;;
			4) ask cp /etc/passwd "$MNT/copy" ;; 5) ask cat "$MNT/.cxlshm/stats" ;; *) ask cat "$MNT/heap$((i - 3))" | tail -c 1; rc=${PIPESTATUS[0]} ;; esac || rc=$?
			echo "$rc" >"$E2E_DIR/rc.$i"
		) >/dev/null 2>&1 &
	done
	for i in $(seq 8); do wait_until 30 test -s "$E2E_DIR/rc.$i"; done
	same "$text: eight requests at once come back, each by itself" "$(cat "$E2E_DIR"/rc.[1-8] | awk '$1 < 124' | wc -l)" 8
	rm -f "$E2E_DIR"/rc.[1-8]
	ended_badly "$text: reading what was cut off" cat "$MNT/heap5"
	ended_badly "$text: a file" cat "$MNT/folder/file7"
	ended_badly "$text: a new one" cp /etc/passwd "$MNT/another"
	ended_badly "$text: statfs" stat -f "$MNT"
	check "$text: the daemon has ended" wait_until 10 test ! -e "/proc/$pid"
	same "$text: who has a file mapped has its bytes" "$(ask_holder check) $(ask_holder "store 5000 after") $(ask_holder check)" "same ok same"
	exec {hold_in}>&- {hold_out}<&-
	wait_until 5 test ! -e "/proc/$hold_pid"
	check "$text: umount" ask umount "$MNT"
	for i in "" size=64M; do
		check_refused "$text: a new mount${i:+ -o $i} is refused" "$pool/heap: .*truncated" ask mount.cxlshm "$pool" "$MNT" ${i:+-o "$i"}
		check "$text: and nothing is mounted" bash -c '! grep -q " $1 fuse" /proc/self/mounts' - "$MNT"
		check "$text: no daemon is left" wait_until 5 'test -z "$(daemon_of "$MNT")"'
	done
	for i in "" --repair; do
		check_status "$text: fsck.cxlshm${i:+ $i} says that it cannot" 4 ask fsck.cxlshm $i "$pool"
		matches "$text: and what is wrong" "$(cat "$LOG")" "$pool/heap: .*truncated"
	done
	# But what mv may have replaced.
	check "$text: nothing has been deleted" test "$(ls "$pool/x" | wc -l)" -ge 50
	check_status "$text: a native client is refused" 1 ask native "$pool"
	matches "$text: in the same way" "$(cat "$LOG")" "EUCLEAN $pool/heap"
	same "$text: the daemon of another pool is the same" "$(daemon_of "$OTHER-mnt")" "$other"
	check "$text: and works" bash -c 'echo "$2" >"$1/file" && grep -qx "$2" "$1/file" && mkdir "$1/d" && rmdir "$1/d"' - "$OTHER-mnt" "$text"
	check "$text: mkfs.cxlshm --force makes it anew" mkfs.cxlshm --force --size=64M "$@" "$pool"
	mount_pool "$pool" "$MNT"
	check "$text: which can be used" cp /etc/passwd "$MNT/file"
	check "$text: umount" unmount_pool "$MNT"
	check "$text: fsck" fsck_clean "$pool"
	check "$text: mkfs.cxlshm --remove" mkfs.cxlshm --remove "$pool"
}
cut "cut to two pages" 8192
cut "cut to nothing" 0
cut "cut in the middle" 20000000
cut "cut to two pages, failure_domain=host" 8192 --failure-domain=host
peer_in=$other_in peer_out=$other_out
matches "what was mapped in the other pool still is" "$(peer_ask "store 0 x")" ok
exec {other_in}>&- {other_out}<&-
check "umount" unmount_pool "$OTHER-mnt"

# ---- a wall clock that jumps ----
make_pool "$POOL" 64M
export JUMPS=$E2E_DIR/jumps
touch "$JUMPS"
LD_PRELOAD=$CXLSHM_BUILD/tests/e2e/clock_jumps.so mount_pool
pid=$(daemon_of "$MNT")
native_start "$POOL" living
living="$native_in $native_out $native_pid"
check "while the clock jumps, the native client makes a file" native_do create file 100000
check "and maps it" native_do map
mkdir "$MNT/folder"
off=$(($(date +%s) - $(stat -c %Y "$MNT/folder")))
check "the daemon's clock is years off: ${off#-} s" test "${off#-}" -gt 31536000
mkdir "$MNT"/turn{1,2,3,4,5,6}
check "and elsewhere the next time" test "$(stat -c %Y "$MNT"/turn? | awk '{ print int($1 / 31536000) }' | sort -u | wc -l)" -gt 1
head -c 1000000 /dev/urandom >"$E2E_DIR/data"
check "files can be written" cp "$E2E_DIR/data" "$MNT/folder/data"
check "and read" cmp "$E2E_DIR/data" "$MNT/folder/data"
hold "$MNT/folder/data" shared
rm "$MNT/folder/data"
native_start "$POOL" dying
dying=$native_pid
native_do heap 1000 text >"$LOG" && native_do link dead >"$LOG" || fail "a second native client"
sleep 2.5	# two rounds of the monitor
same "nobody is taken for dead" "$(column "$MNT/.cxlshm/clients" state | sort -u)" alive
kill -9 "$dying"
exec {native_in}>&- {native_out}<&-
check "a death is noticed" wait_until 5 '! grep -q " dying$" "$MNT/.cxlshm/clients"'
read -r native_in native_out native_pid <<<"$living"
same "the living one goes on" "$(native_do store 5 hello && native_do load 5 5)" hello
same "through the mount as well" "$(dd if="$MNT/file" bs=1 skip=5 count=5 status=none)" hello
check "it ends well" native_stop
same "a mapping alone holds its object" "$(ls "$POOL/x" | wc -l) $(ask_holder check)" "2 same"
same "munmap" "$(ask_holder munmap)" "done"
check "lets it go" wait_until 5 'test "$(ls "$POOL/x" | wc -l)" = 1'
exec {hold_in}>&- {hold_out}<&-
uptime=$(for i in 1 2 3 4 5 6; do field "$MNT/.cxlshm/stats" daemon_uptime_seconds; done)
check "its uptime is not by that clock: $(tail -n 1 <<<"$uptime") s" test "$(awk '$1 >= 0 && $1 < 3600' <<<"$uptime" | wc -l)" = 6
touch -d 2001-02-03T04:05:06Z "$MNT/folder"
same "a time that is set is the one that is shown" "$(stat -c %Y "$MNT/folder")" "$(date -d 2001-02-03T04:05:06Z +%s)"
check "umount" unmount_pool
check "fsck" fsck_clean "$POOL"
# Told to end right behind mount(2), it gives whoever starts it a second, which is not one of the wall clock's.
if strace -D -f -qq -o /dev/null true 2>/dev/null; then
	echo ahead >"$JUMPS"
	for i in 1 2; do
		LD_PRELOAD=$CXLSHM_BUILD/tests/e2e/clock_jumps.so strace -D -f -qq -o /dev/null -e trace=mount -e inject=mount:delay_exit=1000000 \
			mount.cxlshm "$POOL" "$MNT" >"$LOG" 2>&1 &
		starting=$!
		wait_until 10 'mounted "$MNT"'
		for pid in $(daemon_of "$MNT"); do kill "$pid"; done
		check "SIGTERM right behind mount(2) ends it while the clock is set" wait_until 10 'test -z "$(daemon_of "$MNT")"' ||
			kill -9 $(daemon_of "$MNT")
		wait "$starting"
		check "and nothing is mounted" bash -c '! grep -q " $1 fuse" /proc/self/mounts' - "$MNT" || umount -l "$MNT"
	done
	check "fsck" fsck_clean "$POOL"
else
	skipped "SIGTERM right behind mount(2) while the clock is set: strace may not trace here"
fi
rm "$JUMPS"

# ---- no address space ----
size_of() { awk '$1 == "VmSize:" { print $2 * 1024 }' "/proc/$1/status"; }
# What a daemon maps of files is what fsync(2) writes back with failure_domain=host, 64 MiB at a time.  Threads may come, of 8 MiB each.
make_pool "$E2E_DIR/host" 192M --failure-domain=host
mount_pool "$E2E_DIR/host" "$MNT" max_threads=4
pid=$(daemon_of "$MNT")
head -c 80M /dev/urandom >"$E2E_DIR/data"
check "with 48 MiB of address space more than it has" prlimit --pid "$pid" --as=$(($(size_of "$pid") + (48 << 20))):
check "a small file is written back" dd if="$E2E_DIR/data" of="$MNT/small" bs=1M count=2 conv=fsync status=none
check_refused "fsync(2) of one too large to be mapped is ENOMEM" "fsync failed.*Cannot allocate memory" \
	ask dd if="$E2E_DIR/data" of="$MNT/large" bs=1M conv=fsync status=none
check "its bytes are there" cmp "$E2E_DIR/data" "$MNT/large"
check "for who maps it, too" python3 -c '
import mmap, sys
data, large = (open(path, "rb") for path in sys.argv[1:])
assert mmap.mmap(large.fileno(), 0, prot=mmap.PROT_READ)[:] == data.read()' "$E2E_DIR/data" "$MNT/large"
check "the daemon has not minded" test "$(daemon_of "$MNT")" = "$pid"
check "with none at all" prlimit --pid "$pid" --as="$(size_of "$pid"):"
for i in 1 2 3 4 5 6 7 8; do
	(ask cp /etc/passwd "$MNT/copy$i" && ask cat "$MNT/.cxlshm/metrics" >"$E2E_DIR/metrics.$i" && echo 0 >"$E2E_DIR/rc.$i" || echo 1 >"$E2E_DIR/rc.$i") >"$LOG.$i" 2>&1 &
done
for i in 1 2 3 4 5 6 7 8; do wait_until 30 test -s "$E2E_DIR/rc.$i"; done
same "eight at once are served, or told" "$(cat "$E2E_DIR"/rc.? | wc -l)" 8
note "$(grep -c 0 "$E2E_DIR"/rc.? | grep -c :1) of them were served"
check "the daemon lives" test "$(daemon_of "$MNT")" = "$pid"
check "with as much as it wants" prlimit --pid "$pid" --as=unlimited:
check "the file is written back" sync "$MNT/large"
check "and a new one made" bash -c 'echo new >"$1/new" && grep -qx new "$1/new"' - "$MNT"
check "umount" unmount_pool
check "fsck" fsck_clean "$E2E_DIR/host"

# Too little, in two places, and enough: a start is refused with a reason, or serves.
check_refused "a daemon that the heap does not fit into" "$POOL: the heap of 67108864 bytes does not fit" \
	ask prlimit --as=$((40 << 20)): mount.cxlshm "$POOL" "$MNT"
refused=0 served=0
for mib in 75 90 250; do
	rc=0
	ask prlimit --as=$((mib << 20)): mount.cxlshm "$POOL" "$MNT" >"$LOG" 2>&1 || rc=$?
	if [ "$rc" = 0 ]; then
		served=$((served + 1))
		check "started with $mib MiB it serves" ask cp /etc/passwd "$MNT/file$mib"
		prlimit --pid "$(daemon_of "$MNT")" --as=unlimited:
		check "umount" unmount_pool
	elif [ "$rc" -lt 124 ] && grep -q '^cxlshmfs: ' "$LOG"; then
		refused=$((refused + 1))
		ok "with $mib MiB it says: $(tail -n 1 "$LOG")"
	else
		fail "with $mib MiB: status $rc"
		sed 's/^/     | /' "$LOG"
	fi
	check "nothing is mounted" bash -c '! grep -q " $1 fuse" /proc/self/mounts' - "$MNT"
	check "no daemon is left" wait_until 10 'test -z "$(daemon_of "$MNT")"'
	check "the pool is clean" fsck_clean "$POOL"
done
same "two are refused, one serves" "$refused $served" "2 1"
# In between are those in which a thread of libfuse's cannot start.
false=0
for kib in $(seq $((104 * 1024)) 1400 $((120 * 1024))); do
	rc=0
	ask prlimit --as=$((kib << 10)): mount.cxlshm "$POOL" "$MNT" >"$LOG" 2>&1 || rc=$?
	[ "$rc" != 0 ] || mounted "$MNT" || { false=$((false + 1)); note "$kib KiB: $(cat "$LOG")"; }
	if mounted "$MNT"; then
		prlimit --pid "$(daemon_of "$MNT")" --as=unlimited:
		umount "$MNT"
	fi
	wait_until 10 'test -z "$(daemon_of "$MNT")"'
done
same "none of twelve says that it has mounted what is not there" "$false" 0
check "fsck" fsck_clean "$POOL"
# libfuse ends its threads in a way that loads a library the first time, if it has to: in about half of the cases.
for i in 1 2 3 4 5 6; do
	mount_pool
	pid=$(daemon_of "$MNT")
	check "with no address space left" prlimit --pid "$pid" --as="$(size_of "$pid"):"
	check "umount" unmount_pool
	check "ends the daemon well" fsck_clean "$POOL"
done
finish
