# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One call: what its items have left of their time."""

from __future__ import annotations

import resource
import types

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import acting, run
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


@pytest.mark.parametrize(("spent", "left"), [(0.0, 15), (0.9, 15), (5.5, 10), (40.0, 8)])
def test_what_was_waited_for_counts(monkeypatch: pytest.MonkeyPatch, spent: float, left: int) -> None:
    monkeypatch.setattr(acting, "time", types.SimpleNamespace(monotonic=lambda: 100.0 + spent))
    assert acting._left(run.Item(types.SimpleNamespace(name="a", timeout=15)), 100.0) == left


def test_many_items_may_hold_their_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand items hold more locks than a session may have open files."""
    limits = {"now": (1024, 524288)}
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda which, both: limits.update(now=both))
    acting._allow_descriptors(10)
    assert limits["now"] == (1024, 524288)
    acting._allow_descriptors(4000)
    assert limits["now"] == (4512, 524288)
    acting._allow_descriptors(10**6)
    assert limits["now"] == (524288, 524288)


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_plan_warns_of_does_not_come_when_it_fails(fails: bool) -> None:
    item = run.Item(types.SimpleNamespace(name="a"))
    item.plan = Plan("a", {}, {}, warnings=["it is put right later"])
    item.warnings = ["its undo is left"]
    item.error = HostError("not_found", "there is no export") if fails else None
    reporting = types.SimpleNamespace(name="mount", report=lambda *each: {}, remarks=lambda *each: [])
    told = run.outcome_of(reporting, [item], None).warnings
    assert told == ([] if fails else ["a: it is put right later"]) + ["a: its undo is left"]
