# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume driver for each test."""

from __future__ import annotations

import functools
import os
import tempfile
import typing as t
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._docker import mounting, namespaces, state, units, volumes
from ansible_collections.microvm.host.plugins.module_utils._host import mounts
from tests.unit.docker.driver import Driver


@pytest.fixture
def folder(tmp_path: Path) -> t.Iterator[Path]:
    """Where the driver keeps all it has: in memory where there is such a place, for it syncs what it writes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else tmp_path) as made:
        yield Path(made)


@pytest.fixture
def driver(folder: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Driver]:
    for function in ("reading", "writing"):
        patched = functools.partial(getattr(registry, function), str(folder / "registry.db"))
        monkeypatch.setattr(registry, function, patched)
    monkeypatch.setattr(state, "RUN", str(folder / "run"))
    monkeypatch.setattr(units, "BASE", str(folder / "volumes"))
    found = Driver(folder)
    monkeypatch.setattr(mounts, "table", found.kernel.table)
    monkeypatch.setattr(mounting, "attach", found.kernel.attach)
    monkeypatch.setattr(mounting, "detach", found.kernel.detach)
    monkeypatch.setattr(namespaces, "in_use", found.kernel.held)
    monkeypatch.setattr(volumes, "UNMOUNT_SECONDS", 1.0)
    found.start()
    yield found
    if found.pid:
        found.kill()
    found.listening.close()
    assert not (folder / "programs").exists(), "the driver ran a program"
