# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kind of resource must offer so that one engine can run it. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan, Step


class Tool(t.Protocol):
    """The host tool, as the resources that need it at boot see it: its module, loaded when it is called for."""

    KINDS: Kinds

    def planned(self) -> tuple[str, str, list[Step]]:
        """The tool there is ("" for none), the one there shall be, and the steps between."""


def with_tool(plan: Plan, planned: tuple[str, str, list[Step]]) -> None:
    """Have a plan install the tool first, when it is not the one there shall be."""
    found, wanted, steps = planned
    if not steps:
        return
    if plan.before:
        plan.before["tool"] = found
    plan.after["tool"] = wanted
    plan.steps[:0] = [step for step in steps if step not in plan.steps]


class Wanted(t.Protocol):
    """One validated item."""

    @property
    def name(self) -> str:
        """Its name, unique in a call."""

    @property
    def state(self) -> str:
        """The state asked for."""

    @property
    def timeout(self) -> int:
        """Seconds for the whole item."""


class Resource(t.Protocol):
    """Methods that read act; ``plan`` returns steps and changes nothing. All raise HostError."""

    name: str

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> t.Any:
        """An item of the option spec as a Wanted; ``given`` is what the user wrote, ``prefix`` names its options."""

    def together(self, wanted: t.Sequence[t.Any]) -> None:
        """Refuse items that contradict each other."""

    def registered(self) -> list[str]:
        """The names the registry holds, for purge."""

    def removal(self, name: str) -> t.Any:
        """The Wanted that removes a registered resource."""

    def observe(self, wanted: t.Sequence[t.Any]) -> t.Any:
        """What is, of all the items: one reading, nothing changed, a short wait."""

    def plan(self, wanted: t.Any, seen: t.Any) -> Plan:
        """What is to be done to one item."""

    def without(self, failed: t.AbstractSet[str], seen: t.Any) -> bool:
        """Told which items failed, in a run or by a connection of check mode: True to plan the others again."""

    def report(self, wanted: t.Any, seen: t.Any) -> dict[str, t.Any]:
        """One returned item, without name, changed, actions and error."""

    def remarks(self, wanted: t.Any, seen: t.Any) -> list[str]:
        """What to warn of in an item that did not fail."""

    def kinds(self) -> Kinds:
        """The steps this resource's intents may hold."""
