# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of a LUN: from what is registered and what is there, to steps. Nothing is carried out."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, disk, iscsi, lvm
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import group_steps, iscsi_lvm, login_steps, target

IQN = "iqn.2026-01.lab:open"
ITEM = {"portal": "10.77.0.91", "iqn": IQN, "lun": 1, "vg": "vg_vms"}
USER = "target:a"
OWN = "hv1.1234"
REPORT = json.loads((Path(__file__).parents[1] / "host" / "lvm_reports.json").read_text())["pool"]
FACTS = {
    "portal": "10.77.0.91:3260",
    "address": "10.77.0.91",
    "port": 3260,
    "tag": 1,
    "wwid": "naa.6001",
    "pv_uuid": REPORT["report"][0]["pv"][0]["pv_uuid"],
    "vg_uuid": REPORT["report"][0]["vg"][0]["vg_uuid"],
}


class World:
    """A host as the plan sees it; to be changed before ``plan``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        for function in ("reading", "writing"):
            patched = functools.partial(getattr(registry, function), str(path / "registry.db"))
            monkeypatch.setattr(registry, function, patched)
        self.report = copy.deepcopy(REPORT)
        self.report["report"][0]["pv"][0]["pv_name"] = "/dev/sda"
        self.sessions = [iscsi.Session(1, IQN, "10.77.0.91", 3260, "LOGGED_IN", 0, "")]
        self.disks = [iscsi.Disk("sda", 1, "naa.6001", "running")]
        self.credentials = ("", "", "", "")
        self.record = path / "record"
        monkeypatch.setattr(iscsi, "sessions", lambda name=None: self.sessions)
        monkeypatch.setattr(iscsi, "disks", lambda session: self.disks)
        monkeypatch.setattr(iscsi, "credentials", lambda session: self.credentials)
        monkeypatch.setattr(iscsi, "record", lambda *where: str(self.record) if self.record.exists() else None)
        monkeypatch.setattr(lvm, "report", lambda node: json.dumps(self.report))
        monkeypatch.setattr(lvm, "system_id", lambda: OWN)
        self.active: list[lvm.Mapped] = []
        monkeypatch.setattr(disk, "holders", lambda name: ["LVM-pool"])
        monkeypatch.setattr(lvm, "mapped", lambda uuids: self.active)
        monkeypatch.setattr(group_steps, "is_masked", lambda vg: True)

    def register(self, logged_in: bool = True, user: str = USER, **change: Any) -> None:
        """The LUN is known to this host, with a record as it shall be."""
        asked = iscsi_lvm.asked({**ITEM, **change}, "")
        lines = iscsi_lvm.settings(asked, None).items()
        self.record.write_text("".join(f"{key} = {value}\n" for key, value in lines if value))
        row = {"user": user, "identity": iscsi_lvm.identity(asked), "asked": asked, "facts": FACTS}
        with registry.writing() as connection:
            registry.put(connection, "targets", {**row, "logged_in": int(logged_in)})

    def observed(self) -> iscsi_lvm.Observed:
        """One look."""
        return iscsi_lvm.Observed(5, lambda user: True, set())

    def plan(self, logged_in: bool = True, **change: Any) -> Plan:
        """The plan of an item."""
        item = {**ITEM, **change}
        use = target.Use(
            name="a",
            user=USER,
            asked=iscsi_lvm.asked(item, ""),
            secrets=iscsi_lvm.secrets(item, ""),
            initialize=item.get("initialize") is not None,
            takeover=item.get("takeover", ""),
            logged_in=logged_in,
            seconds=15,
        )
        return target.present(use, self.observed())

    @property
    def group(self) -> dict[str, Any]:
        """The group as LVM reports it."""
        found: dict[str, Any] = self.report["report"][0]["vg"][0]
        return found


@pytest.fixture(name="world")
def a_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """A host with a session and a group of its own, not registered yet."""
    return World(monkeypatch, tmp_path)


def steps(plan: Plan) -> list[str]:
    """The kinds of its steps."""
    return [type(step).__name__ for step in plan.steps]


def test_a_new_one_is_proven_before_anything_is_written(world: World) -> None:
    plan = world.plan(initialize="vg_vms")
    assert steps(plan) == ["ProveLogin", "WriteRecord", "Login", "OpenGroup"]
    assert plan.before == {} and plan.after["logged_in"] is True
    assert plan.contact is not None
    opening = plan.steps[-1]
    assert isinstance(opening, group_steps.OpenGroup) and opening.initialize and len(opening.pv) == 38


def test_one_that_is_as_asked_is_left_alone(world: World) -> None:
    world.register()
    plan = world.plan(initialize="vg_vms", takeover="hv9.0000")
    assert plan.steps == [] and plan.diff() is None


def test_a_registered_one_is_never_formatted(world: World) -> None:
    world.register()
    world.sessions = []
    opening = world.plan(initialize="vg_vms").steps[-1]
    assert isinstance(opening, group_steps.OpenGroup) and not opening.initialize


@pytest.mark.parametrize("what", ["wwid", "pv", "vg", "no group"])
def test_another_disk_in_its_place_is_refused(world: World, what: str) -> None:
    world.register()
    if what == "wwid":
        world.disks = [iscsi.Disk("sda", 1, "naa.6002", "running")]
    elif what == "pv":
        world.report["report"][0]["pv"][0]["pv_uuid"] = "another"
    elif what == "vg":
        world.group["vg_uuid"] = "another"
    else:
        world.report["report"] = []
    with pytest.raises(HostError, match="is not the disk that was registered") as refused:
        world.plan(initialize="vg_vms")
    assert refused.value.kind == "conflict"
    assert world.observed().looks[USER].status == "foreign"


def test_anothers_group_is_standby_and_taken_only_from_the_owner_that_is_named(world: World) -> None:
    world.register()
    world.group["vg_systemid"] = "hv2.5678"
    assert world.observed().looks[USER].status == "standby"
    assert steps(world.plan()) == steps(world.plan(takeover="hv3.0000")) == []
    assert (
        "nothing is taken over: vg_vms belongs to hv2.5678, not to hv3.0000" in world.plan(takeover="hv3.0000").warnings
    )
    plan = world.plan(takeover="hv2.5678")
    assert steps(plan) == ["OpenGroup"] and "destroy" in plan.warnings[0]
    assert plan.diff() == {"before": {"owner": "hv2.5678"}, "after": {"owner": OWN}}


def test_a_takeover_by_a_host_that_is_new_to_it_is_warned_of(world: World) -> None:
    plan = world.plan(takeover="hv2.5678")
    assert "destroy" in plan.warnings[0]
    assert plan.steps[-1].describe().endswith("take it over if it is of hv2.5678")


VOLUME = lvm.Mapped("vg_vms-v", plain=True, open=False)


def test_what_is_left_active_of_anothers_group_is_taken_down_when_nobody_uses_it(world: World) -> None:
    world.register()
    world.group["vg_systemid"] = "hv2.5678"
    world.active = [VOLUME]
    plan = world.plan()
    assert steps(plan) == ["LetGo"]
    assert plan.diff() == {"before": {"active": ["vg_vms-v"]}, "after": {"active": []}}
    assert steps(world.plan(takeover="hv2.5678")) == ["LetGo", "OpenGroup"]
    assert steps(world.plan(logged_in=False)) == ["LetGo", "Logout"]
    world.active = [VOLUME._replace(plain=False)]
    with pytest.raises(HostError, match="belongs to another host, and this one still has of it: vg_vms-v") as caught:
        world.plan(logged_in=False)
    assert caught.value.kind == "in_use"
    assert steps(world.plan()) == steps(world.plan(takeover="hv3.0000")) == []
    with pytest.raises(HostError, match="this one still has of it: vg_vms-v") as caught:
        world.plan(takeover="hv2.5678")
    assert caught.value.kind == "in_use" and "reset this host" in caught.value.hint


@pytest.mark.parametrize(
    ("device", "advice"),
    [(VOLUME._replace(open=True), "stop what uses vg_vms-v"), (VOLUME._replace(plain=False), "reset this host")],
)
def test_what_can_not_be_taken_down_is_warned_of(world: World, device: lvm.Mapped, advice: str) -> None:
    world.register()
    world.group["vg_systemid"] = "hv2.5678"
    world.active = [device]
    assert world.plan().steps == []
    (told,) = iscsi_lvm.remarks(iscsi_lvm.asked(ITEM, ""), world.observed().looks[USER])
    assert "vg_vms belongs to hv2.5678" in told and advice in told


def test_a_group_of_a_name_that_another_lun_has_is_refused(world: World) -> None:
    world.register(user="backend:b")
    with pytest.raises(HostError, match="b has a volume group vg_vms on this host already") as caught:
        world.plan(lun=2)
    assert (caught.value.kind, caught.value.field) == ("conflict", "vg")


@pytest.mark.parametrize("broken", ["FAILED", "blocked"])
def test_a_dead_server_does_not_make_it_red(world: World, broken: str) -> None:
    world.register()
    if broken == "FAILED":
        world.sessions = [world.sessions[0]._replace(state=broken)]
    else:
        world.disks = [world.disks[0]._replace(state=broken)]
    assert world.plan().steps == []
    seen = world.observed()
    assert seen.looks[USER].status == "unreachable"
    (told,) = iscsi_lvm.remarks(seen.rows[USER]["asked"], seen.looks[USER])
    assert "LUN 1 of iqn.2026-01.lab:open is unreachable" in told


def test_a_group_that_is_not_active_is_activated(world: World) -> None:
    world.register()
    for volume in world.report["report"][0]["lv"]:
        volume.update(lv_active="", lv_permissions="unknown", lv_device_open="unknown")
    plan = world.plan()
    assert steps(plan) == ["OpenGroup"]
    assert plan.diff() == {"before": {"active": False}, "after": {"active": True}}
    world.credentials = ("host", "old-secret", "", "")
    assert steps(world.plan())[-2:] == ["Login", "OpenGroup"] and steps(world.plan()).count("OpenGroup") == 1
    world.group["vg_systemid"] = "hv2.5678"
    assert "OpenGroup" not in steps(world.plan(logged_in=False))


def test_logging_out_deactivates_first_and_comes_back(world: World) -> None:
    world.register()
    assert steps(world.plan(logged_in=False)) == ["CloseGroup", "Logout"]
    world.register(logged_in=False)
    world.sessions = []
    assert world.plan(logged_in=False).steps == []
    assert steps(world.plan()) == ["ProveLogin", "WriteRecord", "Login", "OpenGroup"]


def test_absent_leaves_the_group_and_takes_all_else(world: World) -> None:
    world.register()
    plan = target.absent("a", USER, world.observed(), 15)
    assert steps(plan) == ["CloseGroup", "Logout", "RemoveRecord", "UnmaskActivation", "Record"]
    assert plan.after == {}
    assert target.absent("b", "target:b", world.observed(), 15).steps == []


def test_a_dead_server_keeps_active_volumes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.register()
    world.sessions = [world.sessions[0]._replace(state="FAILED")]
    with pytest.raises(HostError, match="does not answer") as refused:
        target.absent("a", USER, world.observed(), 15)
    assert refused.value.kind == "unreachable"
    monkeypatch.setattr(disk, "holders", lambda name: [])
    assert "Logout" in steps(target.absent("a", USER, world.observed(), 15))


def test_volumes_in_use_keep_it(world: World) -> None:
    world.register()
    pool = world.report["report"][0]["lv"][0]
    pool["lv_device_open"] = "open"
    assert "CloseGroup" in steps(world.plan(logged_in=False)), "since its first volume it always is"
    world.report["report"][0]["lv"].append({**pool, "lv_name": "web1-root", "lv_layout": "thin,sparse"})
    for leave in (lambda: world.plan(logged_in=False), lambda: target.absent("a", USER, world.observed(), 15)):
        with pytest.raises(HostError, match=r"are in use: web1-root$") as refused:
            leave()
        assert refused.value.kind == "in_use"


@pytest.mark.parametrize(
    ("change", "field"), [({"lun": 2}, "lun"), ({"vg": "vg2"}, "vg"), ({"layout": "thin"}, "layout")]
)
def test_what_it_is_does_not_change(world: World, change: dict[str, Any], field: str) -> None:
    world.register()
    with pytest.raises(HostError) as refused:
        world.plan(**change)
    assert (refused.value.kind, refused.value.field) == ("conflict", field)


def test_a_lun_has_one_user(world: World) -> None:
    world.register(user="backend:san1")
    with pytest.raises(HostError, match="is already backend san1"):
        world.plan()


def test_an_edited_record_is_written_again(world: World) -> None:
    world.register()
    world.record.write_text(world.record.read_text().replace("manual", "automatic"))
    plan = world.plan()
    assert steps(plan) == ["ProveLogin", "WriteRecord"]
    assert plan.diff() == {"before": {"record": "differs"}, "after": {"record": "as asked"}}


@pytest.mark.parametrize("used", [False, True])
def test_a_session_begins_anew_with_other_credentials_when_nobody_uses_it(world: World, used: bool) -> None:
    world.register()
    world.credentials = ("host", "old-secret", "", "")
    world.report["report"][0]["lv"][0].update(lv_device_open="open" if used else "", lv_layout="linear")
    plan = world.plan()
    if used:
        assert plan.steps == [] and plan.notes["pending_login"] == ["pool"]
    else:
        assert steps(plan) == ["CloseGroup", "Logout", "Login", "OpenGroup"]
        login = plan.steps[2]
        assert isinstance(login, login_steps.Login)
        assert (login.ends, login.had_session) == (world.sessions[0].sid, False)
    assert "old-secret" not in json.dumps([plan.before, plan.after, plan.notes, plan.warnings])


@pytest.mark.parametrize(("there", "left"), [(1, []), (2, [2])], ids=["the one to be ended", "its own"])
def test_a_login_that_has_not_begun_leaves_the_session_that_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch, there: int, left: list[int]
) -> None:
    """Killed before the session with other credentials was ended, its volumes may be in use."""
    world.register()
    world.credentials = ("host", "old-secret", "", "")
    world.report["report"][0]["lv"][0].update(lv_device_open="", lv_layout="linear")
    login = world.plan().steps[2]
    world.sessions[:] = [world.sessions[0]._replace(sid=there)]
    taken: list[int] = []
    monkeypatch.setattr(login_steps, "alone_at", lambda *dummy: contextlib.nullcontext())
    monkeypatch.setattr(login_steps, "_leave", lambda asked, session, stay: taken.append(session.sid))
    monkeypatch.setattr(deadline, "call", lambda work, *dummy: work())
    login.undo({})
    assert taken == left


def test_two_sessions_for_a_lun_are_refused(world: World) -> None:
    world.register()
    world.sessions.append(world.sessions[0]._replace(sid=2, port=3261))
    with pytest.raises(HostError) as refused:
        world.plan()
    assert refused.value.kind == "unsupported"


def test_a_full_pool_is_warned_of(world: World) -> None:
    asked = iscsi_lvm.asked({**ITEM, "layout": "thin", "thin_pool": "pool"}, "")
    world.register(layout="thin", thin_pool="pool")
    assert iscsi_lvm.remarks(asked, world.observed().looks[USER]) == []
    world.report["report"][0]["lv"][0].update(data_percent="91.00", metadata_percent="85.20")
    look = world.observed().looks[USER]
    told = iscsi_lvm.remarks(asked, look)
    assert len(told) == 2 and "data is 91 % full" in told[0]
    assert iscsi_lvm.described(world.observed().rows[USER], look)["capacity"]["data_percent"] == 91.0


def test_journalled_steps_have_no_secret(world: World) -> None:
    chap: dict[str, Any] = {"username": "host", "password": "lab-secret-14"}
    plan = world.plan(**chap)
    assert "lab-secret-14" not in json.dumps([vars(step) for step in plan.steps])
    assert "lab-secret-14" not in json.dumps([plan.before, plan.after])
