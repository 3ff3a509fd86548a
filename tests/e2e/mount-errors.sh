#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every way a mount can be refused: the message has the path or option in it, the exit status is one
# of mount(8)'s, nothing is mounted and no daemon is left.
. "$E2E_LIB/e2e.sh"
make_pool "$POOL" 64M

# refused TEXT PATTERN STATUS-PATTERN ARGS...: mount.cxlshm ARGS fails like that.
refused() {
	local text=$1 pattern=$2 statuses=$3 rc=0; shift 3
	timeout 20 mount.cxlshm "$@" >"$LOG" 2>"$LOG.err" || rc=$?
	if ! [[ $rc =~ ^($statuses)$ ]]; then fail "$text: status $rc, not $statuses"; sed 's/^/     | /' "$LOG" "$LOG.err"
	elif ! grep -Eiq -- "$pattern" "$LOG.err"; then fail "$text: stderr lacks '$pattern'"; sed 's/^/     | /' "$LOG.err"
	elif grep -q ' fuse\.cxlshm ' /proc/self/mounts; then fail "$text: something got mounted"; umount -l "$MNT"
	elif [ -n "$(daemon_of "$MNT")" ] && ! wait_until 2 'test -z "$(daemon_of "$MNT")"'; then fail "$text: a daemon is left"
	else ok "$text: $(head -n 1 "$LOG.err" | cut -c 1-110)"; fi
}

refused "no such pool" "nopool" "1|2|32" "$E2E_DIR/nopool" "$MNT"
mkdir "$E2E_DIR/emptydir"
refused "an empty directory is no pool" "emptydir" "1|2|32" "$E2E_DIR/emptydir" "$MNT"
mkdir "$E2E_DIR/other"
echo data >"$E2E_DIR/other/file"
refused "someone else's directory" "other" "1|2|32" "$E2E_DIR/other" "$MNT"
same "which keeps its files" "$(cat "$E2E_DIR/other/file")" data
refused "someone else's directory, with size=" "other" "1|2|32" "$E2E_DIR/other" "$MNT" -o size=16M
same "which keeps its files" "$(ls "$E2E_DIR/other")" file
echo data >"$E2E_DIR/afile"
refused "the pool is a file" "afile" "1|2|32" "$E2E_DIR/afile" "$MNT"
refused "no such mount point" "nomnt" "1|2|32" "$POOL" "$E2E_DIR/nomnt"
refused "the mount point is a file" "afile" "1|2|32" "$POOL" "$E2E_DIR/afile"
for option in nosuchoption size=0 size=12X size= size=-5 uid=nobodyatall gid=-1 umask=9 umask=abc attr_timeout=x \
	entry_timeout=-1 max_threads=0 max_threads=many numa=wrong:1 numa=bind:99 uid ro=1 =5; do
	case $option in size=0 | size=12X | size= | size=-5) pool=$E2E_DIR/made ;; numa=*) pool=$E2E_DIR/made ;; *) pool=$POOL ;; esac
	extra=
	[[ $option = numa=* ]] && extra=,size=16M
	refused "-o $option$extra" "${option%%=*}" "1|2|32" "$pool" "$MNT" -o "$option$extra"
done
# A mount that its options fail leaves no pool that was made for it.
for option in nosuchoption uid=nobodyatall size=12Q; do
	refused "-o size=16M,$option" "${option%%=*}" "1" "$E2E_DIR/made" "$MNT" -o "size=16M,$option"
	check "and no pool is made" test ! -e "$E2E_DIR/made/heap"
done
check_refused "cxlshmfs by hand: a pool larger than its file system" "$E2E_DIR/made.*larger" cxlshmfs -o size=100T "$E2E_DIR/made" "$MNT"
check "and no pool is made" test ! -e "$E2E_DIR/made/heap"
refused "no arguments" "usage|missing" "1"
refused "one argument" "usage|missing|mount point" "1" "$POOL"
refused "three arguments" "usage|too many|extra|unexpected" "1" "$POOL" "$MNT" "$MNT"

mkdir "$E2E_DIR/damaged"
mkfs.cxlshm --plain --size=16M "$E2E_DIR/damaged" >"$LOG" 2>&1 || fail "mkfs --plain"
cp -a "$E2E_DIR/damaged" "$E2E_DIR/truncated"
cp -a "$E2E_DIR/damaged" "$E2E_DIR/zeroed"
cp -a "$E2E_DIR/damaged" "$E2E_DIR/version"
truncate -s 5000 "$E2E_DIR/truncated/heap"
refused "a truncated pool" "truncated" "1|2|32" "$E2E_DIR/truncated" "$MNT"
truncate -s 0 "$E2E_DIR/truncated/heap"
refused "a pool with an empty heap" "truncated" "1|2|32" "$E2E_DIR/truncated" "$MNT"
dd if=/dev/zero of="$E2E_DIR/zeroed/heap" bs=64k count=8 conv=notrunc status=none
refused "a pool with a zeroed superblock" "zeroed" "1|2|32" "$E2E_DIR/zeroed" "$MNT"
head -c 65536 /dev/urandom | dd of="$E2E_DIR/zeroed/heap" conv=notrunc status=none
refused "a pool with a random superblock" "zeroed" "1|2|32" "$E2E_DIR/zeroed" "$MNT"
rm -r "$E2E_DIR/version/x"
refused "a pool without its extent folder" "version" "1|2|32" "$E2E_DIR/version" "$MNT"
mount_pool "$E2E_DIR/damaged"
root=$(stat -c %i "$MNT")
check "umount" unmount_pool "$MNT"
dd if=/dev/zero of="$E2E_DIR/damaged/heap" bs=16 seek=$((root / 16)) count=1 conv=notrunc status=none
refused "a pool without a root directory" "damaged; run fsck" "32" "$E2E_DIR/damaged" "$MNT"
check_status "fsck.cxlshm sees it" 4 fsck.cxlshm "$E2E_DIR/damaged"

# Every client slot taken.
. "$E2E_LIB/native.sh"
mkfs.cxlshm --plain --size=16M --clients=4 "$E2E_DIR/slots" >"$LOG" 2>&1 || fail "mkfs --clients=4: $(cat "$LOG")"
taken=
for n in 1 2 3 4; do
	native_start "$E2E_DIR/slots" "client$n" || break
	taken+=" $native_in:$native_out:$native_pid"
done
refused "no client slot is free" "slot" "1|2|32" "$E2E_DIR/slots" "$MNT"
for one in $taken; do
	IFS=: read -r native_in native_out native_pid <<<"$one"
	check "the native client ends well" native_stop
done

mount_pool
check_refused "a second mount on the same mount point" "mnt" timeout 20 mount.cxlshm "$POOL" "$MNT"
check "and the first one works" touch "$MNT/a"
check_refused "a pool mounted into itself" "pool" timeout 20 mount.cxlshm "$POOL" "$POOL"
check "umount" unmount_pool "$MNT"
finish
