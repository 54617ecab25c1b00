# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host tool as a step: put in place once, upgraded, taken back."""

from __future__ import annotations

import functools
import os
import pathlib

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._tool import build, install


@pytest.fixture(name="root")
def a_host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A host without the tool; its parts are below the directory that is returned."""
    for function in ("reading", "writing"):
        patched = functools.partial(getattr(registry, function), str(tmp_path / "registry.db"))
        monkeypatch.setattr(registry, function, patched)
    root = tmp_path / "host"
    (root / "units").mkdir(parents=True)
    monkeypatch.setattr(install, "DIRECTORY", str(root / "tool"))
    monkeypatch.setattr(install, "LINK", str(root / "tool" / "microvm-tool"))
    monkeypatch.setattr(install, "UNIT", str(root / "units" / "microvm-recover.service"))
    monkeypatch.setattr(install, "WANTS", str(root / "units" / "wants" / "microvm-recover.service"))
    return root


def there(root: pathlib.Path) -> set[str]:
    """All files and links."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}


def planned() -> tuple[install.InstallTool, str]:
    """The step that puts it in place, and the name of the tool."""
    found, wanted, steps = install.planned()
    assert isinstance(steps[0], install.InstallTool)
    assert steps[0].previous == found
    return steps[0], wanted


def test_it_is_put_in_place_once(root: pathlib.Path) -> None:
    step, name = planned()
    step.apply({})
    step.finish({})
    assert there(root) == {
        "tool/microvm-tool",
        "tool/" + name,
        "units/microvm-recover.service",
        "units/wants/microvm-recover.service",
    }
    assert install.planned() == (name, name, [])
    inode = os.stat(root / "tool" / name).st_ino
    step.apply({})  # as a second item of the call does
    assert os.stat(root / "tool" / name).st_ino == inode


def test_taken_back_nothing_stays(root: pathlib.Path) -> None:
    step = planned()[0]
    step.apply({})
    step.undo({})
    assert there(root) == set()
    assert not (root / "tool").exists()


def test_an_upgrade_keeps_the_tool_that_may_be_running(root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for digest in ("11111111", "22222222", "33333333"):
        monkeypatch.setattr(build, "digest", lambda files, digest=digest: digest)
        step, name = planned()
        step.apply({})
        step.finish({})
        names.append("tool/" + name)
    assert {path for path in there(root) if "tool-" in path} == set(names[1:])
    step.undo({})
    assert os.readlink(root / "tool" / "microvm-tool") == str(root / names[-1])


@pytest.mark.parametrize("part", ["tool/microvm-tool", "units/microvm-recover.service"])
def test_a_part_that_is_gone_is_put_back(root: pathlib.Path, part: str) -> None:
    planned()[0].apply({})
    (root / part).unlink()
    planned()[0].apply({})
    assert (root / part).exists()
    assert install.planned()[2] == []
