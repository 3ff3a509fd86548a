#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Two mounts of one pool, and a native client, see each other's names and data at once.
. "$E2E_LIB/e2e.sh"
. "$E2E_LIB/native.sh"
make_pool "$POOL" 128M
A=$MNT B=$E2E_DIR/mnt2
mount_pool "$POOL" "$A"
mount_pool "$POOL" "$B"
native_start "$POOL" third

bad=0
for i in $(seq 300); do
	echo "$i" >"$A/f"
	[ "$(cat "$B/f")" = "$i" ] || bad=$((bad + 1))
	echo "longer $i" >>"$B/f"
	[ "$(tail -n 1 "$A/f")" = "longer $i" ] || bad=$((bad + 1))
	[ "$(stat -c %s "$A/f")" = "$(stat -c %s "$B/f")" ] || bad=$((bad + 1))
	mv "$A/f" "$A/g"
	[ -e "$B/g" ] && [ ! -e "$B/f" ] || bad=$((bad + 1))
	rm "$B/g"
	[ ! -e "$A/g" ] || bad=$((bad + 1))
done
same "300 rounds of write, append, stat, rename, unlink: wrong" "$bad" 0
bad=0
for i in $(seq 100); do
	mkdir "$A/d" && touch "$B/d/x" && [ "$(ls "$A/d")" = x ] || bad=$((bad + 1))
	rmdir "$A/d" 2>/dev/null && bad=$((bad + 1))
	rm "$A/d/x" && rmdir "$B/d" && [ ! -e "$A/d" ] || bad=$((bad + 1))
done
same "100 rounds of mkdir, create inside, rmdir: wrong" "$bad" 0
touch "$A/f"
chmod 604 "$A/f"
same "chmod" "$(stat -c %a "$B/f")" 604
touch -d @1000000000 "$B/f"
same "times" "$(stat -c %Y "$A/f")" 1000000000
setfattr -n user.a -v b "$A/f"
same "xattr" "$(xattr "$B/f" user.a)" b
truncate -s 12345 "$B/f"
same "truncate" "$(stat -c %s "$A/f")" 12345
same "inode numbers agree" "$(stat -c %i "$A/f")" "$(stat -c %i "$B/f")"
exec 7<>"$A/f"
rm "$B/f"
echo still >&7
same "a descriptor of one mount outlives the other's unlink" "$(head -c 5 /proc/self/fd/7)" still
exec 7>&-
check "native: create" native_do create n 4096
check "both mounts have it" test -e "$A/n" -a -e "$B/n"
check "native: unlink" native_do unlink n
check "neither has it" test ! -e "$A/n" -a ! -e "$B/n"
native_do drop

# O_EXCL creates by both at once: one wins.
wrong=0
for i in $(seq 50); do
	(set -C; : >"$A/x$i") 2>/dev/null & one=$!
	(set -C; : >"$B/x$i") 2>/dev/null & two=$!
	winners=0
	wait $one && winners=$((winners + 1))
	wait $two && winners=$((winners + 1))
	[ $winners = 1 ] || wrong=$((wrong + 1))
done
same "O_EXCL from both mounts: rounds of 50 without one winner" "$wrong" 0
# mkdir as a lock, and a counter under it: 2 x 200.
echo 0 >"$A/counter"
count() {
	local i
	for i in $(seq 200); do
		until mkdir "$1/lock" 2>/dev/null; do :; done
		echo $(($(cat "$1/counter") + 1)) >"$1/counter"
		rmdir "$1/lock"
	done
}
count "$A" & one=$!
count "$B" & two=$!
wait $one $two
same "a lock directory keeps a counter right" "$(cat "$A/counter")" 400
# Directories moved into each other from both mounts never make a loop.
mkdir -p "$A/p/q" "$A/r/s"
for i in $(seq 100); do
	mv -T "$A/p" "$A/r/s/p" 2>/dev/null & one=$!
	mv -T "$B/r" "$B/p/q/r" 2>/dev/null & two=$!
	wait $one; wait $two
	[ -d "$A/p" ] && [ -d "$A/r" ] && { fail "turn $i: neither moved"; break; }
	[ -d "$A/p" ] || [ -d "$A/r" ] || { fail "turn $i: a loop, out of reach"; break; }
	if [ -d "$A/p" ]; then mv -T "$A/p/q/r" "$A/r"; else mv -T "$A/r/s/p" "$A/p"; fi || { fail "turn $i: cannot move back"; break; }
done
check "100 crossed moves: the tree is whole" test -d "$A/p/q" -a -d "$A/r/s"
# Turned round from the other mount, below a shell's feet: this kernel goes by the old order until it looks up the new path.
mkdir -p "$B/t/u" && cd "$B/t/u" && mv "$A/t/u" "$A/u" && mv "$A/t" "$A/u/t"
check "a directory that was turned round is found where it is" test "$(stat -c %i "$B/u")" = "$(stat -c %i "$A/u")"
same "and from then on the one below it, from inside" "$(stat -c %i t)" "$(stat -c %i "$A/u/t")"
cd /
check "the native client ends well" native_stop
# A mount looks whether a closed file is still mapped by taking a lease on its extent for a moment.  One that is stopped in
# that moment holds up who wants this file, and nobody else.
rm -rf "$MNT"/*
: >"$MNT/leased"
: >"$MNT/beside"
check "a lease that is not given back holds up no other requests" python3 -c '
import fcntl, glob, os, signal, subprocess, sys, time
pool, mnt = sys.argv[1:]
signal.signal(signal.SIGIO, signal.SIG_IGN)
leases = []
for path in glob.glob(pool + "/x/*"):
    fd = os.open(path, os.O_RDONLY)
    for turn in range(2000):	# the mount itself looks at it for a moment
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            break
        except OSError:
            time.sleep(0.005)
    else:
        sys.exit("no lease on " + path)
    leases.append(fd)
child = subprocess.Popen([sys.executable, "-c", "import os, sys; os.truncate(sys.argv[1], 100)", mnt + "/leased"])
time.sleep(1)
start = time.monotonic()
os.mkdir(mnt + "/new")
os.stat(mnt + "/beside")
took = time.monotonic() - start
for fd in leases:
    os.close(fd)
status = child.wait()
print(f"{took * 1000:.0f} ms beside it")
sys.exit(took > 20 or status != 0 or os.stat(mnt + "/leased").st_size != 100)' "$POOL" "$MNT"
note "$(tail -n 1 "$LOG")"
finish
