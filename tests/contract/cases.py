# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures of the contract: for each state of each module, items to bring there and what is there afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.lab.samba import USERS
from tests.lab.target import TARGETS, iqn
from tests.machines import guests

Arguments = dict[str, Any]
SERVER = "nas1"
INITIATOR = "iqn.2026-01.lab:another"
EXPORTS = ("e01", "rw", "rw2")
LUNS = ("open", "chap", "mutual")
SMB_SERVER = "smb1"
SHARES = ("s01", "vms", "vms2")
LOGIN = {"username": "svc", "password": USERS["svc"]}
MOUNTS = "/var/lib/microvm/mounts"
CREDENTIALS = "/etc/microvm/credentials"


@dataclass(frozen=True)
class Item:
    """One item: ``before`` sets up what it starts from, each in a call of its own; ``args`` is under test.

    ``mounted``, ``unit``, ``row``: whether the export is mounted, has a mount unit, is in the registry afterwards;
    ``attached``: whether the LUN is there.
    """

    args: Arguments
    before: tuple[Arguments, ...] = ()
    mounted: bool = False
    unit: bool = False
    row: bool = True
    attached: bool = False

    @property
    def secret(self) -> bool:
        """Whether a password is at rest afterwards."""
        return self.row and "share" in self.args and "password" in self.args

    @property
    def source(self) -> str:
        """What is mounted, as mountinfo shows it."""
        if "share" in self.args:
            return f"//{SMB_SERVER}/{self.args['share']}"
        return f"{SERVER}:{self.args['export']}"


@dataclass(frozen=True)
class Case:
    """Items of one module: one-item mode runs the first, list mode the others.

    ``covers``: option to choice, what this case is the fixture of. ``given``: module and arguments of what its items
    need, made first.
    """

    module: str
    what: str
    items: tuple[Item, ...]
    covers: dict[str, str] = field(default_factory=dict)
    given: tuple[tuple[str, Arguments], ...] = ()


def _export(name: str, **more: Any) -> Arguments:
    return {"server": SERVER, "export": f"/export/{name}", **more}


def _lun(target: str, **more: Any) -> Arguments:
    vg = f"vg-{target}"
    where = {"portal": "san1", "iqn": iqn(target), "lun": 1, **TARGETS[target].chap}
    return {**where, "vg": vg, "initialize": vg, "timeout": 60, **more}


def _luns(what: str, state: str, begin: tuple[Arguments, ...], expect: dict[str, bool], **change: Any) -> Case:
    items = []
    for target in LUNS:
        before = tuple(_lun(target, **each) for each in begin)
        items.append(Item(_lun(target, state=state, **change), before, **expect))
    return Case("iscsi_lvm", what, tuple(items), {"state": state})


def _mounts(what: str, state: str, begin: tuple[Arguments, ...], expect: dict[str, bool], **change: Any) -> Case:
    items = []
    for export in EXPORTS:
        before = tuple(_export(export, **each) for each in begin)
        items.append(Item(_export(export, state=state, **change), before, **expect))
    return Case("nfs_export_mount", what, tuple(items), {"state": state})


def _share(name: str, **more: Any) -> Arguments:
    return {"server": SMB_SERVER, "share": name, **LOGIN, **more}


def _shares(what: str, state: str, begin: tuple[Arguments, ...], expect: dict[str, bool], **change: Any) -> Case:
    items = []
    for share in SHARES:
        before = tuple(_share(share, **each) for each in begin)
        items.append(Item(_share(share, state=state, **change), before, **expect))
    return Case("smb_share", what, tuple(items), {"state": state})


def _backends(
    what: str, kind: str, state: str, begin: tuple[Arguments, ...], expect: dict[str, bool], **change: Any
) -> Case:
    items = []
    for number, (export, share, target) in enumerate(zip(EXPORTS, SHARES, LUNS, strict=True), 1):
        own = {
            "nfs": _export(export),
            "local_file": {"path": f"/var/lib/microvm/volumes{number}"},
            "smb": _share(share),
            "iscsi_lvm": _lun(target),
        }[kind]
        identity = {"name": f"{kind.replace('_', '-')}-{number}", "kind": kind}
        before = tuple({**identity, **own, **each} for each in begin)
        items.append(Item({**identity, **own, "state": state, **change}, before, **expect))
    return Case("storage_backend", what, tuple(items), {"state": state, "kind": kind})


