# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines as a resource: what is left of one that could not be started, and how it goes."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import types
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan, ReloadUnits
from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool
from ansible_collections.microvm.host.plugins.module_utils._host import command, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import (
    disks,
    hypervisor,
    kernel,
    machines,
    made_steps,
    making,
    places,
)
from ansible_collections.microvm.host.plugins.module_utils._machines.wanted import Wanted
from tests.unit.machines.given import asked


@pytest.fixture(name="host")
def a_host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A host without machines, whose directories are temporary."""
    reading = functools.partial(registry.reading, str(tmp_path / "registry.db"))
    monkeypatch.setattr(registry, "reading", reading)
    monkeypatch.setattr(places, "BASE", str(tmp_path / "machines"))
    monkeypatch.setattr(places, "RUN", str(tmp_path / "run"))
    monkeypatch.setattr(systemd, "DIRECTORY", str(tmp_path))
    return tmp_path


def resource() -> machines.Machines:
    def no_tool() -> Tool:
        raise AssertionError("a removal needs no tool")

    return machines.Machines(no_tool)


def removal() -> Plan:
    wanted = resource().removal("web1")
    return resource().plan(wanted, resource().observe([wanted]))


def test_what_a_start_left_that_was_taken_back_is_removed(host: pathlib.Path) -> None:
    assert removal().steps == []
    log, sockets, home = host / "machines/web1/log", host / "run/web1", host / "machines/web1/home"
    for folder in (log, sockets, home):
        folder.mkdir(parents=True)
    (log / "console.log").write_text("it did not start")
    plan = removal()
    assert plan.before == {"files": [str(sockets), str(log)]} and plan.after == {}
    for step in plan.steps:
        step.apply({})
        if not isinstance(step, ReloadUnits):
            step.finish({})
    assert home.is_dir() and not log.exists() and not sockets.exists(), "a directory of the user's stays"
    assert removal().steps == []


def test_a_first_start_that_is_taken_back_leaves_the_log_alone(
    host: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "reload_units", lambda: None)
    unit, log, sockets = host / "microvm@web1.service", host / "machines/web1/log", host / "run/web1"
    for previous, left in ((None, False), ("before", True)):
        step = made_steps.WriteMachine("web1", {str(unit): "now"}, {str(unit): previous}, False, False, "0")
        for folder in (log, sockets):
            folder.mkdir(parents=True, exist_ok=True)
        if previous:
            unit.write_text(previous)
        step.apply({})
        step.undo({})
        assert unit.exists() is left and sockets.exists() is left and log.is_dir()


def test_a_purge_takes_what_a_start_left_too(host: pathlib.Path) -> None:
    for folder in ("machines/web1/log", "machines/web2/home", "machines/No Machine/log"):
        (host / folder).mkdir(parents=True)
    (host / "machines/link").symlink_to(host / "machines/web1")
    assert resource().registered() == ["web1"]


def test_what_failed_of_a_machine_is_forgotten_with_it() -> None:
    assert places.units("web1") == [
        "microvm@web1.service",
        "microvm-net@web1.service",
        "microvm-lock@web1.service",
        "microvm-lost@web1.service",
        "microvm-fs@web1@*.*",
    ]


def test_a_machine_that_moves_here_gets_no_empty_directory(host: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "running", lambda: True)
    monkeypatch.setattr(command, "reading_only", lambda: True)  # the kernel may come with an earlier task
    (host / "qemu").write_text("#!/bin/sh\necho QEMU emulator version 9.0.0\n")
    (host / "qemu").chmod(0o755)
    made = {"tag": "home", "source": "home", "create": True, "proto": "9p"}
    there = {"tag": "all", "source": str(host), "proto": "9p"}
    qemu = {"binary": str(host / "qemu"), "hypervisor": "qemu", "accelerator": "tcg"}
    config = asked(kernel="/nowhere", shares=[there, made], **qemu)
    wanted = Wanted("web1", "present", 5, "machines[0].", config)
    moving = dataclasses.replace(wanted, taking=disks.Taking(True))
    home = host / "machines/web1/home"

    def sources(each: Wanted, path: str = str(host)) -> list[str]:
        tool = types.SimpleNamespace(planned=lambda: ("", "", []), KINDS={})
        whole = machines.Machines(lambda: t.cast("Tool", tool))
        seen = whole.observe([each])
        seen.mounts = [path]
        return [step.path for step in whole.plan(each, seen).steps if isinstance(step, made_steps.MakeSource)]

    assert sources(wanted, "/nowhere") == [str(home)], "a new machine has it made"
    assert sources(moving) == [str(home)], "on storage of both hosts it is missing on both"
    with pytest.raises(HostError, match=f"no directory {home} on this host for web1") as refused:
        sources(moving, "/nowhere")
    assert (refused.value.kind, refused.value.field) == ("not_found", "machines[0].shares[1].source")
    home.mkdir(parents=True)
    assert sources(moving, "/nowhere") == []


def test_one_that_runs_keeps_its_hypervisor(host: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The orders of another would not be understood: its guest would not be asked to power off."""
    monkeypatch.setattr(systemd, "running", lambda: True)
    monkeypatch.setattr(command, "reading_only", lambda: True)
    config = asked(kernel="/nowhere", autostart=False)
    whole = machines.Machines(lambda: t.cast("Tool", types.SimpleNamespace(planned=lambda: ("", "", []), KINDS={})))
    chosen: list[str] = []

    def choose(config: t.Any, prefix: str = "") -> hypervisor.Chosen:
        chosen.append(config["hypervisor"])
        kind = "qemu" if config["hypervisor"] == "auto" else config["hypervisor"]
        return hypervisor.Chosen(kind, "/bin/true", "kvm", "device")

    monkeypatch.setattr(hypervisor, "choose", choose)
    monkeypatch.setattr(kernel, "image", lambda asked, directory: asked)
    changes: list[tuple[dict[str, t.Any], bool]] = [({}, True)]
    changes.append(({"shares": [{"tag": "a", "source": "/srv", "proto": "9p"}]}, False))
    for change, kept in changes:
        wanted = Wanted("web1", "present", 5, "", asked(kernel="/nowhere", autostart=False, **change))
        seen = whole.observe([wanted])
        seen.rows["web1"] = {"name": "web1", "config": config, "kind": "firecracker", "accelerator": "kvm"}
        seen.active, seen.states = {"web1"}, {"web1": "running"}
        if kept:
            assert making.Making(wanted, seen).chosen.kind == "firecracker"
            seen.active = set()
            assert making.Making(wanted, seen).chosen.kind == "qemu"
        else:
            with pytest.raises(HostError, match="runs in firecracker, and is to run in qemu") as refused:
                making.Making(wanted, seen)
            assert (refused.value.kind, refused.value.field) == ("conflict", "hypervisor")
    assert chosen == ["firecracker", "auto", "auto"]


