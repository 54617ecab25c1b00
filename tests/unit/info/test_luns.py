# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_info tells of LUNs without refresh: what LVM says of them, and never a guess."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import locks
from ansible_collections.microvm.host.plugins.module_utils._info import host
from tests.unit.storage import test_standby, test_target_plan


@pytest.fixture(name="world")
def a_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> test_target_plan.World:
    """A host that owned a backend until another took it over."""
    return test_standby.taken_over(monkeypatch, tmp_path)


@pytest.fixture(name="told")
def what_is_told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """host_info without refresh, of storage alone."""
    monkeypatch.setattr(host, "machines", types.SimpleNamespace(gather=lambda seconds: {}))
    monkeypatch.setattr(host, "docker", types.SimpleNamespace(volumes=list))
    monkeypatch.setattr(locks, "held", list)
    return lambda: host.gather(False, 15, None)


def test_host_info_asks_lvm_even_without_refresh(world: test_target_plan.World, told: Any) -> None:
    found = told()
    (backend,) = found["backends"]
    assert (backend["status"], backend["owner"]) == ("standby", test_standby.OWNER)
    assert [volume["status"] for volume in found["volumes"]] == ["standby", "standby"]


def test_and_of_its_own_group_it_tells_the_volumes(world: test_target_plan.World, told: Any) -> None:
    world.group["vg_systemid"] = test_target_plan.OWN
    found = told()
    (backend,) = found["backends"]
    assert backend["status"] == "ok" and backend["capacity"]["total_bytes"] > 0
    assert [volume["status"] for volume in found["volumes"]] == ["missing", "missing"]


def test_a_session_that_is_lost_is_told_without_asking(world: test_target_plan.World, told: Any) -> None:
    world.sessions = [world.sessions[0]._replace(state="FAILED")]
    (backend,) = told()["backends"]
    assert backend["status"] == "unreachable" and "owner" not in backend
