#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Many processes at once on one mount: nothing is lost, and slow requests do not hold up the others.
. "$E2E_LIB/e2e.sh"
make_pool "$POOL" 256M
mount_pool
# A fresh mount has one client; a second one comes with the first work that takes long.
if passthrough; then
	check "a file that grew without a name" python3 -c '
import os, sys
f = os.open(sys.argv[1] + "/nameless", os.O_CREAT | os.O_RDWR)
os.unlink(sys.argv[1] + "/nameless")
os.write(f, bytes(8 << 20))' "$MNT"
	check "is freed without holding up others" wait_until 10 'grep -q "cxlshmfs-side$" "$MNT/.cxlshm/clients"'
fi
worker() { # N: a private tree, and fights over shared names
	local i
	mkdir "$MNT/w$1" || return 1
	for i in $(seq 60); do
		echo "$1 $i" >"$MNT/w$1/f$i" || return 1
		ln -f "$MNT/w$1/f$i" "$MNT/shared$((i % 7))" 2>/dev/null
		mv "$MNT/w$1/f$i" "$MNT/w$1/g$i" || return 1
		[ "$(cat "$MNT/w$1/g$i")" = "$1 $i" ] || return 1
		rm -f "$MNT/shared$(((i + 3) % 7))"
		mv "$MNT/shared$((i % 5))" "$MNT/shared$((i % 3))" 2>/dev/null
	done
	[ "$(ls "$MNT/w$1" | wc -l)" = 60 ] || return 1
	rm -r "$MNT/w$1"
}
pids=()
for n in $(seq 8); do worker "$n" 2>"$LOG.$n" & pids+=($!); done
bad=0
for pid in "${pids[@]}"; do wait "$pid" || bad=$((bad + 1)); done
same "eight workers; failed" "$bad" 0
cat "$LOG".[1-8]
rm -f "$MNT"/shared*
same "nothing is left" "$(ls "$MNT")$(ls "$POOL/x")" ""

# Slow: listing 30 000 names over and over, reading metrics and walking all holders.  Quick: stat.
python3 - "$MNT" >"$LOG" 2>&1 <<'P'
import os, subprocess, sys, time
mnt = sys.argv[1]
os.mkdir(mnt + "/many")
for n in range(8000):
    os.close(os.open(f"{mnt}/many/{n}", os.O_CREAT | os.O_WRONLY))
open(mnt + "/quick", "w").close()
slow = [subprocess.Popen(["bash", "-c", f"while :; do {command} >/dev/null; done"]) for command in
        (f"ls -lR {mnt}/many", f"cat {mnt}/.cxlshm/metrics {mnt}/.cxlshm/objects/$(stat -c %i {mnt}/quick)",
         f"ls {mnt}/.cxlshm/objects")]
time.sleep(1)
took = []
for turn in range(2000):
    start = time.perf_counter()
    os.stat(mnt + "/quick")
    took.append(time.perf_counter() - start)
for one in slow:
    one.kill()
    one.wait()
took.sort()
print(f"stat beside slow requests: median {took[1000] * 1e6:.0f} us, 99 % {took[1980] * 1e6:.0f} us, slowest {took[-1] * 1e3:.1f} ms")
sys.exit(took[1980] > 0.25)
P
rc=$?
note "$(tail -n 1 "$LOG")"
same "99 of 100 stats beside slow requests take under 250 ms" "$rc" 0
rm -r "$MNT/many"

# One reader stopped in the middle of a listing and one in a fifo must not stop others.
mkdir "$MNT/d"
for i in $(seq 2000); do : >"$MNT/d/$i"; done
python3 -c '
import os, signal, sys
entries = os.scandir(sys.argv[1])
next(entries)
os.kill(os.getpid(), signal.SIGSTOP)
sys.exit(len(list(entries)) == 0)' "$MNT/d" & stopped=$!
check "a lister stops halfway" wait_until 10 grep -q '^State:.T' /proc/$stopped/status
mkfifo "$MNT/fifo"
cat "$MNT/fifo" & reader=$!
check "others work beside a stopped lister and a blocked reader" timeout 10 bash -c 'echo x >"$1/d/new" && mv "$1/d/new" "$1/new" && rm -r "$1/d"' - "$MNT"
kill -CONT $stopped
kill $reader
check "the stopped one goes on" wait $stopped
wait $reader 2>/dev/null
finish
