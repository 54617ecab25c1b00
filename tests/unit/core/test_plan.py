# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs and intents, carried out on a registry in a temporary directory by steps that write files."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import signal
import time
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import jobs, journal, plan, registry
from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


@dataclasses.dataclass(frozen=True)
class Tell(plan.Step):
    """Writes down what it does; fails or dies where told."""

    log: str
    name: str
    fails: str = ""

    def describe(self) -> str:
        return "tell %s" % self.name

    def _tell(self, what: str) -> None:
        with open(self.log, "a", encoding="utf-8") as file:
            file.write("%s %s\n" % (what, self.name))
        if what == self.fails:
            raise HostError("refused", "%s %s failed" % (what, self.name))
        if "kill " + what == self.fails:
            os.kill(os.getpid(), signal.SIGKILL)

    def apply(self, known: plan.Known) -> plan.Known | None:
        self._tell("apply")
        return {self.name: len(known)}

    def undo(self, known: plan.Known) -> None:
        self._tell("undo")

    def finish(self, known: plan.Known) -> None:
        self._tell("finish")


@dataclasses.dataclass(frozen=True)
class Wait(plan.Step):
    """A child that takes its time, as a server does."""

    seconds: float

    def describe(self) -> str:
        return "wait"

    def apply(self, known: plan.Known) -> deadline.Child:
        def work(send: object) -> dict[str, bool]:
            time.sleep(self.seconds)  # what is measured is that many wait at once
            return {"waited": True}

        return deadline.Child(work, 20, "waiting")


KINDS: dict[str, type[plan.Step]] = {"Tell": Tell, "Wait": Wait}


@pytest.fixture(name="log")
def log_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = str(tmp_path / "registry.db")
    for function in ("reading", "writing"):
        monkeypatch.setattr(registry, function, functools.partial(getattr(registry, function), path))
    return str(tmp_path / "log")


def carried_out(log: str, *steps: plan.Step) -> jobs.Job:
    job = jobs.Job("mount", plan.Plan("a", {}, {}, list(steps)))
    jobs.carry_out([job])
    return job


def told(log: str) -> list[str]:
    return pathlib.Path(log).read_text(encoding="utf-8").splitlines()


def test_all_is_applied_then_finished(log: str) -> None:
    job = carried_out(log, Tell(log, "one"), Wait(0), Tell(log, "two"))
    assert job.error is None
    assert job.known == {"one": 0, "waited": True, "two": 2}
    assert told(log) == ["apply one", "apply two", "finish one", "finish two"]
    assert journal.left_open() == []


def test_a_failure_takes_all_back_last_first(log: str) -> None:
    job = carried_out(log, Tell(log, "one"), Tell(log, "two", "apply"), Tell(log, "three"))
    assert job.error is not None
    assert job.error.message == "apply two failed"
    assert told(log) == ["apply one", "apply two", "undo three", "undo two", "undo one"]
    assert journal.left_open() == []


def test_an_undo_that_fails_keeps_the_intent(log: str) -> None:
    job = carried_out(log, Tell(log, "one", "undo"), Tell(log, "two", "apply"))
    assert job.error is not None
    assert job.error.message == "apply two failed"
    assert "undoing it failed too (undo one failed)" in job.error.hint
    assert [(row["name"], row["committed"]) for row in journal.left_open()] == [("a", 0)]


def test_a_finish_that_fails_keeps_the_committed_intent(log: str) -> None:
    job = carried_out(log, Tell(log, "one", "finish"))
    assert job.error is not None
    assert job.error.message == "finish one failed"
    assert [row["committed"] for row in journal.left_open()] == [1]


@pytest.mark.parametrize(
    ("where", "then", "says"),
    [("kill apply", ["undo two", "undo one"], "undo"), ("kill finish", ["finish one", "finish two"], "finish")],
)
def test_the_next_run_settles_what_a_killed_one_left(log: str, where: str, then: list[str], says: str) -> None:
    def work(send: object) -> None:
        carried_out(log, Tell(log, "one"), Tell(log, "two", where))

    killed = deadline.Child(work, 20, "working")
    deadline.wait_any([killed])
    with pytest.raises(HostError, match="was killed"):
        killed.result()
    before = len(told(log))
    assert journal.settle("mount", "b", pytest.fail) == []
    with registry.writing() as connection:  # the step that killed the run is harmless now
        for row in journal.left_open():
            row["steps"] = [["Tell", {"log": log, "name": name}] for name in ("one", "two")]
            registry.put(connection, "journal", row)
    assert journal.settle("mount", "a", lambda: KINDS) == ["%s what process %d left" % (says, killed.pid)]
    assert told(log)[before:] == then
    assert journal.left_open() == []


def test_jobs_wait_at_once_and_fail_alone(log: str) -> None:
    many = [jobs.Job("mount", plan.Plan("n%d" % number, {}, {}, [Wait(0.5)])) for number in range(16)]
    many.append(jobs.Job("mount", plan.Plan("bad", {}, {}, [Tell(log, "bad", "apply")])))
    begun = time.monotonic()
    jobs.carry_out(many)
    assert time.monotonic() - begun < 5
    assert [job.plan.name for job in many if job.error is not None] == ["bad"]
    assert all(job.known == {"waited": True} for job in many[:-1])


@dataclasses.dataclass(frozen=True)
class Copy(plan.Step):
    """Long work: reports, and goes on when the journal has the report."""

    seconds: float

    def describe(self) -> str:
        return "copy"

    def apply(self, known: plan.Known) -> deadline.Child:
        def work(send: t.Callable[..., None]) -> dict[str, t.Any]:
            report = {"percent": 40, "rate": 7, "seconds_left": 1.5}
            send({}, "progress")  # something goes on: that is no report
            send(report, "progress")
            until = time.monotonic() + self.seconds
            while [row["known"].get("progress") for row in journal.left_open()] != [report]:
                if time.monotonic() > until:
                    raise HostError("timeout", "the report is not in the journal")
                time.sleep(0.01)
            return {"copied": True}

        return deadline.Child(work, 20, "copying")


def test_progress_is_in_the_journal_while_it_lasts(log: str) -> None:
    job = carried_out(log, Copy(10))
    assert job.error is None
    assert job.known == {"copied": True}
    assert journal.left_open() == []


def test_difference() -> None:
    assert plan.Plan("a", {"x": 1}, {"x": 1}).diff() is None
    assert plan.Plan("a", {"x": 1, "y": 1, "z": 0}, {"x": 1, "y": 2}).diff() == {
        "before": {"y": 1, "z": 0},
        "after": {"y": 2},
    }
