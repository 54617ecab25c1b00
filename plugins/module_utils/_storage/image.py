# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new volume is made of. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import copy
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import probe

SECTOR = 512
"""Bytes that the size of a disk is a multiple of: virtual machines see no smaller piece."""


@dataclasses.dataclass(frozen=True)
class Image:
    """As asked for: a file by its path, relative to the backend unless absolute; or another volume of this host."""

    asked: str
    path: str
    volume: str
    format: str
    checksum: str


def look(asked: tuple[str, str, str, str]) -> dict[str, t.Any]:
    """Size of the disk in an image and more, or the ``error`` (``option``: at fault); may hang, so it runs in a child.

    ``asked`` are the volume, the path, the format, and where the disk will be. ``beside``: on the same file system as
    that. ``fingerprint``: 64 digits that change with the file.
    """
    dummy, path, kind, target = asked
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
        text = "the image %s: %s" % (path, os.strerror(error.errno or 0))
        if gone:
            hint = "put it there, or name another; a path without '/' in front is one on the backend"
            return {"error": text, "kind": "not_found", "hint": hint}
        return {"error": text, "kind": "refused", "hint": "let root of this host read it"}
    try:
        found = os.fstat(descriptor)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)):
            return {"error": "the image %s is no file" % path, "kind": "invalid", "hint": "name the file in it"}
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if (kind == "qcow2") != copy.is_qcow2(descriptor):
            text, hint = ("a", "say format: qcow2") if kind == "raw" else ("no", "leave format out for a raw one")
            text = "the image %s is %s qcow2 image" % (path, text)
            return {"error": text, "kind": "invalid", "hint": hint, "option": "format"}
    finally:
        os.close(descriptor)
    if kind == "qcow2":
        try:
            size = copy.qcow2_size(path)
        except HostError as error:
            return {"error": error.message, "kind": error.kind, "hint": error.hint}
    stamp = "%s|%s|%d|%d|%d" % (probe.host_mark(), os.path.realpath(path), size, found.st_mtime_ns, found.st_ino)
    return {
        "path": path,
        "size": -(-size // SECTOR) * SECTOR,
        "beside": found.st_dev == _device(os.path.dirname(target)),
        "fingerprint": hashlib.sha256(stamp.encode("utf-8", "surrogateescape")).hexdigest(),
    }


def _device(folder: str) -> int:
    """The file system that a directory is on; -1 when there is none, as for the first disk of a volume group."""
    try:
        return os.stat(folder).st_dev
    except FileNotFoundError:
        return -1
