#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Try cxlshm on this machine:  mount-helper/try.sh [DIR]
#
# Installs the packages it needs, builds, makes a pool and mounts it, copies a file in, maps it from two
# processes, SIGKILLs one of them and shows what is left of it.  Everything it makes is in DIR (default
# ~/cxlshm-try), and stays mounted for you to look at; it says at the end how to take it away.  A second run
# uses what the first one made.  Needs root, or sudo.
set -euo pipefail
export LC_ALL=C.UTF-8

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(dirname "$here")
case ${1-} in -*) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
dir=${1:-$HOME/cxlshm-try}
mkdir -p "$dir"
dir=$(realpath "$dir")
pool=$dir/pool mnt=$dir/mnt build=$dir/build file=$mnt/example.bin

root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
fail() { printf 'try.sh: %s\n' "$*" >&2; exit 1; }
show() { printf '  $ %s\n' "$*"; "$@" 2>&1 | sed 's/^/    /'; }
# Milliseconds a command takes, as a remark behind it.
timed() {
	local start end what=$1 rc=0
	shift
	start=$(date +%s%N)
	"$@" || rc=$?
	end=$(date +%s%N)
	timings+=("$(printf '%8.1f ms  %s' "$(((end - start) / 10000))e-2" "$what")")
	return "$rc"
}
timings=()
wait_for() { # SECONDS COMMAND...
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.02
	done
}
# The demonstration's processes say who they are: what we start may be a sudo in front of them.
clean() {
	local role
	for role in reader writer; do
		[ ! -s "$dir/$role.pid" ] || root kill -KILL "$(cat "$dir/$role.pid")" 2>/dev/null || true
		rm -f "$dir/$role.pid"
	done
}
trap clean EXIT

say "1. Packages"
if "$here/deps.sh" install build; then
	echo "  all there"
else
	[ $? = 3 ] || fail "the packages could not be installed"
fi
for program in meson ninja cc pkg-config python3 fusermount3; do
	command -v "$program" >/dev/null || fail "$program is missing; see the list above"
done
root modprobe fuse 2>/dev/null || true
[ -c /dev/fuse ] || fail "there is no /dev/fuse: this kernel, or this container, has no FUSE"

say "2. Build, in $build"
[ -f "$build/build.ninja" ] || meson setup "$build" "$source_dir" -Dtests=disabled >"$dir/build.log" 2>&1 ||
	{ tail -n 20 "$dir/build.log" >&2; fail "meson failed; all of it is in $dir/build.log"; }
timed "build" ninja -C "$build" >"$dir/build.log" 2>&1 ||
	{ tail -n 20 "$dir/build.log" >&2; fail "the build failed; all of it is in $dir/build.log"; }
export PATH=$build/mount-helper:$build/fs:$PATH
library=$(find "$build/shm" -maxdepth 1 -name 'libcxlshm.so' | head -n 1)
[ -n "$library" ] || fail "there is no libcxlshm.so in $build/shm"

say "3. A pool of 256 MiB, and its mount"
mkdir -p "$mnt" 2>/dev/null || fail "$mnt is not usable; if a mount there is dead: umount -l $mnt"
if grep -q " $mnt fuse.cxlshm " /proc/self/mounts; then
	echo "  $mnt is mounted already; going on with it"
else
	timed "mkfs.cxlshm" root "$build/mount-helper/mkfs.cxlshm" --if-missing --size=256M --mode=0666 "$pool"
	timed "mount" root "$build/mount-helper/mount.cxlshm" "$pool" "$mnt" -o allow_other
fi
root chmod 1777 "$mnt"
show df -h "$mnt"

say "4. A file"
# Any real file that is not tiny.
example=$(find -L /usr/lib /usr/bin -xdev -type f -size +4M -size -64M -readable 2>/dev/null | head -n 1 || true)
[ -n "$example" ] || example=$(readlink -f /proc/$$/exe)
rm -f "$file"
timed "cp of $(basename "$example"), $(($(stat -c %s "$example") >> 10)) KiB" cp "$example" "$file"
chmod 666 "$file"
cmp "$example" "$file" || fail "the copy differs"
show ls -l "$mnt"
show getfattr --absolute-names -d "$file"

say "5. Two processes map it; one is also a native client with 1000 objects"
# One maps the file read-write and counts in its first 8 bytes what the other one writes there.
cat >"$dir/map.py" <<'PYTHON'
import ctypes, mmap, os, struct, sys, time

