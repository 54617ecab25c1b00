# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that are files in the directory of a backend; see file_disks. Private to microvm.host."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host import mounts
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import disks, probe
from ansible_collections.microvm.host.plugins.module_utils._storage.file_disks import DATA, IMAGES, read_label
from ansible_collections.microvm.host.plugins.module_utils._storage.store import Look, Store, grouped

VOLUME = re.compile(r"([a-z0-9][a-z0-9._-]*)(?:@([a-z0-9][a-z0-9._-]*))?\.raw")
IMAGE = re.compile(r"([0-9a-f]{64})\.raw")


class FileStore(Store):
    """See Store. ``path`` is where the backend is on this host."""

    def __init__(self, row: registry.Row, path: str) -> None:
        self.path = path
        super().__init__(row)

    @property
    def place(self) -> disks.Place:
        """See Store."""
        able = self.row["capabilities"]
        return {
            "kind": "files",
            "backend": self.backend,
            "path": self.path,
            "marker": self.row["uuid"],
            "crosses": "external" not in able or "multi_host" in able,
            # Linux' CIFS client does nothing (cifs_dir_fsync); a file that is flushed takes its name along.
            "syncs_directories": self.row["kind"] != "smb",
        }

    def looks(self, names: t.Sequence[str], everything: bool) -> Look:
        """See Store."""
        if self.row["kind"] != "local_file" and not mounts.stack_at(self.path, mounts.table()):
            return {"status": "not_mounted"}
        try:
            root = os.open(self.path, probe.PLACE)
        except FileNotFoundError:
            return {"status": "not_mounted"}
        except OSError as error:
            return {"status": probe.explained(error, self.path).kind}
        try:
            if probe.read_marker(root, self.path) != self.row["uuid"] and self.row["identity"] == "marker":
                return {"status": "not_mounted"}
            found: Look = {"status": "ok", "capacity": probe.capacity(root)}
            if self.row["identity"] != "marker" or os.fstatvfs(root).f_flag & os.ST_RDONLY:
                found["read_only"] = True
        finally:
            os.close(root)
        there, snapshots = grouped(os.listdir(self.path), VOLUME)
        wanted = {*names, *there} if everything else set(names)
        holders = self.holders(wanted)
        found["volumes"] = {
            name: self._look_at(name, name in there, snapshots.get(name, []), holders.get(name)) for name in wanted
        }
        if everything:
            found["images"] = self._images()
        return found

    def _look_at(
        self, name: str, there: bool, snapshots: list[str], holder: dict[str, t.Any] | None
    ) -> dict[str, t.Any]:
        found: dict[str, t.Any] = {
            "label": None,
            "snapshots": {each: os.stat(self.inside(self.disks.kept(name, each))).st_size for each in snapshots},
        }
        try:
            found["label"] = read_label(self.path, name)
        except HostError as error:
            found["broken"] = error.message
        if there:
            stat = os.stat(os.path.join(self.path, name + DATA))
            found.update(size=stat.st_size, allocated_bytes=stat.st_blocks * 512)
        if holder:
            found["holder"] = holder
        return found

    def _images(self) -> dict[str, int]:
        folder = os.path.join(self.path, IMAGES)
        try:
            entries = os.listdir(folder)
        except FileNotFoundError:
            return {}
        keys = [matched[1] for matched in map(IMAGE.fullmatch, entries) if matched]
        return {key: os.stat(os.path.join(folder, key + DATA)).st_size for key in sorted(keys)}

    def inside(self, path: str) -> str:
        """See Store."""
        return os.path.join(self.path, path)
