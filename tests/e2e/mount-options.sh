#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Mount options that are taken: size=, ro, uid=, gid=, umask=, allow_other, time-outs, max_threads, sparse,
# numa=, nosuid, nodev, noexec; two of a kind; and the options of `cxlshmfs` itself.
. "$E2E_LIB/e2e.sh"
. "$E2E_LIB/native.sh"

check "-o size= makes the pool" mount.cxlshm "$POOL" "$MNT" -o size=64M
pools+=("$POOL")
check "it works" cp /etc/passwd "$MNT/a"
size=$(df --output=size -B1 "$MNT" | tail -n 1)
check "of that size ($size)" test "$size" -ge $((48 << 20)) -a "$size" -le $((64 << 20))
check "umount" unmount_pool "$MNT"
check "-o size= makes a pool whose name looks like an option" bash -c 'cd "$1" && mount.cxlshm -o size=32M -- -pool "$2" && umount "$2" && mkfs.cxlshm -q --remove -- -pool' - "$E2E_DIR" "$MNT"
wait_until 10 'test -z "$(daemon_of "$MNT")"'
check "-o size= on a pool that is there takes it as it is" mount.cxlshm "$POOL" "$MNT" -o size=64M
check "with what is in it" cmp /etc/passwd "$MNT/a"
check "umount" unmount_pool "$MNT"

# Sizes as mkfs.cxlshm(8) has them.
for size in 1% 16MiB 16m; do
	check "-o size=$size" mount.cxlshm "$E2E_DIR/pool-$size" "$MNT" -o "size=$size"
	same "without a word" "$(cat "$LOG")" ""
	pools+=("$E2E_DIR/pool-$size")
	check "umount" unmount_pool "$MNT"
done

mount_pool "$POOL" "$MNT" ro
check_refused "ro: create" "read-only" touch "$MNT/new"
check_refused "ro: write" "read-only" bash -c 'echo x >>"$1/a"' - "$MNT"
check_refused "ro: unlink" "read-only" rm "$MNT/a"
check_refused "ro: mkdir" "read-only" mkdir "$MNT/d"
check_refused "ro: chmod" "read-only" chmod 600 "$MNT/a"
check_refused "ro: setfattr" "read-only" setfattr -n user.x -v y "$MNT/a"
check "ro: read" cmp /etc/passwd "$MNT/a"
check "ro: a read-only mapping" python3 -c '
import mmap, sys
with open(sys.argv[1], "rb") as f:
    assert mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:] == open("/etc/passwd", "rb").read()' "$MNT/a"
check "umount" unmount_pool "$MNT"

mount_pool "$POOL" "$MNT" uid=1234,gid=2345,umask=027
same "uid=, gid=" "$(stat -c %u:%g "$MNT/a")" 1234:2345
same "umask=: a file" "$(stat -c %a "$MNT/a")" 640
mkdir "$MNT/d"
same "umask=: a directory" "$(stat -c %a "$MNT/d")" 750
check "umount" unmount_pool "$MNT"
mount_pool
same "they were for show: without them the owner is root" "$(stat -c %u:%g "$MNT/a")" 0:0
chmod 755 "$E2E_DIR"
chmod 755 "$MNT"
check_refused "without allow_other it is for whoever mounted it" "denied" \
	setpriv --reuid 65534 --regid 65534 --clear-groups cmp /etc/passwd "$MNT/a"
check "umount" unmount_pool "$MNT"
mount_pool "$POOL" "$MNT" allow_other
check "allow_other: another user reads" setpriv --reuid 65534 --regid 65534 --clear-groups cmp /etc/passwd "$MNT/a"
chmod 600 "$MNT/a"
check_refused "and is held to the modes" "denied" setpriv --reuid 65534 --regid 65534 --clear-groups cat "$MNT/a"
check "umount" unmount_pool "$MNT"

