# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the volumes of one backend are, whatever its kind: what each must offer. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Step
from ansible_collections.microvm.host.plugins.module_utils._host import lease
from ansible_collections.microvm.host.plugins.module_utils._storage import disks, probe

Look = dict[str, t.Any]
"""What a look at a backend gave. ``status`` as that of a backend; when it is ok ``capacity`` and, by name, ``volumes``:
``size`` and ``allocated_bytes`` of the data (absent when that is gone), ``label`` (None when there is none), ``broken``
(what is wrong with the label), ``snapshots``, by name with their size, and ``holder`` (a lease record, when somebody
holds the volume); with ``everything`` of all volumes there, and ``images``, by key, with their size. ``grain``: sizes
are multiples of it;
``largest``: no disk can have more, however much is free. ``read_only``: nothing can be written there.
When it is standby: ``owner``, the host that has the place, "" for none; ``volumes`` that are held here all the same."""


@dataclasses.dataclass(frozen=True)
class Source:
    """What a volume is made of: a file or block device. JSON-able with dataclasses.asdict.

    ``key``: under which name the backend may keep it, empty when it is there already. ``checksum``: the SHA-256 it must
    have, or empty. ``volume``: whose disk it is, if a volume's; ``lock`` the lock file of that, ``crosses`` as for a
    Lease, ``disk`` its name on ``backend``.
    """

    path: str
    format: str
    size: int
    key: str = ""
    checksum: str = ""
    lock: str = ""
    crosses: bool = True
    volume: str = ""
    backend: str = ""
    disk: str = ""


@dataclasses.dataclass(frozen=True)
class Making:
    """A volume that shall be. ``filesystem`` as diskfs.Disk.make takes it, or None."""

    name: str
    uuid: str
    size: int
    source: Source | None
    filesystem: dict[str, t.Any] | None
    about: dict[str, t.Any]
    """What its label says beside name, uuid and owner."""


