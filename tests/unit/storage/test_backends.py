# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned for backends, and told of it: from what the registry says."""

from __future__ import annotations

import functools
import pathlib
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import backends

ROW = {"kind": "local_file", "uuid": "u", "identity": "marker", "capabilities": [], "enabled": 1}


@pytest.fixture(name="folder")
def a_host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A host whose registry and directories are in a temporary directory."""
    for function in ("reading", "writing"):
        monkeypatch.setattr(
            registry, function, functools.partial(getattr(registry, function), str(tmp_path / "registry.db"))
        )
    return tmp_path


def registered(folder: pathlib.Path, name: str, default: bool) -> None:
    """A backend that works: its marker is not looked at."""
    row = {"name": name, **ROW, "identity": "weak", "uuid": name, "is_default": int(default)}
    (folder / name).mkdir()
    with registry.writing() as connection:
        registry.put(connection, "backends", {**row, "config": {"path": str(folder / name)}})


def item(folder: pathlib.Path, name: str, **more: t.Any) -> dict[str, t.Any]:
    asked = {"name": name, "kind": "local_file", "path": str(folder / name), "state": "present", "timeout": 5}
    return {**asked, "enabled": True, "default": None, **more}


class Call:
    """The plans of one call by name, as after validation."""

    def __init__(self, *items: dict[str, t.Any]) -> None:
        self.resource = backends.Backends(lambda: pytest.fail("a local backend needs no tool"))
        self.wanted = [self.resource.validate(each, each, "") for each in items]
        self.resource.together(self.wanted)
        self.seen = self.resource.observe(self.wanted)

    def plans(self) -> dict[str, t.Any]:
        return {each.name: self.resource.plan(each, self.seen) for each in self.wanted}


def test_the_backend_that_loses_the_default_is_named(folder: pathlib.Path) -> None:
    registered(folder, "old", default=True)
    plans = Call(item(folder, "old"), item(folder, "new", default=True)).plans()
    assert plans["old"].steps == []
    assert plans["new"].actions() == [
        "make %s/new; write .microvm/backend.json if missing" % folder,
        "make new the default, in place of old",
    ]


def test_the_first_that_did_not_fail_stands_in(folder: pathlib.Path) -> None:
    items = (item(folder, "a", default=True), item(folder, "off", enabled=False), item(folder, "b"))
    call = Call(*items, item(folder, "c"))
    assert [plan.after["default"] for plan in call.plans().values()] == [True, False, False, False]
    assert call.resource.without({"a"}, call.seen)
    plans = call.plans()
    assert plans["b"].actions()[-1] == "make b the default"
    assert "the next run that can makes a the default" in plans["b"].warnings[0]
    assert not plans["c"].after["default"] and not plans["off"].after["default"]


def test_nobody_stands_in_while_there_is_a_default(folder: pathlib.Path) -> None:
    registered(folder, "old", default=True)
    call = Call(item(folder, "old"), item(folder, "a", default=True))
    assert not call.resource.without({"a"}, call.seen)


def test_a_removed_local_backend_is_shown_with_its_path(folder: pathlib.Path) -> None:
    registered(folder, "old", default=True)
    plan = Call({"name": "old", "state": "absent", "timeout": 5, "enabled": True}).plans()["old"]
    assert plan.before["path"] == str(folder / "old")


def test_a_directory_of_the_system_is_refused_for_what_it_is(folder: pathlib.Path) -> None:
    with pytest.raises(HostError, match="volumes in '/etc' would lie among files of the system"):
        Call(item(folder, "bad", path="/etc"))


def test_the_first_of_a_call_follows_a_default_that_is_purged(folder: pathlib.Path) -> None:
    registered(folder, "old", default=True)
    call = Call(item(folder, "new"), item(folder, "more"))
    call.wanted.append(call.resource.removal("old"))
    assert {name: plan.after.get("default") for name, plan in call.plans().items()} == {
        "new": True,
        "more": False,
        "old": None,
    }


def test_but_one_that_is_there_becomes_the_default_only_when_that_is_asked_for(folder: pathlib.Path) -> None:
    registered(folder, "old", default=True)
    registered(folder, "new", default=False)
    call = Call(item(folder, "new"))
    old = call.resource.removal("old")
    assert call.plans()["new"].after["default"] is False
    with pytest.raises(HostError, match="backend old is the default") as refused:
        call.resource.plan(old, call.seen)
    assert "default: true first (one of new)" in refused.value.hint
