# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that are volumes: what a machine's plan does for them, from what the registry says and a directory has."""

from __future__ import annotations

import functools
import json
import pathlib
import typing as t
import uuid

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import definition, disks
from ansible_collections.microvm.host.plugins.module_utils._storage import backends, probe, volume_seen, volumes
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume
from tests.unit.machines.given import asked

MIB = 1 << 20
MARKER = str(uuid.UUID(int=1))
BACKEND = {"kind": "local_file", "uuid": MARKER, "identity": "marker", "enabled": 1, "is_default": 1}


@pytest.fixture(name="folder")
def a_host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A host with one backend, whose registry is in a temporary directory."""
    for function in ("reading", "writing"):
        monkeypatch.setattr(
            registry, function, functools.partial(getattr(registry, function), str(tmp_path / "registry.db"))
        )
    monkeypatch.setattr(probe, "host_mark", lambda: "me")
    (tmp_path / "disks" / ".microvm" / "locks").mkdir(parents=True)
    (tmp_path / "disks" / ".microvm" / "backend.json").write_text(json.dumps({"uuid": MARKER}))
    put("backends", {"name": "local", **BACKEND, "capabilities": [], "config": {"path": str(tmp_path / "disks")}})
    return tmp_path / "disks"


def put(table: str, row: dict[str, t.Any]) -> None:
    with registry.writing() as connection:
        registry.put(connection, table, row)


def made(folder: pathlib.Path, name: str, owner: str = "me") -> None:
    """A volume of 1 MiB."""
    put("volumes", {"name": name, "backend": "local", "size": MIB, "uuid": name, "config": {}})
    (folder / f"{name}.raw").write_bytes(bytes(MIB))
    label = {"name": name, "uuid": name, "owner": owner, "hostname": "hv2"}
    (folder / f"{name}.json").write_text(json.dumps(label))


def planned(
    config: definition.Config,
    starts: bool = True,
    running: disks.Running | None = None,
    taking: disks.Taking = disks.NONE,
) -> Plan:
    """What the plan of the machine web1 has for its disks."""
    light = volume_seen.Seen([], set())
    looked = disks.to_look_at(config, light, starts, 5, "")
    seen = volume_seen.Seen(looked, set()) if looked else light
    plan = Plan("web1", {}, {}, seconds=5)
    disks.prepare(plan, disks.placed(config, seen), "", seen, starts, running, taking)
    return plan


def test_where_volumes_are(folder: pathlib.Path) -> None:
    made(folder, "old")
    seen = volume_seen.Seen([], set())
    config = asked(root={"size": "1M"}, disks=[{"volume": "old"}, {"volume": "x", "backend": "gone"}, {"path": "/a"}])
    paths = [disk["path"] for disk in disks.placed(config, seen)["disks"]]
    assert paths == [f"{folder}/web1-root.raw", f"{folder}/old.raw", "", "/a"]
    assert disks.written(asked(disks=[{"volume": "a"}, {"volume": "b", "read_only": True}, {"path": "/a"}])) == ["a"]


def test_a_volume_that_is_not_there_is_made(folder: pathlib.Path) -> None:
    plan = planned(asked(root={"size": "1M"}), starts=False)
    assert plan.actions() == [f"make volume web1-root on local, {MIB} bytes"]
    assert plan.locks == ("volume/web1-root",) and plan.after["volumes"] == {"web1-root": MIB}


def test_a_volume_that_nobody_can_make_is_missed(folder: pathlib.Path) -> None:
    plan = planned(asked(root={}))
    assert [(error.kind, error.field) for error in plan.assumes] == [("not_found", "root.volume")]
    (missing,) = planned(asked(root={"size": "1M", "backend": "gone"})).assumes
    assert "no backend gone" in missing.message


def test_one_that_is_there_is_left_alone_and_not_even_looked_at(folder: pathlib.Path) -> None:
    made(folder, "web1-root")
    config = asked(root={"size": "1M"})
    assert disks.to_look_at(config, volume_seen.Seen([], set()), False, 5, "") == []
    assert planned(config, starts=False).steps == [] == planned(config).steps


def test_growth(folder: pathlib.Path) -> None:
    made(folder, "web1-root")
    config = asked(root={"size": "2M"})
    assert planned(config).actions() == [f"grow volume web1-root on local to {2 * MIB} bytes"]
    runs = disks.Running("qemu", config["disks"])
    assert planned(config, False, runs).actions() == [
        f"grow volume web1-root on local to {2 * MIB} bytes",
        f"tell the machine web1 that its disk0 has {2 * MIB} bytes",
    ]
    with pytest.raises(HostError, match="524288 are asked for"):
        planned(asked(root={"size": "512K"}), False, runs)


def test_nothing_starts_on_a_backend_that_is_not_enabled(folder: pathlib.Path) -> None:
    made(folder, "web1-root")
    with registry.writing() as connection:
        connection.execute("UPDATE backends SET enabled = 0")
    assert planned(asked(root={}), starts=False).steps == []
    with pytest.raises(HostError, match="is not enabled") as refused:
        planned(asked(root={}))
    assert refused.value.kind == "refused"


def test_a_disk_is_grown_by_the_number_that_it_was_started_with(folder: pathlib.Path) -> None:
    for name in ("logs", "data", "new"):
        made(folder, name)
    began = asked(disks=[{"volume": "logs"}, {"volume": "data"}])["disks"]
    edited = asked(disks=[{"volume": "data", "size": "2M"}])
    actions = planned(edited, False, disks.Running("qemu", began)).actions()
    assert actions[1:] == [f"tell the machine web1 that its disk1 has {2 * MIB} bytes"]
    added = asked(disks=[{"volume": "logs"}, {"volume": "data"}, {"volume": "new", "size": "2M"}])
    actions = planned(added, False, disks.Running("qemu", began)).actions()
    assert actions == [f"grow volume new on local to {2 * MIB} bytes"], "the machine does not have it"
    with pytest.raises(HostError, match="another definition") as refused:
        planned(edited, False, disks.Running("qemu", None))
    assert (refused.value.kind, refused.value.field) == ("conflict", "disks[0].size")
    shown = [{**disk, "read_only": True} for disk in began]
    with pytest.raises(HostError, match="read only") as refused:
        planned(edited, False, disks.Running("qemu", shown))
    assert refused.value.kind == "in_use"


@pytest.mark.parametrize(("owner", "kind"), [("me", None), ("them", "conflict")])
def test_a_machine_starts_with_what_is_this_hosts_only(folder: pathlib.Path, owner: str, kind: str | None) -> None:
    made(folder, "web1-root", owner)
    if kind is None:
        assert planned(asked(root={})).steps == []
        return
    with pytest.raises(HostError, match="taken over by hv2") as refused:
        planned(asked(root={}))
    assert refused.value.kind == kind and "state: absent, forget: true" in refused.value.hint


def test_a_volume_that_another_host_let_go_of_is_adopted(folder: pathlib.Path) -> None:
    made(folder, "web1-root", "them")
    with registry.writing() as connection:
        connection.execute("DELETE FROM volumes")
    plan = planned(asked(root={}), taking=disks.Taking(True))
    # In the registry before the machine starts: who holds its locks looks there.
    assert plan.actions() == ["adopt volume web1-root on local from hv2", "register volume web1-root"]
    with pytest.raises(HostError, match="that of hv2") as refused:
        planned(asked(root={"size": "1M"}))
    assert refused.value.field == "root.volume"
    assert refused.value.hint.startswith("if it was moved there, take it out of this host's inventory; adopt: true")


def test_the_volume_that_a_disk_was_until_now_is_told(folder: pathlib.Path) -> None:
    made(folder, "old")
    seen = volume_seen.Seen([], set())
    before = asked(root={"volume": "old"})
    plan = Plan("web1", {"disks": before["disks"]}, {}, seconds=5)
    config = asked(root={"volume": "new", "size": "1M"}, disks=[{"volume": "more", "size": "1M"}])
    seen = volume_seen.Seen(disks.to_look_at(config, seen, False, 5, ""), set())
    disks.prepare(plan, disks.placed(config, seen), "", seen, False, None, disks.NONE)
    assert list(plan.before["volumes"]) == ["old"] and list(plan.after["volumes"]) == ["new", "more"]


def test_a_machine_that_moves_here_gets_no_empty_disk(folder: pathlib.Path) -> None:
    taking = disks.Taking(True, True)
    with pytest.raises(HostError, match="no volume web1-root on backend local to adopt") as refused:
        planned(asked(root={"size": "1M"}), taking=taking)
    assert (refused.value.kind, refused.value.field) == ("not_found", "root.volume")
    assert refused.value.hint == "that backend is each host's own: move the volume to one that both hosts have first"
    (missing,) = planned(asked(root={"size": "1M", "backend": "gone"}), taking=taking).assumes
    assert "no backend gone" in missing.message


def test_a_volume_that_another_host_took_is_forgotten(folder: pathlib.Path) -> None:
    made(folder, "web1-root", "them")
    absent = Volume("web1-root", "absent", 5)
    plan = volumes.Volumes().plan(absent, volume_seen.Seen([absent], set()))
    assert plan.actions() == ["forget volume web1-root, which is that of hv2 now"]


def test_a_backend_that_is_gone_is_named(folder: pathlib.Path) -> None:
    made(folder, "web1-root")
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(HostError, match="backend local is not mounted") as refused:
        planned(asked(root={}))
    assert refused.value.kind == "unreachable"
    assert planned(asked(root={}), starts=False).steps == [], "one that runs, or shall not, is not touched by that"


def test_what_a_machine_has_is_not_deleted_under_it(folder: pathlib.Path) -> None:
    made(folder, "web1-root")
    made(folder, "other")
    config = disks.placed(asked(root={}, disks=[{"volume": "other", "read_only": True}]), volume_seen.Seen([], set()))
    put("machines", {"name": "web1", "config": config, "kind": "qemu", "accelerator": "tcg"})
    absent = Volume("web1-root", "absent", 5)
    with pytest.raises(HostError, match="is a disk of the machine web1") as refused:
        volumes.Volumes().plan(absent, volume_seen.Seen([absent], set()))
    assert refused.value.kind == "in_use"
    plan = Plan("web1", {}, {}, seconds=5)
    disks.delete(plan, config, volume_seen.Seen([absent], set()))
    assert plan.actions() == ["delete volume web1-root on local"]


def test_a_backend_that_machines_use_stays(folder: pathlib.Path) -> None:
    config = asked(disks=[{"path": f"{folder}/by-hand.raw"}])
    put("machines", {"name": "web1", "config": config, "kind": "qemu", "accelerator": "tcg"})
    resource = backends.Backends(lambda: pytest.fail("no tool is needed"))
    wanted = resource.removal("local")
    with pytest.raises(HostError, match="of the machine web1") as refused:
        resource.plan(wanted, resource.observe([wanted]))
    assert refused.value.kind == "in_use"
