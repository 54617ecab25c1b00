# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Children with deadlines: real forks that hang, die, flood and answer."""

from __future__ import annotations

import os
import signal
import threading
import time
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


def hang(dummy: t.Any = None) -> None:
    threading.Event().wait()


def die(dummy: t.Any = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    raise HostError("auth", "no ticket", "log in", field="server", command=["kinit"], rc=1, stderr="none")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_call_answers() -> None:
    assert deadline.call(lambda: {"free": 1, "names": ["\u00e4"]}, 5, "counting") == {"free": 1, "names": ["\u00e4"]}


def test_child_does_not_keep_the_output_of_the_module_open() -> None:
    places = deadline.call(lambda: [os.readlink("/proc/self/fd/%d" % number) for number in (0, 1, 2)], 5, "reading")
    assert places == [os.devnull] * 3


def test_call_carries_the_error_over() -> None:
    with pytest.raises(HostError) as caught:
        deadline.call(refuse, 5, "logging in")
    error = caught.value
    assert (error.kind, error.message, error.hint, error.field) == ("auth", "no ticket", "log in", "server")
    assert (error.command, error.rc, error.stderr) == (["kinit"], 1, "none")


def test_call_names_a_bug() -> None:
    with pytest.raises(HostError, match="ZeroDivisionError: ") as caught:
        deadline.call(lambda: 1 // 0, 5, "dividing")
    assert caught.value.kind == "internal"


def test_call_ends_at_the_deadline() -> None:
    begun = time.monotonic()
    with pytest.raises(HostError, match=r"timed out after 0\.2 s while mounting nas:/x$") as caught:
        deadline.call(hang, 0.2, "mounting nas:/x")
    assert caught.value.kind == "timeout"
    assert 0.2 <= time.monotonic() - begun < 1.5


def test_call_of_a_child_that_dies() -> None:
    with pytest.raises(HostError, match="the process that was mounting nas:/x was killed") as caught:
        deadline.call(die, 5, "mounting nas:/x")
    assert caught.value.kind == "interrupted"


def test_answers_larger_than_the_pipe() -> None:
    assert deadline.call(lambda: "x" * 3_000_000, 10, "reading") == "x" * 3_000_000


def test_a_child_says_much_and_its_last_word_counts() -> None:
    def work(send: t.Callable[[t.Any], None]) -> str:
        for number in range(1000):
            send(number)
        return "done"

    child = deadline.Child(work, 5, "counting")
    assert deadline.wait_any([child]) is child
    assert child.answers == [*range(1000), "done"]
    assert child.result() == "done"
    assert gone(child.pid)


def test_what_a_killed_child_started_dies_with_it() -> None:
    read, write = os.pipe()

    def work(send: t.Callable[[t.Any], None]) -> None:
        if os.fork() == 0:
            hang()
        os.close(write)
        hang()

    child = deadline.Child(work, 0.2, "mounting")
    os.close(write)
    deadline.wait_any([child])
    with pytest.raises(HostError, match="timed out"):
        child.result()
    assert os.read(read, 1) == b""  # the end of the pipe: no process holds it any more
    os.close(read)


def test_wait_any_gives_the_first_to_end() -> None:
    slow = deadline.Child(hang, 10, "hanging")
    quick = deadline.Child(lambda send: 1, 10, "answering")
    dead = deadline.Child(lambda send: die(), 10, "dying")
    ended = {deadline.wait_any([slow, quick])}
    ended.add(deadline.wait_any([slow, dead]))
    assert ended == {quick, dead}
    slow.expire()
    slow.expire()  # once is enough
    assert gone(slow.pid)


def test_children_forget_the_handlers_of_the_parent() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(HostError, match="was killed"):
            deadline.call(lambda: os.kill(os.getpid(), signal.SIGTERM), 5, "ending")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sweep_of_nothing() -> None:
    assert list(deadline.Sweep([], hang, 1)) == []


def test_sweep_begins_before_it_is_asked() -> None:
    reading, writing = os.pipe()
    sweep = deadline.Sweep([1], lambda thing: os.write(writing, b"!"), 5)
    assert os.read(reading, 1) == b"!"
    assert list(sweep) == [(0, 1)]


def test_sweep_answers_for_all() -> None:
    assert dict(deadline.Sweep(range(100), lambda thing: thing * 2, 5)) == {n: n * 2 for n in range(100)}


@pytest.mark.parametrize(("bad", "seconds"), [(hang, 3), (die, 30)], ids=["hung", "dying"])
def test_sweep_of_fifty_of_which_twenty_fail(bad: t.Callable[[t.Any], None], seconds: float) -> None:
    failing = set(range(0, 40, 2))
    begun = time.monotonic()
    found = dict(deadline.Sweep(range(50), lambda thing: bad(thing) if thing in failing else thing, seconds))
    assert time.monotonic() - begun < seconds + 3
    assert found == {n: None if n in failing else n for n in range(50)}


def test_sweep_when_all_hang() -> None:
    begun = time.monotonic()
    assert dict(deadline.Sweep(range(50), hang, 1)) == dict.fromkeys(range(50))
    assert time.monotonic() - begun < 4


def test_sweep_when_none_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in an uninterruptible wait takes no signal: here none is sent."""
    kept: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", lambda pid, number: kept.append(pid))
        begun = time.monotonic()
        found = dict(deadline.Sweep(range(20), hang, 0.5))
        took = time.monotonic() - begun
    for pid in kept:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert found == dict.fromkeys(range(20))
    assert len(kept) > 1
    assert took < 0.5 + deadline.REAP_SECONDS + 20 * deadline.LAST_LOOK + 1


def test_a_child_that_does_not_die_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    child = deadline.Child(hang, 0.1, "mounting")
    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", lambda pid, number: None)
        deadline.wait_any([child])
    with pytest.raises(HostError, match="process %d does not die and was left behind" % child.pid):
        child.result()
    os.killpg(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)


def reporting(times: int) -> t.Callable[[t.Callable[..., None]], t.Any]:
    """Work that reports every tenth of a second and answers at its end; without an end when told so."""

    def work(send: t.Callable[..., None]) -> str | None:
        progress = deadline.Progress(send)
        for done in range(times):
            progress(done + 1, 10)
            threading.Event().wait(0.1)
        if times == 3:
            hang()
        return "done"

    return work


def test_progress_puts_the_deadline_off_and_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "REPORT_SECONDS", 0.0)
    child = deadline.Child(reporting(10), 0.6, "copying")
    heard: list[dict[str, t.Any]] = []
    child.reported = heard.append
    assert deadline.wait_any([child]) is child
    assert child.result() == "done"
    assert [each["percent"] for each in heard] == list(range(10, 101, 10))
    assert heard[-1]["rate"] > 0 and heard[-1]["seconds_left"] == 0


def test_who_stands_still_dies_and_what_was_reported_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "REPORT_SECONDS", 0.0)
    child = deadline.Child(reporting(3), 0.5, "copying")
    deadline.wait_any([child])
    with pytest.raises(HostError, match=r"no progress for 0.5 s while copying") as caught:
        child.result()
    assert caught.value.kind == "timeout"
    assert gone(child.pid)


def test_a_child_dies_with_the_process_it_works_for() -> None:
    def outer() -> int:
        die_with_us = deadline.bond()

        def work(send: t.Callable[..., None]) -> None:
            die_with_us()
            send(os.getpid(), "progress")
            hang()

        child = deadline.Child(work, 60, "hanging")
        told: list[int] = []
        child.reported = told.append
        while not told:
            child.read()
        return told[0]

    orphan = deadline.call(outer, 10, "starting it")
    until = time.monotonic() + 5
    while not gone(orphan):
        assert time.monotonic() < until, "it lives on"
        time.sleep(0.01)


def test_sweep_takes_answers_that_no_pipe_holds() -> None:
    begun = time.monotonic()
    answers = dict(deadline.Sweep([1, 2, 3], lambda thing: "x" * 200000 * thing, 20, large=True))
    assert {index: len(text or "") for index, text in answers.items()} == {0: 200000, 1: 400000, 2: 600000}
    assert time.monotonic() - begun < 10
