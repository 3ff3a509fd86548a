#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""POSIX file operations on a mount, one group a run: posix.py GROUP DIRECTORY [SECOND-DIRECTORY]

Groups: rename links nodes attributes xattr data directories limits permissions.  Nothing here is
particular to cxlshm: a tmpfs passes every group, which is how this file was tried out.  The second
directory is the same one through another mount: what one shows the other must show at once.
"""
import ctypes
import errno
import os
import socket
import stat
import struct
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, NOREPLACE, EXCHANGE = -100, 1, 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
checks = failures = 0
NO_ZERO_RANGE = os.environ.get("POSIX_NO_ZERO_RANGE")  # trying this file out on a tmpfs


def check(text, good, detail=""):
    global checks, failures
    checks += 1
    failures += not good
    print(f"{'ok  ' if good else 'FAIL'} {text}{'' if good or detail == '' else f' ({detail})'}", flush=True)


def same(text, got, wanted):
    check(text, got == wanted, f"got {got!r}, wanted {wanted!r}")


def fails(text, number, call, *args, **named):
    try:
        got = call(*args, **named)
    except OSError as error:
        names = [errno.errorcode[one] for one in ((number,) if isinstance(number, int) else number)]
        check(f"{text}: {'/'.join(names)}", errno.errorcode[error.errno] in names, errno.errorcode[error.errno])
    else:
        check(f"{text} is refused", False, f"it gave {got!r}")


def c_call(name, *args):
    if getattr(libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def renameat2(old, new, flags):
    c_call("renameat2", AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags)


def fallocate(fd, mode, offset, length):
    c_call("fallocate", fd, mode, ctypes.c_long(offset), ctypes.c_long(length))


def dot_inodes(path):
    """Inode numbers of . and .. as getdents64(2) gives them: listdir leaves these two out, and ls asks stat(2)."""
    found, at, buffer = {}, 0, ctypes.create_string_buffer(32768)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    length = libc.getdents64(fd, buffer, ctypes.c_size_t(len(buffer)))
    os.close(fd)
    while at < length:
        inode, _, size = struct.unpack_from("QqH", buffer, at)
        found[buffer[at + 19:at + size].split(b"\0")[0].decode(errors="replace")] = inode
        at += size
    return found


def put(path, text=b"text"):
    with open(path, "wb") as file:
        file.write(text)
    return path


def get(path):
    with open(path, "rb") as file:
        return file.read()


def rename(d, e):
    a, b = d + "/a", d + "/b"
    put(a, b"A")
    os.rename(a, b)
    same("rename: the new name has the bytes", get(e + "/b"), b"A")
    fails("rename: the old name is gone", errno.ENOENT, os.stat, e + "/a")
    put(a, b"A2")
    inode = os.stat(a).st_ino
    os.rename(a, b)
    same("rename over a file replaces it", (get(e + "/b"), os.stat(e + "/b").st_ino), (b"A2", inode))
    put(a, b"A3")
    with open(b, "rb") as held:
        os.rename(a, b)
        same("an open file survives being replaced", held.read(), b"A2")
        same("and has no links left", os.fstat(held.fileno()).st_nlink, 0)
    put(a, b"A4")
    fails("RENAME_NOREPLACE over a file", errno.EEXIST, renameat2, a, b, NOREPLACE)
    same("and both are as they were", (get(a), get(b)), (b"A4", b"A3"))
    renameat2(a, d + "/c", NOREPLACE)
    same("RENAME_NOREPLACE to a free name", get(e + "/c"), b"A4")
    renameat2(b, d + "/c", EXCHANGE)
    same("RENAME_EXCHANGE", (get(e + "/b"), get(e + "/c")), (b"A4", b"A3"))
    fails("RENAME_EXCHANGE with a name that is not there", errno.ENOENT, renameat2, b, d + "/nothing", EXCHANGE)
    fails("RENAME_NOREPLACE and _EXCHANGE", errno.EINVAL, renameat2, b, d + "/c", NOREPLACE | EXCHANGE)
    os.makedirs(d + "/dir/sub")
    os.mkdir(d + "/empty")
    renameat2(d + "/dir", b, EXCHANGE)
    same("RENAME_EXCHANGE of a directory and a file", (os.listdir(e + "/b"), get(e + "/dir")), (["sub"], b"A4"))
    renameat2(d + "/dir", b, EXCHANGE)
    fails("rename: a file over a directory", errno.EISDIR, os.rename, b, d + "/dir")
    fails("rename: a directory over a file", errno.ENOTDIR, os.rename, d + "/dir", b)
    fails("rename: a directory over a full one", (errno.ENOTEMPTY, errno.EEXIST), os.rename, d + "/empty", d + "/dir")
    os.rename(d + "/dir", d + "/empty")
    same("rename: a directory over an empty one", os.listdir(e + "/empty"), ["sub"])
    fails("rename: a directory into itself", errno.EINVAL, os.rename, d + "/empty", d + "/empty/sub/x")
    os.mkdir(d + "/other")
    os.rename(d + "/empty/sub", d + "/other/sub")
    same("rename: a directory into another one", (os.listdir(e + "/empty"), os.listdir(e + "/other")), ([], ["sub"]))
    same("and .. leads to the new parent", os.stat(e + "/other/sub/..").st_ino, os.stat(e + "/other").st_ino)
    same("links of a directory count its subdirectories, or are 1",
         os.stat(e + "/other").st_nlink in (1, 3), True)
    put(a, b"A")
    os.link(a, d + "/a2")
    os.rename(a, d + "/a2")
    same("rename between two names of one file does nothing", sorted(n for n in os.listdir(e) if n[0] == "a"),
         ["a", "a2"])
    os.rename(a, a)
    same("rename to itself does nothing", get(e + "/a"), b"A")
    fails("rename: no such file", errno.ENOENT, os.rename, d + "/nothing", a)
    fails("rename to a name of 256 bytes", errno.ENAMETOOLONG, os.rename, a, d + "/" + "n" * 256)
    put(d + "/swap1", b"1")
    put(d + "/swap2", b"2")
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            try:
                seen.add(get(e + "/swap1"))
            except OSError as error:
                seen.add(errno.errorcode[error.errno])
    watcher = threading.Thread(target=watch)
    watcher.start()
    for turn in range(400):
        renameat2(d + "/swap1", d + "/swap2", EXCHANGE)
        put(d + "/new", b"1")
        os.rename(d + "/new", d + "/swap1")
    stop.set()
    watcher.join()
    same("a reader of a name that is replaced all the time always finds it", seen - {b"1", b"2"}, set())


def links(d, e):
    a = put(d + "/a", b"A")
    os.link(a, d + "/b")
    same("link: one file, two names", os.stat(e + "/a").st_ino, os.stat(e + "/b").st_ino)
    same("link: st_nlink is 2", os.stat(e + "/a").st_nlink, 2)
    put(d + "/b", b"BB")
    same("link: bytes are shared", get(e + "/a"), b"BB")
    os.unlink(a)
    same("unlink: the other name stays", (get(e + "/b"), os.stat(e + "/b").st_nlink), (b"BB", 1))
    fails("link over a name", errno.EEXIST, os.link, d + "/b", put(d + "/c"))
    os.mkdir(d + "/dir")
    fails("link of a directory", errno.EPERM, os.link, d + "/dir", d + "/dir2")
    fails("link of nothing", errno.ENOENT, os.link, d + "/nothing", d + "/x")
    os.link(d + "/b", d + "/dir/b")
    same("link into another directory", get(e + "/dir/b"), b"BB")
    for number in range(200):
        os.link(d + "/b", d + f"/dir/l{number}")
    same("link: two hundred names", os.stat(e + "/b").st_nlink, 202)
    os.symlink("b", d + "/s")
    same("symlink: readlink", os.readlink(e + "/s"), "b")
    same("symlink: followed", get(e + "/s"), b"BB")
    same("symlink: lstat", (stat.S_ISLNK(os.lstat(e + "/s").st_mode), os.lstat(e + "/s").st_size), (True, 1))
    os.symlink("nowhere", d + "/broken")
    fails("symlink: a broken one", errno.ENOENT, os.stat, e + "/broken")
    os.symlink("loop", d + "/loop")
    fails("symlink: a loop", errno.ELOOP, os.stat, e + "/loop")
    long = "x/" * 2000 + "y"
    os.symlink(long, d + "/long")
    same("symlink: a target of 4001 bytes", os.readlink(e + "/long"), long)
    fails("symlink over a name", errno.EEXIST, os.symlink, "b", d + "/s")
    fails("readlink of a file", errno.EINVAL, os.readlink, d + "/b")
    os.link(d + "/s", d + "/s2", follow_symlinks=False)
    same("link of a symlink itself", os.readlink(e + "/s2"), "b")
    os.symlink("dir", d + "/sd")
    fails("rmdir of a symlink", errno.ENOTDIR, os.rmdir, d + "/sd")
    os.unlink(d + "/sd")
    same("unlink of a symlink leaves its target", os.path.isdir(e + "/dir"), True)


def nodes(d, e):
    os.mkfifo(d + "/fifo", 0o640)
    same("mkfifo", (stat.S_ISFIFO(os.stat(e + "/fifo").st_mode), os.stat(e + "/fifo").st_mode & 0o777), (True, 0o640))
    got = []
    reader = threading.Thread(target=lambda: got.append(get(d + "/fifo")))
    reader.start()
    put(d + "/fifo", b"through the fifo")
    reader.join()
    same("a fifo carries bytes", got, [b"through the fifo"])
    os.chdir(d)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("socket")
        server.listen()
        client.connect("socket")
        server.accept()[0].send(b"hello")
        same("a socket in the mount", client.recv(9), b"hello")
        same("and its type", stat.S_ISSOCK(os.stat(e + "/socket").st_mode), True)
    os.chdir("/")
    os.unlink(d + "/socket")
    os.unlink(d + "/fifo")
    same("fifo and socket are gone", os.listdir(e), [])
    fails("a device node", (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP), os.mknod, d + "/dev",
          stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(d + "/plain", stat.S_IFREG | 0o600)
    same("mknod of a file", (stat.S_ISREG(os.stat(e + "/plain").st_mode), os.stat(e + "/plain").st_size), (True, 0))


def attributes(d, e):
    a = put(d + "/a", b"abc")
    for mode in (0o600, 0o444, 0o4755, 0o2755, 0o1777, 0):
        os.chmod(a, mode)
        same(f"chmod {mode:o}", os.stat(e + "/a").st_mode & 0o7777, mode)
    os.chmod(a, 0o644)
    os.chown(a, 1234, 5678)
    same("chown", (os.stat(e + "/a").st_uid, os.stat(e + "/a").st_gid), (1234, 5678))
    os.chown(a, -1, 99)
    same("chown of the group alone", (os.stat(e + "/a").st_uid, os.stat(e + "/a").st_gid), (1234, 99))
    os.chmod(a, 0o4755)
    os.chown(a, 1, 1)
    same("a new owner gets no setuid bit", os.stat(e + "/a").st_mode & 0o7777, 0o755)
    os.chown(a, 1234, 99)
    os.symlink("a", d + "/s")
    os.lchown(d + "/s", 7, 8)
    same("lchown", (os.lstat(e + "/s").st_uid, os.stat(e + "/s").st_uid), (7, 1234))
    os.utime(a, ns=(1234567890123456789, 987654321987654321))
    st = os.stat(e + "/a")
    same("utimens: nanoseconds", (st.st_atime_ns, st.st_mtime_ns), (1234567890123456789, 987654321987654321))
    os.utime(a, ns=(-5 * 10**9, -7 * 10**9 + 1))
    st = os.stat(e + "/a")
    same("utimens before 1970", (st.st_atime_ns, st.st_mtime_ns), (-5 * 10**9, -7 * 10**9 + 1))
    os.utime(a, (-2 * 10**10, 2 * 10**10))
    st = os.stat(e + "/a")
    same("utimens: what is out of range becomes the nearest that is not", (st.st_atime, st.st_mtime),
         (-(2**63 // 10**9 - 1), 2**63 // 10**9 - 1))
    os.utime(a)
    before = os.stat(e + "/a")
    check("utime to now", abs(before.st_mtime - before.st_ctime) < 5)
    os.utime(a, ns=(10**9, 10**9))
    with open(a, "ab") as file:
        file.write(b"d")
    check("a write moves mtime", os.stat(e + "/a").st_mtime_ns > 10**9)
    os.utime(a, ns=(10**9, 10**9))
    os.truncate(a, 2)
    check("a truncate moves mtime", os.stat(e + "/a").st_mtime_ns > 10**9)
    st = os.stat(e + "/a")
    os.chmod(a, 0o600)
    check("chmod moves ctime, not mtime",
          os.stat(e + "/a").st_ctime_ns > st.st_ctime_ns and os.stat(e + "/a").st_mtime_ns == st.st_mtime_ns)
    os.mkdir(d + "/dir", 0o750)
    os.utime(d + "/dir", ns=(1, -1))
    same("utimens of a directory before 1970", os.stat(e + "/dir").st_mtime_ns, -1)
    os.utime(d + "/dir", ns=(10**9, 10**9))
    put(d + "/dir/x")
    check("a new entry moves its directory's mtime", os.stat(e + "/dir").st_mtime_ns > 10**9)
    os.utime(d + "/dir", ns=(10**9, 10**9))
    os.unlink(d + "/dir/x")
    check("a removed entry moves its directory's mtime", os.stat(e + "/dir").st_mtime_ns > 10**9)
    same("mkdir's mode", os.stat(e + "/dir").st_mode & 0o7777, 0o750)
    os.mkdir(d + "/group")
    os.chown(d + "/group", -1, 7)
    os.chmod(d + "/group", 0o2755)
    put(d + "/group/file")
    os.mkdir(d + "/group/dir")
    same("in a setgid directory: a file's group, a directory's and its setgid bit",
         (os.stat(e + "/group/file").st_gid, os.stat(e + "/group/dir").st_gid, os.stat(e + "/group/dir").st_mode & 0o7000),
         (7, 7, 0o2000))
    old = os.umask(0o027)
    os.close(os.open(d + "/masked", os.O_CREAT | os.O_WRONLY, 0o666))
    os.mkdir(d + "/maskeddir", 0o777)
    os.umask(old)
    same("the caller's umask", (os.stat(e + "/masked").st_mode & 0o777, os.stat(e + "/maskeddir").st_mode & 0o777),
         (0o640, 0o750))
    fd = os.open(d + "/a", os.O_RDWR)
    os.unlink(d + "/a")
    os.fchmod(fd, 0o640)
    os.fchown(fd, 3, 4)
    os.utime(fd, ns=(10**9, 2 * 10**9))
    st = os.fstat(fd)
    same("fchmod, fchown, futimens, fstat on an unlinked file",
         (st.st_mode & 0o777, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_nlink), (0o640, 3, 4, 2 * 10**9, 0))
    os.close(fd)


def xattr(d, e):
    a = put(d + "/a")
    os.setxattr(a, "user.one", b"1")
    os.setxattr(a, "user.two", b"x" * 1000)
    same("setxattr, getxattr", (os.getxattr(e + "/a", "user.one"), os.getxattr(e + "/a", "user.two")), (b"1", b"x" * 1000))
    check("listxattr", {"user.one", "user.two"} <= set(os.listxattr(e + "/a")), os.listxattr(e + "/a"))
    os.setxattr(a, "user.one", b"longer now")
    same("setxattr replaces", os.getxattr(e + "/a", "user.one"), b"longer now")
    os.setxattr(a, "user.empty", b"")
    same("an empty value", os.getxattr(e + "/a", "user.empty"), b"")
    fails("XATTR_CREATE over one", errno.EEXIST, os.setxattr, a, "user.one", b"", os.XATTR_CREATE)
    fails("XATTR_REPLACE of none", errno.ENODATA, os.setxattr, a, "user.none", b"", os.XATTR_REPLACE)
    fails("getxattr of none", errno.ENODATA, os.getxattr, a, "user.none")
    os.removexattr(a, "user.one")
    fails("removexattr", errno.ENODATA, os.getxattr, e + "/a", "user.one")
    fails("removexattr of none", errno.ENODATA, os.removexattr, a, "user.none")
    os.mkdir(d + "/dir")
    os.setxattr(d + "/dir", "user.dir", b"D")
    same("on a directory", os.getxattr(e + "/dir", "user.dir"), b"D")
    os.rename(a, d + "/b")
    same("they go with the file", os.getxattr(e + "/b", "user.two"), b"x" * 1000)
    for number in range(100):
        os.setxattr(d + "/b", f"user.many{number}", str(number).encode())
    same("a hundred", all(os.getxattr(e + "/b", f"user.many{n}") == str(n).encode() for n in range(100)), True)
    same("and listed", sum(name.startswith("user.many") for name in os.listxattr(e + "/b")), 100)
    fails("an unknown name space", errno.EOPNOTSUPP, os.setxattr, d + "/b", "nosuch.name", b"")
    fails("a name space without a name", errno.EINVAL, os.setxattr, d + "/b", "user.", b"")
    os.chmod(d, 0o755)
    os.setxattr(d + "/b", "trusted.one", b"T")
    same("trusted.* for root", "trusted.one" in os.listxattr(e + "/b"), True)

    def listing():
        names = os.listxattr(e + "/b")
        if "trusted.one" in names or "user.two" not in names:
            raise OSError(errno.EBADMSG, str(names))
    same("others are told of the rest only", as_user(65534, listing), "works")


def data(d, e):
    a = d + "/a"
    fd = os.open(a, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    fails("O_EXCL over a file", errno.EEXIST, os.open, a, os.O_CREAT | os.O_EXCL)
    same("a write behind the end leaves zeros", (os.pwrite(fd, b"end", 10000), get(e + "/a")), (3, bytes(10000) + b"end"))
    os.ftruncate(fd, 5)
    os.ftruncate(fd, 8)
    same("a shrunk file grows with zeros", get(e + "/a"), bytes(8))
    os.ftruncate(fd, 1 << 20)
    os.pwrite(fd, b"X" * 4096, 512 << 10)
    same("SEEK_DATA finds what was written, or all of it", os.lseek(fd, 0, os.SEEK_DATA) <= 512 << 10, True)
    hole = os.lseek(fd, 512 << 10, os.SEEK_HOLE)
    check("SEEK_HOLE gives a place behind the data", (512 << 10) + 4096 <= hole <= 1 << 20, hole)
    fails("SEEK_DATA behind the end", errno.ENXIO, os.lseek, fd, 2 << 20, os.SEEK_DATA)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 512 << 10, 4096)
    same("fallocate punches a hole", os.pread(fd, 4096, 512 << 10), bytes(4096))
    fallocate(fd, KEEP_SIZE, 1 << 20, 1 << 20)
    same("fallocate keeping the size", os.fstat(fd).st_size, 1 << 20)
    fallocate(fd, 0, 0, 2 << 20)
    same("fallocate growing it", os.stat(e + "/a").st_size, 2 << 20)
    if not NO_ZERO_RANGE:
        os.pwrite(fd, b"Y" * 10000, 100)
        fallocate(fd, ZERO_RANGE | KEEP_SIZE, 200, 5000)
        same("fallocate zeroes a range", os.pread(fd, 10000, 100), b"Y" * 100 + bytes(5000) + b"Y" * 4900)
    check("st_blocks counts what is reserved", os.fstat(fd).st_blocks * 512 >= 2 << 20, os.fstat(fd).st_blocks)
    fails("fallocate of nothing", errno.EINVAL, fallocate, fd, 0, 0, 0)
    fails("fallocate with an unknown mode", (errno.EOPNOTSUPP, errno.EINVAL), fallocate, fd, 0x8000, 0, 4096)
    fails("truncate to a negative size", errno.EINVAL, os.truncate, a, -1)
    os.close(fd)
    os.truncate(a, 0)
    first, second = os.open(a, os.O_WRONLY | os.O_APPEND), os.open(e + "/a", os.O_WRONLY | os.O_APPEND)
    for turn in range(100):
        os.write(first if turn % 2 else second, b"%02d" % turn)
    same("O_APPEND from two descriptors", get(a), b"".join(b"%02d" % turn for turn in range(100)))
    os.close(first)
    os.close(second)
    os.close(os.open(a, os.O_WRONLY | os.O_TRUNC))
    same("O_TRUNC", os.stat(e + "/a").st_size, 0)
    fd = os.open(a, os.O_RDONLY)
    fails("write on a read-only descriptor", errno.EBADF, os.write, fd, b"x")
    os.close(fd)
    fd = os.open(d + "/gone", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"still here")
    os.unlink(d + "/gone")
    same("an unlinked open file is read", (os.pread(fd, 99, 0), os.fstat(fd).st_nlink), (b"still here", 0))
    os.ftruncate(fd, 100000)
    same("and grown", os.fstat(fd).st_size, 100000)
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    fd = os.open(d, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)
    try:
        fd = os.open(d, os.O_TMPFILE | os.O_RDWR)
    except OSError as error:
        check("O_TMPFILE works or says that it cannot", error.errno in (errno.EOPNOTSUPP, errno.EISDIR), error)
    else:
        os.write(fd, b"nameless")
        same("O_TMPFILE", os.pread(fd, 99, 0), b"nameless")
        os.close(fd)
    with open(d + "/v", "w+b") as file:
        same("writev, readv", (os.writev(file.fileno(), [b"ab", b"", b"cde"]), os.pread(file.fileno(), 9, 0)), (5, b"abcde"))
        same("copy_file_range", (os.copy_file_range(file.fileno(), file.fileno(), 5, 0, 5), get(e + "/v")),
             (5, b"abcdeabcde"))
    import fcntl
    with open(d + "/v", "r+b") as one, open(d + "/v", "r+b") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        fails("flock held by another descriptor", errno.EWOULDBLOCK, fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        check("flock released", True)


def directories(d, e):
    os.mkdir(d + "/dir")
    fails("mkdir twice", errno.EEXIST, os.mkdir, d + "/dir")
    put(d + "/dir/file")
    fails("rmdir of a full one", errno.ENOTEMPTY, os.rmdir, d + "/dir")
    fails("rmdir of a file", errno.ENOTDIR, os.rmdir, d + "/dir/file")
    fails("unlink of a directory", (errno.EISDIR, errno.EPERM), os.unlink, d + "/dir")
    fails("a file as a directory", errno.ENOTDIR, os.stat, d + "/dir/file/x")
    fails("open of a directory for writing", errno.EISDIR, os.open, d + "/dir", os.O_WRONLY)
    os.unlink(d + "/dir/file")
    os.chdir(d + "/dir")
    os.rmdir(d + "/dir")
    fails("a file in a removed working directory", errno.ENOENT, put, "x")
    same("which lists nothing", os.listdir("."), [])
    os.chdir("/")
    deep = d + "/deep" * 60
    os.makedirs(deep)
    put(deep + "/x", b"deep")
    listed = dot_inodes(deep)
    same("the inode numbers of . and ..", (listed["."], listed[".."]),
         (os.stat(deep).st_ino, os.stat(os.path.dirname(deep)).st_ino))
    same("sixty directories deep", get(e + "/deep" * 60 + "/x"), b"deep")
    for name in ("ü", "名前", "new\nline", "-dash", "sp ace", "back\\slash", "%s", "n" * 255):
        put(d + "/" + name, name.encode())
        same(f"a file named {name[:12]!r}", get(e + "/" + name), name.encode())
    raw = os.fsencode(d) + b"/\xff\xfe"
    put(raw, b"raw")
    check("a name that is not UTF-8", b"\xff\xfe" in os.listdir(os.fsencode(e)))
    many, stay = d + "/many", {f"stay{number:05}" for number in range(10000)}
    os.mkdir(many)
    for name in stay:
        os.close(os.open(many + "/" + name, os.O_CREAT | os.O_WRONLY))
    same("10 000 names", set(os.listdir(e + "/many")), stay)
    stop, trouble = threading.Event(), []

    def churn(base):
        number = 0
        while not stop.is_set():
            name = f"{base}/come{number % 97}"
            try:
                put(name)
                os.rename(name, name + "gone")
                os.unlink(name + "gone")
            except OSError as error:
                trouble.append(error)
            number += 1
    churner = threading.Thread(target=churn, args=(many,))
    churner.start()
    wrong = 0
    for turn in range(5):
        listed = [name for name in os.listdir(e + "/many") if name in stay]
        wrong += len(listed) != len(stay) or set(listed) != stay
    stop.set()
    churner.join()
    same("entries that stay are listed exactly once while others come and go", (wrong, trouble), (0, []))
    with os.scandir(e + "/many") as entries:
        same("scandir knows they are files", all(entry.is_file(follow_symlinks=False) for entry in entries), True)
    for position, name in enumerate(os.listdir(many)):
        os.unlink(many + "/" + name)
    same("removed while being listed, none is left", os.listdir(e + "/many"), [])
    os.rmdir(many)
    same(". and ..", ({".", ".."} & set(os.listdir(d)), os.stat(d + "/.").st_ino), (set(), os.stat(d).st_ino))


def limits(d, e):
    fails("a name of 256 bytes: open", errno.ENAMETOOLONG, put, d + "/" + "n" * 256)
    fails("a name of 256 bytes: mkdir", errno.ENAMETOOLONG, os.mkdir, d + "/" + "n" * 256)
    fails("a name of 256 bytes: stat", errno.ENAMETOOLONG, os.stat, d + "/" + "n" * 256)
    fails("a name of 256 bytes: symlink", errno.ENAMETOOLONG, os.symlink, "x", d + "/" + "n" * 256)
    fails("a name of 256 bytes: link", errno.ENAMETOOLONG, os.link, put(d + "/a"), d + "/" + "n" * 256)
    fails("a truncate to 2^62 bytes", (errno.ENOSPC, errno.EFBIG), os.truncate, d + "/a", 1 << 62)
    same("changes nothing", os.stat(e + "/a").st_size, 4)
    st = os.statvfs(e)
    check("statvfs: blocks", 0 < st.f_bavail <= st.f_bfree <= st.f_blocks, tuple(st))
    same("statvfs: the longest name", st.f_namemax, 255)
    held = []
    for number in range(500):
        held.append(os.open(d + "/a", os.O_RDONLY))
    same("500 descriptors of one file", os.pread(held[-1], 9, 0), b"text")
    for fd in held:
        os.close(fd)


def as_user(uid, call, *args):
    """What the call raises (its errno) or returns for that user: in a child, because of the threads."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        try:
            call(*args)
            os.write(into, b"0")
        except OSError as error:
            os.write(into, b"%d" % error.errno)
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(into)
    number = int(os.read(out, 20))
    os.close(out)
    return errno.errorcode.get(number, "works")


