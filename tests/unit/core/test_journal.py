# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open intents that can't be settled: they stay, until what they are of is forgotten."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import journal, registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


@dataclasses.dataclass(frozen=True)
class Stuck(Step):
    """Its undo fails."""

    def describe(self) -> str:
        return "be stuck"

    def undo(self, known: Known) -> None:
        raise HostError("unreachable", "nas does not answer")


@pytest.fixture(autouse=True)
def own_registry(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "registry.db")
    for function in ("reading", "writing"):
        monkeypatch.setattr(registry, function, functools.partial(getattr(registry, function), path))


def settled(forget: bool) -> list[str]:
    return journal.settle("volume", "web1", lambda: {"Stuck": Stuck}, forget)


def test_what_is_forgotten_leaves_no_intent_open() -> None:
    journal.begin("volume", "web1", [Stuck()])
    journal.begin("volume", "web2", [Stuck()])
    with pytest.raises(HostError, match="does not answer"):
        settled(forget=False)
    assert [row["name"] for row in journal.left_open()] == ["web1", "web2"]
    (told,) = settled(forget=True)
    assert told.startswith("forget what process ") and "nas does not answer" in told
    assert [row["name"] for row in journal.left_open()] == ["web2"]
    assert settled(forget=True) == []
