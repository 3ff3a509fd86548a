#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A full pool is ENOSPC at the call, never a fault in a mapping later: cp, truncate, fallocate, writes that go
# past the daemon, mkdir, names, native allocations; and afterwards everything works again.
. "$E2E_LIB/e2e.sh"
. "$E2E_LIB/native.sh"
make_pool "$POOL" 32M
mount_pool
free() { df --output=avail -B1 "$MNT" | tail -n 1; }
before=$(free)
note "free: $before bytes of 32M"
no_space="no space left"
check_refused "truncate to more than the pool" "$no_space" truncate -s 1G "$MNT/big"
same "leaves the size" "$(stat -c %s "$MNT/big")" 0
check_refused "fallocate of more than the pool" "$no_space" fallocate -l 1G "$MNT/big"
check_refused "fallocate -n (keep size) of more than the pool" "$no_space" fallocate -n -l 1G "$MNT/big"
same "leaves the size" "$(stat -c %s "$MNT/big")" 0
check "and nothing is lost by it" test "$(free)" -ge $((before - 300000))
head -c 64M /dev/urandom >"$E2E_DIR/data"
native_start "$POOL" greedy
check_refused "cp of more than the pool" "$no_space" cp "$E2E_DIR/data" "$MNT/cp"
size=$(stat -c %s "$MNT/cp")
check "what did fit ($size bytes) is right" cmp -n "$size" "$E2E_DIR/data" "$MNT/cp"
check "most of what was free could be used" test "$size" -gt $((before / 2))
check_refused "a write past the reservation, past the daemon" "$no_space" dd if=/dev/zero of="$MNT/cp" bs=1M oflag=append conv=notrunc status=none
check_refused "another file" "$no_space" cp "$E2E_DIR/data" "$MNT/cp2"
check "overwriting in place works in a full pool" dd if="$E2E_DIR/data" of="$MNT/cp" bs=64k count=4 conv=notrunc status=none
check "a mapping of all of it can be read and written in a full pool" python3 -c '
import mmap, sys
f = open(sys.argv[1], "r+b")
m = mmap.mmap(f.fileno(), 0)
for at in range(0, len(m), 4096): m[at] = m[at] ^ 1
for at in range(0, len(m), 4096): m[at] = m[at] ^ 1' "$MNT/cp"
check "and is right" cmp -n "$size" "$E2E_DIR/data" "$MNT/cp"
check_refused "the daemon lives: a directory, or ENOSPC for it" "$no_space" bash -c 'for i in $(seq 200000); do mkdir "$1/dir$i" || exit 1; done' - "$MNT"
check_refused "a file of one byte" "$no_space" bash -c 'for i in $(seq 200000); do echo x >"$1/file$i" || exit 1; done' - "$MNT"
check_refused "native: create" ENOSPC native_do create nat 8000000
check_refused "native: extent" ENOSPC native_do extent 8000000
check_refused "native: heap object" ENOSPC native_do heap 30000000
check "the native client ends well" native_stop
check "rm works in a full pool" rm "$MNT/cp"
check "rm of the rest" bash -c 'cd "$1" && find . -mindepth 1 -maxdepth 1 ! -name .cxlshm -print0 | xargs -0 rm -rf' - "$MNT"
check "the space comes back" wait_until 10 'test "$(free)" -ge $((before - 4200000))'
note "free: $(free) bytes"
check "and can be used" dd if="$E2E_DIR/data" of="$MNT/again" bs=1M count=$((before / 2 >> 20)) status=none
# A sparse file that is grown by truncate is reserved: no hole of it can fault later.
rm "$MNT/again"
# The extent goes a moment after its last user: wait until nothing comes back any more.
wait_until 10 'a=$(free); sleep 0.3; test "$(free)" = "$a"'
room=$(($(free) - 5000000))
check "truncate to what is free" truncate -s "$room" "$MNT/all"
check_refused "leaves nothing for others" "$no_space" truncate -s 16M "$MNT/more"
check "every page of the mapping is there" python3 -c '
import mmap, sys
f = open(sys.argv[1], "r+b")
m = mmap.mmap(f.fileno(), 0)
assert not any(m[at] for at in range(0, len(m), 4096))
for at in range(0, len(m), 4096): m[at] = 1' "$MNT/all"
note "free: $(free); in the pool's file system: $(df --output=avail -B1 "$POOL" | tail -n 1)"
rm -f "$MNT/all" "$MNT/more"
for turn in $(seq 5); do
	cp "$E2E_DIR/data" "$MNT/fill" 2>/dev/null
	rm "$MNT/fill"
