# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of the volume group on a LUN: make sure of it, open it, close it. Private to microvm.host."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, disk, files, iscsi, lvm, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import blank_lun, iscsi_lvm, login_steps

Asked = iscsi_lvm.Asked

POOL_SHARE = "95%FREE"
"""Of an empty group, for its thin pool; the rest is for the pool's metadata to grow."""


def _activation(vg: str) -> str:
    """The unit that LVM's udev rule starts for a group that appears (69-dm-lvm.rules)."""
    return os.path.join(systemd.DIRECTORY, "lvm-activate-%s.service" % vg)


def is_masked(vg: str) -> bool:
    """Whether LVM's own activation of a group is masked."""
    return os.path.islink(_activation(vg)) and os.readlink(_activation(vg)) == os.devnull


@dataclasses.dataclass(frozen=True)
class MaskActivation(Step):
    """Mask LVM's own activation of the group at the sight of its disk.

    It would fail, as the group is not the host's but ours, and leave a failed unit for people to wonder about.
    """

    vg: str

    def describe(self) -> str:
        return "mask lvm-activate-%s.service" % self.vg

    def apply(self, known: Known) -> None:
        if not os.path.lexists(_activation(self.vg)):
            files.link(os.devnull, _activation(self.vg))

    def undo(self, known: Known) -> None:
        if is_masked(self.vg):
            files.erase(_activation(self.vg))


@dataclasses.dataclass(frozen=True)
class UnmaskActivation(Step):
    """Leave a group that is no longer ours to LVM's own rules."""

    vg: str

    def describe(self) -> str:
        return "unmask lvm-activate-%s.service" % self.vg

    def finish(self, known: Known) -> None:
        if is_masked(self.vg):
            files.erase(_activation(self.vg))


