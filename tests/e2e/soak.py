#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random work on one mounted pool, with kills: soak.py POOL MOUNT SECONDS SEED [--daemon-lives] [--totals FILE].

Run by soak.sh.  Five native processes (churn) and three that work on files; every 50 ms one is killed with SIGKILL and started
again; every few seconds the daemon itself is killed and the pool mounted anew (not with --daemon-lives); most of the time one
or two processes are stopped, each for up to 15 s (a third of a shorter run), and not killed before it has gone on.  At the end
the kills pause, one process is stopped, and every other must get on, or somebody waits.

Each counts what it has done, by kinds, and what it was refused, by errors; an error that is not listed for the kind ends it,
and the run has failed.  Both are printed at the end and added to what is in the totals' FILE.  `soak.py --judge FILE` prints
those, and fails if anything was never done: a run in which all is refused shows nothing.
"""
import errno
import json
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time

WORKERS, NATIVE = 8, 5
KINDS_MAX, COLUMNS = 32, 4  # as in churn.c: what is done, and three errors
COUNTS_BYTES = WORKERS * KINDS_MAX * COLUMNS * 8
GOES_ON_S = 60

# What the file workers do, and what each may be told, because others work on the same names: they take them away, or folders are
# not made yet (ENOENT), or they are there (EEXIST).  Nothing fills the pool, so nothing is ENOSPC.
FILE_KINDS = {
    "make folder": (errno.EEXIST, errno.ENOENT),
    "write": (errno.ENOENT,),
    "store in a mapping": (errno.ENOENT,),
    "move into place": (),
    "read": (errno.ENOENT,),
    "map": (errno.ENOENT,),
    "keep a mapping": (),
    "read native whole": (errno.ENOENT,),
    "read native open": (),
    "read native heap": (),
    "rename": (errno.ENOENT,),
    "unlink": (errno.ENOENT,),
    "link": (errno.ENOENT, errno.EEXIST),
    "list": (errno.ENOENT,),
}
# What a daemon that is being killed explains, in any call through the mount: it is gone, or its mount is, and below that is what
# soak.sh has mounted there, where nothing can be made.
# EXDEV is the kernel's word alone: rename(2) and link(2) found one name before the old mount went and the other in the new.
WITHOUT_DAEMON = (errno.ENOTCONN, errno.ECONNABORTED, errno.EROFS)
TWO_MOUNTS = {"move into place": errno.EXDEV, "rename": errno.EXDEV, "link": errno.EXDEV}

# How a file begins, and where the rest comes from: struct stamp of churn.c, and its MODE_* and MARK.
STAMP = struct.Struct("=QQQQQ")
TABLE_BYTES = 1048573
MARK = 0x9E3779B97F4A7C15
WHOLE, OPEN, HEAP = 0o600, 0o666, 0o640
FILE_MOST = 100000


class Wrong(Exception):
    pass


class FileWorker:
    """Random file operations.  Each file says in every byte which one it is: its inode, who wrote it, the how-manieth of his it
    was, and the offset; so bytes of another file, of an earlier one, or of another place in it are told."""

    def __init__(self, mnt, seed, path, number, daemon_lives):
        self.mnt, self.seed, self.daemon_lives = mnt, seed, daemon_lives
        self.draw = random.Random(seed)
        self.sequence = 0
        self.kept = []
        with open(path, "r+b") as file:
            self.counts = mmap.mmap(file.fileno(), 0)
        self.first = number * KINDS_MAX * COLUMNS
        table = self.counts[COUNTS_BYTES:]
        self.table = table + table
        self.kinds = {kind: i for i, kind in enumerate(FILE_KINDS)}
        self.kind = None

    def count(self, kind, column=0):
        at = 8 * (self.first + COLUMNS * self.kinds[kind] + column)
        struct.pack_into("=Q", self.counts, at, struct.unpack_from("=Q", self.counts, at)[0] + 1)

    def bytes_of(self, inode, writer, sequence, size):
        """A file's bytes, as churn's stamp_start() and stamp_bytes() have them."""
        start = ((inode * MARK ^ writer) * MARK ^ sequence) * MARK % 2**64 % TABLE_BYTES
        start = (start + STAMP.size) % TABLE_BYTES
        return STAMP.pack(inode, writer, sequence, size, 1) + self.table[start:start + size - STAMP.size]

    def check(self, what, inode, data, cut=False):
        """Data is all of the file.  Of one that others may cut off and make longer, bytes may be 0."""
        if len(data) < STAMP.size:
            raise Wrong(f"{what}: {len(data)} bytes")
        says = STAMP.unpack_from(data)
        want = self.bytes_of(inode, says[1], says[2], says[3])
        if cut:
            want = self.bytes_of(inode, says[1], says[2], max(len(data), says[3]))[:len(data)]
            want = STAMP.pack(inode, *says[1:4], 1) + want[STAMP.size:]
        if data == want:
            return
        if len(data) != len(want):
            raise Wrong(f"{what}: {len(data)} bytes, and says {says}")
        bad = [i for i in range(len(data)) if data[i] != want[i] and not (cut and data[i] == 0 and i >= STAMP.size)]
        if bad:
            raise Wrong(f"{what}: inode {inode:#x} of {len(data)} bytes says {says[0]:#x}, {says[1:]}; {len(bad)} bytes are wrong,"
                        f" from {bad[0]} to {bad[-1]}; there {data[bad[0]:bad[0] + 16].hex()}, not"
                        f" {want[bad[0]:bad[0] + 16].hex()}")

    def write(self, path):
        """A file with all its bytes, by write(2) or through a mapping, and then its name.  Not in place: who maps what is cut off
        under it gets SIGBUS, as with any file."""
        own = f"{path}.{os.getpid()}"
        size = STAMP.size + self.draw.randrange(FILE_MOST)
        by_map = self.draw.randrange(2)
        self.sequence += 1
        self.kind = "store in a mapping" if by_map else "write"
        with open(own, "w+b", buffering=0, opener=lambda name, flags: os.open(name, flags, WHOLE)) as file:
            data = self.bytes_of(os.fstat(file.fileno()).st_ino, self.seed, self.sequence, size)
            if by_map:
                os.ftruncate(file.fileno(), size)
                with mmap.mmap(file.fileno(), size) as mapping:
                    mapping[:] = data
            elif file.write(data) != size:
                raise Wrong(f"{own}: a short write")
        self.count(self.kind)
        self.kind = "move into place"
        for turn in range(4):
            try:
                os.rename(own, path)
                break
            except FileNotFoundError:
                # It is there, if the mount is.
                if self.daemon_lives or turn == 3:
                    raise
                while not os.path.exists(self.mnt + "/.cxlshm/version"):
                    time.sleep(0.02)
        self.count(self.kind)

    def read(self, path):
        self.kind = "read"
        with open(path, "rb", buffering=0) as file:
            self.check(path, os.fstat(file.fileno()).st_ino, file.readall())
        self.count(self.kind)

    def map(self, path):
        self.kind = "map"
        with open(path, "r+b") as file:
            st = os.fstat(file.fileno())
            # Its size by name: mmap.mmap() takes a size that it cannot ask for to be 0, which is EINVAL.
            mapping = mmap.mmap(file.fileno(), st.st_size, prot=mmap.PROT_READ)
        self.check(path, st.st_ino, mapping[:])
        self.count(self.kind)
        # Some are kept, over what happens to the name and to the daemon, and have to be what they were.
        self.kind = "keep a mapping"
        self.kept.append((path, st.st_ino, mapping))
        if len(self.kept) > 4:
            path, inode, mapping = self.kept.pop(self.draw.randrange(5))
            self.check(f"{path}, mapped for a while", inode, mapping[:])
            mapping.close()
            self.count(self.kind)

    def read_native(self):
        """What churn has made, by its permission bits."""
        path = f"{self.mnt}/native/d{self.draw.randrange(3)}/f{self.draw.randrange(12)}"
        self.kind = "read native whole"
        with open(path, "rb", buffering=0) as file:
            st = os.fstat(file.fileno())
            mode = st.st_mode & 0o777
            if mode == OPEN:
                # Its last byte to be written first: before it is there, anything may be missing.
                if os.pread(file.fileno(), 1, STAMP.size - 8) != b"\1":
                    return
                self.kind = "read native open"
                self.check(path, st.st_ino, file.readall(), cut=True)
            elif mode == HEAP:
                self.kind = "read native heap"
                mark, total = struct.unpack_from("=QQ", file.readall(), 32)
                if total != mark * MARK % 2**64:
                    raise Wrong(f"{path}: a heap object that is not what it was: {mark:#x}, {total:#x}")
            else:
                self.check(path, st.st_ino, file.readall())
        self.count(self.kind)

    def list(self, folder):
        self.kind = "list"
        for name in os.listdir(folder):
            try:
                os.stat(folder + "/" + name)
            except FileNotFoundError:
                pass  # meanwhile
        self.count(self.kind)

    def step(self):
        folder = f"{self.mnt}/files/{self.draw.randrange(4)}"
        path = f"{folder}/{self.draw.randrange(20)}"
        other = f"{self.mnt}/files/{self.draw.randrange(4)}/{self.draw.randrange(20)}"
        action = self.draw.randrange(11)
        if action == 0:
            self.kind = "make folder"
            os.mkdir(folder if self.draw.randrange(2) else os.path.dirname(folder))
            self.count(self.kind)
        elif action <= 3:
            self.write(path)
        elif action == 4:
            self.read(path)
        elif action == 5:
            self.map(path)
        elif action == 6:
            self.read_native()
        elif action == 10:
            self.list(folder)
        else:
            self.kind = ("rename", "unlink", "link")[action - 7]
            if action == 7:
                os.rename(path, other)
            elif action == 8:
                os.unlink(path)
            else:
                os.link(path, other)
            self.count(self.kind)

    def run(self):
        while True:
            try:
                self.step()
            except OSError as error:
                if error.errno in FILE_KINDS[self.kind]:
                    self.count(self.kind, 1 + FILE_KINDS[self.kind].index(error.errno))
                elif self.daemon_lives or error.errno not in WITHOUT_DAEMON + (TWO_MOUNTS.get(self.kind),):
                    print(f"file worker: {self.kind}: {error}", flush=True)
                    os._exit(1)
                else:
                    time.sleep(0.02)
            except Wrong as wrong:
                print(f"file worker: {self.kind}: {wrong}", flush=True)
                os._exit(1)


def daemon_of(mnt):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)").endswith("/cxlshmfs"):
                if mnt.encode() in open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0"):
                    return int(pid)
        except OSError:
            pass
    return None


def native_kinds():
    lines = subprocess.run(["churn", "--kinds"], check=True, capture_output=True, text=True).stdout.splitlines()
    return {line.split("\t")[0]: line.split("\t")[1:] for line in lines}


class Totals:
    """What was done and refused, of each kind: {"native": {"alloc": {"done": 5, "ENOSPC": 0}, ...}, "file": ...}."""

    def __init__(self):
        kinds = {"native": native_kinds(), "file": {kind: [errno.errorcode[e] for e in errors]
                                                     for kind, errors in FILE_KINDS.items()}}
        self.columns = {side: [(kind, ["done"] + errors) for kind, errors in of.items()] for side, of in kinds.items()}
        self.of = {side: {kind: dict.fromkeys(columns, 0) for kind, columns in of} for side, of in self.columns.items()}

    def add(self, side, counts):
        """One worker's counters."""
        for row, (kind, columns) in enumerate(self.columns[side]):
            for column, name in enumerate(columns):
                self.of[side][kind][name] += counts[row * COLUMNS + column]

    def add_to(self, path):
        """This run's to those that are in the file."""
        try:
            with open(path) as file:
                before = json.load(file)
        except FileNotFoundError:
            before = {}
        for side, kinds in self.of.items():
            for kind, columns in kinds.items():
                for name in columns:
                    columns[name] += before.get(side, {}).get(kind, {}).get(name, 0)
        with open(path, "w") as file:
            json.dump(self.of, file)

    def done(self, side):
        return sum(columns["done"] for columns in self.of[side].values())

    def never(self):
        return [f"{side} {kind}" for side, kinds in self.of.items() for kind, columns in kinds.items() if not columns["done"]]

    def print(self):
        for side, kinds in self.of.items():
            print(f"{side} done: " + ", ".join(f"{kind} {columns['done']}" for kind, columns in kinds.items()), flush=True)
            told = (f"{kind} {name} {count}" for kind, columns in kinds.items() for name, count in columns.items()
                    if name != "done" and count)
            print(f"{side} refused: " + ", ".join(told), flush=True)


