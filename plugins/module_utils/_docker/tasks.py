# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in turn: of one volume one thing at a time, of many volumes all at once. Private to microvm.host.

A task is a generator that yields children (deadline.Child) and is sent what each answered, or thrown its HostError.
Nothing waits: children are watched by the event loop.
"""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._docker.loop import Loop, Timer
from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

Task = t.Generator[deadline.Child, t.Any, t.Any]
Done = t.Callable[[t.Any, t.Optional[HostError]], None]
"""Called once with the task's result, or with what it failed with."""


class Tasks:
    """The tasks of all volumes."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
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
        """Go on with what is first in the queue, until a child must be waited for or the queue is empty."""
        queue = self.queues[name]
        while queue and self._step(name, None):
            pass
        if not queue:
            del self.queues[name]

    def _step(self, name: str, child: deadline.Child | None) -> bool:
        """Send the first task what its child answered; False when it has another child to wait for."""
        task, done = self.queues[name][0]
        result: t.Any = None
        failure: HostError | None = None
        try:
            self._watch(name, _resumed(task, child))
            return False
        except StopIteration as stop:
            result = stop.value
        except HostError as error:
            failure = error
        except Exception as error:  # the task's edge: one that fails must not take the others with it
            failure = HostError("internal", "%s: %s" % (type(error).__name__, error), "please report this")
        done(result, failure)  # before it leaves the queue: what done adds comes after what waits
        self.queues[name].popleft()
        return True

    def _watch(self, name: str, child: deadline.Child) -> None:
        timer = self.loop.at(child.deadline, lambda: self._ended(name, child, timer, child.expire))
        self.loop.watch(child.fd, lambda: self._ended(name, child, timer, child.read))

    def _ended(self, name: str, child: deadline.Child, timer: Timer, look: t.Callable[[], None]) -> None:
        fd = child.fd
        look()
        if not child.ended:
            return
        self.loop.unwatch(fd)
        timer.cancel()
        if self._step(name, child):
            self._run(name)


def _resumed(task: Task, child: deadline.Child | None) -> deadline.Child:
    """The next child of a task. Raises StopIteration with its result, or its HostError."""
    if child is None:
        return next(task)
    try:
        answer = child.result()
    except HostError as error:
        return task.throw(error)
    return task.send(answer)
