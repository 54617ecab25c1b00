# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Children that do the driver's jobs: few of them, none in the way of another server's, none left."""

from __future__ import annotations

import os
import signal
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._docker import mounting, workers
from ansible_collections.microvm.host.plugins.module_utils._docker.loop import Loop
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

PATIENCE = 20.0


def perform(function: str, arguments: list[t.Any]) -> t.Any:
    """In place of mounting.perform."""
    if function == "hang":
        signal.pause()
    if function == "slow":
        time.sleep(0.05)  # a server that takes its time
    if function == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if function == "refuse":
        raise HostError("refused", "no", "ask again", field="path")
    return {"pid": os.getpid(), "number": arguments[0], "fault": 1 // (function != "fault")}


class Work:
    """Workers, their loop, and what the jobs gave in the order of their ends."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.workers = workers.Workers(self.loop, list)
        self.answers: dict[t.Any, dict[str, t.Any]] = {}
        self.errors: dict[t.Any, HostError] = {}
        self.asked = 0

    def add(self, function: str, number: t.Any, server: str = "nas", seconds: float = PATIENCE) -> None:
        """Ask for a job."""

        def done(answer: t.Any, error: HostError | None) -> None:
            assert number not in self.answers and number not in self.errors, "told twice"
            if error is None:
                self.answers[number] = answer
            else:
                self.errors[number] = error

        self.asked += 1
        job = workers.Job(server, function, (number,), time.monotonic() + seconds, seconds, "doing %s" % number)
        self.workers.add(job, done)

    def until(self, holds: t.Callable[[], t.Any]) -> None:
        """Turn the loop until a condition holds."""
        end = time.monotonic() + PATIENCE

        def tick() -> None:
            assert time.monotonic() < end
            self.loop.at(time.monotonic() + 0.005, tick)

        tick()
        while not holds():
            self.loop.turn()

    def finish(self) -> None:
        """Until all that was asked for is told."""
        self.until(lambda: len(self.answers) + len(self.errors) == self.asked)


def children() -> list[str]:
    """Ours, zombies too."""
    return Path("/proc/self/task/%d/children" % os.getpid()).read_text().split()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Work]:
    monkeypatch.setattr(mounting, "perform", perform)
    monkeypatch.setattr(workers, "PATIENCE", 0.3)
    monkeypatch.setattr(workers, "DYING_SECONDS", 1.0)
    before = len(os.listdir("/proc/self/fd")), children()
    found = Work()
    yield found
    found.until(lambda: children() == before[1])
    found.loop.close()
    assert len(os.listdir("/proc/self/fd")) == before[0]


def test_many_jobs_of_a_server_are_done_by_few_children(work: Work) -> None:
    for number in range(40):
        work.add("slow", number)
    work.finish()
    assert sorted(work.answers) == list(range(40))
    # On a busy machine one may be taken for slow, and another joins them.
    assert workers.MOVING <= len({answer["pid"] for answer in work.answers.values()}) < 3 * workers.MOVING
    assert {number: answer["number"] for number, answer in work.answers.items()} == {n: n for n in range(40)}


def test_what_hangs_is_not_waited_for(work: Work) -> None:
    for number in range(2 * workers.MOVING):
        work.add("hang", "dead %d" % number, seconds=3)
    work.add("quick", "behind")
    work.add("quick", "elsewhere", server="other")
    work.until(lambda: "elsewhere" in work.answers)
    assert not work.errors and "behind" not in work.answers
    work.until(lambda: "behind" in work.answers)
    assert not work.errors
    work.finish()
    assert {error.message for error in work.errors.values()} == {
        "timed out after 3 s while doing dead %d" % number for number in range(2 * workers.MOVING)
    }


def test_one_that_waits_too_long_is_told_so(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", PATIENCE)
    for number in range(workers.MOVING):
        work.add("hang", number, seconds=1)
    work.add("quick", "behind", seconds=0.5)
    work.finish()
    assert next(iter(work.errors)) == "behind" and work.errors["behind"].kind == "timeout"


def test_a_refusal_arrives_whole_and_the_child_goes_on(work: Work) -> None:
    for number in range(workers.MOVING):
        work.add("refuse", number)
    for number in range(workers.MOVING, 12):
        work.add("quick", number)
    work.finish()
    assert {(error.kind, error.message, error.hint, error.field) for error in work.errors.values()} == {
        ("refused", "no", "ask again", "path")
    }
    assert len(work.answers) == 12 - workers.MOVING


@pytest.mark.parametrize(
    ("function", "kind", "said"),
    [("die", "interrupted", "doing first was killed"), ("fault", "internal", "ZeroDivisionError")],
)
def test_a_child_that_breaks(work: Work, function: str, kind: str, said: str) -> None:
    work.add(function, "first")
    for number in range(10):
        work.add("quick", number)
    work.finish()
    assert work.errors["first"].kind == kind and said in work.errors["first"].message
    assert len(work.answers) == 10


def test_no_process_to_be_had(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fork", fork)
        for number in range(6):
            work.add("quick", number)
        assert not work.errors, "nobody is told before he has asked"
        work.finish()
    assert {(error.kind, error.hint) for error in work.errors.values()} == {
        ("internal", "this host is short of resources")
    }
    work.add("quick", "later")
    work.finish()


def test_a_child_that_does_not_die_stops_nothing(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in an uninterruptible wait takes no signal: here none is sent."""
    kept: list[int] = []
    gaps = [0.0]
    last = [time.monotonic()]

    def tick() -> None:
        now = time.monotonic()
        gaps.append(now - last[0])
        last[0] = now
        work.loop.at(now + 0.01, tick)

    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", lambda pid, number: kept.append(pid))
        work.add("hang", "dead", seconds=0.2)
        tick()
        work.finish()
    assert max(gaps) < workers.DYING_SECONDS / 2, "the loop stood still"
    assert "process %d does not die and was left behind" % kept[0] in work.errors["dead"].message
    work.add("quick", "after")
    work.finish()
    os.killpg(kept[0], signal.SIGKILL)
