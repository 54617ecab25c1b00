# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images copied at the speed of the storage, holes kept. Private to microvm.host.

Blocks shared where the file system can, else copied inside of it (by an NFS 4.2 server: without the network), else
read and written. Sources and targets are files or block devices. All of it may hang on a dead server: call it in a
child. ``told`` hears how many bytes are done, of
how many; whoever waits can see by it that there is progress.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import stat
import struct
import subprocess
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import command
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

Told = t.Callable[[int, int], None]

FICLONE = 0x40049409
BLKZEROOUT = 0x127F
F_OFD_GETLK = 36
QEMU_WRITES = 101
"""The byte of an image that QEMU locks while it may write to it (its lock protocol: 100 + bit of BLK_PERM_WRITE)."""
CHUNK = 16 << 20
"""Bytes between two reports, and the longest single call to the kernel."""
READ = 1 << 20
HOLE = 4096
ZEROS = bytes(HOLE)
SAMPLES = 64
NOT_HERE = (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EBADF, errno.EPERM)
"""What the kernel answers where blocks can't be shared, or a copy not be made inside of a file system."""
QCOW2 = b"QFI\xfb"
INFO_SECONDS = 20.0


def size_of(descriptor: int) -> int:
    """Bytes of a file or a block device."""
    return os.lseek(descriptor, 0, os.SEEK_END)


def extents(descriptor: int, size: int, at: int = 0) -> t.Iterator[tuple[int, int]]:
    """Where a file has data from ``at`` on: (begin, end) in bytes, in order.

    A file system that does not know says: everywhere.
    """
    while at < size:
        try:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno != errno.EINVAL:
                raise
            yield at, size
            return
        at = min(os.lseek(descriptor, begin, os.SEEK_HOLE), size)
        if begin < at:
            yield begin, at


def allocated(descriptor: int) -> int:
    """Bytes that a file takes on its file system."""
    return os.fstat(descriptor).st_blocks * 512


def contents(source: int, target: int, told: Told, free: int | None = None, zeroed: bool = True) -> str:
    """Copy a disk into an empty one, durably; returns how: reflink, copy_file_range or read and write.

    ``free``: bytes that the target may take; those of its file system by default. ``zeroed``: it reads as zeros;
    otherwise zeros are written where the source has none. Raises HostError ``full`` before anything is written when it
    does not fit, and OSError.
    """
    os.fsync(source)  # a file that was just written may seem to be one hole: ZFS, NFS
    size = size_of(source)
    how = "reflink"
    if not shared(source, target):
        data = list(extents(source, size))
        free = _free(target) if free is None else free
        need = min(sum(end - begin for begin, end in data), _held(source, size, free, told))
        _refuse_full(need, free)
        _lengthen(target, size)
        # Extents that are more than is allocated are holes that nobody tells of: those are found by reading.
        known = sum(end - begin for begin, end in data) <= need + need // 100 + (1 << 20)
        how = _copied(source, target, data, told, known, zeroed)
        if not zeroed:
            for begin, end in _holes(data, size):
                zero(target, begin, end, told)
    os.fsync(target)
    told(size, size)
    return how


def compared(source: int, target: int, what: str, told: Told, free: int | None = None, zeroed: bool = True) -> None:
    """Copy, as ``contents``, and compare, unless the blocks are the same ones.

    Raises HostError ``internal`` for a copy that differs.
    """
    if contents(source, target, told, free, zeroed) != "reflink":
        refuse_different(source, target, what)


