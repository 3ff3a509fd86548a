#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# kill -9 of the daemon: mappings and open descriptors go on; after umount -l and a new mount every name and
# byte is there, what is still mapped is not re-used, and fsck finds nothing.
. "$E2E_LIB/e2e.sh"
. "$E2E_LIB/native.sh"
make_pool "$POOL" 128M
mount_pool
mkdir -p "$MNT/a/b"
head -c 3000000 /dev/urandom >"$E2E_DIR/data"
cp "$E2E_DIR/data" "$MNT/a/b/data"
ln "$MNT/a/b/data" "$MNT/link"
ln -s a/b/data "$MNT/symlink"
for i in $(seq 200); do echo "$i" >"$MNT/a/file$i"; done
setfattr -n user.note -v kept "$MNT/link"
list() { (cd "$1" && find . -name .cxlshm -prune -o -type d -printf '%y %m %p\n' -o -path ./a/b/data -o -path ./link -o -printf '%y %m %s %T@ %n %l %p\n' | sort); }	# the two are written meanwhile
list "$MNT" >"$E2E_DIR/before"

cat >"$E2E_DIR/hold.py" <<'P'
import mmap, os, sys
mnt = sys.argv[1]
f = open(mnt + "/a/b/data", "r+b")
m = mmap.mmap(f.fileno(), 0)
g = open(mnt + "/gone", "w+b")
g.truncate(100000)
n = mmap.mmap(g.fileno(), 0)
n[0:4] = b"gone"
os.unlink(mnt + "/gone")
print("held", flush=True)
for line in sys.stdin:
    try:
        if line == "map\n":
            m[10:14] = b"MAPS"
            assert m[10:14] == b"MAPS" and n[0:4] == b"gone"
            n[4:8] = b"MORE"
        elif line == "fd\n":
            assert os.pread(f.fileno(), 4, 10) == b"MAPS"
            assert os.pwrite(f.fileno(), b"FD", 20) == 2 and m[20:22] == b"FD"
        elif line == "unlinked\n":
            assert n[0:8] == b"goneMORE" and n[8:] == bytes(len(n) - 8)
        elif line == "end\n":
            m.close(); n.close(); f.close(); g.close()
        print("ok", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
P
peer_start python3 "$E2E_DIR/hold.py" "$MNT"
python_in=$peer_in python_out=$peer_out
ask() { peer_in=$python_in peer_out=$python_out; peer_ask "$1"; }
same "a Python process holds files" "$(ask "")" held
# And one whose only hold on a file without a name is its mapping.
head -c 3000000 /dev/urandom >"$MNT/nameless"
hold "$MNT/nameless" shared
id=$(xattr "$MNT/nameless" user.cxlshm.id)
rm "$MNT/nameless"
sleep 0.3
same "another process has nothing but a mapping" "$(uses "$hold_pid" "$MNT/")" "1 mapped, 0 open"
same "of an object that is seen as mapped" "$(field "$MNT/.cxlshm/objects/$id" mapped)" 1
same "into which it stores" "$(ask_holder "store 5000 before")" ok
native_start "$POOL" neighbour
native_do open a/b/data && native_do map || fail "a native neighbour maps it as well"

pid=$(daemon_of "$MNT")
check "kill -9 of the daemon" kill -9 "$pid"
wait_until 5 test ! -e "/proc/$pid"
same "the mapping goes on" "$(ask map)" ok
same "the native client sees its stores" "$(native_do load 10 4)" MAPS
same "read and write on the open descriptor go on" "$(ask fd)" ok
same "the mapping of the nameless file goes on" "$(ask_holder check) $(ask_holder "store 6000 meanwhile")" "same ok"
check_refused "a new open says that the daemon has gone" "not connected|aborted" cat "$MNT/link"
check_refused "a new mount on the stale one is refused, or replaces it" "mnt|stale|busy|connected" timeout 20 mount.cxlshm "$POOL" "$MNT" ||
	note "(it replaced it)"
check "umount -l" umount -l "$MNT"
start=$(now_ms)
check "a new mount" timeout 30 mount.cxlshm "$POOL" "$MNT"
note "mounted again in $(($(now_ms) - start)) ms"
list "$MNT" >"$E2E_DIR/after"
check "every name, mode, size, time and link is there" diff "$E2E_DIR/before" "$E2E_DIR/after"
same "the xattr too" "$(xattr "$MNT/link" user.note)" kept
same "the bytes have the stores made meanwhile" "$(dd if="$MNT/link" bs=1 skip=10 count=4 status=none)$(dd if="$MNT/link" bs=1 skip=20 count=2 status=none)" MAPSFD
check "and otherwise those from before" cmp <(tail -c +101 "$E2E_DIR/data") <(tail -c +101 "$MNT/link")
same "size and links of the one written meanwhile" "$(stat -c '%s %h' "$MNT/link")" "3000000 2"
same "each small file" "$(cat "$MNT"/a/file* | sort -n | uniq | wc -l)" 200
check "the dead daemon's clients are gone" test "$(awk -v p="$pid" 'NR > 1 && $3 == p' "$MNT/.cxlshm/clients" | wc -l)" = 0
same "the old mapping is the new mount's file" "$(ask map)$(dd if="$MNT/link" bs=1 skip=10 count=4 status=none)" okMAPS
for i in $(seq 100); do head -c 200000 /dev/zero | tr '\0' Z >"$MNT/fill$i"; done
check "other files fill the pool" fill "$MNT/fill"
same "an unlinked object that is still open and mapped is not re-used" "$(ask unlinked)" ok
same "nor one of which there is nothing but the mapping" "$(uses "$hold_pid" /nameless): $(ask_holder check)" "1 mapped, 0 open: same"
same "which can be stored to" "$(ask_holder "store 7000 after") $(ask_holder check)" "ok same"
rm "$MNT"/fill*
same "its bytes are right to the end" "$(ask_holder check) $(ask_holder munmap)" "same done"
same "the holder lets go" "$(ask end)" ok
exec {python_in}>&- {hold_in}>&-
native_do drop || fail "native: drop"
check "the native client ends well" native_stop
rm -r "$MNT/a" "$MNT/link" "$MNT/symlink"
check "now nothing is left, not even the unlinked object's extent" wait_until 15 'test -z "$(ls "$POOL/x")"'
ls "$POOL/x" | head -n 3

# Ten kills at random moments under load.
for turn in $(seq 10); do
	(cd "$MNT" && i=0; while :; do echo $i >"t$((i % 50))"; mv "t$((i % 50))" "u$((i % 30))"; mkdir -p "d$((i % 9))"; rmdir "d$(((i + 4) % 9))"; i=$((i + 1)); done) >/dev/null 2>&1 &
	load=$!
	sleep "0.$((RANDOM % 5 + 1))"
	pid=$(daemon_of "$MNT")
	kill -9 "$pid" || fail "turn $turn: no daemon to be killed"
	kill -9 $load
	wait $load 2>/dev/null
	umount -l "$MNT"
	wait_until 5 'test -z "$(daemon_of "$MNT")"'
	timeout 30 mount.cxlshm "$POOL" "$MNT" >"$LOG" 2>&1 || { fail "turn $turn: $(cat "$LOG")"; break; }
	bad=$(cd "$MNT" && for f in u* t*; do [ -s "$f" ] && ! grep -Eqx '[0-9]*' "$f" && echo "$f"; done; ls >/dev/null || echo ls)
	[ -z "$bad" ] || fail "turn $turn: damaged: $bad"
done
check "the load had got somewhere" bash -c 'ls "$1" | grep "^[tu][0-9]"' - "$MNT"
ok "ten kills under load, ten mounts after"
finish
