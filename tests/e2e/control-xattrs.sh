#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The extended attributes user.cxlshm.* on every kind of file.
. "$E2E_LIB/e2e.sh"
make_pool "$POOL" 64M
mount_pool
echo text >"$MNT/file"
mkdir "$MNT/dir"
mkfifo "$MNT/fifo"
ln -s file "$MNT/link"
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$MNT/socket"
names="user.cxlshm.holders user.cxlshm.id user.cxlshm.kind user.cxlshm.mapped user.cxlshm.refs user.cxlshm.size"
for path in file dir; do
	same "$path: getfattr -d lists them all" "$(getfattr --absolute-names -d "$MNT/$path" | sed -n 's/^\(user[^=]*\)=.*/\1/p' | sort | tr '\n' ' ')" "$names "
done
# The kernel lets nobody read user.* there, and programs that copy attributes fail at what is listed and cannot be read.
for path in link fifo socket; do
	same "$path: lists none" "$(python3 -c 'import os, sys; print(os.listxattr(sys.argv[1], follow_symlinks=False))' "$MNT/$path")" "[]"
	same "$path: its kind is in .cxlshm/objects" "$(field "$MNT/.cxlshm/objects/$(stat -c %i "$MNT/$path")" kind)" "$([ $path = link ] && echo symlink || echo special)"
done
same "file: kind" "$(xattr "$MNT/file" user.cxlshm.kind)" file
same "dir: kind" "$(xattr "$MNT/dir" user.cxlshm.kind)" directory
same "file: size" "$(xattr "$MNT/file" user.cxlshm.size)" 5
same "file: id is the inode number" "$(xattr "$MNT/file" user.cxlshm.id)" "$(stat -c %i "$MNT/file")"
same "file: mapped" "$(xattr "$MNT/file" user.cxlshm.mapped)" 0
refs=$(xattr "$MNT/file" user.cxlshm.refs)
matches "file: refs" "$refs" '^[1-9][0-9]*$'
ln "$MNT/file" "$MNT/hard"
same "a hard link is one reference more" "$(xattr "$MNT/file" user.cxlshm.refs)" $((refs + 1))
rm "$MNT/hard"
same "and without it one less" "$(xattr "$MNT/file" user.cxlshm.refs)" "$refs"
exec 6<"$MNT/file"
holders=$(xattr "$MNT/file" user.cxlshm.holders)
matches "an open file is held by a client of the daemon" "$holders" '^[0-9]+:[0-9]+'
slot=${holders%%:*}
same "which is in .cxlshm/clients" "$(awk -v s="$slot" '$1 == s { print $3 }' "$MNT/.cxlshm/clients")" "$(daemon_of "$MNT")"
exec 6<&-
# A change of one is taken, for programs that copy attributes, and changes nothing.  (Who holds it may change by itself.)
told() { getfattr --absolute-names -d "$1" | grep -Ev '(refs|holders)='; }
for path in file dir; do
	before=$(told "$MNT/$path")
	for name in $names; do
		check "$path: $name can be set" setfattr -n "$name" -v 7 "$MNT/$path"
		check "$path: and removed" setfattr -x "$name" "$MNT/$path"
	done
	same "$path: and they say what they said" "$(told "$MNT/$path")" "$before"
	matches "$path: as many references, and no 7" "$(xattr "$MNT/$path" user.cxlshm.refs)" '^[1-6]$'
	check "$path: XATTR_REPLACE finds one, XATTR_CREATE, too" python3 -c '
import errno, os, sys
os.setxattr(sys.argv[1], "user.cxlshm.id", b"7", os.XATTR_REPLACE)
try:
    os.setxattr(sys.argv[1], "user.cxlshm.id", b"7", os.XATTR_CREATE)
except OSError as error:
    sys.exit(error.errno != errno.EEXIST)
sys.exit(1)' "$MNT/$path"
done
check_refused "others of that name cannot be set" "not supported" setfattr -n user.cxlshm.nosuch -v 7 "$MNT/file"
check_refused "nor removed" "not supported" setfattr -x user.cxlshm.nosuch "$MNT/file"
check_refused "an unknown one" "no such|not supported|No data" getfattr -n user.cxlshm.nosuch "$MNT/file"
setfattr -n user.mine -v 1 "$MNT/file"
same "one's own stand beside them" "$(getfattr --absolute-names -d "$MNT/file" | grep -c '^user')" 7
setfattr -n user.x -v "0x$(printf '%0131044d' 0)" "$MNT/dir"
same "a value of 65522 bytes" "$(xattr "$MNT/dir" user.x | wc -c)" 65522
check_refused "no more goes in beside it" "no space" setfattr -n user.y -v "" "$MNT/dir"
setfattr -x user.x "$MNT/dir"
check "cp -a copies a file with them" cp -a "$MNT/file" "$E2E_DIR/copy"
check "and back" cp -a "$E2E_DIR/copy" "$MNT/back"
same "without complaints" "$(cat "$LOG")" ""
check "cp --preserve=xattr inside the mount" cp --preserve=xattr "$MNT/file" "$MNT/twin"
same "without complaints" "$(cat "$LOG")" ""
same "the copy tells its own id" "$(xattr "$MNT/twin" user.cxlshm.id)" "$(stat -c %i "$MNT/twin")"
rm "$MNT/twin"
check "getfattr -d, setfattr --restore" bash -c 'cd "$1" && getfattr -d file dir >"$2" && setfattr --restore="$2"' - "$MNT" "$E2E_DIR/dump"
check "mv to another file system" mv "$MNT/back" "$E2E_DIR/moved"
same "without complaints" "$(cat "$LOG")" ""
check "and back" mv "$E2E_DIR/moved" "$MNT/back"
same "without complaints" "$(cat "$LOG")" ""
same "one's own attribute went along" "$(xattr "$MNT/back" user.mine)" 1
check "python: os.listxattr" python3 -c 'import os, sys; assert len(os.listxattr(sys.argv[1])) == 7' "$MNT/file"
finish
