# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of one backend, whatever they are: what the steps of volumes need of them. Private to microvm.host.

A disk has a name that is the backend's: that of a volume is ``data``, that of a snapshot ``kept``, that of an image
``image``; what is not whole yet or shall go is ``aside``. Labels say whose a volume is.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._storage import probe

Label = dict[str, t.Any]
Place = dict[str, t.Any]
"""A backend as steps need it, JSON-able: ``kind`` (files or lvm), ``backend`` (its name), ``crosses`` (whether other
hosts see its locks), and what else its kind needs."""


class Disks(t.Protocol):
    """All but the names may hang, and runs in a child, between ``entered`` and its end.

    Raises HostError and OSError.
    """

    @property
    def locks(self) -> str:
        """The directory of the locks of volumes."""

    @property
    def zeroed(self) -> bool:
        """Whether a new disk reads as zeros."""

    @property
    def keeps(self) -> bool:
        """Whether it keeps images, to make copies of them at home."""

    def data(self, volume: str) -> str:
        """The disk of a volume."""

    def kept(self, volume: str, snapshot: str) -> str:
        """A snapshot of it."""

    def image(self, key: str) -> str:
        """An image that the backend keeps, by its 64 digits."""

    def aside(self, disk: str, nonce: str) -> str:
        """Where a disk waits that shall go, or be: hidden, and by ``nonce`` of one volume or step only."""

    def path(self, disk: str) -> str:
        """Its path on this host."""

    def entered(self, progress: deadline.Progress, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Make sure that it is the backend that is meant, and stays so. ``seconds`` without progress are allowed."""

    def keep(self, lock: int) -> None:
        """The descriptor of a lock that shall outlive this process in programs that do."""

    def there(self, disk: str) -> bool:
        """Whether it exists."""

    def size(self, disk: str) -> int:
        """Bytes of one that exists."""

    def claimed(self, volume: str) -> bool:
        """Whether the name of a volume is taken."""

    def snapshots(self, volume: str) -> list[str]:
        """The disks that are snapshots of a volume."""

    def label(self, volume: str, hidden: str = "") -> Label | None:
        """The label of a volume, whose disk may be ``hidden`` now; None without one. A broken one is a ``conflict``."""

    def claim(self, volume: str, label: Label) -> None:
        """Take the name of a volume among all hosts. Raises ``conflict`` when it is taken.

        That outlives a loss of power once the disk has its name, see ``publish``.
        """

    def relabel(self, volume: str, nonce: str, label: Label | None) -> None:
        """Replace the label of a volume at once; None: it has none."""

    def tidy(self, volume: str, nonce: str) -> None:
        """Remove what a ``claim`` or ``relabel`` that was killed left; ``nonce`` is the volume's UUID or the step's."""

    def untidy(self, volume: str, nonce: str) -> bool:
        """Whether there is something to ``tidy``."""

    def free(self) -> int | None:
        """Bytes that new disks may take, None: as the file system of the target says."""

    def made(self, disk: str, size: int, label: Label) -> contextlib.AbstractContextManager[int]:
        """A new empty disk, open. ``label``: of the volume that it shall be: virtual machines may use it then."""

    def copied(self, source: str, disk: str, size: int, label: Label | None, progress: deadline.Progress) -> None:
        """A new disk that is a copy of another of the backend, of ``size`` bytes at least. ``label`` as for ``made``;
        None: it is kept as it is, a snapshot."""

    def at_once(self, source: str, size: int) -> bool:
        """Whether a disk that is ``copied`` is whole as soon as it is there, so that it may have its name."""

    def opened(self, disk: str, write: bool) -> contextlib.AbstractContextManager[int]:
        """A disk, refused with ``in_use`` while a virtual machine writes to it."""

    def held(self, disk: str) -> contextlib.AbstractContextManager[str]:
        """By which name a disk can be ``copied`` meanwhile, even when it is removed."""

    def resize(self, disk: str, size: int, progress: deadline.Progress) -> None:
        """Make it longer, by zeros, or shorter."""

    def lengthen(self, disk: str, size: int, progress: deadline.Progress) -> None:
        """Make it longer, by zeros, while a virtual machine has it open; nothing to do when it is as long."""

    def half_grown(self, disk: str) -> bool:
        """Whether a ``resize`` to more did not come to its end: what is behind the old end is nothing then."""

    def frozen(self, disk: str) -> None:
        """Nobody shall write to it any more."""

    def settled(self, disk: str) -> None:
        """What programs have written is durable, and virtual machines may use it."""

    def publish(self, hidden: str, disk: str, proof: bool = False) -> None:
        """Give a disk its name; with ``proof``, ``proven`` tells whether what has that name is what was hidden."""

    def proven(self, hidden: str, disk: str) -> bool:
        """See ``publish``."""

    def forget_proof(self, hidden: str) -> None:
        """See ``publish``."""

    def remove(self, *disks: str) -> None:
        """Remove disks; those that are gone already too."""

    def forget(self, volume: str, disk: str) -> None:
        """Remove a volume whose disk is ``disk`` now, its label last; may be done twice."""

    def written(self, disk: str) -> int:
        """A number that changes while somebody on this host writes to it."""

    def beside(self, hidden: str) -> str:
        """The path of a lock file of this host for a hidden disk."""


def of(place: Place) -> Disks:
    """The disks of a backend."""
    if place["kind"] == "lvm":
        from ansible_collections.microvm.host.plugins.module_utils._storage.lvm_disks import LvmDisks

        return LvmDisks(place)
    from ansible_collections.microvm.host.plugins.module_utils._storage.file_disks import FileDisks

    return FileDisks(place)


def hidden(name: str, nonce: str) -> str:
    """The name of what is set aside, of a file or a logical volume."""
    return ".%s.%s" % (name, nonce[:8])


def now() -> str:
    """The time, UTC, as labels have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def label(name: str, identity: str, about: Label) -> Label:
    """The label of a volume of this host."""
    return {**about, "name": name, "uuid": identity, "owner": probe.host_mark(), "hostname": os.uname().nodename}
