# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is emptied when its machine starts: what an overlay had written to it goes. Private to microvm.host."""

from __future__ import annotations

import os
import sys
import tempfile

from ansible_collections.microvm.host.plugins.module_utils._host import command, diskfs
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import overlays

SECONDS = 60.0
HEAD = 1 << 16
"""Bytes that are zeros on a disk that nobody has written a file system or a partition table to."""


def run(path: str) -> int:
    """``microvm-tool vm-fresh``: make the file system of an overlay's disk anew, with nothing in it.

    The machine's service runs it, which holds the lock of that disk. It is refused for a disk that is something else.
    """
    try:
        if diskfs.kind(path) != overlays.TYPE and not _blank(path):
            sys.stderr.write("microvm-tool vm-fresh: %s is no %s, it is left as it is\n" % (path, overlays.TYPE))
            return 1
        with tempfile.TemporaryDirectory(prefix="microvm-") as empty:
            os.chmod(empty, 0o755)  # it becomes the top of the file system
            for name in overlays.DIRECTORIES:
                os.mkdir(os.path.join(empty, name), 0o755)
            _clear(path)
            words = ["mkfs.ext4", "-q", "-F", "-d", empty, path]
            command.run(words, SECONDS, writes=True)
        return 0
    except (HostError, OSError) as error:
        sys.stderr.write("microvm-tool vm-fresh: %s\n" % error)
        return 1


def _clear(path: str) -> None:
    """Have the head blank first: mkfs writes it last, and one that is cut off must be known for what it is."""
    with open(path, "r+b", buffering=0) as disk:
        disk.write(bytes(HEAD))
        os.fsync(disk.fileno())


def _blank(path: str) -> bool:
    with open(path, "rb", buffering=0) as disk:
        return not any(disk.read(HEAD))
