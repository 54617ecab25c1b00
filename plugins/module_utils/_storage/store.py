# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the volumes of one backend are, whatever its kind: what each must offer. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Step

Look = dict[str, t.Any]
"""What a look at a backend gave. ``status`` as that of a backend; when it is ok ``capacity`` and, by name, ``volumes``:
``size`` and ``allocated_bytes`` of the data (absent when that is gone), ``label`` (None when there is none), ``broken``
(what is wrong with the label), ``snapshots`` and ``holder`` (a lease record, when somebody holds the volume); with
``everything`` of all volumes there, and ``images``, by key, with their size."""


@dataclasses.dataclass(frozen=True)
class Source:
    """What a volume is made of: a file or block device. JSON-able with dataclasses.asdict.

    ``key``: under which name the backend may keep it, empty when it is there already. ``checksum``: the SHA-256 it must
    have, or empty. ``volume``: whose disk it is, if a volume's; ``lock`` the lock file of that, ``crosses`` as for a
    Lease.
    """

    path: str
    format: str
    size: int
    key: str = ""
    checksum: str = ""
    lock: str = ""
    crosses: bool = True
    volume: str = ""


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


class Store(t.Protocol):
    """The volumes of one backend. ``looks`` may hang; the others return steps or text and touch nothing.

    ``seconds`` is how long a step may stand still. Every step takes the lock of its volume, ``takeover`` of which see
    lease.Lease.take. A step that makes something refuses what is there, and its undo takes away only what it made.
    """

    @property
    def backend(self) -> str:
        """The name of the backend."""

    def looks(self, names: t.Sequence[str], everything: bool) -> Look:
        """What is there; of the volumes of these names, or of all."""

    def disk(self, name: str) -> str:
        """The path of the disk, for a virtual machine."""

    def lock_for(self, name: str) -> str:
        """The path of the lock file of a volume, empty for a kind that locks otherwise."""

    def provision(self, volume: Making, seconds: float) -> list[Step]:
        """Make a volume, empty or of its source, with the label that claims its name among all hosts."""

    def adopt(self, name: str, label: dict[str, t.Any] | None, new: str, takeover: bool, seconds: float) -> list[Step]:
        """Make a volume this host's. ``label`` is the one it carries; without one ``new`` becomes its UUID."""

    def resize(
        self, name: str, uuid: str, sizes: tuple[int, int], filesystem: str | None, takeover: bool, seconds: float
    ) -> list[Step]:
        """From the first size to the second, the file system inside of it included when one is named."""

    def snapshot(self, name: str, uuid: str, snapshot: str, takeover: bool, seconds: float) -> list[Step]:
        """Keep the disk as it is now."""

    def restore(self, name: str, uuid: str, snapshot: str, size: int, takeover: bool, seconds: float) -> list[Step]:
        """Make the disk as the snapshot is, of ``size`` bytes at least."""

    def delete_snapshot(self, name: str, uuid: str, snapshot: str, takeover: bool, seconds: float) -> list[Step]:
        """Remove a snapshot once the change is committed."""

    def delete(self, name: str, uuid: str, takeover: bool, seconds: float) -> list[Step]:
        """Put the volume where nobody finds it; once the change is committed remove it, its snapshots and its label."""

    def move_away(self, name: str, uuid: str, size: int, takeover: bool, seconds: float) -> tuple[list[Step], Source]:
        """As ``delete``, of a volume that goes elsewhere; and what it is to be made of there."""

    def prune(self, key: str, seconds: float) -> list[Step]:
        """Remove a kept image, by the key that ``looks`` tells."""

    def source(self, name: str, size: int) -> Source:
        """A volume as what another is made of."""

    def inside(self, path: str) -> str:
        """Where a file is that is on the backend itself. Raises ``unsupported`` for a kind without files."""
