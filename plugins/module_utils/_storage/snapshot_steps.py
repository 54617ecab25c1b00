# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of snapshots. Private to microvm.host."""

from __future__ import annotations

import dataclasses

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.lease import Lease
from ansible_collections.microvm.host.plugins.module_utils._storage.locked_step import VolumeStep
from ansible_collections.microvm.host.plugins.module_utils._storage.resize_steps import resize


@dataclasses.dataclass(frozen=True)
class TakeSnapshot(VolumeStep):
    """Copy the disk, blocks shared where the file system can."""

    snapshot: str
    nonce: str

    def describe(self) -> str:
        return "take the snapshot %s of %s" % (self.snapshot, self.what)

    @property
    def kept(self) -> str:
        """The snapshot."""
        return self.disks.kept(self.name, self.snapshot)

    @property
    def hidden(self) -> str:
        """The snapshot while it is made."""
        return self.disks.aside(self.kept, self.nonce)

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._take, "taking a snapshot of")

    def _take(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        if self.disks.there(self.kept):
            raise HostError("conflict", "%s has a snapshot %s already" % (self.what, self.snapshot), "run it again")
        self.refuse_written()
        self.disks.copied(self.data, self.hidden, 0, None, progress)
        self.disks.publish(self.hidden, self.kept, proof=True)

    def left(self) -> bool:
        return self.disks.there(self.hidden) or self.disks.proven(self.hidden, self.kept)

    def take_back(self) -> None:
        if self.disks.proven(self.hidden, self.kept) and not self.foreign():
            self.disks.remove(self.kept)
        self.disks.remove(self.hidden)
        self.disks.forget_proof(self.hidden)

    def finish(self, known: Known) -> None:
        self.finished(lambda: self.disks.forget_proof(self.hidden))


@dataclasses.dataclass(frozen=True)
class RestoreSnapshot(VolumeStep):
    """Put a copy of a snapshot in the place of the disk, which waits aside until this is committed.

    The copy has ``size`` bytes, and the ``filesystem`` in it as many, before it is the disk.
    """

    snapshot: str
    size: int
    filesystem: str | None
    nonce: str

    def describe(self) -> str:
        return "restore the snapshot %s of %s, with %d bytes" % (self.snapshot, self.what, self.size)

    @property
    def hidden(self) -> str:
        """The new disk while it is made."""
        return self.disks.aside(self.data, self.nonce)

    @property
    def old(self) -> str:
        """The disk that was."""
        return self.hidden + ".old"

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._restore, "restoring")

    def _restore(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        self.refuse_written()
        label = self.disks.label(self.name) or {}
        kept = self.disks.kept(self.name, self.snapshot)
        self.disks.copied(kept, self.hidden, 0, label, progress)
        if self.disks.size(self.hidden) != self.size:
            resize(self, self.hidden, self.size, self.filesystem, progress, lease)
            self.disks.settled(self.hidden)
        self.disks.publish(self.data, self.old)
        self.disks.publish(self.hidden, self.data)

    def left(self) -> bool:
        return self.disks.there(self.old) or self.disks.there(self.hidden)

    def take_back(self) -> None:
        """To a host that took the volume over it is as it found it: the disk that was stays aside then."""
        if self.disks.there(self.old) and not self.foreign(self.old):
            self.disks.remove(self.data)
            self.disks.publish(self.old, self.data)
        self.disks.remove(self.hidden)

    def finish(self, known: Known) -> None:
        self.finished(lambda: self.disks.remove(self.old))


@dataclasses.dataclass(frozen=True)
class DeleteSnapshot(VolumeStep):
    """Hide a snapshot; it goes when this is committed."""

    snapshot: str

    def describe(self) -> str:
        return "delete the snapshot %s of %s" % (self.snapshot, self.what)

    def _names(self) -> tuple[str, str]:
        kept = self.disks.kept(self.name, self.snapshot)
        return kept, self.disks.aside(kept, self.uuid)

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._hide, "deleting a snapshot of")

    def _hide(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        kept, hidden = self._names()
        if self.disks.there(kept):
            self.disks.publish(kept, hidden)

    def left(self) -> bool:
        kept, hidden = self._names()
        return self.disks.there(hidden) and not self.disks.there(kept) and not self.foreign()

    def take_back(self) -> None:
        kept, hidden = self._names()
        self.disks.publish(hidden, kept)

    def finish(self, known: Known) -> None:
        self.finished(lambda: self.disks.remove(self._names()[1]))


KINDS: dict[str, type[Step]] = {kind.__name__: kind for kind in (TakeSnapshot, RestoreSnapshot, DeleteSnapshot)}
"""By the names in the journal."""
