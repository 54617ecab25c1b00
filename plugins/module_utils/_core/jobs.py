# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans being carried out, many at a time. Private to microvm.host."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import journal
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, ReloadUnits
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, files, locks, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

AT_ONCE = 32
"""How many items are worked on at a time: each may have a child that waits for a server."""


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
            if journal.commit(self.intent, self.plan.steps, self.plan.commit, self.known):
                self.intent = None
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
            if self.done < len(self.plan.steps):  # else the commit follows, which keeps it
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