for option in attr_timeout=1,entry_timeout=0.5 max_threads=1 max_threads=64 default_permissions nosuid,nodev,noexec,noatime rw,ro,rw \
	silent,lazytime,iversion,mand; do
	mount_pool "$POOL" "$MNT" "$option"
	check "-o $option: write and read" bash -c 'cp /etc/group "$1/b" && cmp /etc/group "$1/b"' - "$MNT"
	check "umount" unmount_pool "$MNT"
done
# attr_timeout=: what another mount changes is seen after that time, and not before.  (Not before: if we were that fast.)
# The name stays known for long: looking it up anew brings attributes, too.
mount_pool "$POOL" "$MNT" attr_timeout=2,entry_timeout=600
mount_pool "$POOL" "$E2E_DIR/mnt2"
echo text >"$MNT/b"
sleep 2.1
size_of() { stat -c %s "$1"; }
for try in $(seq 20); do
	start=$(now_ms)
	before=$(size_of "$MNT/b")
	truncate -s $((1000 + try)) "$E2E_DIR/mnt2/b"
	seen=$(size_of "$MNT/b")
	took=$(($(now_ms) - start))
	[ $took -ge 1000 ] || break
	sleep 2.1
done
if [ $took -lt 1000 ]; then same "attr_timeout=2: a size changed by another mount is not seen within a second" "$seen" "$before"
else note "too slow here to see that an attribute is kept for 2 s: 20 times 1 s and more"; fi
check "but soon after the two" wait_until 10 'test "$(size_of "$MNT/b")" = $((1000 + try))'
same "without it, at once" "$(truncate -s 77 "$MNT/b"; size_of "$E2E_DIR/mnt2/b"; truncate -s 88 "$MNT/b"; size_of "$E2E_DIR/mnt2/b")" "77
88"
check "umount" unmount_pool "$MNT"
check "umount" unmount_pool "$E2E_DIR/mnt2"
mount_pool "$POOL" "$MNT" noexec,nosuid,nodev
matches "noexec, nosuid, nodev reach the kernel" "$(awk -v m="$MNT" '$2 == m { print $4 }' /proc/self/mounts)" 'nosuid.*nodev.*noexec'
cp /bin/true "$MNT/true"
check_refused "noexec holds" "denied" bash -c '"$1/true"' - "$MNT"
check "umount" unmount_pool "$MNT"
mount_pool
check "a program runs from the mount" "$MNT/true"
check "umount" unmount_pool "$MNT"

mount_pool "$POOL" "$MNT" sparse
check "sparse: a file longer than the pool" truncate -s 10G "$MNT/sparse"
same "sparse: it is that long" "$(stat -c %s "$MNT/sparse")" $((10 << 30))
check "sparse: it takes no room" test "$(du -k "$MNT/sparse" | cut -f 1)" -lt 1024
rm "$MNT/sparse"
check "umount" unmount_pool "$MNT"

# A plain pool in a container's file system, which no backing file may be on: as without passthrough.
mkdir "$E2E_DIR/stack" && mount -t tmpfs -o mode=755 stack "$E2E_DIR/stack" && mkdir "$E2E_DIR"/stack/{lower,upper,work,all}
if mount -t overlay -o "lowerdir=$E2E_DIR/stack/lower,upperdir=$E2E_DIR/stack/upper,workdir=$E2E_DIR/stack/work" stack "$E2E_DIR/stack/all"; then
	make_pool "$E2E_DIR/stack/all/pool" 32M --plain
	mount_pool "$E2E_DIR/stack/all/pool" "$MNT" allow_other
	same "a pool on an overlay: one line says what is missing" "$(grep -c 'no passthrough.*overlay' "$LOG")" 1
	check "write and read" bash -c 'cp /etc/group "$1/b" && cmp /etc/group "$1/b"' - "$MNT"
	check_refused "a shared mapping is ENODEV" "No such device" python3 -c '
