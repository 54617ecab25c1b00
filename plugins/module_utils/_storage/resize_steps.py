# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that make a disk longer or shorter, with the file system in it. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host import copy, deadline, diskfs
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.lease import Lease
from ansible_collections.microvm.host.plugins.module_utils._storage.locked_step import VolumeStep


def resize(
    step: VolumeStep, disk: str, after: int, filesystem: str | None, progress: deadline.Progress, lease: Lease
) -> None:
    """Give a disk of the step's volume ``after`` bytes, and the ``filesystem`` that it is as many.

    Raises HostError ``conflict`` for a shorter one when none is named and something is written behind the new end.
    """
    with step.disks.opened(disk, write=True) as data:
        size = copy.size_of(data)
        if after < size and not filesystem and _has_data_behind(data, after):
            text = "%s has data behind %d bytes" % (step.what, after)
            raise HostError("conflict", text, "name its filesystem, which is made smaller first", field="size")
    inside = diskfs.Disk(step.disks.path(disk), progress.alive, lease.descriptor)
    if after >= size:
        step.disks.resize(disk, after, progress)
        if filesystem:
            inside.grow(filesystem)
    else:
        if filesystem:
            inside.shrink(filesystem, after)
        step.disks.resize(disk, after, progress)


def _has_data_behind(data: int, place: int) -> bool:
    size = copy.size_of(data)
    for begin, end in copy.extents(data, size):
        at = max(begin, place)
        while at < end:
            found = os.pread(data, copy.READ, at)
            if found.strip(b"\0"):
                return True
            at += len(found) or copy.READ
    return False


@dataclasses.dataclass(frozen=True)
class ResizeVolume(VolumeStep):
    """From ``before`` to ``after`` bytes, with the file system in it when one is named."""

    before: int
    after: int
    filesystem: str | None

    def describe(self) -> str:
        verb = "grow" if self.after > self.before else "shrink"
        inner = " and the %s in it" % self.filesystem if self.filesystem else ""
        return "%s %s%s to %d bytes" % (verb, self.what, inner, self.after)

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._resize, "resizing")

    def _resize(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        resize(self, self.data, self.after, self.filesystem, progress, lease)

    def left(self) -> bool:
        if self.foreign() or not self.disks.there(self.data):
            return False
        # Of another size whoever uses it meanwhile is not disturbed.
        return self.disks.half_grown(self.data) or self.before != self.after == self.disks.size(self.data)

    def take_back(self) -> None:
        """The disk becomes as long as it was; not shorter, when something is written behind its old end already."""
        if self.after > self.before and not self.disks.half_grown(self.data):
            with self.disks.opened(self.data, write=True) as data:
                if _has_data_behind(data, self.before):
                    return
        self.disks.resize(self.data, self.before, deadline.Progress(lambda *dummy: None))


@dataclasses.dataclass(frozen=True)
class LengthenVolume(VolumeStep):
    """To ``after`` bytes, more than ``before``, under a machine of this host that has it open, and so its lock.

    An undo takes back what no guest can have seen yet. A disk that is whole stays as long as it is: the registry has
    the size before, and the next run goes on.
    """

    before: int
    after: int

    def describe(self) -> str:
        return "grow %s to %d bytes" % (self.what, self.after)

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._lengthen, "growing")

    def locked(
        self,
        work: t.Callable[[deadline.Progress, Lease], None],
        progress: deadline.Progress,
        takeover: bool,
        patience: float,
    ) -> None:
        """The machine has the lock; of runs of this collection there is one, which has the name."""
        with self.entered(progress):
            work(progress, self.lease())

    def _lengthen(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        self.disks.lengthen(self.data, self.after, progress)

    def left(self) -> bool:
        return not self.foreign() and self.disks.there(self.data) and self.disks.half_grown(self.data)

    def take_back(self) -> None:
        self.disks.resize(self.data, self.before, deadline.Progress(lambda *dummy: None))


KINDS: dict[str, type[Step]] = {kind.__name__: kind for kind in (ResizeVolume, LengthenVolume)}
"""By the names in the journal."""
