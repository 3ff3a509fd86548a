#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The daemon by hand: foreground and debug, SIGTERM, SIGINT and SIGHUP unmount cleanly, readiness is told to
# systemd, and the terminal is let go of.
. "$E2E_LIB/e2e.sh"
need strace
make_pool "$POOL" 64M

for signal in TERM INT HUP; do
	# A background process of a script ignores SIGINT from birth.
	env --default-signal=INT,HUP cxlshmfs -f "$POOL" "$MNT" >"$LOG.daemon" 2>&1 &
	pid=$!
	check "cxlshmfs -f mounts" wait_until 10 mounted "$MNT"
	check "it works" cp /etc/passwd "$MNT/a$signal"
	kill -s "$signal" "$pid"
	wait_until 20 '! kill -0 "$pid"' || kill -s KILL "$pid"
	rc=0
	wait "$pid" || rc=$?
	same "SIG$signal ends it with status 0" "$rc" 0
	check "and unmounts" test -z "$(grep " $MNT " /proc/self/mounts)"
	mounted "$MNT" && umount -l "$MNT"
done
check "fsck" fsck_clean "$POOL"

cxlshmfs -f -d "$POOL" "$MNT" >"$LOG.debug" 2>&1 &
pid=$!
check "cxlshmfs -d mounts" wait_until 10 mounted "$MNT"
ls "$MNT" >/dev/null
check "and tells of its requests" wait_until 5 'test "$(wc -l <"$LOG.debug")" -gt 3'
check "umount" umount "$MNT"
rc=0
wait "$pid" || rc=$?
same "umount ends it with status 0" "$rc" 0

# systemd's side of sd_notify: a datagram socket.
python3 - "$E2E_DIR/notify" >"$LOG.notify" 2>&1 <<'P' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
s.settimeout(20)
while True:
    message = s.recv(4096)
    print(message.decode(), flush=True)
    if b"STOPPING=1" in message:
        break
P
notify=$!
wait_until 5 test -S "$E2E_DIR/notify"
NOTIFY_SOCKET=$E2E_DIR/notify cxlshmfs -f "$POOL" "$MNT" >"$LOG.daemon" 2>&1 &
pid=$!
check "READY=1 is told" wait_until 10 grep -q READY=1 "$LOG.notify"
check "when the mount answers" stat "$MNT/aTERM"
kill "$pid"
rc=0
wait "$pid" || rc=$?
same "SIGTERM ends this one with status 0" "$rc" 0
check "STOPPING=1 is told" wait_until 5 grep -q STOPPING=1 "$LOG.notify"
kill "$notify" 2>/dev/null
wait "$notify" 2>/dev/null

# The trial that tells whether passthrough works comes after the kernel has the mount's first answer.  Made slow, it must
# not let anybody see a mount that has none.
mount_pool
if ! strace -D -f -qq -o /dev/null true 2>/dev/null; then
	skipped "a slow first backing file, and SIGTERM right behind mount(2): strace may not trace here"
elif ! passthrough; then
	note "SKIPPED: a slow first backing file: no passthrough here"
else
	check "umount" unmount_pool
	check "a mount whose first backing file takes long" strace -D -f -qq -o /dev/null -e trace=ioctl -e inject=ioctl:delay_enter=1000000:when=1 \
		mount.cxlshm "$POOL" "$MNT"
	same "says nothing of a lack of passthrough" "$(cat "$LOG")" ""
	check "and maps from the beginning" python3 -c '
import mmap, sys
f = open(sys.argv[1] + "/mapped", "w+b")
f.truncate(4096)
mmap.mmap(f.fileno(), 0)[0:2] = b"ok"' "$MNT"
fi
mounted "$MNT" && check "umount" unmount_pool

# SIGTERM right behind mount(2), which strace makes return late.
if strace -D -f -qq -o /dev/null true 2>/dev/null; then
	strace -D -f -qq -o /dev/null -e trace=mount -e inject=mount:delay_exit=1000000 mount.cxlshm "$POOL" "$MNT" >"$LOG" 2>&1 &
	starting=$!
	wait_until 10 'mounted "$MNT"' || fail "a mount that takes long"
	for pid in $(daemon_of "$MNT"); do kill "$pid"; done	# the daemon, and who waits for it
	wait "$starting"
	check "SIGTERM to a daemon that has just mounted leaves no mount" wait_until 10 '! mounted "$MNT"'
	check "and no daemon" wait_until 10 'test -z "$(daemon_of "$MNT")"'
fi

check "a mount without standard input, output and error" bash -c 'exec timeout 20 mount.cxlshm "$1" "$2" <&- >&- 2>&-' - "$POOL" "$MNT"
check "works" bash -c 'cp /etc/passwd "$1/closed" && cmp /etc/passwd "$1/closed"' - "$MNT"
check "umount" timeout 20 umount "$MNT"
check "its daemon goes" wait_until 10 'test -z "$(daemon_of "$MNT")"'

exec {lock}>"$E2E_DIR/lock"
flock "$lock"
mount_pool
exec {lock}>&-
check "the daemon keeps nothing open that its starter had open" flock -n "$E2E_DIR/lock" true
pid=$(daemon_of "$MNT")
same "the daemon keeps no terminal or pipe" "$(readlink "/proc/$pid/fd/0" "/proc/$pid/fd/1" "/proc/$pid/fd/2" | sort -u)" /dev/null
same "its working directory pins nothing" "$(readlink "/proc/$pid/cwd")" /
check "it has left this one" test "$(ps -o sid= -p "$pid" | tr -d ' ')" != "$(ps -o sid= -p $$ | tr -d ' ')"
kill "$pid"
check "SIGTERM to the daemonised one unmounts" wait_until 10 'test -z "$(ls -A "$MNT" 2>/dev/null)"'
check "and it goes" wait_until 10 test ! -e "/proc/$pid"

# A daemon whose mount was taken away with umount -l, and that somebody still uses, does not touch the next one.
mount_pool
pid=$(daemon_of "$MNT")
(cd "$MNT" && exec sleep 60) &
user=$!
wait_until 10 'test "$(readlink "/proc/$user/cwd")" = "$MNT"'
check "umount -l of a mount in use" umount -l "$MNT"
mount_pool
kill "$pid"
check "SIGTERM to its daemon ends it" wait_until 10 test ! -e "/proc/$pid"
check "the new mount stays" mounted "$MNT"
check "and answers" stat "$MNT/.cxlshm/pool"
kill "$user"
wait "$user" 2>/dev/null
mounted "$MNT" && check "umount" unmount_pool
check "nothing is left mounted" test -z "$(grep " $MNT " /proc/self/mounts)"
finish
