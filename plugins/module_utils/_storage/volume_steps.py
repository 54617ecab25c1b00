# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that adopt and delete a volume; and the names of all steps of volumes. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Record, Step
from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.lease import Lease
from ansible_collections.microvm.host.plugins.module_utils._storage import (
    disks,
    making_steps,
    probe,
    resize_steps,
    snapshot_steps,
)
from ansible_collections.microvm.host.plugins.module_utils._storage.locked_step import VolumeStep


@dataclasses.dataclass(frozen=True)
class AdoptVolume(VolumeStep):
    """Write a label that says it is this host's. ``previous``: the one it had, None without.

    The label has the ``nonce`` of this step: the volume may go to other hosts and come back before an undo is done.
    """

    previous: dict[str, t.Any] | None
    nonce: str = ""
    """Without, in journals of before there were nonces, nobody can tell whose label it is: it stays."""

    def describe(self) -> str:
        return "adopt %s%s" % (self.what, " from %s" % self.previous["hostname"] if self.previous else "")

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._adopt, "adopting")

    def _adopt(self, progress: deadline.Progress, lease: Lease) -> None:
        if self.disks.label(self.name) != self.previous:
            raise HostError("conflict", "%s was taken by another host meanwhile" % self.what, "run it again")
        self.disks.settled(self.data)
        about = {"created": disks.now(), **(self.previous or {}), "nonce": self.nonce}
        self.disks.relabel(self.name, self.nonce, disks.label(self.name, self.uuid, about))

    def left(self) -> bool:
        return self.disks.untidy(self.name, self.nonce) or self._labelled()

    def take_back(self) -> None:
        self.disks.tidy(self.name, self.nonce)
        if self._labelled():
            self.disks.relabel(self.name, self.nonce, self.previous)

    def _labelled(self) -> bool:
        """Whether the label is the one that this step wrote."""
        found = self.disks.label(self.name)
        return found is not None and bool(self.nonce) and found.get("nonce") == self.nonce and not self.foreign()


@dataclasses.dataclass(frozen=True)
class DeleteVolume(VolumeStep):
    """Hide the disk, so that nothing can open it; it goes with snapshots and label when this is committed."""

    moves: bool

    def describe(self) -> str:
        return ("move %s away" if self.moves else "delete %s") % self.what

    @property
    def hidden(self) -> str:
        """The disk while it waits for the commit."""
        return self.disks.aside(self.data, self.uuid)

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._hide, "deleting")

    def _hide(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        if self.disks.there(self.data):
            self.refuse_written()
            self.disks.publish(self.data, self.hidden)

    def left(self) -> bool:
        there = self.disks.there
        return there(self.hidden) and not there(self.data) and not self.foreign(self.hidden)

    def take_back(self) -> None:
        self.disks.publish(self.hidden, self.data)

    def finish(self, known: Known) -> None:
        self.finished(self._remove)

    def _remove(self) -> None:
        found = self.disks.label(self.name, self.hidden)
        if found is not None and found["uuid"] == self.uuid and found["owner"] == probe.host_mark():
            self.disks.forget(self.name, self.hidden)
        else:
            self.disks.remove(self.hidden)


KINDS: dict[str, type[Step]] = {
    **making_steps.KINDS,
    **snapshot_steps.KINDS,
    **resize_steps.KINDS,
    **{kind.__name__: kind for kind in (AdoptVolume, DeleteVolume, Record)},
}
"""All steps of a volume, by the names in the journal."""
