# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file system inside of a disk: made, checked, grown, shrunk. Private to microvm.host.

ext4 by its own programs on the unmounted disk; xfs and btrfs, which grow only while mounted, and whatever is put into
a new one, on a mount in a namespace of this process: nobody sees it, and it goes with the process. Call it in a child.
"""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import command, mounts
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

TYPES = ("ext4", "xfs", "btrfs")
PACKAGES = {
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "xfs_growfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "btrfs": "btrfs-progs",
}
LONGEST_LABEL = {"ext4": 16, "xfs": 12, "btrfs": 255}
"""Bytes (mke2fs(8), mkfs.xfs(8), mkfs.btrfs(8))."""
LEAST = {"ext4": 2 << 20, "xfs": 300 << 20, "btrfs": 128 << 20}
"""Bytes of the smallest disk that gets one; below that the programs refuse or warn."""
MAGIC = {"ext4": (0x438, b"\x53\xef"), "xfs": (0, b"XFSB"), "btrfs": (0x10040, b"_BHRfS_M")}
SECONDS = 3600.0
"""How long one of these programs is waited for. None is killed: half a file system may be lost with it."""
MOUNT_SECONDS = 30.0
FSCK_DONE = (0, 1)
"""No errors, or all of them corrected (e2fsck(8))."""


def kind(path: str) -> str | None:
    """The file system that a whole disk is, None when it is another, none, or in a partition."""
    with open(path, "rb", buffering=0) as disk:
        for name, (place, magic) in MAGIC.items():
            if os.pread(disk.fileno(), len(magic), place) == magic:
                return name
    return None


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk, a file or a block device. ``alive`` is called each second while a program works on it.

    ``lock``: a descriptor that the programs keep open, so that the disk stays locked when this process dies.
    """

    path: str
    alive: t.Callable[[], None]
    lock: int

    def make(self, wanted: dict[str, t.Any]) -> None:
        """Make a file system on an empty disk: ``type``, ``label``, ``owner`` (uid, gid), ``directories`` in it."""
        argv = {
            "ext4": ["mkfs.ext4", "-q", "-F"],
            "xfs": ["mkfs.xfs", "-q", "-f"],
            "btrfs": ["mkfs.btrfs", "-q", "-f"],
        }[wanted["type"]]
        if wanted.get("label"):
            argv += ["-L", wanted["label"]]
        try:
            self._run([*argv, self.path])
        except HostError as error:
            if error.rc is not None:  # it explains all of its options to who gave a disk that is too small
                error.message = "%s failed: %s" % (argv[0], (error.stderr or "").partition("\n")[0])
                error.hint = "is the disk too small? xfs needs 300 MiB, btrfs 110 MiB"
            raise
        if wanted.get("owner") or wanted.get("directories"):
            self._inside(lambda top: _furnish(top, wanted))

    def grow(self, wanted: str) -> None:
        """Let the file system fill its disk. Raises ``unsupported`` when the disk holds something else."""
        self._refuse_other(wanted)
        if wanted == "ext4":
            self._run(["e2fsck", "-f", "-p", self.path], FSCK_DONE)
            self._run(["resize2fs", self.path])
        elif wanted == "xfs":
            self._inside(lambda top: self._run(["xfs_growfs", top]))
        else:
            self._inside(lambda top: self._run(["btrfs", "filesystem", "resize", "max", top]))

    def shrink(self, wanted: str, size: int) -> None:
        """Let the file system need no more than ``size`` bytes of its disk. Raises ``unsupported`` for xfs."""
        self._refuse_other(wanted)
        if wanted == "xfs":
            raise HostError("unsupported", "xfs can't be made smaller", "make a smaller volume and copy the files")
        if wanted == "ext4":
            self._run(["e2fsck", "-f", "-p", self.path], FSCK_DONE)
            self._run(["resize2fs", self.path, "%dK" % (size // 1024)])
        else:
            self._inside(lambda top: self._run(["btrfs", "filesystem", "resize", str(size), top]))

    def _refuse_other(self, wanted: str) -> None:
        found = kind(self.path)
        if found != wanted:
            raise HostError(
                "unsupported",
                "the volume holds no %s but %s" % (wanted, found or "partitions, or what is not known"),
                "leave filesystem out, and see to it in the guest",
                field="filesystem",
            )

    def _run(self, argv: list[str], ok: t.Container[int] = (0,)) -> None:
        if command.find(argv[0]) is None:
            text = "%s is not installed" % argv[0]
            raise HostError("unsupported", text, "install the package %s" % PACKAGES[argv[0]], field="filesystem")
        command.run_to_its_end(argv, SECONDS, self.alive, (self.lock,), ok)

    def _inside(self, work: t.Callable[[str], None]) -> None:
        """Do something to the mounted file system. Only in a process that ends: its mounts are its own then."""
        mounts.own_namespace()
        # The top is a directory that every host has; what it hides is hidden in this namespace only.
        top = "/mnt"
        options = "loop,nosuid,nodev,noexec"
        if kind(self.path) == "xfs":
            options += ",nouuid"  # a clone has the UUID of its origin, which may be mounted too
        command.run(["mount", "-o", options, self.path, top], MOUNT_SECONDS, writes=True)
        try:
            work(top)
        finally:
            command.run(["umount", top], MOUNT_SECONDS, writes=True)


def _furnish(top: str, wanted: dict[str, t.Any]) -> None:
    places = [top]
    for name in wanted.get("directories") or ():
        at = top
        for part in name.split("/"):
            at = os.path.join(at, part)
            if not os.path.isdir(at):
                os.mkdir(at, 0o755)
                places.append(at)
    if wanted.get("owner"):
        for place in places:
            os.chown(place, *wanted["owner"])