def shared(source: int, target: int) -> bool:
    """Have ``target`` share the blocks of ``source``; False where the file system can't."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno not in NOT_HERE:
            raise
        return False
    return True


def zero(target: int, begin: int, end: int, told: Told) -> None:
    """Have a part of a block device read as zeros, durably: by its storage where that can, else written."""
    at = begin
    while at < end:
        length = min(CHUNK, end - at)
        whole = length // HOLE * HOLE
        if at % HOLE or not whole:
            at += os.pwrite(target, bytes(min(HOLE - at % HOLE, length)), at)
            continue
        fcntl.ioctl(target, BLKZEROOUT, struct.pack("QQ", at, whole))
        at += whole
        told(at - begin, end - begin)
    os.fsync(target)


def wipe(target: int, begin: int, end: int, told: Told) -> None:
    """Overwrite with zeros what a part of a block device holds. What reads as zeros is left: it may take no room."""
    at = begin
    while at < end:
        data = os.pread(target, min(READ, end - at), at)
        if not data:
            break
        if data.strip(b"\0"):
            os.pwrite(target, bytes(len(data)), at)
        at += len(data)
        told(at - begin, end - begin)
    os.fsync(target)


def _holes(data: list[tuple[int, int]], size: int) -> t.Iterator[tuple[int, int]]:
    """What is between the extents."""
    at = 0
    for begin, end in [*data, (size, size)]:
        if at < begin:
            yield at, begin
        at = end


def _lengthen(target: int, size: int) -> None:
    """Give a file its size; a device has one."""
    if stat.S_ISREG(os.fstat(target).st_mode):
        os.ftruncate(target, size)


def _free(target: int) -> int:
    found = os.fstatvfs(target)
    return found.f_bavail * found.f_frsize


def _held(source: int, size: int, free: int, told: Told) -> int:
    """Bytes that a copy takes at most. A block device does not tell: it is read when not all of it would fit."""
    if stat.S_ISREG(os.fstat(source).st_mode):
        return max(allocated(source), HOLE)
    return size if size <= free else _data(source, size, told)


def _data(source: int, size: int, told: Told) -> int:
    """Bytes of a disk, in pieces of READ, that are not all zeros."""
    found = 0
    for at in range(0, size, READ):
        data = os.pread(source, min(READ, size - at), at)
        found += len(data) if data.strip(b"\0") else 0
        told(at, size)
    return found


def _refuse_full(need: int, free: int) -> None:
    if need > free:
        text = "%d bytes are needed, %d are free" % (need, free)
        raise HostError("full", text, "make room there, or choose another backend")


def _copied(source: int, target: int, data: list[tuple[int, int]], told: Told, inside: bool, zeroed: bool) -> str:
    total = sum(end - begin for begin, end in data)
    done = 0
    os.posix_fadvise(source, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    for begin, end in data:
        while begin < end:
            length = min(CHUNK, end - begin)
            copied = _inside(source, target, begin, length) if inside else 0
            if not copied:
                inside = False
                copied = _by_hand(source, target, begin, length, zeroed)
            # Written out while the next is read: the last sync then has little to do, and progress is real.
            os.posix_fadvise(target, begin, copied, os.POSIX_FADV_DONTNEED)
            begin += copied
            done += copied
            told(done, total)
    return "copy_file_range" if inside else "read and write"


def _inside(source: int, target: int, at: int, length: int) -> int:
    """Bytes that the file system copied itself; 0 when it does not."""
    try:
        return os.copy_file_range(source, target, length, at, at)
    except OSError as error:
        if error.errno not in NOT_HERE:
            raise
        return 0


def _by_hand(source: int, target: int, at: int, length: int, zeroed: bool) -> int:
    """Read and write, blocks of zeros left out of a target that is ``zeroed``.

    Raises OSError EIO when the source became shorter.
    """
    data = os.pread(source, min(READ, length), at)
    if not data:
        raise OSError(errno.EIO, "the source became shorter while it was copied")
    os.posix_fadvise(source, at + len(data), READ, os.POSIX_FADV_WILLNEED)
    view = memoryview(data)
    begin = 0
    while begin < len(data):
        if zeroed and data[begin : begin + HOLE] == ZEROS:
            begin += HOLE
            continue
        end = begin + HOLE
        while end < len(data) and not (zeroed and data[end : end + HOLE] == ZEROS):
            end += HOLE
        end = min(end, len(data))
        while begin < end:
            begin += os.pwrite(target, view[begin:end], at + begin)
    return len(data)


def refuse_different(source: int, target: int, what: str) -> None:
    """Compare sizes and samples of a copy: at places all over, and at both ends of the data behind each of them.

    Raises HostError ``internal``.
    """
    size, found = size_of(source), size_of(target)
    if size > found:
        raise HostError("internal", "%s: the copy has %d of %d bytes" % (what, found, size), "run it again")
    places = {size * number // SAMPLES // HOLE * HOLE for number in range(SAMPLES)}
    for place in sorted(places):
        for begin, end in itertools.islice(extents(source, size, place), 1):
            places |= {begin, max(begin, end - HOLE)}
    for at in sorted(places):
        length = min(HOLE, size - at)
        if os.pread(source, length, at) != os.pread(target, length, at):
            raise HostError(
                "internal", "%s: the copy differs at byte %d" % (what, at), "was the source being written? run it again"
            )


def sha256(descriptor: int, told: Told, size: int | None = None) -> str:
    """The SHA-256 of a whole disk, or of its first ``size`` bytes, in hexadecimal digits."""
    import hashlib

    total = hashlib.sha256()
    size = size_of(descriptor) if size is None else size
    at = 0
    while at < size:
        data = os.pread(descriptor, min(READ, size - at), at)
        if not data:
            break
        total.update(data)
        at += len(data)
        told(at, size)
    return total.hexdigest()


def refuse_written(descriptor: int, what: str) -> None:
    """Raise ``in_use`` when a virtual machine has the image open for writing, by the lock it holds on it."""
    asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, QEMU_WRITES, 1, 0)
    answer = fcntl.fcntl(descriptor, F_OFD_GETLK, asked)
    if struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK:
        raise HostError("in_use", "%s is open for writing in a virtual machine" % what, "stop the machine first")


def is_qcow2(descriptor: int) -> bool:
    """Whether a file begins as qcow2 images do."""
    return os.pread(descriptor, len(QCOW2), 0) == QCOW2


def qcow2_size(path: str) -> int:
    """Bytes of the disk that a qcow2 image holds.

    Raises HostError ``unsupported`` without qemu-img, ``invalid`` for one that refers to other files: whoever made the
    image would choose which of this host's files are read.
    """
    found = _asked("info", path)
    other = found.get("backing-filename") or (found.get("format-specific") or {}).get("data", {}).get("data-file")
    if other:
        raise HostError(
            "invalid",
            "%s refers to another file, %s" % (path, other),
            "make it stand alone: qemu-img convert -O qcow2",
            field="image",
        )
    return int(found["virtual-size"])


def _qcow2_data(path: str, size: int) -> int:
    """Bytes of data in that disk: what is no hole of it. The image itself may be compressed, and then takes less."""
    found = _asked("measure", path, "-O", "qcow2")
    return size - (int(found["fully-allocated"]) - int(found["required"]))


def _asked(what: str, path: str, *more: str) -> dict[str, t.Any]:
    """What qemu-img answers of a qcow2 image. Raises HostError ``unsupported`` without qemu-img."""
    _require()
    words = ["qemu-img", what, "--force-share", "--output=json", "-f", "qcow2", *more, path]
    return t.cast("dict[str, t.Any]", json.loads(command.run(words, INFO_SECONDS, writes=False)))


def convert(path: str, target: int, told: Told, free: int | None = None, zeroed: bool = True) -> None:
    """Write the disk that a qcow2 image holds into an empty one, holes kept, durably; as ``contents``.

    Raises HostError.
    """
    size = qcow2_size(path)
    _refuse_full(_qcow2_data(path, size), _free(target) if free is None else free)
    _lengthen(target, size)
    program = _require()
    process = subprocess.Popen(
        # -n: into the disk as it is, sparse already. In our process group: it dies with us.
        [program, "convert", "-p", "-n", *["--target-is-zero"] * zeroed, "-f", "qcow2", "-O", "raw", "-W"]
        + [path, "/proc/self/fd/%d" % target],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"LC_ALL": "C", "PATH": command.SEARCH},
        pass_fds=(target,),
    )
    out, err = t.cast("t.IO[bytes]", process.stdout), t.cast("t.IO[bytes]", process.stderr)
    rest = b""
    while True:
        data = os.read(out.fileno(), 4096)
        if not data:
            break
        *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")  # "    (12.34/100%)"
        for line in lines:
            text = line.strip().lstrip(b"(").partition(b"/")[0]
            if text.replace(b".", b"").isdigit():
                told(int(size * float(text) / 100), size)
    said = err.read().decode(errors="replace").strip()
    if process.wait():
        kind = "full" if "No space left" in said else "refused"
        raise HostError(
            kind, "qemu-img can't convert %s: %s" % (path, said), "is it a qcow2 image?", rc=process.returncode
        )
    os.fsync(target)


def _require() -> str:
    found = command.find("qemu-img")
    if found is None:
        raise HostError(
            "unsupported",
            "qemu-img is not installed, which converts qcow2 images",
            "install the package qemu-utils (Debian) or qemu-img (Red Hat); the role prepare_host does",
        )
    return found