class Soak:
    def __init__(self, pool, mnt, seed, daemon_lives):
        self.pool, self.mnt, self.seed, self.daemon_lives = pool, mnt, seed, daemon_lives
        self.draw = random.Random(seed)
        self.workers, self.stopped = {}, {}
        self.kills = self.daemon_kills = self.stops = self.most_used = 0
        self.failures = []
        self.totals = Totals()
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(bytes(COUNTS_BYTES))
            file.write(subprocess.run(["churn", "--table"], check=True, capture_output=True).stdout)
            self.path = file.name
        with open(self.path, "r+b") as file:
            self.counts = mmap.mmap(file.fileno(), 0)
        for number in range(WORKERS):
            self.start(number)

    def counts_of(self, number):
        return struct.unpack_from(f"={KINDS_MAX * COLUMNS}Q", self.counts, 8 * KINDS_MAX * COLUMNS * number)

    def done_by(self, number):
        return sum(self.counts_of(number)[::COLUMNS])

    def ended(self, number, how):
        """The worker has ended: what it did."""
        self.totals.add("native" if number < NATIVE else "file", self.counts_of(number))
        self.counts[8 * KINDS_MAX * COLUMNS * number:8 * KINDS_MAX * COLUMNS * (number + 1)] = bytes(8 * KINDS_MAX * COLUMNS)
        if how != -signal.SIGKILL:
            self.failures.append(f"worker {number} ended with {how}: "
                                 f"{self.workers[number].stdout.read().decode(errors='replace')[-800:]}")
        self.workers[number].stdout.close()

    def start(self, number):
        self.seed += 1
        if number < NATIVE:
            command = ["churn", self.pool, str(self.seed)]
        else:
            command = [sys.executable, __file__, "--files", self.mnt, str(self.seed)]
        command += [self.path, str(number)]
        if number >= NATIVE and self.daemon_lives:
            command.append("--daemon-lives")
        self.workers[number] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def reap(self):
        """None ends by itself."""
        for number, worker in self.workers.items():
            if worker.poll() is not None:
                self.ended(number, worker.returncode if worker.returncode != -signal.SIGKILL else "somebody's SIGKILL")
                self.start(number)

    def kill(self, number):
        self.workers[number].kill()
        self.kills += 1
        self.ended(number, self.workers[number].wait())
        self.start(number)

    def kill_daemon(self):
        pid = daemon_of(self.mnt)
        if pid is None:
            self.failures.append("the daemon has gone by itself")
        else:
            os.kill(pid, signal.SIGKILL)
            self.daemon_kills += 1
        subprocess.run(["umount", "-l", self.mnt], check=False)
        for turn in range(3):
            done = subprocess.run(["timeout", "30", "mount.cxlshm", self.pool, self.mnt], capture_output=True, text=True)
            if done.returncode == 0:
                return
            time.sleep(0.2)
        self.failures.append(f"no new mount: {done.stderr.strip()} ({done.returncode})")

    def run(self, seconds):
        begin = time.monotonic()
        next_daemon, next_word = begin + 3, begin + 10
        while (now := time.monotonic()) < begin + seconds and len(self.failures) < 5:
            time.sleep(0.05)
            self.reap()
            self.kill(self.draw.choice([number for number in range(WORKERS) if number not in self.stopped]))
            if now > next_daemon and not self.daemon_lives:
                next_daemon = now + self.draw.uniform(2, 5)
                self.kill_daemon()
            if self.draw.random() < 0.1 and len(self.stopped) < 2:
                number = self.draw.choice([one for one in range(WORKERS) if one not in self.stopped])
                self.workers[number].send_signal(signal.SIGSTOP)
                self.stopped[number] = now + self.draw.uniform(min(2, seconds / 6), min(15, seconds / 3))
                self.stops += 1
            for number in [one for one, end in self.stopped.items() if end < now]:
                del self.stopped[number]
                self.workers[number].send_signal(signal.SIGCONT)
            used = os.statvfs(self.pool)
            self.most_used = max(self.most_used, (used.f_blocks - used.f_bfree) * used.f_frsize >> 20)
            if now > next_word:
                next_word = now + (60 if seconds > 120 else 10)
                print(f"{now - begin:.0f} s: {self.kills} kills, {self.daemon_kills} of the daemon, "
                      f"at most {self.most_used} MiB in use", flush=True)

    def all_get_on(self):
        """With one stopped wherever it is, the others do not wait for it: each gets something done, and not only refused."""
        for number in self.stopped:
            self.workers[number].send_signal(signal.SIGCONT)
        still = self.draw.randrange(WORKERS)
        self.workers[still].send_signal(signal.SIGSTOP)
        self.stops += 1
        before = {number: self.done_by(number) for number in range(WORKERS) if number != still}
        end = time.monotonic() + GOES_ON_S
        while before and time.monotonic() < end and not self.failures:
            time.sleep(0.05)
            self.reap()
            before = {number: done for number, done in before.items() if self.done_by(number) <= done}
        if before and not self.failures:
            self.failures.append(f"with {still} stopped, {sorted(before)} did not get on for {GOES_ON_S} s")
        self.workers[still].send_signal(signal.SIGCONT)

    def end(self, totals_path):
        self.reap()
        for number, worker in self.workers.items():
            worker.kill()
            self.ended(number, worker.wait())
        os.unlink(self.path)
        self.totals.print()
        print(f"at most {self.most_used} MiB in use")
        print(f"{self.kills} kills, {self.daemon_kills} of the daemon, {self.stops} stopped for a while; "
              f"{self.totals.done('native')} native operations, {self.totals.done('file')} on files", flush=True)
        if totals_path:
            self.totals.add_to(totals_path)
        for line in self.failures:
            print("FAIL", line)
        return 1 if self.failures or not self.kills else 0


def judge(path):
    totals = Totals()
    totals.add_to(path)
    totals.print()
    for what in totals.never():
        print(f"FAIL never done: {what}")
    return 1 if totals.never() else 0


def main():
    arguments = sys.argv[1:]
    if arguments[0] == "--judge":
        sys.exit(judge(arguments[1]))
    daemon_lives = "--daemon-lives" in arguments
    if arguments[0] == "--files":
        FileWorker(arguments[1], int(arguments[2]), arguments[3], int(arguments[4]), daemon_lives).run()
    soak = Soak(arguments[0], arguments[1], int(arguments[3]), daemon_lives)
    soak.run(float(arguments[2]))
    soak.all_get_on()
    sys.exit(soak.end(arguments[arguments.index("--totals") + 1] if "--totals" in arguments else None))


main()