import mmap, sys
f = open(sys.argv[1], "r+b")
mmap.mmap(f.fileno(), 0)' "$MNT/b"
	chmod 755 "$MNT"
	chmod 4777 "$MNT/b"
	setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 "$MNT/b"
	check "another user writes to a setuid file" setpriv --reuid 65534 --regid 65534 --clear-groups bash -c 'echo x >>"$1/b"' - "$MNT"
	same "which is not setuid any more" "$(stat -c %a "$MNT/b")" 777
	check_refused "and has no capabilities" "no such attribute" getfattr -n security.capability "$MNT/b"
	check "umount" unmount_pool "$MNT"
	# Each open file is a descriptor of the daemon there: it takes all that it may have, and then the fault is not the program's.
	(ulimit -Sn 64 && ulimit -Hn 400 && exec mount.cxlshm "$E2E_DIR/stack/all/pool" "$MNT") >"$LOG" 2>&1 || fail "a mount with 64 descriptors: $(cat "$LOG")"
	check "the daemon raises its soft limit of 64 descriptors: 300 files are open; and at the hard one says ENFILE" python3 -c '
import errno, sys
files = []
try:
    while len(files) < 500:
        files.append(open(f"{sys.argv[1]}/fd{len(files)}", "w+b"))
except OSError as error:
    print(len(files), "files, then", error)
    sys.exit(error.errno != errno.ENFILE or len(files) < 300)
sys.exit("500 files with 400 descriptors")' "$MNT"
	check "it goes on when they are closed" bash -c 'cp /etc/group "$1/b" && cmp /etc/group "$1/b" && rm "$1"/fd*' - "$MNT"
	check "umount" unmount_pool "$MNT"
else
	note "no overlay file system here"
fi

# The daemon needs no descriptor a file: 60 are enough for 300 open ones.
(ulimit -n 60; exec mount.cxlshm "$POOL" "$MNT") >"$LOG" 2>&1 || fail "a mount with 60 descriptors: $(cat "$LOG")"
check "with 60 descriptors for the daemon, 300 files are open and mapped" python3 -c '
import mmap, sys
files = [open(f"{sys.argv[1]}/fd{n}", "w+b") for n in range(300)]
for f in files: f.truncate(4096)
maps = [mmap.mmap(f.fileno(), 0) for f in files]
for n, m in enumerate(maps): m[0:4] = b"%04d" % n
assert all(f.read(4) == b"%04d" % n for n, f in enumerate(files))' "$MNT"
rm -f "$MNT"/fd*
check "umount" unmount_pool "$MNT"

node=$(ls -d /sys/devices/system/node/node0 2>/dev/null)
if [ -n "$node" ]; then
	check "-o size=,numa=bind:0" mount.cxlshm "$E2E_DIR/numa" "$MNT" -o size=32M,numa=bind:0
	pools+=("$E2E_DIR/numa")
	check "it works" cp /etc/passwd "$MNT/a"
	same "the pool knows it" "$(field "$MNT/.cxlshm/pool" numa)" bind:0
	hold "$MNT/a" shared
	same "a process that maps a file" "$(uses "$hold_pid" "$MNT/")" "1 mapped, 0 open"
	if [ -e "/proc/$hold_pid/numa_maps" ]; then
		matches "has it bound to that node" "$(grep -F "$MNT/a" "/proc/$hold_pid/numa_maps")" '^[0-9a-f]+ bind(=static)?:0 '
	else
		note "this kernel has no numa_maps"
	fi
	exec {hold_in}>&- {hold_out}<&-
	wait_until 10 test ! -e "/proc/$hold_pid"
	check "umount" unmount_pool "$MNT"
else
	note "this kernel has no NUMA"
