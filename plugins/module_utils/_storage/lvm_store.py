# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that are logical volumes of a group on a LUN; see lvm_disks. Private to microvm.host."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host import disk, iscsi, lvm
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import disks, iscsi_lvm, standby
from ansible_collections.microvm.host.plugins.module_utils._storage.lvm_disks import IMAGE, labelled
from ansible_collections.microvm.host.plugins.module_utils._storage.store import Look, Store, grouped

VOLUME = re.compile(r"([a-z0-9][a-z0-9._-]*)(?:\+([a-z0-9][a-z0-9._-]*))?")
MOST_EXTENTS = 2**32 - 1
"""What LVM can count in one logical volume."""
ASIDE = len(".") + len(".") + 8 + len(".old")
"""By how much the name of what is set aside is longer."""


class LvmStore(Store):
    """See Store. ``target`` is the LUN's row of the registry; ``look``: what was there just now, if LVM was asked."""

    def __init__(self, row: registry.Row, target: registry.Row, look: iscsi_lvm.Look | None = None) -> None:
        self.target = target
        self._just_now = look
        super().__init__(row)

    @property
    def place(self) -> disks.Place:
        """See Store."""
        asked = self.target["asked"]
        return {
            "kind": "lvm",
            "backend": self.backend,
            "asked": asked,
            "facts": self.target["facts"],
            "wipe": asked["saferemove"],
            "crosses": True,  # whoever may write here is on this host
        }

    def looks(self, names: t.Sequence[str], everything: bool) -> Look:
        """See Store."""
        just_now = self._just_now
        known = just_now.found if just_now else None
        status, group = (just_now.status, known.group) if just_now and known else self._group()
        if group is None or status == "foreign":
            return {"status": status}
        if status == "standby":
            held = self.holders(set(names)).items()
            here: Look = {name: {"label": None, "snapshots": {}, "holder": holder} for name, holder in held if holder}
            return {"status": status, "owner": group.system_id, "volumes": here}
        volumes = {each.name: each for each in group.volumes if "pool" not in each.layout}
        there, snapshots = grouped(volumes, VOLUME)
        wanted = {*names, *there} if everything else set(names)
        holders = self.holders(wanted)
        found: Look = {
            "status": "ok",
            "capacity": iscsi_lvm.capacity(self.target["asked"], group),
            "grain": group.extent,
            "largest": MOST_EXTENTS * group.extent if self.target["asked"]["layout"] == "thin" else group.bytes,
            "volumes": {},
        }
        for name in wanted:
            kept = {each: volumes[self.disks.kept(name, each)].bytes for each in snapshots.get(name, ())}
            each: dict[str, t.Any] = {"label": None, "snapshots": kept}
            if name in there:
                each.update(label=labelled(volumes[name]), size=volumes[name].bytes, **_allocated(volumes[name]))
            if holders.get(name):
                each["holder"] = holders[name]
            found["volumes"][name] = each
        if everything:
            tags = [(lvm.tagged(each.tags), each) for each in volumes.values() if each.name.startswith(IMAGE)]
            found["images"] = {said["key"]: each.bytes for said, each in tags if "key" in said}
        return found

    def _group(self) -> tuple[str, lvm.Group | None]:
        """The status of the LUN as it is now, and the group on it."""
        look = iscsi_lvm.present(self.target, iscsi.sessions(self.target["asked"]["iqn"]))
        if look.disk is None or look.status != "ok":
            return look.status, None
        try:
            found = lvm.look(look.disk.node)
        except HostError:
            return "unreachable", None
        return iscsi_lvm.judged(self.target, look, found), found.group

    def inside(self, path: str) -> str:
        """See Store."""
        text = "backend %s has no files: the image %s must be a path on the host" % (self.backend, path)
        raise HostError("unsupported", text, "begin it with '/', or copy a volume: volume:NAME")

    def refuse_names(self, name: str, snapshots: t.Iterable[str], prefix: str) -> None:
        """See Store."""
        group = self.target["asked"]["vg"]
        lvm.volume_name(name, group, prefix + "name", ASIDE)
        for index, snapshot in enumerate(snapshots):
            lvm.volume_name(self.disks.kept(name, snapshot), group, "%ssnapshots[%d]" % (prefix, index), ASIDE)

    def watch(self, name: str) -> t.Callable[[], None]:
        """See Store: whether another host has taken the group over, by the metadata on the LUN."""
        known: list[bytes] = []

        def look() -> None:
            found = iscsi_lvm.present(self.target, iscsi.sessions(self.target["asked"]["iqn"])).disk
            head = _head(found.node) if found else None
            if head is None or head in known:
                return  # a LUN that does not answer tells nothing: it is asked again
            status, group = self._group()
            if status in ("standby", "foreign"):
                how = standby.told(group.system_id) if group and status == "standby" else iscsi_lvm.DOWN[status]
                text = "volume %s: %s %s now" % (name, iscsi_lvm.shown(self.target["asked"]), how)
                raise HostError("in_use", text, "this host must not write to it any more")
            known[:] = [head] if status == "ok" else []

        return look


def _head(node: str) -> bytes | None:
    """What is at the begin of a disk now; None when it can't be read."""
    try:
        return disk.head(node)
    except OSError:
        return None


def _allocated(volume: lvm.Volume) -> dict[str, int]:
    """Bytes that a disk takes; nothing for one of a pool that is not active here."""
    if not volume.pool:
        return {"allocated_bytes": volume.bytes}
    if volume.data_percent is None:
        return {}
    return {"allocated_bytes": int(volume.bytes * volume.data_percent / 100)}
