# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in turn: of one volume one thing at a time, of many volumes all at once. Private to microvm.host.

A task is a generator that yields jobs (of workers.py) and is sent what each answered, or thrown its HostError; or it
yields a Pause. Nothing waits: what is due is told by the event loop.
"""

from __future__ import annotations

import collections
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._docker.loop import Loop
from ansible_collections.microvm.host.plugins.module_utils._docker.workers import Job, Workers
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


class Pause(t.NamedTuple):
    """So long nothing is done of a task."""

    seconds: float


Task = t.Generator[t.Union[Job, Pause], t.Any, t.Any]
Done = t.Callable[[t.Any, t.Optional[HostError]], None]
"""Called once with the task's result, or with what it failed with."""


class Tasks:
    """The tasks of all volumes."""

    def __init__(self, loop: Loop, workers: Workers) -> None:
        self.loop = loop
        self.workers = workers
        self.queues: dict[str, collections.deque[tuple[Task, Done]]] = {}

    def idle(self) -> bool:
        """True when nothing is under way."""
        return not self.queues

    def busy(self, name: str) -> bool:
        """True when something is under way for a volume."""
        return name in self.queues

    def add(self, name: str, task: Task, done: Done) -> None:
        """Do ``task`` when all that was asked of the volume ``name`` before is done."""
        queue = self.queues.setdefault(name, collections.deque())
        queue.append((task, done))
        if len(queue) == 1:
            self._run(name)

    def _run(self, name: str) -> None:
        """Go on with what is first in the queue, until it must wait or the queue is empty."""
        queue = self.queues[name]
        while queue and self._step(name, None, None):
            pass
        if not queue:
            del self.queues[name]

    def _step(self, name: str, answer: t.Any, error: HostError | None) -> bool:
        """Tell the first task what it waited for; False when it has something else to wait for."""
        task, done = self.queues[name][0]
        result: t.Any = None
        failure: HostError | None = None
        try:
            self._wait(name, task.send(answer) if error is None else task.throw(error))
            return False
        except StopIteration as stop:
            result = stop.value
        except HostError as raised:
            failure = raised
        except Exception as raised:  # the task's edge: one that fails must not take the others with it
            failure = HostError("internal", "%s: %s" % (type(raised).__name__, raised), "please report this")
        done(result, failure)  # before it leaves the queue: what done adds comes after what waits
        self.queues[name].popleft()
        return True

    def _wait(self, name: str, wanted: Job | Pause) -> None:
        if isinstance(wanted, Pause):
            self.loop.at(time.monotonic() + wanted.seconds, lambda: self._go_on(name, None, None))
        else:
            self.workers.add(wanted, lambda answer, error: self._go_on(name, answer, error))

    def _go_on(self, name: str, answer: t.Any, error: HostError | None) -> None:
        if self._step(name, answer, error):
            self._run(name)