role, path, library, pool, folder = sys.argv[1:6]
with open(f"{folder}/{role}.pid", "w") as out:
    out.write(str(os.getpid()))
with open(path, "r+b") as f:
    shared = mmap.mmap(f.fileno(), 0)
if role == "writer":
    cxlshm = ctypes.CDLL(library)
    error, handle, client = ctypes.create_string_buffer(512), ctypes.c_void_p(), ctypes.c_void_p()
    if cxlshm.cxlshm_pool_open(pool.encode(), 0, ctypes.byref(handle), error):
        sys.exit(error.value.decode())
    if cxlshm.cxlshm_join(handle, b"try.sh", 0, ctypes.byref(client)):
        sys.exit("cannot join the pool")
    for _ in range(1000):
        ref = ctypes.c_uint64()
        if cxlshm.cxlshm_alloc(client, ctypes.c_size_t(64), ctypes.byref(ref)):
            sys.exit("cannot allocate")
count = 0
with open(f"{folder}/{role}.said", "w") as out:
    while True:
        if role == "writer":
            count += 1
            shared[0:8] = struct.pack("<Q", count)
            time.sleep(0.001)
        else:
            time.sleep(0.01)
        out.seek(0)
        out.write(f"{struct.unpack('<Q', shared[0:8])[0]:<20}")
        out.flush()
PYTHON
start_demo() { # ROLE: as root when we are not, for the writer maps the heap
	PYTHONDONTWRITEBYTECODE=1 root python3 "$dir/map.py" "$1" "$file" "$library" "$pool" "$dir" \
		>"$dir/$1.log" 2>&1 &
	disown	# no word from bash when it is killed
}
# The native client's line; its process id is in the third column.
client_line() { awk '$NF == "try.sh"' "$mnt/.cxlshm/clients"; }
clean
rm -f "$dir/reader.said" "$dir/writer.said"
start_demo reader
start_demo writer
has_1000() { [ "$(client_line | awk '{ print $6 }')" -ge 1000 ]; }
wait_for 10 has_1000 || { cat "$dir/writer.log" >&2; fail "the native client did not come"; }
said() { tr -d ' ' <"$dir/$1.said"; }
sees_writer() { [ "$(said writer)" -ge 100 ] && [ "$(said reader)" -ge 100 ] && [ "$(said reader)" -le "$(said writer)" ]; }
wait_for 10 sees_writer || { cat "$dir"/*.log >&2; fail "the reader does not see what the writer writes"; }
show cat "$mnt/.cxlshm/clients"
echo "  the writer counts in the mapped file; the reader sees $(said reader), just now"

say "6. SIGKILL for the writer"
victim=$(client_line | awk '{ print $3 }')
python3 - "$mnt/.cxlshm/clients" "$victim" "$(id -u)" >"$dir/recovery" <<'PYTHON'
import os, subprocess, sys, time
clients, victim, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
def there():
    with open(clients) as f:
        return any(line.split()[2:3] == [victim] for line in f)
kill = ["kill", "-KILL", victim] if uid == 0 else ["sudo", "kill", "-KILL", victim]
if uid == 0:
    os.kill(int(victim), 9)
else:
    subprocess.run(kill, check=True)
start = time.monotonic()
while there():
    if time.monotonic() - start > 10:
        sys.exit("its client is still there after 10 s")
print(f"{(time.monotonic() - start) * 1000:.1f}")
PYTHON
timings+=("$(printf '%8.1f ms  SIGKILL to the last of its 1000 references gone' "$(cat "$dir/recovery")")")
show cat "$mnt/.cxlshm/clients"
show grep -E 'clients_recovered|references_recovered' "$mnt/.cxlshm/stats"
sleep 0.1
last=$(said reader)
sleep 0.1
root kill -0 "$(cat "$dir/reader.pid")" || fail "the reader died, too"
[ "$last" = "$(said reader)" ] || fail "somebody still writes"
echo "  the reader goes on, and still sees $last: the last that the writer wrote"
clean

say "What it took"
printf '%s\n' "${timings[@]}"

say "It is still mounted"
sudo=$([ "$(id -u)" = 0 ] || echo 'sudo ')
cat <<TEXT
  Look round:        ls -la $mnt $mnt/.cxlshm
  Unmount:           ${sudo}umount $mnt
  Take it all away:  ${sudo}umount $mnt && ${sudo}$build/mount-helper/mkfs.cxlshm --remove $pool && rm -rf $dir
TEXT
