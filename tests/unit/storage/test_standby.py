# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend whose group another host has taken over: what is planned, from LVM's report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
from ansible_collections.microvm.host.plugins.module_utils._host import lvm
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.lease import Lease
from ansible_collections.microvm.host.plugins.module_utils._storage import backends, lun, lvm_disks, probe, volumes
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume
from tests.unit.storage import test_target_plan

USER = "backend:x"
OWNER = "hv2.d3be1e87"
BACKEND = {"name": "x", "kind": "iscsi_lvm", "config": {}, "uuid": "u", "identity": "marker", "enabled": 1}
CAPABILITIES = ["clone_from_image", "snapshot", "resize", "external"]
GONE = "forget volume %s: backend x belongs to hv2.d3be1e87 now, its data stays"


def taken_over(monkeypatch: pytest.MonkeyPatch, path: Path) -> test_target_plan.World:
    """A host that owned the backend x, with the volumes v and w, until hv2 took it over."""
    world = test_target_plan.World(monkeypatch, path)
    world.register(user=USER)
    world.group["vg_systemid"] = OWNER
    monkeypatch.setattr(lvm_disks, "LOCKS", str(path / "locks"))
    monkeypatch.setattr(lun, "_hung", set())
    with registry.writing() as connection:
        registry.put(connection, "backends", {**BACKEND, "capabilities": CAPABILITIES, "is_default": 1})
        for name in ("v", "w"):
            row: dict[str, Any] = {"name": name, "backend": "x", "size": 4 << 20, "uuid": name, "config": {}}
            registry.put(connection, "volumes", row)
    return world


@pytest.fixture(name="world")
def a_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> test_target_plan.World:
    """That host."""
    return taken_over(monkeypatch, tmp_path)


def removal() -> Plan:
    """What removes the backend, as a purge has it."""
    resource = backends.Backends(lambda: pytest.fail("a removal needs no tool"))
    wanted = resource.removal("x")
    return resource.plan(wanted, resource.observe([wanted]))


def refusal() -> HostError:
    """Why it is not removed."""
    with pytest.raises(HostError) as refused:
        removal()
    return refused.value


def left() -> list[str]:
    """The volumes that are registered."""
    with registry.reading() as connection:
        return [row["name"] for row in registry.rows(connection, "SELECT name FROM volumes ORDER BY name")]


def test_a_removed_backend_forgets_the_volumes_that_went_to_another_host_with_it(
    world: test_target_plan.World,
) -> None:
    plan = removal()
    assert [text for text in plan.actions() if text.startswith("forget volume")] == [GONE % "v", GONE % "w"]
    assert plan.before["volumes"] == ["v", "w"] and "volumes" not in plan.after
    assert {"volume/v", "volume/w"} <= set(plan.locks), "no other run changes them meanwhile"
    assert left() == ["v", "w"], "a plan changes nothing"
    assert plan.commit is not None
    with registry.writing() as connection:
        plan.commit(connection, {})
    assert left() == []


def own(world: test_target_plan.World) -> None:
    world.group["vg_systemid"] = test_target_plan.OWN


def nobody(world: test_target_plan.World) -> None:
    world.group["vg_systemid"] = ""


def another_group(world: test_target_plan.World) -> None:
    world.group["vg_uuid"] = "another"


def no_session(world: test_target_plan.World) -> None:
    world.sessions = []


@pytest.mark.parametrize("change", [own, nobody, another_group, no_session])
def test_volumes_that_may_still_be_this_hosts_are_live(world: test_target_plan.World, change: Any) -> None:
    change(world)
    error = refusal()
    assert error.kind == "in_use" and error.message.startswith("backend has 2 live volume(s)")
    assert "storage_volume with name: v, state: absent" in error.hint


def test_so_they_are_when_lvm_does_not_answer(world: test_target_plan.World, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(node: str) -> str:
        raise HostError("timeout", "no answer")

    monkeypatch.setattr(lvm, "report", silent)
    assert refusal().message.startswith("backend has 2 live volume(s)")


def test_a_volume_in_use_on_this_host_keeps_the_backend(world: test_target_plan.World) -> None:
    lease = Lease(str(Path(lvm_disks.LOCKS) / "x"), "w", "machine m", probe.host_mark(), True)
    lease.take(False, 0.0)
    try:
        error = refusal()
    finally:
        lease.release()
    assert error.kind == "in_use" and error.message.startswith("volume w is in use by machine m")
    assert "takeover" not in error.hint
    with registry.writing() as connection:
        config = {"disks": [{"volume": "v", "path": ""}], "shares": []}
        registry.put(connection, "machines", {"name": "m", "config": config, "kind": "qemu", "accelerator": "tcg"})
    assert refusal().message == "volume v is a disk of the machine m"


def test_a_look_at_volumes_tells_whose_the_group_is(
    world: test_target_plan.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lvm, "report", lambda node, seconds: json.dumps(world.report))
    seen = volumes.Volumes().observe([Volume("v", "absent", 60)])
    assert seen.looks["x"] == {"status": "standby", "owner": OWNER, "volumes": {}}