fi
# The pool that size= makes is of that group and mode; one that is there is not changed, and a note says so.
member() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
chmod 755 "$E2E_DIR"
for by in mount.cxlshm cxlshmfs; do
	dir=$E2E_DIR/of-$by
	check "$by -o size=,mode=,group=" $by -o size=16M,mode=0664,group=nogroup,allow_other "$dir" "$MNT"
	same "without a word" "$(cat "$LOG")" ""
	pools+=("$dir")
	same "the heap's" "$(stat -c %a:%U:%G "$dir/heap")" 664:root:nogroup
	same "the root directory's" "$(stat -c %a:%U:%G "$MNT")" 775:root:nogroup
	check "a member of the group makes a file" member cp /etc/passwd "$MNT/a"
	check "umount" unmount_pool "$MNT"
	check "$by: again with other ones" $by -o size=32M,mode=0600,group=root,numa=bind:0 "$dir" "$MNT"
	cp "$LOG" "$LOG.notes"
	for option in size mode group numa; do
		check "a note says that $option= is not the pool's" grep -q "note: .*; $option= counts when it is made" "$LOG.notes"
	done
	check "the pool is as it was" test "$(stat -c %a:%U:%G "$dir/heap")" = 664:root:nogroup
	check "umount" unmount_pool "$MNT"
done
# The lines of fstab.example: the group may map the heap, or (shown with gid=) only use the files.
check "size=,group=,allow_other" mount.cxlshm -o size=16M,group=nogroup,allow_other "$E2E_DIR/group" "$MNT"
pools+=("$E2E_DIR/group")
check "a member of the group makes a file" member cp /etc/passwd "$MNT/a"
check "and opens the heap" member dd if="$E2E_DIR/group/heap" of="$E2E_DIR/group/heap" count=0 conv=notrunc
check "umount" unmount_pool "$MNT"
check "size=,gid=,allow_other" mount.cxlshm -o size=16M,gid=65534,allow_other "$E2E_DIR/gid" "$MNT"
pools+=("$E2E_DIR/gid")
check "a member of the group makes a file" member cp /etc/passwd "$MNT/a"
check "writes to it, and deletes it" member bash -c 'echo more >>"$1/a" && rm "$1/a"' - "$MNT"
check_refused "and cannot open the heap" "denied" member dd if="$E2E_DIR/gid/heap" of=/dev/null count=1
check "umount" unmount_pool "$MNT"

check "ro,size= makes the pool, too" cxlshmfs -o ro,size=16M "$E2E_DIR/ro" "$MNT"
pools+=("$E2E_DIR/ro")
check_refused "and it is read-only" "read-only" touch "$MNT/a"
check "umount" unmount_pool "$MNT"
check "-s leaves out what is not known, with a value or without" mount.cxlshm -s -o sparse=yes,bogus,uid,nofail=1,owner=nobody "$POOL" "$MNT"
check "umount" unmount_pool "$MNT"
check "-s leaves in what is known" mount.cxlshm -s -v -o allow_other,bogus,sparse "$POOL" "$MNT"
matches "and only that" "$(cat "$LOG")" 'cxlshmfs -o allow_other,sparse -- '
check "umount" unmount_pool "$MNT"
check_status "cxlshmfs --check" 0 cxlshmfs --check -o size=16M,numa=interleave:0,0-3,ro "$E2E_DIR/check" "$MNT"
check "makes and mounts nothing" bash -c 'test ! -e "$1" && ! grep -q " fuse.cxlshm " /proc/self/mounts' - "$E2E_DIR/check"
check_status "cxlshmfs --help" 0 cxlshmfs --help
cp "$LOG" "$LOG.help"
check_status "mount.cxlshm -h" 0 mount.cxlshm -h
cat "$LOG" >>"$LOG.help"
for option in ro, allow_other default_permissions sparse uid= gid= umask= size=[BS] numa= mode= group= max_threads= attr_timeout= entry_timeout=; do
	same "both name $option" "$(grep -c " $option" "$LOG.help")" 2
done
check_status "cxlshmfs --version" 0 cxlshmfs --version
check "which says one" grep -Eq '[0-9]+\.[0-9]+\.[0-9]+' "$LOG"
finish
