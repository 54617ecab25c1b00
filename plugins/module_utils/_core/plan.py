# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done to one item, and the doing of it. Private to microvm.host.

A plan is made from what was observed and changes nothing. Check mode is a plan that is not carried out, so the two
can't disagree: ``changed`` is "there are steps", ``diff`` is where ``before`` and ``after`` differ.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import journal, registry
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, files, locks, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

Known = dict[str, t.Any]
"""What the steps of one item answered so far (JSON-able); the journal keeps it beside the steps."""
AT_ONCE = 32
"""How many items are worked on at a time: each may have a child that waits for a server."""


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


class Job:
    """A plan being carried out. At the end ``error`` is set, or the item is as planned and ``known`` complete."""

    def __init__(self, resource: str, plan: Plan) -> None:
        self.resource = resource
        self.plan = plan
        self.known: Known = {}
        self.error: HostError | None = None
        self.done = 0
        self.intent: str | None = None
        self.child: deadline.Child | None = None

    def advance(self) -> None:
        """Go on until a child must be waited for (``child`` is set then) or the item is done."""
        try:
            if self.intent is None:
                self.intent = journal.begin(self.resource, self.plan.name, self.plan.steps)
            if self.child is not None:
                child, self.child = self.child, None
                self._learn(child.result())
            while self.done < len(self.plan.steps):
                answer = self.plan.steps[self.done].apply(self.known)
                if isinstance(answer, deadline.Child):
                    self.child = answer
                    self.child.reported = self._note_progress
                    return
                self._learn(answer)
            journal.commit(self.intent, self.plan.commit, self.known)
        except HostError as error:
            self.error = error
            self._roll_back()
        except OSError as error:
            self.error = files.from_os(error, self.plan.name)
            self._roll_back()

    def _learn(self, answer: Known | None) -> None:
        self.done += 1
        if answer and self.intent is not None:
            self.known.update(answer)
            journal.note(self.intent, self.known)

    def _note_progress(self, progress: t.Any) -> None:
        """Where host_info finds it. What the steps know does not have it: it is no state of anything."""
        if self.intent is not None and progress:
            journal.note(self.intent, {**self.known, "progress": progress})

    def _roll_back(self) -> None:
        if self.intent is None or self.error is None:
            return
        try:
            journal.undo(self.intent, self.plan.steps, self.known)
        except HostError as error:
            self.error.hint += (
                "; " if self.error.hint else ""
            ) + "undoing it failed too (%s), the next run goes on" % error

    def finish(self, reloaded: bool) -> None:
        """What follows the commit; ``reloaded`` when the call's one reload of systemd was done."""
        if self.error is not None or self.intent is None:
            return
        try:
            steps = [step for step in self.plan.steps if not (reloaded and isinstance(step, ReloadUnits))]
            journal.finish(self.intent, steps, self.known)
        except HostError as error:
            self.error = error


def carry_out(jobs: t.Sequence[Job]) -> None:
    """Carry out all jobs; each ends by itself, its own error does not touch the others."""
    waiting = list(jobs)
    running: list[Job] = []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            job = waiting.pop(0)
            job.advance()
            if job.child is not None:
                running.append(job)
        if running:
            ended = deadline.wait_any([job.child for job in running if job.child is not None])
            job = next(job for job in running if job.child is ended)
            job.advance()
            if job.child is None:
                running.remove(job)
    reloaded = False
    if any(isinstance(step, ReloadUnits) for job in jobs if job.error is None for step in job.plan.steps):
        try:
            systemd.reload_units()
            reloaded = True
        except HostError:
            reloaded = False  # each item tries it itself in finish, and reports what it got
    for job in jobs:
        job.finish(reloaded)


@contextlib.contextmanager
def locked(names: t.Iterable[str], seconds: float) -> t.Iterator[None]:
    """Hold the locks of one item, always taken in the same order. Raises HostError ``busy``."""
    with contextlib.ExitStack() as held:
        for name in sorted(set(names)):
            resource, rest = name.split("/", 1)
            held.enter_context(locks.holding(resource, rest, seconds))
        yield


def commit_now(change: t.Callable[[sqlite3.Connection], None]) -> None:
    """A registry change that stands for itself, in one transaction."""
    with registry.writing() as connection:
        change(connection)