def permissions(d, e):
    a = put(d + "/a", b"A")
    os.chmod(d, 0o755)
    os.chmod(a, 0o600)
    same("another user may not read 0600", as_user(65534, get, e + "/a"), "EACCES")
    os.chmod(a, 0o644)
    same("may read 0644", as_user(65534, get, e + "/a"), "works")
    same("may not write 0644", as_user(65534, put, e + "/a"), "EACCES")
    same("may not create in 0755", as_user(65534, put, e + "/new"), "EACCES")
    same("may not chmod what is not theirs", as_user(65534, os.chmod, e + "/a", 0o777), "EPERM")
    same("may not truncate it", as_user(65534, os.truncate, e + "/a", 0), "EACCES")
    same("may not unlink it", as_user(65534, os.unlink, e + "/a"), "EACCES")
    same("may not chown it", as_user(65534, os.chown, e + "/a", 65534, 65534), "EPERM")
    os.chmod(d, 0o777)
    same("may create in 0777", as_user(65534, put, e + "/theirs"), "works")
    same("and owns what they made", (os.stat(d + "/theirs").st_uid, os.stat(d + "/theirs").st_gid), (65534, 65534))
    os.mkdir(d + "/sticky")
    os.chmod(d + "/sticky", 0o1777)
    put(d + "/sticky/mine")
    same("a sticky directory keeps other people's files", as_user(65534, os.unlink, e + "/sticky/mine"), "EPERM")
    os.chmod(a, 0o666)
    same("may write 0666", as_user(65534, put, e + "/a"), "works")
    same("may not set a foreign time", as_user(65534, lambda: os.utime(e + "/a", ns=(1, 1))), "EPERM")
    os.mkdir(d + "/closed", 0o700)
    put(d + "/closed/x")
    same("may not look into 0700", as_user(65534, os.stat, e + "/closed/x"), "EACCES")


GROUPS = {function.__name__: function for function in
          [rename, links, nodes, attributes, xattr, data, directories, limits, permissions]}


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in GROUPS:
        print(__doc__, file=sys.stderr)
        return 2
    where = [path + "/posix-" + sys.argv[1] for path in sys.argv[2:4]]
    os.mkdir(where[0])
    GROUPS[sys.argv[1]](where[0], where[-1])
    print(f"{sys.argv[1]}: {checks} checks, {failures} failed")
    return 1 if failures or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
