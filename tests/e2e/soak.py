#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random work on one mounted pool, with kills: soak.py POOL MOUNT SECONDS SEED.  Run by soak.sh.

Five native processes (churn) and three that work on files; every 50 ms one is killed with SIGKILL and started
again; every few seconds the daemon itself is killed and the pool mounted anew; most of the time one or two processes are
stopped, each for up to 15 s (a third of a shorter run), and not killed before it has gone on.  Each counts its steps.  At the end the kills pause, one process is stopped, and every other
must get on, or somebody waits.
"""
import errno
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time

# What others' work on the same names explains, and a daemon that is being killed.
EXPECTED = (errno.ENOENT, errno.EEXIST, errno.ENOSPC)
# EXDEV is the kernel's word alone: rename(2) and link(2) found one name before the old mount went and the other in the new.
WITHOUT_DAEMON = (errno.ENOTCONN, errno.ECONNABORTED, errno.EXDEV)
GOES_ON_S = 60


def counters(path):
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 4096)


def file_worker(mnt, seed, steps, number):
    """Random file operations; each file says in its bytes which one it is."""
    draw = random.Random(seed)
    count = 0
    while True:
        count += 1
        struct.pack_into("=Q", steps, 8 * number, count)
        path = f"{mnt}/files/{draw.randrange(4)}/{draw.randrange(20)}"
        other = f"{mnt}/files/{draw.randrange(4)}/{draw.randrange(20)}"
        try:
            action = draw.randrange(9)
            if action == 0:
                os.makedirs(os.path.dirname(path), exist_ok=True)
            elif action <= 3:
                # Not in place: who maps what is cut off under it gets SIGBUS, as with any file.
                own = f"{path}.{os.getpid()}"
                with open(own, "wb") as file:
                    file.write(b"soak" * draw.randrange(1, 20000))
                os.rename(own, path)
            elif action == 4:
                with open(path, "r+b") as file:
                    # Its size by name: mmap.mmap() takes a size that it cannot ask for to be 0, which is EINVAL.
                    with mmap.mmap(file.fileno(), os.fstat(file.fileno()).st_size, prot=mmap.PROT_READ) as mapping:
                        if mapping[:4] != b"soak":
                            print(f"file worker: {path} holds {mapping[:4]!r}", flush=True)
                            os._exit(1)
            elif action == 5:
                os.rename(path, other)
            elif action == 6:
                os.unlink(path)
            elif action == 7:
                os.link(path, other)
            else:
                for name in os.listdir(os.path.dirname(path)):
                    os.stat(os.path.dirname(path) + "/" + name)
        except OSError as error:
            if error.errno in WITHOUT_DAEMON:
                time.sleep(0.02)
            elif error.errno not in EXPECTED:
                print(f"file worker: action {action} on {path}, {other}: {error}", flush=True)
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


class Soak:
    def __init__(self, pool, mnt, seed):
        self.pool, self.mnt, self.seed = pool, mnt, seed
        self.draw = random.Random(seed)
        self.workers, self.stopped = {}, {}
        self.kills = self.daemon_kills = self.stops = 0
        self.failures = []
        self.done = {"native": 0, "file": 0}
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(bytes(4096))
            self.steps_path = file.name
        self.steps = counters(self.steps_path)
        for number in range(8):
            self.start(number)

    def steps_of(self, number):
        return struct.unpack_from("=Q", self.steps, 8 * number)[0]

    def count(self, number):
        """The worker has ended: what it did."""
        self.done["native" if number < 5 else "file"] += self.steps_of(number)
        struct.pack_into("=Q", self.steps, 8 * number, 0)

    def start(self, number):
        self.seed += 1
        if number < 5:
            command = ["churn", self.pool, str(self.seed)]
        else:
            command = [sys.executable, __file__, "--files", self.mnt, str(self.seed)]
        command += [self.steps_path, str(number)]
        self.workers[number] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def reap(self):
        for number, worker in self.workers.items():
            if worker.poll() is not None:
                self.failures.append(f"worker {number} ended with {worker.returncode}: "
                                     f"{worker.stdout.read().decode(errors='replace')[-500:]}")
                self.count(number)
                self.start(number)

    def kill(self, number):
        worker = self.workers[number]
        if worker.poll() is None:
            worker.kill()
            worker.wait()
            worker.stdout.close()
            self.kills += 1
            self.count(number)
            self.start(number)
        else:
            self.reap()

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
            self.kill(self.draw.choice([number for number in range(8) if number not in self.stopped]))
            if now > next_daemon:
                next_daemon = now + self.draw.uniform(2, 5)
                self.kill_daemon()
            if self.draw.random() < 0.1 and len(self.stopped) < 2:
                number = self.draw.choice([one for one in range(8) if one not in self.stopped])
                self.workers[number].send_signal(signal.SIGSTOP)
                self.stopped[number] = now + self.draw.uniform(min(2, seconds / 6), min(15, seconds / 3))
                self.stops += 1
            for number in [one for one, end in self.stopped.items() if end < now]:
                del self.stopped[number]
                self.workers[number].send_signal(signal.SIGCONT)
            if now > next_word:
                next_word = now + (60 if seconds > 120 else 10)
                used = os.statvfs(self.pool)
                print(f"{now - begin:.0f} s: {self.kills} kills, {self.daemon_kills} of the daemon, "
                      f"{(used.f_blocks - used.f_bfree) * used.f_frsize >> 20} MiB in use", flush=True)

    def all_get_on(self):
        """With one stopped wherever it is, the others do not wait for it."""
        for number in self.stopped:
            self.workers[number].send_signal(signal.SIGCONT)
        still = self.draw.randrange(8)
        self.workers[still].send_signal(signal.SIGSTOP)
        self.stops += 1
        before = {number: self.steps_of(number) for number in range(8) if number != still}
        end = time.monotonic() + GOES_ON_S
        while before and time.monotonic() < end and not self.failures:
            time.sleep(0.05)
            self.reap()
            before = {number: steps for number, steps in before.items() if self.steps_of(number) <= steps}
        if before and not self.failures:
            self.failures.append(f"with {still} stopped, {sorted(before)} did not get on for {GOES_ON_S} s")
        self.workers[still].send_signal(signal.SIGCONT)

    def end(self):
        self.reap()
        for number, worker in self.workers.items():
            worker.kill()
            worker.wait()
            self.count(number)
        os.unlink(self.steps_path)
        for kind, steps in self.done.items():
            if not steps:
                self.failures.append(f"no {kind} operation was done")
        print(f"{self.kills} kills, {self.daemon_kills} of the daemon, {self.stops} stopped for a while; "
              f"{self.done['native']} native operations, {self.done['file']} on files", flush=True)
        for line in self.failures:
            print("FAIL", line)
        return 1 if self.failures or not self.kills else 0


def main():
    if sys.argv[1] == "--files":
        file_worker(sys.argv[2], int(sys.argv[3]), counters(sys.argv[4]), int(sys.argv[5]))
    soak = Soak(sys.argv[1], sys.argv[2], int(sys.argv[4]))
    soak.run(float(sys.argv[3]))
    soak.all_get_on()
    sys.exit(soak.end())


main()