@dataclasses.dataclass(frozen=True)
class OpenGroup(Step):
    """Make sure of the volume group on the LUN: that it is the one, whose it is, and when it is ours activate it.

    ``facts``: of a registered LUN, which must still be that disk and is never formatted. ``initialize``: a LUN
    without any sign of data may be formatted; ``pv`` is the UUID it gets then, so that an undo knows its own.
    ``takeover``: the owner from whom the group may be taken. While it is formatted, ``seconds`` are those without
    progress: of hosts that want to format one LUN all but one wait, for as long as that one is at it.
    """

    asked: Asked
    facts: dict[str, t.Any]
    initialize: bool
    takeover: str
    pv: str
    seconds: float

    def describe(self) -> str:
        where = "volume group %s on LUN %d" % (self.asked["vg"], self.asked["lun"])
        if self.takeover and self.facts:
            return "take over %s from %s" % (where, self.takeover)
        if self.takeover:
            return "open %s, take it over if it is of %s" % (where, self.takeover)
        if self.initialize:
            return "open %s, make it when the LUN is blank" % where
        return "open %s" % where

    def apply(self, known: Known) -> deadline.Child:
        doing = "opening volume group %s" % self.asked["vg"]
        return deadline.Child(lambda send: self._open(known, deadline.Progress(send)), self.seconds, doing)

    def _open(self, known: Known, progress: deadline.Progress) -> Known:
        lvm.require()
        until = time.monotonic() + self.seconds - login_steps.MARGIN
        found = login_steps.disk_of(self.asked, {**self.facts, **known})
        if disk.multipath(found.name):
            text = "%s is a path of a multipath device" % found.node
            raise HostError("unsupported", text, "exclude it in multipath.conf: one session is used at a time")
        own, seen = lvm.system_id(), lvm.look(found.node)
        if not self.facts.get("vg_uuid"):
            self._refuse_namesake(found)
            if seen.group is None:
                seconds = self.seconds - login_steps.MARGIN
                blank = blank_lun.BlankLun(self.asked, found, own, self.pv, self.initialize, seconds, progress)
                try:
                    seen = blank.formatted(seen)
                except OSError as error:
                    raise files.from_os(error, "formatting %s" % found.node) from None
                until = time.monotonic() + self.seconds - login_steps.MARGIN
            self._refuse_other(found, seen)
        group = t.cast("lvm.Group", seen.group)
        answer: Known = {"wwid": found.wwid, "pv_uuid": seen.pv, "vg_uuid": group and group.uuid}
        answer.update(uuid=answer["vg_uuid"], identity="marker", capacity={})
        expected = {key: self.facts[key] for key in iscsi_lvm.FACTS if self.facts.get("vg_uuid")}
        if any(answer[key] != value for key, value in expected.items()):
            look = iscsi_lvm.Look(None, False, found, seen, "foreign")
            raise iscsi_lvm.swapped({"asked": self.asked, "facts": self.facts}, look)
        if not lvm.is_own(group.system_id, own):
            if self.takeover != (group.system_id or iscsi_lvm.UNOWNED):
                return self._standby(answer, group)
            self._take(found.node, own, group, until)
        else:
            self._activate(found.node, group.system_id, group, until)
        return answer

    def _take(self, node: str, own: str, group: lvm.Group, until: float) -> None:
        """Make the group this host's and activate it; one that can't be activated is given back."""
        words = ["vgchange", "--yes", "--systemid"]
        lvm.change(node, own, [*words, own, group.name], _left(until), formerly=group.system_id)
        try:
            self._activate(node, own, group, until)
        except HostError:
            with contextlib.suppress(HostError):  # the group goes back all the same
                lvm.change(node, own, ["vgchange", "--activate", "n", group.name], login_steps.UNDO_SECONDS / 2)
            lvm.change(node, own, [*words, group.system_id, group.name], login_steps.UNDO_SECONDS / 2)
            raise

    def _refuse_namesake(self, found: iscsi.Disk) -> None:
        """Raise for a group of that name on other disks of this host: their volumes would have one name."""
        vg = self.asked["vg"]
        if os.path.lexists(os.path.join("/dev", vg)) and not disk.holders(found.name):
            text = "there is /dev/%s on this host already, and it is not on %s" % (vg, iscsi_lvm.shown(self.asked))
            raise HostError("conflict", text, "choose another vg, or rename one of the groups (vgrename)", field="vg")

    def _standby(self, answer: Known, group: lvm.Group) -> Known:
        """Another host's group is left alone; one of nobody may be in use anywhere, so it is not taken silently."""
        if group.system_id:
            return answer
        raise HostError(
            "conflict",
            "volume group %s has no owner (system ID): any host may be using it" % group.name,
            "make sure that none does, then give takeover: %s" % iscsi_lvm.UNOWNED,
            field="takeover",
        )

    def _refuse_other(self, found: iscsi.Disk, seen: lvm.Found) -> None:
        """Raise for what is on a LUN that is not registered yet and is not the group that was asked for."""
        vg = self.asked["vg"]
        if seen.group is None:
            text = "%s (%s) carries an LVM physical volume without a group" % (iscsi_lvm.shown(self.asked), found.node)
            raise HostError("conflict", text, "remove it with pvremove if nobody needs it", field="lun")
        if seen.group.name != vg:
            text = "%s carries volume group %s, not %s" % (iscsi_lvm.shown(self.asked), seen.group.name, vg)
            raise HostError("conflict", text, "check lun and vg", field="vg")
        if seen.group.devices != 1:
            text = "volume group %s has %d disks" % (vg, seen.group.devices)
            raise HostError("unsupported", text, "a group must lie on its one LUN alone", field="vg")

    def _activate(self, node: str, own: str, group: lvm.Group, until: float) -> None:
        if group.autoactivation:
            lvm.change(node, own, ["vgchange", "--setautoactivation", "n", group.name], _left(until))
        pool = self.asked["thin_pool"]
        there = group.volume(pool) if pool else None
        if there is not None and "pool" not in there.layout:
            text = "%s/%s is no thin pool" % (group.name, pool)
            raise HostError("conflict", text, "choose another thin_pool", field="thin_pool")
        if pool and there is None:
            words = ["lvcreate", "--type", "thin-pool", "--extents", POOL_SHARE, "--name", pool, group.name]
            lvm.change(node, own, words, _left(until))
        if any(not each.skipped and not each.active for each in group.volumes):
            lvm.change(node, own, ["vgchange", "--activate", "y", group.name], _left(until))

    def undo(self, known: Known) -> None:
        """Unmake what this very intent formatted; of a group that was there, deactivate what it activated."""
        if "wwid" not in known:
            return  # this intent did not log in
        if self.facts.get("vg_uuid") or not self.initialize:
            doing, work = "deactivating volume group %s", self._close
        else:
            doing, work = "taking back volume group %s", self._unmake
        deadline.call(lambda: work(known), login_steps.UNDO_SECONDS, doing % self.asked["vg"])

    def _close(self, known: Known) -> bool:
        session = login_steps.session_of(self.asked, known)
        if session is not None and iscsi.disk(session, self.asked["lun"]) is not None:
            CloseGroup(self.asked, known, login_steps.UNDO_SECONDS)._close("n")
        return True

    def _unmake(self, known: Known) -> bool:
        until = time.monotonic() + login_steps.UNDO_SECONDS - login_steps.MARGIN
        session = login_steps.session_of(self.asked, known)
        # The host may have lost power in between: what it formatted is still there then, and the session is not.
        # attach gives at once what is attached.
        again = login_steps.Login(self.asked, known, session is not None, login_steps.UNDO_SECONDS - login_steps.MARGIN)
        node = str(again.log_in(known)["node"])
        own, seen = lvm.system_id(), lvm.look(node)
        if seen.pv == self.pv:
            group = seen.group
            if group is not None:
                if {each.name for each in group.volumes} - {self.asked["thin_pool"]}:
                    text = "volume group %s has volumes that this run did not make" % group.name
                    raise HostError("conflict", text, "it is left as it is: look at it by hand")
                lvm.change(node, group.system_id, ["vgchange", "--activate", "n", group.name], _left(until))
                lvm.change(node, group.system_id, ["vgremove", "--force", "--yes", group.name], _left(until))
            lvm.change(node, own, ["pvremove", node], _left(until))
            seen = lvm.look(node)
        if not seen.pv and disk.claimed(node).who == "%s %s" % (own, self.pv):
            disk.forget_claim(node)
        return True


