# SPDX-License-Identifier: MIT
"""The installed programs on damaged pools: damage.py POOL FOLDER COUNT SEED

Copies of POOL into FOLDER, in each a byte or an 8-byte word of its heap changed where there is something other than zeros.
A pool has its own id and key, so a seed does not repeat a case: with DAMAGE_KEEP=DIR those that fail are copied to DIR.  fsck looks, repairs and looks again, a daemon mounts what is damaged and is read, mkfs finds it and makes it anew.  Each
ends by itself, with a status that its man page has, and says the pool's path when it refuses.
"""
import os
import random
import shutil
import signal
import subprocess
import sys
import time

pool, folder, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
heap = open(f"{pool}/heap", "rb").read()
places = [i for i in range(len(heap)) if heap[i]]
failed = False
seen = {"clean": 0, "repaired": 0, "left": 0, "mounted": 0, "refused": 0}


def fail(what):
    global failed
    print(f"FAIL {what}", flush=True)
    failed = True
    keep = os.environ.get("DAMAGE_KEEP")
    if keep:
        shutil.rmtree(f"{keep}/{n}", ignore_errors=True)
        shutil.copytree(path, f"{keep}/{n}")
        with open(f"{keep}/{n}/heap", "r+b") as f:
            f.write(new)


def run(what, allowed, *command):
    done = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        text = done.communicate(timeout=30)[0].decode(errors="replace")
        status = done.returncode
    except subprocess.TimeoutExpired:
        os.killpg(done.pid, signal.SIGKILL)
        status, text = "no end within 30 s", done.communicate()[0].decode(errors="replace")
    if status not in allowed or (status and command[0] != "fsck.cxlshm" and path not in text):
        fail(f"{what}: {' '.join(command)}: {status}, not one of {allowed}: {text[-300:]}")
    return status


for n in range(count):
    path = f"{folder}/p{n}"
    shutil.copytree(pool, path)
    at, kind = rng.choice(places), rng.randrange(4)
    new = bytearray(heap)
    if kind == 0:
        new[at] ^= 0xFF
    elif kind == 1:
        new[at] ^= 1 << rng.randrange(8)
    else:
        at &= ~7
        new[at : at + 8] = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(8)])
    with open(f"{path}/heap", "r+b") as f:
        f.write(new)
    case = f"case {n} of seed {seed}, offset {at:#x}, kind {kind}"
    found = run(f"{case}, fsck", (0, 4, 8), "fsck.cxlshm", path)
    seen["clean" if found == 0 else "left"] += 1
    mounted = run(f"{case}, mount", (0, 32), "cxlshmfs", path, f"{folder}/mnt")
    if mounted == 0:
        seen["mounted"] += 1
        run(f"{case}, reading", (0, 1, 2), "sh", "-c", f'find "$1" -type f -exec cat {{}} + >/dev/null || {{ echo {path}; exit 1; }}', "-", f"{folder}/mnt")
        run(f"{case}, umount", (0,), "umount", f"{folder}/mnt")
        limit = time.monotonic() + 20
        while time.monotonic() < limit:  # umount(8) comes back before the daemon has let go
            if subprocess.run(["fsck.cxlshm", "-q", path], capture_output=True).returncode != 8:
                break
            time.sleep(0.02)
        else:
            fail(f"{case}: the daemon has not let go of it")
    else:
        seen["refused"] += 1
    status = run(f"{case}, fsck --repair", (0, 1, 4, 8), "fsck.cxlshm", "--repair", path)
    if status in (0, 1):
        seen["repaired"] += 1
        run(f"{case}, fsck behind the repair", (0,), "fsck.cxlshm", path)
    run(f"{case}, mkfs --if-missing", (0,) if status in (0, 1) else (0, 1), "mkfs.cxlshm", "--plain", "--size=4M", "--if-missing", path)
    run(f"{case}, mkfs --force", (0,), "mkfs.cxlshm", "--plain", "--size=4M", "--force", path)
    run(f"{case}, fsck of the new pool", (0,), "fsck.cxlshm", path)
    shutil.rmtree(path)
print("; ".join(f"{n} {what}" for what, n in seen.items()))
if not seen["left"] or not seen["repaired"] or not seen["mounted"]:
    print("FAIL nothing was damaged, repaired or mounted")
    failed = True
sys.exit(failed)
