#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A native client and a file user share one object: stores are seen at once both ways, sizes agree, and each one's
# reference keeps it alive.
. "$E2E_LIB/e2e.sh"
make_pool "$POOL" 128M
mount_pool
. "$E2E_LIB/native.sh"
native_start "$POOL" tester

check "native: create a file object" native_do create shared 1048576
same "it is a file of that size" "$(stat -c '%F %s' "$MNT/shared")" "regular file 1048576"
check "native: map it" native_do map
check "native: store" native_do store 1000 from-native
same "read(2) sees it" "$(dd if="$MNT/shared" bs=1 skip=1000 count=11 status=none)" from-native
printf from-file | dd of="$MNT/shared" bs=1 seek=2000 conv=notrunc status=none
same "native sees write(2)" "$(native_do load 2000 9)" from-file
python3 - "$MNT/shared" >"$LOG.py" <<'P' &
import mmap, sys, time
f = open(sys.argv[1], "r+b")
m = mmap.mmap(f.fileno(), 0)
f.close()
end = time.time() + 30
while m[0:4] != b"ping" and time.time() < end:
    pass
m[8:12] = b"pong"
print("done" if m[0:4] == b"ping" else "no ping")
P
sleep 0.3
check "native: store to a Python mapping" native_do store 0 ping
us=$(native_do await 8 pong)
matches "native sees the Python mapping's answer" "$us" '^[0-9]+$' && note "after $us us"
wait $!
same "Python saw the ping" "$(cat "$LOG.py")" done
same "the file shows native's reference: holders" "$(xattr "$MNT/shared" user.cxlshm.holders | grep -c .)" 1
note "user.cxlshm.holders: $(xattr "$MNT/shared" user.cxlshm.holders), refs: $(xattr "$MNT/shared" user.cxlshm.refs)"
before=$(xattr "$MNT/shared" user.cxlshm.refs)
check "native: attach 10" native_do attach 10
same "user.cxlshm.refs counts them" "$(xattr "$MNT/shared" user.cxlshm.refs)" $((before + 10))
check "native: release 10" native_do release 10
same "and no longer" "$(xattr "$MNT/shared" user.cxlshm.refs)" "$before"
same "ids agree" "$(xattr "$MNT/shared" user.cxlshm.id)" "$(native_do id)"
check "native: resize" native_do resize 2097152
same "the file has the new size" "$(stat -c %s "$MNT/shared")" 2097152
truncate -s 3000000 "$MNT/shared"
same "native sees truncate(2)" "$(native_do size)" 3000000
rm "$MNT/shared"
same "unlinked, native's mapping reads on" "$(native_do load 1000 11)" from-native
same "its extent is there" "$(ls "$POOL/x" | wc -l)" 1
check "native: drop it" native_do drop
check "now the extent goes" wait_until 5 'test "$(ls "$POOL/x" | wc -l)" = 0'

check "native: a nameless extent object" native_do extent 65536
check "native: map it" native_do map
check "native: store" native_do store 0 nameless
check "native: name it" native_do link named
same "it is a file with those bytes" "$(head -c 8 "$MNT/named")" nameless
check "Python maps it" python3 -c '
import mmap, sys
f = open(sys.argv[1], "r+b")
m = mmap.mmap(f.fileno(), 0)
assert m[0:8] == b"nameless" and len(m) == 65536
m[0:8] = b"by-file!"' "$MNT/named"
same "native sees its store" "$(native_do load 0 8)" "by-file!"
check "native: drop it" native_do drop
same "the name keeps it" "$(head -c 8 "$MNT/named")" "by-file!"
echo hello >"$MNT/byfile"
check "native: open a file made by the shell" native_do open byfile
check "native: map it" native_do map
same "native reads it" "$(native_do load 0 5)" hello
check "native: unlink it" native_do unlink byfile
check "the mount no longer shows it" test ! -e "$MNT/byfile"
check "native: drop" native_do drop
check "native ends well" native_stop
finish