@dataclasses.dataclass(frozen=True)
class CloseGroup(Step):
    """Deactivate the volumes of a group that is this host's; it and its data stay."""

    asked: Asked
    facts: dict[str, t.Any]
    seconds: float

    def describe(self) -> str:
        return "deactivate volume group %s" % self.asked["vg"]

    def apply(self, known: Known) -> deadline.Child:
        doing = "deactivating volume group %s" % self.asked["vg"]
        return deadline.Child(lambda send: self._close("n"), self.seconds, doing)

    def _close(self, active: str) -> Known:
        node = login_steps.disk_of(self.asked, self.facts).node
        seen = lvm.look(node)
        if seen.group is not None and lvm.is_own(seen.group.system_id, lvm.system_id()):
            if active == "n":
                iscsi_lvm.refuse_in_use(seen.group)
            words = ["vgchange", "--activate", active, seen.group.name]
            lvm.change(node, seen.group.system_id, words, self.seconds - login_steps.MARGIN)
        return {}

    def undo(self, known: Known) -> None:
        deadline.call(
            lambda: self._close("y"), login_steps.UNDO_SECONDS, "activating volume group %s" % self.asked["vg"]
        )


@dataclasses.dataclass(frozen=True)
class LetGo(Step):
    """Take down the devices of volumes that are another host's now, as long as nobody uses them."""

    vg: str
    devices: list[str]
    seconds: float

    def describe(self) -> str:
        return "deactivate %s: volume group %s is another host's" % (", ".join(self.devices), self.vg)

    def apply(self, known: Known) -> deadline.Child:
        doing = "deactivating what is left of volume group %s" % self.vg
        return deadline.Child(lambda send: self._let_go(), self.seconds, doing)

    def _let_go(self) -> Known:
        for device in self.devices:
            lvm.unmap(device, self.seconds - login_steps.MARGIN)
        return {}


def _left(until: float) -> float:
    return max(1.0, until - time.monotonic())


KINDS: dict[str, type[Step]] = {
    **login_steps.KINDS,
    **{kind.__name__: kind for kind in (MaskActivation, UnmaskActivation, OpenGroup, CloseGroup, LetGo)},
}
"""All steps of a LUN, by the names in the journal."""
