#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mappings of files on a mount: mapping.py MOUNT SECOND-MOUNT POOL.  Run by mmap-variants.sh."""
import mmap
import os
import subprocess
import sys
import time

mnt, mnt2, pool = sys.argv[1:4]
PAGE = mmap.PAGESIZE
failures = 0


def same(text, got, wanted):
    global failures
    failures += got != wanted
    print(f"{'ok  ' if got == wanted else 'FAIL'} {text}{'' if got == wanted else f' (got {got!r}, wanted {wanted!r})'}")


def make(name, size):
    with open(f"{mnt}/{name}", "wb") as file:
        file.truncate(size)
    return open(f"{mnt}/{name}", "r+b")


def in_another_process(code, *args):
    return subprocess.run([sys.executable, "-c", "import mmap, sys, os\n" + code, *args], check=True,
                          capture_output=True, text=True).stdout.strip()


READ = "f = open(sys.argv[1], 'r+b')\nm = mmap.mmap(f.fileno(), 0)\nprint(m[int(sys.argv[2]):int(sys.argv[3])].decode())"
WRITE = "f = open(sys.argv[1], 'r+b')\nm = mmap.mmap(f.fileno(), 0)\nm[0:5] = b'other'\n"

file = make("shared", 1 << 20)
shared = mmap.mmap(file.fileno(), 0)
shared[100:105] = b"hello"
same("a store is in another process's mapping", in_another_process(READ, f"{mnt}/shared", "100", "105"), "hello")
same("and in one through the other mount", in_another_process(READ, f"{mnt2}/shared", "100", "105"), "hello")
same("and in read(2)", os.pread(file.fileno(), 5, 100), b"hello")
in_another_process(WRITE, f"{mnt2}/shared")
same("another process's store is in ours", shared[0:5], b"other")
os.pwrite(file.fileno(), b"written", 200)
same("write(2) is in the mapping", shared[200:207], b"written")
extents = os.listdir(f"{pool}/x")
same("there is one extent", len(extents), 1)
with open(f"{pool}/x/{extents[0]}", "rb") as extent:
    same("the mapping is the extent itself", (extent.seek(100), extent.read(5)), (100, b"hello"))

private = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)
private[100:105] = b"mine!"
same("a private store is private", (shared[100:105], private[100:105]), (b"hello", b"mine!"))

with open(f"{mnt}/shared", "rb") as readonly_file:
    readonly = mmap.mmap(readonly_file.fileno(), 0, prot=mmap.PROT_READ)
    shared[300:303] = b"abc"
    same("a read-only mapping shows stores", readonly[300:303], b"abc")
    try:
        mmap.mmap(readonly_file.fileno(), 0)
        same("a writable mapping of a read-only descriptor", "made", "refused")
    except PermissionError:
        same("a writable mapping of a read-only descriptor", "refused", "refused")

file.close()
# Python's mmap has a descriptor of its own; holder has none.
with subprocess.Popen(["holder", f"{mnt}/shared", "shared"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
    def ask(line):
        print(line, file=holder.stdin, flush=True)
        return holder.stdout.readline().strip()
    folder = f"/proc/{holder.stdout.readline().strip()}/fd"
    open_files = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
    same("another process has closed it", [path for path in open_files if path.startswith(mnt)], [])
    same("and stores through its mapping", ask("store 400 xyz"), "ok")
    same("after close the mapping lives", shared[400:403], b"xyz")
    shared[403:406] = b"abc"
    same("both ways", ask("read 400 6"), "xyzabc")
    same("and ends", ask("munmap"), "done")
    holder.stdin.close()
pid = os.fork()
if pid == 0:
    while shared[500:501] != b"?":
        time.sleep(0.001)
    shared[501:502] = b"!"
    os._exit(0)
shared[500:501] = b"?"
os.waitpid(pid, 0)
same("a forked child and we share it", shared[500:502], b"?!")
child = os.fork()
if child == 0:
    shared.close()
    private.close()
    readonly.close()
    os._exit(0)
os.waitpid(child, 0)
same("a child that unmaps takes nothing away", shared[500:502], b"?!")

offset = 64 * PAGE
with open(f"{mnt}/shared", "r+b") as again:
    part = mmap.mmap(again.fileno(), 3 * PAGE, offset=offset)
    part[PAGE:PAGE + 4] = b"part"
    same("a mapping of the middle", shared[offset + PAGE:offset + PAGE + 4], b"part")
    anonymous = mmap.mmap(-1, PAGE)
    anonymous[0:4] = b"anon"
    again.seek(0)
    again.write(memoryview(anonymous)[0:4])
    again.flush()
    same("a write from other memory", shared[0:4], b"anon")

with open(f"{mnt}/shared", "r+b") as grown:
    grown.truncate(2 << 20)
    longer = mmap.mmap(grown.fileno(), 0)
    longer[(2 << 20) - 4:] = b"tail"
    same("grown, and mapped to its new end", os.pread(grown.fileno(), 4, (2 << 20) - 4), b"tail")
    same("the old mapping still shows the start", shared[100:105], b"hello")
    longer.close()

files = [make(f"many{number}", PAGE) for number in range(300)]
maps = [mmap.mmap(one.fileno(), 0) for one in files]
for number, one in enumerate(maps):
    one[0:3] = b"%03d" % number
same("300 files mapped at once",
     all(open(f"{mnt2}/many{number}", "rb").read(3) == b"%03d" % number for number in range(300)), True)

hand = make("handshake", PAGE)
ours = mmap.mmap(hand.fileno(), 0)
other = subprocess.Popen([sys.executable, "-c", """
import mmap, sys
f = open(sys.argv[1], 'r+b')
m = mmap.mmap(f.fileno(), 0)
m[8] = 1
for turn in range(1, 200):
    while m[0] != turn: pass
    m[1] = turn
""", f"{mnt2}/handshake"])
while ours[8] != 1:
    pass
start = time.perf_counter()
for turn in range(1, 200):
    ours[0] = turn
    while ours[1] != turn:
        pass
print(f"     a round trip between two Python processes: {(time.perf_counter() - start) / 199 * 1e6:.1f} us")
same("200 turns of a handshake through two mounts", other.wait(20), 0)
sys.exit(1 if failures else 0)