def test_one_that_does_not_come_up_gets_the_directory_that_it_lacks(
    host: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its units are as they shall be, and systemd starts it again and again."""
    monkeypatch.setattr(systemd, "running", lambda: True)
    monkeypatch.setattr(command, "reading_only", lambda: True)
    (host / "qemu").write_text("#!/bin/sh\necho QEMU emulator version 9.0.0\n")
    (host / "qemu").chmod(0o755)
    qemu = {"binary": str(host / "qemu"), "hypervisor": "qemu", "accelerator": "tcg"}
    home = {"tag": "home", "source": "home", "create": True, "proto": "9p"}
    config = asked(kernel="/nowhere", autostart=False, shares=[home], **qemu)
    wanted = Wanted("web1", "started", 5, "", config)
    whole = machines.Machines(lambda: t.cast("Tool", types.SimpleNamespace(planned=lambda: ("", "", []), KINDS={})))
    seen = whole.observe([wanted])
    (written,) = (step for step in whole.plan(wanted, seen).steps if isinstance(step, made_steps.WriteMachine))
    seen.files["web1"] = written.texts
    seen.rows["web1"] = {"name": "web1", "config": config, "kind": "qemu", "accelerator": "tcg"}
    seen.active, seen.states = {"web1"}, {"web1": "starting"}
    source = str(host / "machines/web1/home")
    plan = whole.plan(wanted, seen)
    assert [step.path for step in plan.steps if isinstance(step, made_steps.MakeSource)] == [source]
    assert (plan.before["missing"], plan.after["missing"]) == ([source], [])
    seen.states["web1"] = "running"
    assert whole.plan(wanted, seen).steps == [], "one that runs has what it needs"
