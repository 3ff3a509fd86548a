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
# Options with a value that they have not, or without one, and values that make no sense: with a pool and without, also with -f.
for option in owner=nobody nofail=1 defaults=yes sparse=yes ro=yes mode group=nosuchgroup mode=999 mode=0777 mode=0440 numa=bogus \
	numa=bind: numa=bind:0- numa=cxl:0 size=4K size=900K size=129T; do
	size=,size=16M
	[[ $option = size=* ]] && size=
	for pool in "$POOL" "$E2E_DIR/made"; do
		refused "-o $option$size" "${option%%=*}" "1" "$pool" "$MNT" -o "$option$size"
		refused "-f -o $option$size" "${option%%=*}" "1" "$pool" "$MNT" -f -o "$option$size"
	done
	check "and no pool is made" test ! -e "$E2E_DIR/made"
	check_status "cxlshmfs by hand: $option" 1 cxlshmfs -o "$option$size" "$E2E_DIR/made" "$MNT"
	check "and no directory" test ! -e "$E2E_DIR/made"
done
refused "mode= without size=" "mode.*size=" "1" "$POOL" "$MNT" -o mode=0600
refused "group= without size=" "group.*size=" "1" "$POOL" "$MNT" -o group=0
refused "an unknown option, and where they are" "unknown option 'bogus'; see mount.cxlshm\(8\)" "1" "$POOL" "$MNT" -o bogus
refused "a name where a number is wanted" "a number, not a name.*'uid=root'" "1" "$POOL" "$MNT" -o uid=root
refused "-f and an unknown option" "bogus" "1" "$POOL" "$MNT" -f -o bogus
refused "-f and no pool" "nopool" "32" "$E2E_DIR/nopool" "$MNT" -f
check "-f and all is well" mount.cxlshm "$POOL" "$MNT" -f -o ro,group,nofail,user=root
check "-f with size=" mount.cxlshm "$E2E_DIR/made" "$MNT" -f -o size=16M
check "mounts nothing and makes nothing" bash -c '! grep -q " fuse.cxlshm " /proc/self/mounts && test ! -e "$1"' - "$E2E_DIR/made"

# What can be known before a pool is made is looked at before.
mkdir "$E2E_DIR/both"
chown 12:34 "$E2E_DIR/both"
chmod 1753 "$E2E_DIR/both"
mkdir -p "$E2E_DIR/outer/mnt"
refused "a pool to be made at the mount point" "hide the pool" "32" "$E2E_DIR/both" "$E2E_DIR/both" -o size=8M
same "leaves the directory as it was" "$(ls "$E2E_DIR/both"; stat -c %a:%u:%g "$E2E_DIR/both")" 1753:12:34
check "and nothing mounted there" test -z "$(awk -v p="$E2E_DIR/both" '$2 == p' /proc/self/mounts)"
refused "a pool to be made below the mount point" "hide the pool" "32" "$E2E_DIR/outer/mnt/a//b" "$E2E_DIR/outer/mnt" -o size=8M
check "leaves nothing" test -z "$(ls "$E2E_DIR/outer/mnt")"
refused "a mount point inside the pool to be made" "inside the pool" "32" "$E2E_DIR/outer" "$E2E_DIR/outer/mnt" -o size=8M
same "leaves nothing" "$(ls "$E2E_DIR/outer")" mnt
refused "a pool on nodes that there are not" "bind:99" "32" "$E2E_DIR/made" "$MNT" -o size=8M,numa=bind:99
check "leaves nothing" test ! -e "$E2E_DIR/made"
check_status "the same by hand" 32 cxlshmfs -o size=8M,numa=bind:99 "$E2E_DIR/made" "$MNT"
check "leaves nothing" test ! -e "$E2E_DIR/made"
cd "$E2E_DIR/both" && check_status "no pool's name, which is not the present folder" 1 cxlshmfs -o size=8M "" "$MNT"
same "and nothing is made there" "$(ls)" ""
cd /
# Whom the kernel lets down later may try again: the pool, which others may use by now, is there.
mount --bind /dev/null /dev/fuse
wrong='cannot mount: /dev/fuse is not the FUSE device: .*modprobe fuse.*mknod /dev/fuse c 10 229'
refused "/dev/fuse is another device, and a pool to be made" "$wrong" "32" "$E2E_DIR/made" "$MNT" -o size=8M
check_refused "the same by hand" "$wrong" cxlshmfs -o size=8M "$E2E_DIR/both" "$MNT"
refused "/dev/fuse is another device, and a pool that is there" "$wrong" "32" "$POOL" "$MNT" -o size=64M
umount /dev/fuse
mount --bind "$E2E_DIR/afile" /dev/fuse
refused "/dev/fuse is a file" "$wrong" "32" "$POOL" "$MNT"
umount /dev/fuse
# Another /dev, in a mount namespace of its own: only there is a device missing.
export POOL MNT
check_refused "there is no /dev/fuse" "cannot mount: there is no /dev/fuse: modprobe fuse.*mknod" unshare --mount bash -c '
	exec 3>/dev/null && mount -t tmpfs -o mode=755 dev /dev && mknod -m 666 /dev/null c 1 3 && exec mount.cxlshm "$POOL" "$MNT"'
for pool in "$E2E_DIR/made" "$E2E_DIR/both" "$POOL"; do check "the pool stays: ${pool##*/}" fsck_clean "$pool"; done
check "and the next mount takes it" mount.cxlshm -o size=8M "$E2E_DIR/made" "$MNT"
check "umount" unmount_pool "$MNT"
check "mkfs --remove" mkfs.cxlshm --remove "$E2E_DIR/made"
# With size= what an interrupted mkfs.cxlshm left is a pool to be made; what is damaged is not.
mkdir -p "$E2E_DIR/unfinished/x"
: >"$E2E_DIR/unfinished/heap"
refused "an unfinished pool without size=" "unfinished.*mkfs.cxlshm" "32" "$E2E_DIR/unfinished" "$MNT"
refused "mount.cxlshm -o size=: an unfinished plain pool" "--plain" "32" "$E2E_DIR/unfinished" "$MNT" -o size=16M
check "cxlshmfs -o size=: an unfinished pool is made anew" cxlshmfs -o size=16M "$E2E_DIR/unfinished" "$MNT"
check "umount" unmount_pool "$MNT"
rm -r "$E2E_DIR/unfinished"
make_pool "$E2E_DIR/unfinished" 16M --quiet
: >"$E2E_DIR/unfinished/heap"
check "mount.cxlshm -o size=: an unfinished pool on its tmpfs is made anew" mount.cxlshm -o size=16M "$E2E_DIR/unfinished" "$MNT"
check "umount" unmount_pool "$MNT"
printf garbage | dd of="$E2E_DIR/unfinished/heap" conv=notrunc status=none
refused "a damaged pool with size=" "damaged" "32" "$E2E_DIR/unfinished" "$MNT" -o size=16M
check_status "fsck.cxlshm repairs it" 1 fsck.cxlshm -q --repair "$E2E_DIR/unfinished"

# A mount is a client, and writes to the heap.
mkdir "$E2E_DIR/look"
mount --bind "$POOL" "$E2E_DIR/look" && mount -o remount,bind,ro "$E2E_DIR/look"
refused "ro, and a heap that can only be read" "look/heap: read-only.*ro, too.*write to the heap" "32" "$E2E_DIR/look" "$MNT" -o ro
umount "$E2E_DIR/look"

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
