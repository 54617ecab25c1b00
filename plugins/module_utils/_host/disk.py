# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that shall be formatted: is it blank, and are we the only one to think so? Private to microvm.host.

Reads and writes the disk: call it in a child.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import mmap
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import command, mounts

READ_SECONDS = 15.0
SECTOR = 4096
CLAIM_AT = (1 << 20) - SECTOR
"""Where hosts claim a blank disk, bytes: LVM leaves the first MiB to itself and uses its end last."""
CLAIM_SECONDS = 2.0
"""How long a claim must stand. Far longer than any host takes from seeing no claim to writing its own."""
LATE_SECONDS = 1.0
"""A host that took longer for that does not trust its claim: another one may have had it already."""
MAGIC = b"microvm.host claims this disk: "
HEAD = 128 << 10
"""Bytes at the begin of a disk: LVM's metadata begins with a sector that changes with each change of it."""
BLKFLSBUF = 0x1261
"""Of linux/fs.h: what this host has cached of a disk is forgotten."""


class Claim(t.NamedTuple):
    """Who claims a disk, "" for nobody; ``beat`` grows as long as that host is at it."""

    who: str
    beat: int

    @property
    def host(self) -> str:
        """The host of whoever claims it: the first of the words."""
        return self.who.partition(" ")[0]


NOBODY = Claim("", 0)


def signs(name: str) -> list[str]:
    """Why a disk (``sda``) is not blank, in words; empty when it is. Raises as command.run."""
    device, found = "/dev/" + name, []
    found += ["partition %s" % os.path.basename(path) for path in glob.glob("/sys/block/%s/%s*" % (name, name))]
    found += ["used by %s" % holder for holder in holders(name)]
    with open("/sys/block/%s/dev" % name, encoding="ascii") as file:
        number = file.read().strip()
    found += ["mounted on %s" % mount.path for mount in mounts.table() if mount.device == number]
    with open("/proc/swaps", encoding="ascii") as file:
        found += ["swap"] * any(line.split()[0] == device for line in file)
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, BLKFLSBUF)  # another host may have written to it
    finally:
        os.close(descriptor)
    text = command.run(["wipefs", "--no-act", "--json", device], READ_SECONDS, writes=False)
    for each in json.loads(text or "{}").get("signatures", ()):
        found.append("%s at %s" % (" ".join(filter(None, (each["type"], each["label"]))), each["offset"]))
    # blkid's code 2: it found nothing; 8: several things. Both are told with low-level probing.
    if not found:
        told = command.run(["blkid", "--probe", device], READ_SECONDS, writes=False, ok=(0, 2, 8)).strip()
        found += [told] if told else []
    with contextlib.suppress(FileNotFoundError):
        try:
            os.close(os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            found.append("in use by a process or the kernel")
    return found


def holders(name: str) -> list[str]:
    """What the kernel has on top of a disk: the device-mapper's UUIDs, else kernel names."""
    with contextlib.suppress(FileNotFoundError):
        return [_holder(holder) for holder in sorted(os.listdir("/sys/block/%s/holders" % name))]
    return []


def multipath(name: str) -> bool:
    """Whether a disk is a path of a multipath device."""
    return any(holder.startswith("mpath-") for holder in holders(name))


def _holder(name: str) -> str:
    with contextlib.suppress(OSError), open("/sys/block/%s/dm/uuid" % name, encoding="ascii") as file:
        return file.read().strip() or name
    return name


def claim(device: str, who: str, instead: Claim) -> bool:
    """Claim a blank disk for ``who`` (a host and a word of this run) in place of ``instead``; False: not got it.

    Of hosts that see the same claim, or none, at the same time the one that wrote last has it: each waits longer than
    another could take from looking to writing, and looks again (M. Fischer's timed mutual exclusion, in L. Lamport, A
    fast mutual exclusion algorithm, 1987). Raises OSError.
    """
    mine = Claim(who, 0)
    if not _replace(device, instead, mine):
        return False
    time.sleep(CLAIM_SECONDS)  # part of the algorithm: there is nothing to be waited for
    return claimed(device) == mine


def renew(device: str, who: str) -> bool:
    """Say that ``who`` is still at it; False when it has lost its claim, and must not go on. Raises OSError."""
    there = claimed(device)
    return there.who == who and _replace(device, there, Claim(who, there.beat + 1))


def _replace(device: str, there: Claim, claim: Claim) -> bool:
    """Write a claim where ``there`` is; False: it was not, or so slowly that another host may have come between."""
    begun = time.monotonic()
    if claimed(device) != there:
        return False
    _write(device, MAGIC + ("%s %d" % claim).encode())
    return time.monotonic() - begun < LATE_SECONDS


def _write(device: str, what: bytes) -> None:
    descriptor = os.open(device, os.O_RDWR | os.O_DIRECT | os.O_SYNC | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, SECTOR) as page:  # O_DIRECT wants memory that begins at a page
            page[:] = what.ljust(SECTOR, b"\0")
            os.pwrite(descriptor, page, CLAIM_AT)
    finally:
        os.close(descriptor)


def claimed(device: str) -> Claim:
    """Who claims a disk. Raises OSError."""
    found = _read(device, CLAIM_AT, SECTOR).rstrip(b"\0")
    if not found.startswith(MAGIC):
        return NOBODY
    who, dummy, beat = found[len(MAGIC) :].decode(errors="replace").rpartition(" ")
    return Claim(who, int(beat)) if beat.isdecimal() else Claim(who, 0)


def head(device: str) -> bytes:
    """What is at the begin of a disk now, past this host's cache. Raises OSError."""
    return _read(device, 0, HEAD)


def _read(device: str, begin: int, size: int) -> bytes:
    descriptor = os.open(device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, size) as pages:
            os.preadv(descriptor, [pages], begin)
            return bytes(pages)
    finally:
        os.close(descriptor)


def forget_claim(device: str) -> None:
    """Blank the claim of this run's own on a disk that stays unformatted. Raises OSError."""
    _write(device, b"")
