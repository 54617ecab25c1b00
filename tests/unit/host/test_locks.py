# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between real processes."""

from __future__ import annotations

import os
import pathlib
import signal
import time
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import deadline, locks
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


@pytest.fixture(autouse=True)
def directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(locks, "DIRECTORY", str(tmp_path / "run" / "locks"))
    return tmp_path / "run" / "locks"


def holder(seconds: float) -> deadline.Child:
    """A process that says its word when it has the lock, and keeps it."""

    def work(send: t.Callable[[t.Any], None]) -> None:
        with locks.holding("mount", "a", 5):
            send("held")
            time.sleep(seconds)  # it holds the lock for so long

    child = deadline.Child(work, 30, "holding")
    while not child.answers:
        child.read()
    return child


def end(child: deadline.Child) -> None:
    os.kill(child.pid, signal.SIGKILL)
    deadline.wait_any([child])


def test_busy_names_who_has_it() -> None:
    child = holder(30)
    begun = time.monotonic()
    with pytest.raises(HostError, match="mount a is being changed by process %d" % child.pid) as caught:
        with locks.holding("mount", "a", 0.3):
            raise AssertionError("two have the lock")
    assert caught.value.kind == "busy"
    assert 0.3 <= time.monotonic() - begun < 2
    with locks.holding("mount", "b", 0), locks.holding("backend", "a", 0):
        end(child)


def test_it_is_waited_for() -> None:
    child = holder(0.4)
    begun = time.monotonic()
    with locks.holding("mount", "a", 10):
        assert 0.1 < time.monotonic() - begun < 5
    deadline.wait_any([child])


def test_it_goes_with_a_killed_holder(directory: pathlib.Path) -> None:
    end(holder(30))
    with locks.holding("mount", "a", 0):
        assert (directory / "mount-a").read_text() == "%d\n" % os.getpid()


def test_it_is_released_when_the_work_fails() -> None:
    with pytest.raises(KeyError), locks.holding("mount", "a", 0):
        raise KeyError

    def take() -> str:
        try:
            with locks.holding("mount", "a", 0):
                return "taken"
        except HostError as error:
            return error.message

    with locks.holding("mount", "a", 0):
        with locks.holding("mount", "a", 0):
            pass  # items of one call share it
        locks._ours.clear()  # what another process knows
        assert "by process %d" % os.getpid() in deadline.call(take, 5, "taking it")
    assert deadline.call(take, 5, "taking it") == "taken"


def test_a_child_that_is_left_behind_keeps_no_lock() -> None:
    with locks.holding("mount", "a", 0):
        child = deadline.Child(lambda send: time.sleep(30), 30, "hanging")  # as one in an uninterruptible wait
    with locks.holding("mount", "a", 0):
        end(child)
