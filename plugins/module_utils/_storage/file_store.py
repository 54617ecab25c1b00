# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that are files in the directory of a backend. Private to microvm.host.

The disk is NAME.raw, beside it is its label NAME.json; snapshots are NAME@SNAPSHOT.raw. Images that the backend keeps
to clone from, and the locks, are in .microvm.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Step
from ansible_collections.microvm.host.plugins.module_utils._host import lease, mounts
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import probe
from ansible_collections.microvm.host.plugins.module_utils._storage.store import Look, Making, Source

DATA, LABEL = ".raw", ".json"
IMAGES = os.path.join(probe.FOLDER, "images")
LOCKS = os.path.join(probe.FOLDER, "locks")
LABEL_BYTES = 65536
VOLUME = re.compile(r"([a-z0-9][a-z0-9._-]*)(?:@([a-z0-9][a-z0-9._-]*))?\.raw")
IMAGE = re.compile(r"([0-9a-f]{64})\.raw")


class FileStore:
    """See store.Store. ``row`` is the backend's, ``path`` where it is on this host."""

    def __init__(self, row: registry.Row, path: str) -> None:
        self.row = row
        self.path = path

    @property
    def backend(self) -> str:
        """See Store."""
        return str(self.row["name"])

    @property
    def place(self) -> dict[str, t.Any]:
        """The backend as the steps need it: JSON-able."""
        able = self.row["capabilities"]
        return {
            "backend": self.backend,
            "path": self.path,
            "marker": self.row["uuid"],
            "crosses": "external" not in able or "multi_host" in able,
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
        finally:
            os.close(root)
        snapshots: dict[str, list[str]] = {}
        there = set()
        for entry in os.listdir(self.path):
            matched = VOLUME.fullmatch(entry)
            if matched and matched[2]:
                snapshots.setdefault(matched[1], []).append(matched[2])
            elif matched:
                there.add(matched[1])
        wanted = {*names, *there} if everything else names
        locks = self._locks()
        found["volumes"] = {
            name: self._look_at(name, name in there, snapshots.get(name, []), name in locks) for name in wanted
        }
        if everything:
            found["images"] = self._images()
        return found

    def _look_at(self, name: str, there: bool, snapshots: list[str], locked: bool) -> dict[str, t.Any]:
        found: dict[str, t.Any] = {"label": None, "snapshots": sorted(snapshots)}
        try:
            found["label"] = read_label(self.path, name)
        except HostError as error:
            found["broken"] = error.message
        if there:
            stat = os.stat(os.path.join(self.path, name + DATA))
            found.update(size=stat.st_size, allocated_bytes=stat.st_blocks * 512)
        if locked:
            found["holder"] = lease.holder(self.lock_for(name), probe.host_mark(), self.place["crosses"])
        return found

    def _locks(self) -> set[str]:
        """The volumes whose lock files have something written in them."""
        try:
            with os.scandir(os.path.join(self.path, LOCKS)) as entries:
                return {entry.name for entry in entries if entry.stat().st_size}
        except FileNotFoundError:
            return set()

    def _images(self) -> dict[str, int]:
        folder = os.path.join(self.path, IMAGES)
        try:
            entries = os.listdir(folder)
        except FileNotFoundError:
            return {}
        keys = [matched[1] for matched in map(IMAGE.fullmatch, entries) if matched]
        return {key: os.stat(os.path.join(folder, key + DATA)).st_size for key in sorted(keys)}

    def disk(self, name: str) -> str:
        """See Store."""
        return os.path.join(self.path, name + DATA)

    def lock_for(self, name: str) -> str:
        """See Store."""
        return os.path.join(self.path, LOCKS, name)

    def provision(self, volume: Making, seconds: float) -> list[Step]:
        """See Store."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import file_steps

        source = dataclasses.asdict(volume.source) if volume.source else None
        return [
            file_steps.MakeVolume(
                self.place,
                volume.name,
                volume.uuid,
                False,
                seconds,
                volume.size,
                source,
                volume.filesystem,
                volume.about,
            )
        ]

    def adopt(self, name: str, label: dict[str, t.Any] | None, new: str, takeover: bool, seconds: float) -> list[Step]:
        """See Store."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import file_steps

        identity = label["uuid"] if label else new
        return [file_steps.AdoptVolume(self.place, name, identity, takeover, seconds, label)]

    def resize(
        self, name: str, uuid: str, sizes: tuple[int, int], filesystem: str | None, takeover: bool, seconds: float
    ) -> list[Step]:
        """See Store."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import file_steps

        return [file_steps.ResizeVolume(self.place, name, uuid, takeover, seconds, *sizes, filesystem)]

    def snapshot(self, name: str, uuid: str, snapshot: str, takeover: bool, seconds: float) -> list[Step]:
        """See Store."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import file_steps

        return [file_steps.TakeSnapshot(self.place, name, uuid, takeover, seconds, snapshot, _nonce())]

    def restore(self, name: str, uuid: str, snapshot: str, size: int, takeover: bool, seconds: float) -> list[Step]:
        """See Store."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import file_steps

        return [file_steps.RestoreSnapshot(self.place, name, uuid, takeover, seconds, snapshot, size, _nonce())]

    def delete_snapshot(self, name: str, uuid: str, snapshot: str, takeover: bool, seconds: float) -> list[Step]:
        """See Store."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import file_steps

        return [file_steps.DeleteSnapshot(self.place, name, uuid, takeover, seconds, snapshot)]

    def delete(self, name: str, uuid: str, takeover: bool, seconds: float) -> list[Step]:
        """See Store."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import file_steps

        return [file_steps.DeleteVolume(self.place, name, uuid, takeover, seconds, moves=False)]

    def move_away(self, name: str, uuid: str, size: int, takeover: bool, seconds: float) -> tuple[list[Step], Source]:
        """See Store."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import file_steps

        hidden = os.path.join(self.path, aside(name + DATA, uuid))
        steps: list[Step] = [file_steps.DeleteVolume(self.place, name, uuid, takeover, seconds, moves=True)]
        return steps, Source(hidden, "raw", size, volume=name)

    def prune(self, key: str, seconds: float) -> list[Step]:
        """See Store."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import file_steps

        return [file_steps.PruneImage(self.place, key, seconds)]

    def source(self, name: str, size: int) -> Source:
        """See Store."""
        return Source(
            self.disk(name), "raw", size, lock=self.lock_for(name), crosses=self.place["crosses"], volume=name
        )

    def inside(self, path: str) -> str:
        """See Store."""
        return os.path.join(self.path, path)


def _nonce() -> str:
    return uuid.uuid4().hex[:8]


def now() -> str:
    """The time, UTC, as labels have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def aside(name: str, uuid: str) -> str:
    """The name under which a file waits that shall go, or that shall be: hidden, and of one volume only."""
    return ".%s.%s" % (name, uuid[:8])


def read_label(folder: str, name: str) -> dict[str, t.Any] | None:
    """The label of a volume, None when there is none. Raises HostError ``conflict`` for one that is none of ours."""
    path = os.path.join(folder, name + LABEL)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = json.loads(os.read(descriptor, LABEL_BYTES))
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    texts = ("name", "uuid", "owner", "hostname")
    if not isinstance(found, dict) or any(not isinstance(found.get(key), str) for key in texts):
        raise HostError("conflict", "%s is not the label of a volume" % path, "move it out of the way, or restore it")
    return found


def label(name: str, identity: str, about: dict[str, t.Any]) -> dict[str, t.Any]:
    """The label of a volume of this host."""
    return {**about, "name": name, "uuid": identity, "owner": probe.host_mark(), "hostname": os.uname().nodename}
