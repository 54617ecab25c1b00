# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done to one item. Private to microvm.host.

A plan is made from what was observed and changes nothing. Check mode is a plan that is not carried out, so the two
can't disagree: ``changed`` is "there are steps", ``diff`` is where ``before`` and ``after`` differ.
"""

from __future__ import annotations

import dataclasses
import sqlite3
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._host import deadline
    from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

Known = dict[str, t.Any]
"""What the steps of one item answered so far (JSON-able); the journal keeps it beside the steps."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One change, as data: a frozen dataclass of JSON-able fields. What it does uses only these and ``known``.

    ``apply`` does it, or starts a child that does. ``undo`` takes it back, whether it was done, half done or not
    begun, and acts only on what this very step made. ``finish`` is what follows the commit; it may run twice.
    """

    def describe(self) -> str:
        """What it does, for ``actions``: "mount nas:/export"."""
        raise NotImplementedError

    def apply(self, known: Known) -> deadline.Child | Known | None:
        """Do it; a dict (or the child's last answer) is added to ``known``. Raises HostError."""
        return None

    def undo(self, known: Known) -> None:
        """Take it back. Raises HostError when that fails: the intent then stays in the journal."""

    def finish(self, known: Known) -> None:
        """After the commit. Raises HostError: the intent then stays in the journal."""


@dataclasses.dataclass(frozen=True)
class Record(Step):
    """A change of the registry only; the plan's ``commit`` writes it."""

    text: str

    def describe(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class ReloadUnits(Step):
    """systemd reads its units again; asked for by items, done once a call, after all of them."""

    def describe(self) -> str:
        return "reload systemd"

    def finish(self, known: Known) -> None:
        from ansible_collections.microvm.host.plugins.module_utils._host import systemd

        systemd.reload_units()


@dataclasses.dataclass
class Plan:
    """``before`` and ``after`` hold configuration only, no measurements. ``commit`` writes the registry rows in the
    transaction that closes the intent. ``contact`` is what check mode may do, in a child: open a connection. ``proof``
    is what both modes do, in a child: try a secret that the user wants to know about.
    """

    name: str
    before: dict[str, t.Any]
    after: dict[str, t.Any]
    steps: list[Step] = dataclasses.field(default_factory=list)
    commit: t.Callable[[sqlite3.Connection, Known], None] | None = None
    contact: t.Callable[[], t.Any] | None = None
    proof: t.Callable[[], t.Any] | None = None
    locks: tuple[str, ...] = ()
    seconds: float = 15.0
    notes: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    assumes: list[HostError] = dataclasses.field(default_factory=list)
    """What the run would fail with, unless an earlier task of the play has seen to it by then."""
    warnings: list[str] = dataclasses.field(default_factory=list)

    def diff(self) -> dict[str, dict[str, t.Any]] | None:
        """The keys where before and after differ, None when they don't."""
        keys = sorted(key for key in {**self.before, **self.after} if self.before.get(key) != self.after.get(key))
        if not keys:
            return None
        return {
            "before": {key: self.before[key] for key in keys if key in self.before},
            "after": {key: self.after[key] for key in keys if key in self.after},
        }

    def then(self, later: Plan) -> Plan:
        """This plan and the one made after it was carried out, as one to tell of."""
        changes = later.diff() or {"after": {}}
        told = self.corrected(later)
        return dataclasses.replace(
            told, before=self.before, after={**self.after, **changes["after"]}, steps=self.steps + later.steps
        )

    def corrected(self, again: Plan) -> Plan:
        """``again``, made in place of this plan, with what was found out since."""
        warnings = list(dict.fromkeys(self.warnings + again.warnings))
        return dataclasses.replace(again, notes={**self.notes, **again.notes}, warnings=warnings)

    def actions(self) -> list[str]:
        """What the steps do, in words."""
        return [step.describe() for step in self.steps]