def _driver(what: str, state: str, begin: tuple[Arguments, ...], **change: Any) -> Case:
    """There is one driver: in the list it is brought to where it was, and there once more."""
    item = Item({"state": state, **change}, begin, row=False)
    return Case("docker_volume_driver", what, (item, item), {"state": state})


VOLUME_GIVEN = (
    (
        "storage_backend",
        {
            "backends": [
                {"name": name, "kind": "local_file", **more}
                for name, more in (("local", {}), ("other", {"path": "/var/lib/microvm/other"}))
            ]
        },
    ),
    ("storage_volume", {"name": "image", "size": "8MiB", "filesystem": {"type": "ext4"}}),
)


LVM_GIVEN = (
    *VOLUME_GIVEN,
    (
        "storage_backend",
        {
            "backends": [
                {
                    "name": "thin",
                    "kind": "iscsi_lvm",
                    **_lun("open", layout="thin", vg="vg_thin", initialize="vg_thin"),
                },
                {"name": "linear", "kind": "iscsi_lvm", **_lun("open", lun=2, vg="vg_fat", initialize="vg_fat")},
            ]
        },
    ),
)
"""One group of each layout beside the directories."""


def _volumes(
    what: str,
    state: str,
    begin: tuple[Arguments, ...],
    places: tuple[Arguments, ...] = ({}, {}, {}),
    given: tuple[tuple[str, Arguments], ...] = VOLUME_GIVEN,
    **change: Any,
) -> Case:
    items = []
    for number, place in enumerate(places, 1):
        name = {"name": f"volume{number}", **place}
        before = tuple({**name, **each} for each in begin)
        items.append(Item({**name, "state": state, **change}, before, row=state == "present"))
    return Case("storage_volume", what, tuple(items), {"state": state}, given)


MACHINE_GIVEN = (("storage_backend", {"name": "local", "kind": "local_file"}),)


SPOKEN = "TOY-GUEST-READY"
"""It is waited for: what a guest says later would be taken for a change by the next run."""


def _machines(what: str, state: str, begin: tuple[Arguments, ...], row: bool = True, **change: Any) -> Case:
    """The first has a disk, a volume and a tap, the second a volume; the guest is guests.TOY."""
    items = []
    for number in (1, 2, 3):
        own: Arguments = {"name": f"web{number}", "kernel": guests.TOY, "memory": "64MiB"}
        own["wait_for"] = SPOKEN
        if number == 1:
            own.update(disks=[{"path": guests.DISK}], interfaces=[{"type": "tap"}])
        if number != 3:
            own.update(root={"size": "1MiB"})
        before = tuple({**own, **each} for each in begin)
        items.append(Item({**own, "state": state, **change}, before, row=row))
    return Case("microvm", what, tuple(items), {"state": state}, MACHINE_GIVEN)


def _machine_shares(what: str, state: str, begin: tuple[Arguments, ...], row: bool = True, **change: Any) -> Case:
    """Two of one machine that runs, one of another; one is of 9p."""
    items = []
    for number, vm in enumerate(("web1", "web1", "web2")):
        own: Arguments = {"vm": vm, "tag": f"share{number}", "source": "/usr/share/keyrings"}
        own.update({"proto": "9p"} if number == 2 else {"mount_point": "/keys%d" % number})
        items.append(Item({**own, "state": state, **change}, tuple({**own, **each} for each in begin), row=row))
    toy: Arguments = {"kernel": guests.TOY, "memory": "64MiB"}
    machines = [{"name": "web1", **toy, "wait_for": SPOKEN}, {"name": "web2", **toy, "state": "present"}]
    return Case("virtiofs_share", what, tuple(items), {"state": state}, (("microvm", {"machines": machines}),))


