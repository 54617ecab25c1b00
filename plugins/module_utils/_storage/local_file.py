# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage kind local_file: a directory of this host. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import os
import shutil
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, files, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import probe

PATH = "/var/lib/microvm/volumes"
MODE = 0o750


def asked(item: dict[str, t.Any], prefix: str) -> dict[str, t.Any]:
    """The configuration of validated options. Raises ``invalid``."""
    return {"path": names.mount_path(item.get("path") or PATH, prefix + "path")}


@dataclasses.dataclass(frozen=True)
class OpenDirectory(Step):
    """Make the directory when it is missing, try it, and give it the marker that identifies it."""

    path: str
    makes: list[str]
    marker: str
    seconds: float

    def describe(self) -> str:
        return "%s %s" % ("make" if self.makes else "try", self.path)

    def apply(self, known: Known) -> deadline.Child:
        return deadline.Child(lambda send: self._open(), self.seconds, "trying %s" % self.path)

    def _open(self) -> Known:
        files.make_directories(self.path, MODE)
        try:
            root = os.open(self.path, probe.DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise files.from_os(error, "opening %s" % self.path).in_field("path") from None
        known = probe.examine(root, "write", self.path)
        known.update(probe.identify(root, self.marker, True, self.path), path=self.path)
        return known

    def undo(self, known: Known) -> None:
        """Only what this step made goes, and only when nothing but the marker is in it."""
        if self.path in self.makes and os.path.isdir(self.path):
            if set(os.listdir(self.path)) <= {probe.FOLDER}:
                shutil.rmtree(self.path)
        for folder in reversed(self.makes):
            files.remove_empty(folder)


def refuse_change(before: dict[str, t.Any], after: dict[str, t.Any], prefix: str) -> None:
    """The directory is the identity of a local backend: it does not change. Raises ``conflict``."""
    if before["path"] != after["path"]:
        raise HostError(
            "conflict",
            "the path of a local_file backend can't change (it is %s)" % before["path"],
            "add a backend under another name and move the volumes",
            field=prefix + "path",
        )