class Store:
    """The volumes of one backend, whose ``row`` it is. ``looks`` may hang; the others return steps or text and touch
    nothing.

    ``seconds`` is how long a step may stand still. Every step takes the lock of its volume, ``takeover`` of which see
    lease.Lease.take. A step that makes something refuses what is there, and its undo takes away only what it made.
    """

    def __init__(self, row: registry.Row) -> None:
        self.row = row
        self.disks = disks.of(self.place)

    @property
    def backend(self) -> str:
        """The name of the backend."""
        return str(self.row["name"])

    @property
    def place(self) -> disks.Place:
        """The backend as its steps need it."""
        raise NotImplementedError

    def looks(self, names: t.Sequence[str], everything: bool) -> Look:
        """What is there; of the volumes of these names, or of all."""
        raise NotImplementedError

    def inside(self, path: str) -> str:
        """Where a file is that is on the backend itself. Raises ``unsupported`` for a kind without files."""
        raise NotImplementedError

    def refuse_names(self, name: str, snapshots: t.Iterable[str], prefix: str) -> None:
        """Raise ``invalid`` for names that the backend does not take; ``prefix`` is that of the option."""

    def watch(self, name: str) -> t.Callable[[], None]:
        """What a holder of the volume's lock calls each time it shows that it lives.

        It raises HostError when, beside the lock, something else shows that the disk is another host's now.
        """
        return lambda: None

    def disk(self, name: str) -> str:
        """The path of the disk, for a virtual machine."""
        return self.disks.path(self.disks.data(name))

    def lock_for(self, name: str) -> str:
        """The path of the lock file of a volume."""
        return os.path.join(self.disks.locks, name)

    def holders(self, wanted: t.Container[str]) -> dict[str, dict[str, t.Any]]:
        """By volume, the lease records of those who hold one of those wanted. May hang."""
        try:
            with os.scandir(self.disks.locks) as entries:
                names = [entry.name for entry in entries if entry.name in wanted and entry.stat().st_size]
        except FileNotFoundError:
            return {}
        crosses = self.place["crosses"]
        return {name: lease.holder(self.lock_for(name), probe.host_mark(), crosses) for name in names}

    def provision(self, volume: Making, seconds: float) -> list[Step]:
        """Make a volume, empty or of its source, with the label that claims its name among all hosts."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import making_steps

        source = dataclasses.asdict(volume.source) if volume.source else None
        making = (volume.size, source, volume.filesystem, volume.about)
        return [making_steps.MakeVolume(self.place, volume.name, volume.uuid, False, seconds, *making)]

    def adopt(self, name: str, label: dict[str, t.Any] | None, new: str, takeover: bool, seconds: float) -> list[Step]:
        """Make a volume this host's. ``label`` is the one it carries; without one ``new`` becomes its UUID."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import volume_steps

        identity = label["uuid"] if label else new
        return [volume_steps.AdoptVolume(self.place, name, identity, takeover, seconds, label, _nonce())]

    def resize(
        self, name: str, uuid: str, sizes: tuple[int, int], filesystem: str | None, takeover: bool, seconds: float
    ) -> list[Step]:
        """From the first size to the second, the file system inside of it included when one is named."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import resize_steps

        return [resize_steps.ResizeVolume(self.place, name, uuid, takeover, seconds, *sizes, filesystem)]

    def lengthen(self, name: str, uuid: str, sizes: tuple[int, int], seconds: float) -> list[Step]:
        """From the first size to the second, which is larger, under the machine that has its lock."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import resize_steps

        return [resize_steps.LengthenVolume(self.place, name, uuid, False, seconds, *sizes)]

    def snapshot(self, name: str, uuid: str, snapshot: str, takeover: bool, seconds: float) -> list[Step]:
        """Keep the disk as it is now."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import snapshot_steps

        return [snapshot_steps.TakeSnapshot(self.place, name, uuid, takeover, seconds, snapshot, _nonce())]

    def restore(
        self, name: str, uuid: str, snapshot: str, size: int, filesystem: str | None, takeover: bool, seconds: float
    ) -> list[Step]:
        """Make the disk as the snapshot is, of ``size`` bytes, the file system inside too when one is named."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import snapshot_steps

        restoring = (snapshot, size, filesystem, _nonce())
        return [snapshot_steps.RestoreSnapshot(self.place, name, uuid, takeover, seconds, *restoring)]

    def delete_snapshot(self, name: str, uuid: str, snapshot: str, takeover: bool, seconds: float) -> list[Step]:
        """Remove a snapshot once the change is committed."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import snapshot_steps

        return [snapshot_steps.DeleteSnapshot(self.place, name, uuid, takeover, seconds, snapshot)]

    def delete(self, name: str, uuid: str, takeover: bool, seconds: float) -> list[Step]:
        """Put the volume where nobody finds it; once the change is committed remove it, its snapshots and its label."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import volume_steps

        return [volume_steps.DeleteVolume(self.place, name, uuid, takeover, seconds, moves=False)]

    def move_away(self, name: str, uuid: str, size: int, takeover: bool, seconds: float) -> tuple[list[Step], Source]:
        """As ``delete``, of a volume that goes elsewhere; and what it is to be made of there."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import volume_steps

        hidden = self.disks.path(self.disks.aside(self.disks.data(name), uuid))
        steps: list[Step] = [volume_steps.DeleteVolume(self.place, name, uuid, takeover, seconds, moves=True)]
        return steps, Source(hidden, "raw", size, volume=name)

    def prune(self, key: str, seconds: float) -> list[Step]:
        """Remove a kept image, by the key that ``looks`` tells."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import making_steps

        return [making_steps.PruneImage(self.place, key, seconds)]

    def source(self, name: str, size: int) -> Source:
        """A volume as what another is made of."""
        return Source(
            self.disk(name),
            "raw",
            size,
            lock=self.lock_for(name),
            crosses=self.place["crosses"],
            volume=name,
            backend=self.backend,
            disk=self.disks.data(name),
        )


def grouped(entries: t.Iterable[str], pattern: re.Pattern[str]) -> tuple[set[str], dict[str, list[str]]]:
    """The names of volumes among those of disks, and by volume its snapshots; a pattern's groups are the two."""
    there: set[str] = set()
    snapshots: dict[str, list[str]] = {}
    for matched in filter(None, map(pattern.fullmatch, entries)):
        if matched[2]:
            snapshots.setdefault(matched[1], []).append(matched[2])
        else:
            there.add(matched[1])
    return there, {name: sorted(found) for name, found in snapshots.items()}


def _nonce() -> str:
    return uuid.uuid4().hex[:8]
