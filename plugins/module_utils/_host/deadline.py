# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that may hang runs in a forked child, and the child dies at its deadline. Private to microvm.host.

A dead NFS or CIFS server puts whoever touches it into an uninterruptible wait, so nothing that may touch one runs
in the process of the module. Waiting is shared: one poll over the pipes of all children, no threads.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

REAP_SECONDS = 1.0
"""How long after its deadline a killed child may take to go before it is abandoned and named."""
LAST_LOOK = 0.05
"""How long a child that was killed late is given at least, s."""
REPORT_SECONDS = 1.0
"""How often a child tells of its progress at most."""
Reported = t.Callable[[t.Any], None]


class Child:
    """A forked child that runs ``work`` and sends what it says, one JSON line each, through a pipe.

    ``work`` gets a function that sends one JSON-able answer and may call it any number of times; what it returns
    is sent last unless it is None. A HostError is carried over; any other exception becomes ``internal``.
    ``deadline`` is a reading of time.monotonic(). ``what`` completes "timed out while ...".
    """

    def __init__(self, work: t.Callable[[t.Callable[[t.Any], None]], t.Any], seconds: float, what: str) -> None:
        self.what = what
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.answers: list[t.Any] = []
        self.ended = False
        self.reported: Reported | None = None
        """Hears of progress; each report puts the deadline off to ``seconds`` from then."""
        self._gone = False
        self._error: HostError | None = None
        self._progressed = False
        self._rest = b""
        self.fd, writing = os.pipe()
        try:
            self.pid = os.fork()
        except OSError:
            os.close(self.fd)
            os.close(writing)
            raise
        if self.pid == 0:
            os.close(self.fd)
            _serve(work, writing)
        os.close(writing)
        os.set_blocking(self.fd, False)

    def fileno(self) -> int:
        """The readable end, for poll."""
        return self.fd

    def read(self) -> None:
        """Take in what has arrived; at the end of the pipe the child is reaped and ``ended`` is set."""
        if not self.ended and self.take():
            self._reap(time.monotonic() + REAP_SECONDS)

    def take(self) -> bool:
        """Take in what has arrived; True, and ``ended``, at the end of the pipe: ``gone`` reaps it. Never blocks."""
        while not self.ended:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                break
            if not data:
                self.let_go()
                break
            self._rest += data
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                tag, value = json.loads(line)
                if tag == "error":
                    self._error = HostError.unpacked(value)
                elif tag == "progress":
                    self._progressed = True
                    self.deadline = time.monotonic() + self.seconds
                    if self.reported is not None:
                        self.reported(value)
                else:
                    self.answers.append(value)
        return self.ended

    def kill(self) -> None:
        """Kill its whole process group. Never blocks: when its pipe ends, it does nothing any more."""
        with contextlib.suppress(ProcessLookupError):
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has not yet made its group
                os.kill(self.pid, signal.SIGKILL)

    def let_go(self) -> None:
        """Hear it no more."""
        self.ended = True
        os.close(self.fd)

    def gone(self) -> bool:
        """True when it has exited; then it is reaped. Never blocks."""
        self._gone = self._gone or os.waitpid(self.pid, os.WNOHANG) != (0, 0)
        return self._gone

    def expire(self) -> None:
        """End the child at its deadline."""
        if self.ended:
            return
        self.let_go()
        self.kill()
        # From the deadline, not from now: of many children that do not die, only the first is waited for.
        gone = self._reap(max(self.deadline + REAP_SECONDS, time.monotonic() + LAST_LOOK))
        how = "no progress for" if self._progressed else "timed out after"
        self._error = timed_out(self.seconds, self.what, None if gone else self.pid, how)

    def result(self) -> t.Any:
        """The last answer of an ended child; raises its HostError, or ``internal`` when it died without a word."""
        if self._error is not None:
            raise self._error
        if not self.answers:
            raise HostError("interrupted", "the process that was %s was killed" % self.what, "run it again")
        return self.answers[-1]

    def _reap(self, until: float) -> bool:
        """Wait for its exit; False when it has not by ``until``."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            handle = -1
        try:
            while not self.gone():
                left = until - time.monotonic()
                if left <= 0:
                    return False
                poll = select.poll()
                if handle >= 0:
                    poll.register(handle, select.POLLIN)
                poll.poll(left * 1000 if handle >= 0 else 10)
        finally:
            if handle >= 0:
                os.close(handle)
        return True


def timed_out(seconds: float, what: str, left: int | None, how: str = "timed out after") -> HostError:
    """What a child is told of that met its deadline; ``left``: its pid when it does not die."""
    message = "%s %g s while %s" % (how, seconds, what)
    if left is not None:
        message += "; process %d does not die and was left behind" % left
    return HostError("timeout", message, "check the server and the network, or raise timeout")


def _serve(work: t.Callable[[t.Callable[[t.Any], None]], t.Any], fd: int) -> t.NoReturn:
    """The child's whole life. It leaves by _exit: nothing of the parent's clean-up may run twice."""

    def send(value: t.Any, tag: str = "answer") -> None:
        data = json.dumps([tag, value]).encode() + b"\n"
        while data:
            data = data[os.write(fd, data) :]

    gc.disable()  # a collection would touch, and so copy, each page that is shared with the parent
    try:
        os.setpgid(0, 0)
        # One that does not die would keep the module's output open, and ssh would wait for it.
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.close(null)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        try:
            last = work(send)
            if last is not None:
                send(last)
        except HostError as error:
            send(error.packed(), "error")
        except Exception as error:  # the child's edge: whatever it is, the parent must hear of it
            told = HostError("internal", "%s: %s" % (type(error).__name__, error), "please report this")
            send(told.packed(), "error")
    finally:
        os._exit(0)


def bond() -> t.Callable[[], None]:
    """What a child calls to be killed when this process dies: whoever takes its place finds nobody at work.

    Called before there is the child: it need not load ctypes, which takes as long as to clone a disk.
    """
    import ctypes

    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def die_with_us() -> None:
        prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG, prctl(2)
        if os.getppid() != parent:
            os._exit(0)

    return die_with_us


class Progress:
    """In a child whose work is long: tells how far it is, so that its deadline is for standing still only.

    Called with bytes done and bytes in all. What is reported: ``percent``, ``rate`` (bytes/s), ``seconds_left``.
    """

    def __init__(self, send: t.Callable[..., None]) -> None:
        self._send = send
        self._begun = time.monotonic()
        self._last = (self._begun, 0)

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last[0] < REPORT_SECONDS or done == self._last[1]:
            return
        self._last = (now, done)
        rate = done / (now - self._begun)
        left = (total - done) / rate if rate else 0.0
        percent = min(100, 100 * done // total) if total else 100
        self._send({"percent": percent, "rate": int(rate), "seconds_left": round(left, 1)}, "progress")

    def alive(self) -> None:
        """Something goes on that does not tell how far it is."""
        self._send({}, "progress")


def wait_any(children: t.Sequence[Child]) -> Child:
    """Block until one of ``children`` (at least one, none ended) has ended or met its deadline, and return it."""
    while True:
        poll = select.poll()
        for child in children:
            poll.register(child.fd, select.POLLIN | select.POLLHUP)
        first = min(child.deadline for child in children)
        ready = dict(poll.poll(max(0.0, first - time.monotonic()) * 1000 + 1))
        for child in children:
            if child.fd in ready:
                child.read()
            if not child.ended and time.monotonic() >= child.deadline:
                child.expire()
            if child.ended:
                return child


def result_of(child: Child) -> t.Any:
    """Wait for one child and return its last answer; raises its HostError (``timeout`` at the deadline)."""
    wait_any([child])
    return child.result()


def call(work: t.Callable[[], t.Any], seconds: float, what: str) -> t.Any:
    """Run ``work`` in one child and return its JSON-able answer; raises HostError (``timeout`` at the deadline)."""
    return result_of(Child(lambda send: work(), seconds, what))


class Sweep:
    """Yields (index, answer of ``probe(thing)``) for all ``things``, in the order they come; None where it hung.

    It begins when it is made: other things can be done before it is asked for the answers. One child goes through the
    list in turn; when it stalls, a second one takes over the rest and the first keeps only the thing it hangs on. All
    of it ends within ``seconds`` (+ REAP_SECONDS), however many hang. ``large``: an answer may be more than a pipe
    holds, 64 KiB.
    """

    def __init__(
        self, things: t.Sequence[t.Any], probe: t.Callable[[t.Any], t.Any], seconds: float, large: bool = False
    ) -> None:
        self._things, self._probe, self._large = things, probe, large
        self._end = time.monotonic() + seconds
        # All could hang, one after the other: half of the time is for starting children, half for the last answer.
        self._patience = min(0.25, seconds / (2 * max(1, len(things))))
        self._children: dict[Child, list[int]] = {}
        if things:
            self._start(list(range(len(things))))

    def _start(self, order: list[int]) -> None:
        def work(send: t.Callable[[t.Any], None]) -> None:
            for index in order:
                send([index, self._probe(self._things[index])])

        self._children[Child(work, max(0.0, self._end - time.monotonic()), "probing")] = list(order)

    def __iter__(self) -> t.Iterator[tuple[int, t.Any | None]]:
        children, end = self._children, self._end
        moved = time.monotonic()
        try:
            while children:
                # Woken by the end of a child, not by each answer: those are taken in together, at the next look.
                poll = select.poll()
                for child in children:
                    poll.register(child.fd, select.POLLIN if self._large else 0)
                waiting = any(len(order) > 1 for order in children.values())
                until = min(end, moved + self._patience) if waiting else end
                poll.poll(max(0.0, until - time.monotonic()) * 1000 + 1)
                for child in list(children):
                    child.read()
                    order = children[child]
                    for index, answer in child.answers:
                        if index in order:  # else it was only slow, and another child has taken that over
                            order.remove(index)
                            moved = time.monotonic()
                            yield index, answer
                    child.answers.clear()
                    if child.ended:
                        del children[child]
                        if order:  # it died on the first of them
                            yield order[0], None
                            if order[1:]:
                                self._start(order[1:])
                    elif not order or time.monotonic() >= end:
                        child.expire()
                        del children[child]
                        for index in order:
                            yield index, None
                if time.monotonic() - moved >= self._patience:
                    for order in [order for order in children.values() if len(order) > 1]:
                        rest = order[1:]
                        del order[1:]
                        self._start(rest)
                        moved = time.monotonic()
        finally:
            for child in children:  # whoever asked may not want the rest
                child.expire()
