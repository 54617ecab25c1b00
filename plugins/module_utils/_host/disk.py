# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that shall be formatted: is it blank, and are we the only one to think so? Private to microvm.host.

Reads and writes the disk: call it in a child.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import mmap
import os
import time

from ansible_collections.microvm.host.plugins.module_utils._host import command, mounts

READ_SECONDS = 15.0
SECTOR = 4096
CLAIM_AT = (1 << 20) - SECTOR
"""Where hosts claim a blank disk, bytes: LVM leaves the first MiB to itself and uses its end last."""
CLAIM_SECONDS = 2.0
"""How long a claim must stand. Far longer than any host takes from seeing no claim to writing its own."""
MAGIC = b"microvm.host claims this disk: "


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


def claim(device: str, who: str) -> str:
    """Claim a blank disk for ``who`` (text with a part that is only this run's). Returns whose it is then.

    Nobody may have claimed it when this is called. Of hosts that see it so at the same time the one that wrote last has
    it: each waits longer than another could take from looking to writing, and looks again (M. Fischer's timed mutual
    exclusion, in L. Lamport, A fast mutual exclusion algorithm, 1987). Raises OSError.
    """
    descriptor = os.open(device, os.O_RDWR | os.O_DIRECT | os.O_SYNC | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, SECTOR) as page:  # O_DIRECT wants memory that begins at a page
            page[:] = (MAGIC + who.encode()).ljust(SECTOR, b"\0")
            os.pwrite(descriptor, page, CLAIM_AT)
            time.sleep(CLAIM_SECONDS)  # part of the algorithm: there is nothing to be waited for
    finally:
        os.close(descriptor)
    return claimed(device)


def claimed(device: str) -> str:
    """Who claims a disk; "" for nobody. Raises OSError."""
    descriptor = os.open(device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, SECTOR) as page:
            os.preadv(descriptor, [page], CLAIM_AT)
            found = bytes(page).rstrip(b"\0")
    finally:
        os.close(descriptor)
    return found[len(MAGIC) :].decode(errors="replace") if found.startswith(MAGIC) else ""


def forget_claim(device: str) -> None:
    """Blank the claim of this run's own on a disk that stays unformatted. Raises OSError."""
    descriptor = os.open(device, os.O_RDWR | os.O_DIRECT | os.O_SYNC | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, SECTOR) as page:
            os.pwrite(descriptor, page, CLAIM_AT)
    finally:
        os.close(descriptor)
