# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver as a resource: what is planned for a host, and the units that steps leave."""

from __future__ import annotations

import functools
import typing as t
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
from ansible_collections.microvm.host.plugins.module_utils._docker import driver, units
from ansible_collections.microvm.host.plugins.module_utils._host import command, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

ITEM = {"name": "nfsd", "state": "present", "scope": "local", "prime": True, "timeout": 15}


class Tool:
    """A host tool that is in place."""

    def __init__(self) -> None:
        self.KINDS: Kinds = {}

    def planned(self) -> tuple[str, str, list[t.Any]]:
        """See Tool of _core/resource."""
        return "microvm-tool-1", "microvm-tool-1", []


class Host:
    """A host on which systemctl is only noted; ``active`` are the units that run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.active: set[str] = set()
        self.ran: list[str] = []
        self.driver = driver.Driver(Tool)

    def systemctl(self, argv: t.Sequence[str], seconds: float, writes: bool, ok: t.Container[int] = (0,)) -> str:
        """In place of command.run."""
        verb = argv[1]
        if verb == "show":
            return "\n\n".join("ActiveState=%s" % ("active" if u in self.active else "inactive") for u in argv[3:])
        self.ran.append(" ".join(argv[1:]))
        if verb == "start":
            self.active.update(argv[2:])
        if verb == "stop":
            self.active.difference_update(argv[2:])
        return ""

    def plan(self, **change: t.Any) -> Plan:
        """What is planned for an item."""
        wanted = self.driver.validate({**ITEM, **change}, {}, "")
        return self.driver.plan(wanted, self.driver.observe([wanted]))

    def run(self, **change: t.Any) -> Plan:
        """Plan it and do it."""
        plan = self.plan(**change)
        for step in plan.steps:
            step.apply({})
        for step in plan.steps:
            step.finish({})
        return plan

    def files(self) -> set[str]:
        """What there is of units."""
        return {path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if not path.is_dir()}


ALL = {
    "docker-nfsd.socket",
    "docker-nfsd.service",
    "docker-nfsd-prime.service",
    "sockets.target.wants/docker-nfsd.socket",
    "docker.service.wants/docker-nfsd-prime.service",
}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    for function in ("reading", "writing"):
        patched = functools.partial(getattr(registry, function), str(tmp_path / "registry.db"))
        monkeypatch.setattr(registry, function, patched)
    (tmp_path / "units").mkdir()
    found = Host(tmp_path / "units")
    monkeypatch.setattr(systemd, "DIRECTORY", str(found.root))
    monkeypatch.setattr(systemd, "running", lambda: True)
    monkeypatch.setattr(command, "run", found.systemctl)
    monkeypatch.setattr(units, "VERSION_FILE", str(tmp_path / "version"))
    monkeypatch.setattr(units, "BASE", str(tmp_path / "volumes"))
    return found


def test_new_then_nothing(host: Host) -> None:
    plan = host.run()
    assert (plan.before, plan.after) == ({}, {"scope": "local", "prime": True})
    assert host.files() == ALL
    assert host.ran == [
        "daemon-reload",
        "try-restart docker-nfsd.service",
        "start docker-nfsd.socket",
        "start --no-block docker-nfsd-prime.service",
    ]
    assert host.plan().steps == []


def test_edited(host: Host) -> None:
    host.run()
    plan = host.run(scope="global", prime=False)
    assert plan.diff() == {"before": {"scope": "local", "prime": True}, "after": {"scope": "global", "prime": False}}
    assert host.files() == ALL - {name for name in ALL if "prime" in name}
    assert host.plan(scope="global", prime=False).steps == []


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_part_that_is_gone_is_put_back(host: Host, name: str) -> None:
    host.run()
    (host.root / name).unlink()
    assert host.run().diff() is not None
    assert host.files() == ALL
    assert host.plan().steps == []


def test_a_socket_that_does_not_listen_is_started(host: Host) -> None:
    host.run()
    host.active.clear()
    plan = host.run()
    assert plan.diff() == {"before": {"listening": False}, "after": {"listening": True}}
    assert host.plan().steps == []


def test_a_driver_of_an_older_tool_is_restarted(host: Host, tmp_path: Path) -> None:
    host.run()
    host.active.add(units.SERVICE)
    (tmp_path / "version").write_text("0")
    host.ran.clear()
    assert host.run().diff() == {"before": {"running": "0"}, "after": {"running": "1"}}
    assert "try-restart docker-nfsd.service" in host.ran
    (tmp_path / "version").write_text("1")
    assert host.plan().steps == []


def test_absent(host: Host, tmp_path: Path) -> None:
    assert host.plan(state="absent").steps == []
    host.run()
    (tmp_path / "volumes").mkdir()
    host.run(state="absent")
    assert not (tmp_path / "volumes").exists()
    assert host.files() == set()
    assert host.active == {"--no-block"}, "all units are stopped"
    assert host.plan(state="absent").steps == []


def test_it_stays_while_it_has_volumes(host: Host) -> None:
    host.run()
    with registry.writing() as connection:
        registry.put(connection, "docker_volumes", {"name": "v", "backend": None, "opts": {}, "created": "now"})
    with pytest.raises(HostError) as caught:
        host.plan(state="absent")
    assert caught.value.kind == "in_use" and "v" in caught.value.message


def test_taken_back_it_is_as_before(host: Host) -> None:
    first = host.plan()
    first.steps[0].apply({})
    first.steps[0].undo({})
    assert host.files() == set()
    host.run()
    texts = {name: (host.root / name).read_text() for name in ALL}
    second = host.plan(scope="global", prime=False)
    second.steps[0].apply({})
    second.steps[0].undo({})
    assert {name: (host.root / name).read_text() for name in host.files()} == texts


def test_another_name_is_refused(host: Host) -> None:
    with pytest.raises(HostError) as caught:
        host.plan(name="other")
    assert (caught.value.kind, caught.value.field) == ("invalid", "name")
    with pytest.raises(HostError) as caught:
        host.plan(timeout=0)
    assert (caught.value.kind, caught.value.field) == ("invalid", "timeout")
