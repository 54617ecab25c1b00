# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all steps are made of that change a volume. Private to microvm.host.

Each is one child that holds the lock of the volume. What it makes has a hidden name until it is whole, and what it
takes away has one until the change is committed; both names have the volume's UUID in them or that of the step, so that
an undo touches nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, lease
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.lease import Lease
from ansible_collections.microvm.host.plugins.module_utils._storage import disks, probe

UNDO_SECONDS = 30.0
"""How long an undo may stand still at most; as long as the step, when that is less."""


@dataclasses.dataclass(frozen=True)
class VolumeStep(Step):
    """``place`` is Store.place. ``uuid`` is what the volume's label has to have. ``seconds`` without progress."""

    place: dict[str, t.Any]
    name: str
    uuid: str
    takeover: bool
    seconds: float

    @property
    def what(self) -> str:
        """The volume in words."""
        return "volume %s on %s" % (self.name, self.place["backend"])

    @functools.cached_property
    def disks(self) -> disks.Disks:
        """The disks of the backend."""
        return disks.of(self.place)

    @property
    def data(self) -> str:
        """The disk."""
        return self.disks.data(self.name)

    def child(self, work: t.Callable[[deadline.Progress, Lease], None], doing: str) -> deadline.Child:
        """Do it in a child that dies with this process; ``work`` has the lock of the volume."""
        die_with_us = deadline.bond()
        probe.host_mark()  # kept: the child of each volume would read it, and load what it takes to read text

        def guarded(send: t.Callable[[t.Any], None]) -> Known:
            die_with_us()
            self.locked(work, deadline.Progress(send), self.takeover, 0.0)
            return {}

        return deadline.Child(guarded, self.seconds, "%s %s" % (doing, self.what))

    def locked(
        self,
        work: t.Callable[[deadline.Progress, Lease], None],
        progress: deadline.Progress,
        takeover: bool,
        patience: float,
    ) -> None:
        """Do something with the lock of the volume."""
        with self.entered(progress):
            lock = self.lease()
            lock.take(takeover, patience)
            try:
                self.disks.keep(lock.descriptor)
                work(progress, lock)
            finally:
                lock.release(forget=not self.disks.claimed(self.name))

    @contextlib.contextmanager
    def entered(self, progress: deadline.Progress) -> t.Iterator[None]:
        """Be on the backend that is meant and no other; what fails there names the volume."""
        try:
            with self.disks.entered(progress, self.seconds):
                yield
        except OSError as error:
            raise probe.explained(error, self.what) from None
        except HostError as error:
            if error.kind == "full" and "volume %s" % self.name not in error.message:
                error.message = "%s: %s" % (self.what, error.message)  # who found it does not know for whom
            raise

    def lease(self) -> Lease:
        """The lock of the volume."""
        doing = "Ansible (%s)" % self.describe()
        return Lease(self.disks.locks, self.name, doing, probe.host_mark(), self.place["crosses"])

    def left(self) -> bool:
        """Whether there is something that this very step has left and its undo takes back. Only looks."""
        raise NotImplementedError

    def take_back(self) -> None:
        """Undo what is ``left``; with the lock."""
        raise NotImplementedError

    def undo(self, known: Known) -> None:
        """Look first: where nothing is left, whoever holds the volume meanwhile is not asked for it."""

        def take_back() -> None:
            if self.left():
                self.take_back()

        def needed(progress: deadline.Progress) -> bool:
            with self.entered(progress):
                return self._goes_on() or self.left()

        self._afterwards(take_back, needed)

    def finished(self, work: t.Callable[[], None]) -> None:
        """Do what follows the commit."""
        self._afterwards(work, lambda progress: True)

    def _afterwards(self, work: t.Callable[[], None], needed: t.Callable[[deadline.Progress], bool]) -> None:
        """Do something, if needed, after whatever a dead run left running on the disk has ended."""
        seconds = min(UNDO_SECONDS, self.seconds)

        def run(send: t.Callable[[t.Any], None]) -> bool:
            progress = deadline.Progress(send)
            if needed(progress):
                self.locked(lambda progress, lock: work(), progress, self.takeover, seconds / 2)
            return True

        child = deadline.Child(run, seconds, "leaving %s" % self.what)
        deadline.wait_any([child])
        child.result()

    def _goes_on(self) -> bool:
        """Whether what a dead run left running may still change something: it has the lock, and says so in it."""
        own = self.lease()
        found = lease.read(own.path)
        return all(found.get(key) == own.record[key] for key in ("host", "holder"))

    def foreign(self, hidden: str = "") -> bool:
        """Whether the label is that of another volume, or of one that is another host's now; see Disks.label."""
        found = self.disks.label(self.name, hidden)
        return found is not None and (found["uuid"] != self.uuid or found["owner"] != probe.host_mark())

    def refuse_other(self) -> None:
        """Raise ``conflict`` unless the volume is still this host's."""
        found = self.disks.label(self.name)
        if found is None or found["uuid"] != self.uuid or found["owner"] != probe.host_mark():
            whose = "carries no label" if found is None else "is now that of %s" % found["hostname"]
            raise HostError("conflict", "%s %s" % (self.what, whose), "look at host_info on both hosts")

    def refuse_written(self) -> None:
        """Raise ``in_use`` while a virtual machine has the disk open for writing."""
        with self.disks.opened(self.data, write=True):
            pass  # that is what it does first
