#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A mapping holds its object: unlink and close while mapped, and it goes after the munmap, not before.
. "$E2E_LIB/e2e.sh"
. "$E2E_LIB/native.sh"
make_pool "$POOL" 64M
mount_pool

extents() { ls "$POOL/x" | wc -l; }
none() { [ "$(extents)" = 0 ]; }
# client_refs ID: how many references the daemon's client has.
client_refs() { awk '$1 == "holder" && $2 == "client" { sum += $4 } END { print sum + 0 }' "$MNT/.cxlshm/objects/$1"; }

# With its name: the mapping counts as a reference, and is over at the munmap.
printf 'bytes%.0s' $(seq 4000) >"$MNT/file"
id=$(xattr "$MNT/file" user.cxlshm.id)
wait_until 5 'test "$(client_refs "$id")" = 1'	# the inode's
hold "$MNT/file" shared
sleep 0.3
same "closed, its name left: nothing but the mapping" "$(uses "$hold_pid" "$MNT/")" "1 mapped, 0 open"
same "which counts" "$(xattr "$MNT/file" user.cxlshm.mapped) $(client_refs "$id")" "1 2"
same "munmap" "$(ask_holder munmap)" done
check "ends that" wait_until 10 'test "$(xattr "$MNT/file" user.cxlshm.mapped) $(client_refs "$id")" = "0 1"'
same "and nothing of the file" "$(stat -c %s "$MNT/file")" 20000
rm "$MNT/file"
exec {hold_in}>&- {hold_out}<&-
check "the name was the last to hold it" wait_until 10 none

unlinked() { # MODE, and how it ends: munmap or kill
	local mode=$1 how=$2 text="$1, $2" id start
	printf 'bytes%.0s' $(seq 4000) >"$MNT/file"
	id=$(xattr "$MNT/file" user.cxlshm.id)
	hold "$MNT/file" "$mode" || return
	same "$text: nothing but the mapping" "$(uses "$hold_pid" "$MNT/")" "1 mapped, 0 open"
	check "$text: mapped and closed, the object has its xattr mapped" wait_until 5 'test "$(xattr "$MNT/file" user.cxlshm.mapped)" = 1'
	rm "$MNT/file"
	same "$text: the name is gone" "$(ls "$MNT")" ""
	sleep 0.5	# more than the longest back-off would need to free it by mistake
	same "$text: unlinked and closed, the extent stays" "$(extents)" 1
	check "$text: .cxlshm/objects shows it" test -e "$MNT/.cxlshm/objects/$id"
	same "$text: as mapped, with a reference of the inode and one of the mapping" "$(field "$MNT/.cxlshm/objects/$id" mapped) $(client_refs "$id")" "1 2"
	# Its bytes are not given to anybody else meanwhile.
	check "$text: another file fills the pool" fill "$MNT/other"
	same "$text: the bytes are still there" "$(ask_holder check)" same
	rm "$MNT/other"
	check "$text: other files come and go beside it" wait_until 5 'test "$(extents)" = 1'
	same "$text: nothing but the mapping to the end" "$(uses "$hold_pid" "$MNT/")" "1 mapped, 0 open"
	start=$(now_ms)
	if [ "$how" = kill ]; then kill -9 "$hold_pid"; else same "$text: done" "$(ask_holder munmap)" done; fi
	check "$text: the extent goes" wait_until 10 none
	note "$text: gone $(($(now_ms) - start)) ms after it"
	check "$text: and the object" test ! -e "$MNT/.cxlshm/objects/$id"
	[ "$how" = kill ] || check "$text: its process had not to end for that" kill -0 "$hold_pid"
	exec {hold_in}>&- {hold_out}<&-
}
for mode in shared private readonly fork; do
	unlinked $mode munmap
	unlinked $mode kill
done

# An unmap soon after the last close is noticed by a look of its own, not by the round each second.
cat >"$E2E_DIR/soon.py" <<'P'
import os, subprocess, sys, time
path, extents = sys.argv[1:3]
took = []
for turn in range(11):
    with open(path, "wb") as f:
        f.truncate(4096)
    with subprocess.Popen(["holder", path, "shared"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        os.unlink(path)
        time.sleep(0.02)  # it was seen as mapped
        assert len(os.listdir(extents)) == 1, "freed while it is mapped"
        holder.stdin.write(b"munmap\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"done\n"
        start = time.monotonic()
        while os.listdir(extents) and time.monotonic() - start < 10:
            time.sleep(0.001)
        took.append(int(1000 * (time.monotonic() - start)))
        holder.stdin.close()
print("ms from the munmap to the end of the extent:", *took)
sys.exit(sorted(took)[5] >= 300)
P
check "unmapped soon after the last close: the median of eleven is below 300 ms" python3 "$E2E_DIR/soon.py" "$MNT/file" "$POOL/x"
note "$(cat "$LOG")"

# Mapped and open: it takes both to end.
echo text >"$MNT/file"
hold "$MNT/file" open
same "a descriptor is seen as one" "$(uses "$hold_pid" "$MNT/")" "1 mapped, 1 open"
rm "$MNT/file"
same "munmap" "$(ask_holder munmap)" done
sleep 0.3
same "the descriptor holds the extent" "$(uses "$hold_pid" "$MNT/"), $(extents)" "0 mapped, 1 open, 1"
kill -9 "$hold_pid"
check "until it is closed, too" wait_until 10 none
exec {hold_in}>&- {hold_out}<&-

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