SMALLER: Arguments = {"root": {"size": "1MiB"}, "balloon": True}
LARGER: Arguments = {"root": {"size": "2MiB"}, "balloon": True, "balloon_target": "48MiB"}
MOUNTED = {"mounted": True, "unit": True}
GONE = {"mounted": False, "unit": False, "row": False}
NFS = MOUNTED
LOCAL: dict[str, bool] = {}
LUN = {"attached": True}

CASES = (
    _mounts("new", "mounted", (), MOUNTED),
    _mounts("new, all options", "mounted", (), MOUNTED, version="4.1", options="noatime,nconnect=2", probe="write"),
    _mounts("new, until the next boot", "mounted", (), {"mounted": True}, persistent=False),
    _mounts("edited in place", "mounted", ({},), MOUNTED, read_only=True),
    _mounts("edited by another mount", "mounted", ({},), MOUNTED, version="4.1", options="timeo=300"),
    _mounts("mounted again", "mounted", ({}, {"state": "unmounted"}), MOUNTED),
    _mounts("no longer at boot", "mounted", ({},), {"mounted": True}, persistent=False),
    _mounts("new", "present", (), {"mounted": False, "unit": True}),
    _mounts("edited", "present", ({"state": "present"},), {"mounted": False, "unit": True}, options="timeo=300"),
    _mounts("mounted before", "unmounted", ({},), {"mounted": False, "unit": True}),
    _mounts("mounted before", "absent", ({},), GONE),
    _mounts("unmounted before", "absent", ({"state": "present"},), GONE),
    _backends("new", "nfs", "present", (), NFS),
    _backends("edited", "nfs", "present", ({},), NFS, options="timeo=300"),
    _backends("taken out of service", "nfs", "present", ({},), {"mounted": False, "unit": False}, enabled=False),
    _backends("new, not in service", "nfs", "present", (), {}, enabled=False),
    _backends(
        "edited, not in service", "nfs", "present", ({"enabled": False},), {}, enabled=False, options="timeo=300"
    ),
    _backends("put into service", "nfs", "present", ({}, {"enabled": False}), NFS, enabled=True),
    _backends("was there", "nfs", "absent", ({},), GONE),
    _backends("new", "local_file", "present", (), LOCAL),
    _backends("taken out of service", "local_file", "present", ({},), LOCAL, enabled=False),
    _backends("was there", "local_file", "absent", ({},), GONE),
    _backends("new", "iscsi_lvm", "present", (), LUN),
    _backends("edited", "iscsi_lvm", "present", ({},), LUN, saferemove=True),
    _backends("taken out of service", "iscsi_lvm", "present", ({},), {}, enabled=False),
    _backends("put into service", "iscsi_lvm", "present", ({"enabled": False},), LUN, enabled=True),
    _backends("was there", "iscsi_lvm", "absent", ({},), GONE),
    _luns("new", "present", (), LUN),
    _luns("new, all options", "present", (), LUN, layout="thin", portals=["san1:3261"], initiator_name=INITIATOR),
    _luns("edited", "present", ({},), LUN, portals=["san1:3261"], saferemove=True),
    _luns("logged in again", "present", ({}, {"state": "logged_out"}), LUN),
    _luns("new", "logged_out", (), {}),
    _luns("was there", "logged_out", ({"layout": "thin"},), {}, layout="thin"),
    _luns("was there", "absent", ({"layout": "thin"},), GONE),
    _luns("logged out before", "absent", ({"state": "logged_out"},), GONE),
    _shares("new", "mounted", (), MOUNTED),
    _shares(
        "new, all options",
        "mounted",
        (),
        MOUNTED,
        version="3.1.1",
        options="noatime,actimeo=3",
        probe="write",
        gid=7,
        seal=True,
    ),
    _shares("edited in place", "mounted", ({},), MOUNTED, read_only=True),
    _shares("edited by another mount", "mounted", ({},), MOUNTED, version="3.0", options="actimeo=3"),
    _shares("as another user", "mounted", ({},), MOUNTED, username="other", password=USERS["other"]),
    _shares("mounted again", "mounted", ({}, {"state": "unmounted"}), MOUNTED),
    _shares("no longer at boot", "mounted", ({},), {"mounted": True}, persistent=False),
    _shares("new", "present", (), {"mounted": False, "unit": True}),
    _shares("edited", "present", ({"state": "present"},), {"mounted": False, "unit": True}, options="actimeo=3"),
    _shares("mounted before", "unmounted", ({},), {"mounted": False, "unit": True}),
    _shares("mounted before", "absent", ({},), GONE),
    _shares("unmounted before", "absent", ({"state": "present"},), GONE),
    _backends("new", "smb", "present", (), MOUNTED),
    _backends("edited", "smb", "present", ({},), MOUNTED, options="actimeo=3"),
    _backends("taken out of service", "smb", "present", ({},), {"mounted": False, "unit": False}, enabled=False),
    _backends("new, not in service", "smb", "present", (), {}, enabled=False),
    _backends("put into service", "smb", "present", ({}, {"enabled": False}), MOUNTED, enabled=True),
    _backends("was there", "smb", "absent", ({},), GONE),
    _volumes("new", "present", (), size="4MiB"),
    _volumes(
        "new, with a file system",
        "present",
        (),
        size=8388608,
        filesystem={"type": "ext4", "label": "data", "owner": "7:8", "directories": ["a/b", "c"]},
        snapshots=["empty"],
    ),
    _volumes("clone", "present", (), image="volume:image", size="12MiB", filesystem={"type": "ext4"}),
    _volumes("grown", "present", ({"image": "volume:image"},), size="12MiB", filesystem={"type": "ext4"}),
    _volumes("shrunk", "present", ({"size": "8MiB"},), size="4MiB", shrink=True),
    _volumes("other snapshots", "present", ({"size": "4MiB", "snapshots": ["a", "b"]},), snapshots=["b", "c"]),
    _volumes("moved", "present", ({"image": "volume:image"},), backend="other", move=True, size="16MiB"),
    _volumes("was there", "absent", ({"size": "4MiB", "snapshots": ["a"]},)),
    _volumes(
        "logical, a clone",
        "present",
        (),
        ({"backend": "thin"}, {"backend": "linear"}, {"backend": "thin"}),
        LVM_GIVEN,
        image="volume:image",
        size="9MiB",
        filesystem={"type": "ext4"},
    ),
    _driver("new", "present", ({}, {"state": "absent"}), scope="global"),
    _driver("edited", "present", ({},), prime=False),
    _driver("was there", "absent", ({},)),
    _machines("new", "present", ()),
    _machines("edited and restarted", "present", ({},), vcpus=2, restart="if_needed"),
    _machines("new", "started", ()),
    _machines("paused before", "started", ({"state": "paused"},)),
    _machines("started before", "stopped", ({},)),
    _machines("started before", "paused", ({},)),
    _machines("whose disks and memory change as it runs", "started", (SMALLER,), **LARGER),
    _machines("started before", "absent", ({},), row=False),
    _machines("with its volumes", "absent", ({},), row=False, delete_volumes=True),
    _machine_shares("new", "present", ()),
    _machine_shares("edited", "present", ({},), read_only=True),
    _machine_shares("was there", "absent", ({},), row=False),
)

DISCOVER = [{"kind": "nfs", "server": SERVER}, {"kind": "smb", "server": SMB_SERVER, **LOGIN}]
INFORMING: dict[str, tuple[Arguments, ...]] = {
    "host_info": ({"discover": DISCOVER, "timeout": 60}, {}, {"refresh": True, "timeout": 60})
}
"""Info modules: they give ok each time."""

ACTS: dict[tuple[str, str], str] = {("microvm", "restarted"): "a restart is what is asked for, not a state to be in"}
"""(module, state) that is an act and so gives changed each time, with the reason. Nothing else is exempt."""
