#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A mapping holds its object: unlink and close while mapped, and it goes after the munmap, not before.
. "$E2E_LIB/e2e.sh"
. "$E2E_LIB/native.sh"
. "$E2E_LIB/native.sh"
make_pool "$POOL" 64M
mount_pool

extents() { ls "$POOL/x" | wc -l; }
none() { [ "$(extents)" = 0 ]; }
cat >"$E2E_DIR/hold.py" <<'P'
import mmap, os, sys
path, mode = sys.argv[1:3]
f = open(path, "r+b")
if mode == "private":
    m = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE)
elif mode == "readonly":
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
else:
    m = mmap.mmap(f.fileno(), 0)
f.close()
if mode == "fork":
    pid = os.fork()
    if pid:
        os._exit(0)
print(os.getpid(), flush=True)
for line in sys.stdin:
    if line == "read\n":
        print(m[:5].decode(), flush=True)
    elif line == "munmap\n":
        m.close()
        print("done", flush=True)
P
for mode in shared private readonly fork; do
	printf 'bytes%.0s' $(seq 4000) >"$MNT/file"
	id=$(xattr "$MNT/file" user.cxlshm.id)
	peer_start python3 "$E2E_DIR/hold.py" "$MNT/file" "$mode"
	pid=$(peer_ask "")
	check "$mode: mapped and closed, the object has its xattr mapped" wait_until 5 'test "$(xattr "$MNT/file" user.cxlshm.mapped)" = 1'
	note "user.cxlshm.mapped: $(xattr "$MNT/file" user.cxlshm.mapped), refs: $(xattr "$MNT/file" user.cxlshm.refs)"
	rm "$MNT/file"
	same "$mode: the name is gone" "$(ls "$MNT")" ""
	sleep 0.5	# more than the longest back-off would need to free it by mistake
	same "$mode: unlinked and closed, the extent stays" "$(extents)" 1
	check "$mode: .cxlshm/objects shows it" test -e "$MNT/.cxlshm/objects/$id"
	matches "$mode: as mapped" "$(tr '\n' ' ' <"$MNT/.cxlshm/objects/$id")" 'mapped[ :=]+(1|yes)'
	# Its bytes are not given to anybody else meanwhile.
	for i in $(seq 20); do head -c 20000 /dev/zero >"$MNT/other$i"; done
	same "$mode: its bytes are still there" "$(peer_ask read)" bytes
	rm "$MNT"/other*
	check "$mode: other files come and go beside it" wait_until 5 'test "$(extents)" = 1'
	start=$(now_ms)
	same "$mode: munmap" "$(peer_ask munmap)" done
	check "$mode: after the munmap the extent goes" wait_until 10 none
	note "$mode: gone $(($(now_ms) - start)) ms after the munmap"
	check "$mode: and the object" test ! -e "$MNT/.cxlshm/objects/$id"
	exec {peer_in}>&- {peer_out}<&-
done

# An unmap soon after the last close is noticed by a look of its own, not by the round each second.
cat >"$E2E_DIR/soon.py" <<'P'
import mmap, os, sys, time
path, extents = sys.argv[1:3]
took = []
for turn in range(11):
    with open(path, "w+b") as f:
        f.truncate(4096)
        m = mmap.mmap(f.fileno(), 0)
    os.unlink(path)
    time.sleep(0.02)  # it was seen as mapped
    m.close()
    start = time.monotonic()
    while os.listdir(extents) and time.monotonic() - start < 10:
        time.sleep(0.001)
    took.append(int(1000 * (time.monotonic() - start)))
print("ms from the munmap to the end of the extent:", *took)
sys.exit(sorted(took)[5] >= 300)
P
check "unmapped soon after the last close: the median of eleven is below 300 ms" python3 "$E2E_DIR/soon.py" "$MNT/file" "$POOL/x"
note "$(cat "$LOG")"

# The same, with the holder killed instead of unmapping.
printf 'bytes%.0s' $(seq 4000) >"$MNT/file"
peer_start python3 "$E2E_DIR/hold.py" "$MNT/file" shared
pid=$(peer_ask "")
rm "$MNT/file"
sleep 0.3
same "held by a process about to be killed" "$(extents)" 1
start=$(now_ms)
kill -9 "$pid"
check "kill -9 of the last one who maps it: the extent goes" wait_until 10 none
note "gone $(($(now_ms) - start)) ms after the kill"

# An open descriptor alone holds it as well.
echo text >"$MNT/file"
exec 8<"$MNT/file"
rm "$MNT/file"
sleep 0.2
same "an open descriptor holds the extent" "$(extents)" 1
same "and reads it" "$(cat <&8)" text
exec 8<&-
check "close frees it" wait_until 5 none
finish