done
check "five times full and empty leaves as much as before" wait_until 5 'test "$(free)" -ge $((room))'
# A file closed a moment ago is not kept when its name goes.  The kernel tells the daemon of the close, and that it forgot the file,
# while the program goes on, and freeing takes a while, so the program may be first: not in half of the turns.
make_pool "$E2E_DIR/small" 16M
mount_pool "$E2E_DIR/small" "$E2E_DIR/small-mnt"
cat >"$E2E_DIR/again.py" <<'P'
import errno, os, sys, time
folder, how, turns, full = sys.argv[1], sys.argv[2], 40, 0
st = os.statvfs(folder)
size = st.f_bavail * st.f_frsize // 4 * 3
def put(name):
    fd = os.open(folder + name, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        return 1
    finally:
        os.close(fd)
    return 0
for turn in range(turns):
    os.close(os.open(folder + "/empty", os.O_CREAT))
    assert put("/old") == 0
    if how == "rm":
        os.unlink(folder + "/old")
    else:
        os.rename(folder + "/empty", folder + "/old")
    time.sleep(0.002)  # of the five that it would be kept
    full += put("/new")
    for name in os.listdir(folder):
        if name != ".cxlshm":
            os.unlink(folder + "/" + name)
    time.sleep(0.03)  # all of it has gone
print(f"{full} of {turns} turns")
sys.exit(full > turns / 2)
P
for how in rm mv; do
	check "what $how takes away makes room" python3 "$E2E_DIR/again.py" "$E2E_DIR/small-mnt" $how
	note "ENOSPC in $(cat "$LOG")"
done
check "unmount it" unmount_pool "$E2E_DIR/small-mnt"
# A plain pool has no file system of its own to keep it to its size.
make_pool "$E2E_DIR/plain" 16M --plain
mount_pool "$E2E_DIR/plain" "$E2E_DIR/plain-mnt"
check_refused "copy_file_range beyond a plain pool's size" "$no_space" python3 -c '
import os, sys
source, copy = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
os.truncate(source, 2 << 20)
for at in range(0, 64 << 20, 2 << 20): assert os.copy_file_range(source, copy, 2 << 20, 0, at) > 0' \
	"$E2E_DIR/plain-mnt/source" "$E2E_DIR/plain-mnt/copy"
for keep in "" -n; do
	check_refused "fallocate${keep:+ $keep} beyond it" "$no_space" fallocate $keep -l 64M "$E2E_DIR/plain-mnt/reserved"
done
same "reserves nothing" "$(stat -c %b "$E2E_DIR/plain-mnt/reserved")" 0
check_refused "truncate beyond it" "$no_space" truncate -s 64M "$E2E_DIR/plain-mnt/reserved"
# As the README's limits say: all files together are stopped by the file system, if they are written with passthrough.
written() { dd if=/dev/zero of="$E2E_DIR/plain-mnt/written" bs=1M count=24 status=none; }
if [ "$(field "$E2E_DIR/plain-mnt/.cxlshm/stats" daemon_passthrough)" = 1 ]; then
	check "written with passthrough a file may be longer than the pool" written
	sleep 1.1	# the daemon believes for a second what it saw free
	check_refused "and then nothing can be reserved" "$no_space" fallocate -l 4096 "$E2E_DIR/plain-mnt/reserved"
else
	check_refused "a file written by the daemon stops at the pool's size, too" "$no_space" written
fi
check "unmount it" unmount_pool "$E2E_DIR/plain-mnt"
finish
