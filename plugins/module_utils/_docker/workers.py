# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Children that do what may hang: for each server a few, one job after the other. Private to microvm.host.

A fork costs as much as a mount, and when fifty mounts share a processor all of them are late: jobs of one server wait
for each other as long as they move. One that takes longer than PATIENCE makes room for the next, for all may hang.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._docker import mounting
from ansible_collections.microvm.host.plugins.module_utils._docker.loop import Loop, Timer
from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

MOVING = 4
"""How many jobs of one server are done at once."""
PATIENCE = 1.0
DYING_SECONDS = 5.0
"""How long a child that was killed may take to go before it is named and left alone."""
FIRST_LOOK, LAST_LOOK = 0.005, 10.0
"""How soon, and later how rarely, to look whether a child whose pipe has ended is gone; seconds."""


class Job(t.NamedTuple):
    """A call of ``mounting.perform``, given up at ``end`` (time.monotonic()).

    Then it is told that it timed out after ``seconds`` while ``doing``.
    """

    server: str
    function: str
    arguments: tuple[t.Any, ...]
    end: float
    seconds: float
    doing: str


Done = t.Callable[[t.Any, t.Optional[HostError]], None]
"""Called once, and never at once, with what a job answered or what it failed with."""


class Asked:
    """A job that is not done yet."""

    def __init__(self, job: Job, done: Done) -> None:
        self.job = job
        self.done = done
        self.slow = False
        self.killed = False
        self.timers: list[Timer] = []

    def finish(self, answer: t.Any, error: HostError | None) -> None:
        """Tell who asked."""
        for timer in self.timers:
            timer.cancel()
        self.done(answer, error)


class Worker:
    """A child that does what it is given, one after the other; ``close`` are descriptors it must not keep."""

    def __init__(self, close: t.Sequence[int]) -> None:
        reading, self.orders = os.pipe()
        self.asked: Asked | None = None

        def work(send: t.Callable[[t.Any], None]) -> None:
            for fd in (self.orders, *close):
                os.close(fd)
            with open(reading, encoding="utf-8") as orders:
                for order in orders:
                    try:
                        send([mounting.perform(*json.loads(order)), None])
                    except HostError as error:
                        send([None, error.packed()])

        try:
            self.child = deadline.Child(work, 0, "working")
        except OSError:
            os.close(self.orders)
            raise
        finally:
            os.close(reading)

    def give(self, asked: Asked) -> None:
        """Have it do a job."""
        self.asked = asked
        self.child.what = asked.job.doing
        with contextlib.suppress(BrokenPipeError):  # it was killed, as the end of its pipe will tell
            os.write(self.orders, json.dumps(asked.job[1:3]).encode() + b"\n")

    def failure(self) -> HostError:
        """What it died of."""
        try:
            self.child.result()
        except HostError as error:
            return error
        return HostError("internal", "nobody asked for what the child answered")


class Server:
    """The jobs of one server: those that wait, and the children that do the others."""

    def __init__(self) -> None:
        self.waiting: collections.deque[Asked] = collections.deque()
        self.workers: list[Worker] = []

    def room(self) -> bool:
        """True when one more may be begun."""
        return sum(1 for each in self.workers if each.asked is not None and not each.asked.slow) < MOVING


class Workers:
    """Those of all servers. ``inherited`` gives the descriptors that a child must close."""

    def __init__(self, loop: Loop, inherited: t.Callable[[], list[int]]) -> None:
        self.loop = loop
        self.inherited = inherited
        self.servers: dict[str, Server] = collections.defaultdict(Server)

    def add(self, job: Job, done: Done) -> None:
        """Do a job as soon as there is room."""
        server = self.servers[job.server]
        asked = Asked(job, done)
        asked.timers.append(self.loop.at(job.end, lambda: self._expired(server, asked)))
        server.waiting.append(asked)
        self._hand_out(server)

    def _hand_out(self, server: Server) -> None:
        while server.waiting and server.room():
            self._begin(server, server.waiting.popleft())

    def _begin(self, server: Server, asked: Asked) -> None:
        try:
            worker = next((each for each in server.workers if each.asked is None), None) or self._new(server)
        except OSError as error:
            failure = HostError("internal", "%s: %s" % (asked.job.doing, error), "this host is short of resources")
            asked.timers.append(self.loop.at(time.monotonic(), lambda: asked.finish(None, failure)))
            return
        asked.timers.append(self.loop.at(time.monotonic() + PATIENCE, lambda: self._slow(server, asked)))
        worker.give(asked)

    def _new(self, server: Server) -> Worker:
        others = [each for every in self.servers.values() for each in every.workers]
        close = [fd for each in others for fd in (each.orders, each.child.fd)]
        worker = Worker([*self.inherited(), *close])
        server.workers.append(worker)
        self.loop.watch(worker.child.fd, lambda: self._heard(server, worker))
        return worker

    def _heard(self, server: Server, worker: Worker) -> None:
        fd, asked = worker.child.fd, worker.asked
        ended = worker.child.take()
        if ended:
            self._part(server, worker, fd)
        if asked is None:
            return
        if asked.killed and ended:
            asked.finish(None, deadline.timed_out(asked.job.seconds, asked.job.doing, None))
        elif worker.child.answers and not asked.killed:
            answer, error = worker.child.answers.pop()
            worker.asked = None
            asked.finish(answer, HostError.unpacked(error) if error else None)
        elif ended:
            asked.finish(None, worker.failure())
        else:
            return
        self._hand_out(server)
        if worker.asked is None and not ended:
            self._part(server, worker, fd)

    def _slow(self, server: Server, asked: Asked) -> None:
        asked.slow = True
        self._hand_out(server)

    def _expired(self, server: Server, asked: Asked) -> None:
        worker = next((each for each in server.workers if each.asked is asked), None)
        if worker is None:
            server.waiting.remove(asked)
            asked.finish(None, deadline.timed_out(asked.job.seconds, asked.job.doing, None))
            return
        asked.killed = True
        worker.child.kill()
        end = time.monotonic() + DYING_SECONDS
        asked.timers.append(self.loop.at(end, lambda: self._abandon(server, worker, asked)))

    def _abandon(self, server: Server, worker: Worker, asked: Asked) -> None:
        """It was killed and does not die."""
        self._part(server, worker, worker.child.fd)
        asked.finish(None, deadline.timed_out(asked.job.seconds, asked.job.doing, worker.child.pid))
        self._hand_out(server)

    def _part(self, server: Server, worker: Worker, fd: int) -> None:
        """Have no more to do with a child; one that lives ends as there are no more orders."""
        self.loop.unwatch(fd)
        server.workers.remove(worker)
        os.close(worker.orders)
        if not worker.child.ended:
            worker.child.let_go()
        self._reap(worker.child, FIRST_LOOK)

    def _reap(self, child: deadline.Child, pause: float) -> None:
        if not child.gone():
            again = min(2 * pause, LAST_LOOK)
            self.loop.at(time.monotonic() + pause, lambda: self._reap(child, again))
