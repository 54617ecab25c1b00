# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real programs: output, return codes, environment, time limits."""

from __future__ import annotations

import os
import time

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import command
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


def shell(script: str, seconds: float = 10) -> str:
    return command.run(["sh", "-c", script], seconds, writes=False)


def test_output() -> None:
    assert shell("echo out; echo err >&2; printf '\\377'") == "out\n\ufffd"


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("NOISE", "1")
    assert shell("echo $LC_ALL $PATH $NOISE; cat") == "C %s\n" % command.SEARCH
    assert int(shell("ps -o sid= -p $$ || cut -d' ' -f6 /proc/$$/stat")) != os.getsid(0)


def test_return_codes() -> None:
    assert command.run(["sh", "-c", "exit 3"], 10, writes=False, ok=(0, 3)) == ""
    with pytest.raises(HostError, match="sh -c echo no such export >&2; exit 3 failed: no such export") as caught:
        shell("echo no such export >&2; exit 3")
    error = caught.value
    assert (error.kind, error.rc, error.stderr) == ("refused", 3, "no such export")
    assert error.command is not None
    assert error.command[0] == "sh"
    with pytest.raises(HostError, match="return code -9"):
        shell("kill -9 $$")


def test_not_installed() -> None:
    with pytest.raises(HostError, match="microvm-nothing is not installed") as caught:
        command.run(["microvm-nothing"], 10, writes=False)
    assert caught.value.kind == "unsupported"


def test_a_program_that_hangs_is_killed_with_what_it_started() -> None:
    begun = time.monotonic()
    with pytest.raises(HostError, match=r"sh did not end within 0\.3 s") as caught:
        shell("sleep 60 & sleep 60", 0.3)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - begun < 5


def test_one_that_must_not_be_killed_goes_on_with_its_lock() -> None:
    read, lock = os.pipe()
    with pytest.raises(HostError, match=r"sh has not ended within 0\.3 s and goes on as process \d+") as caught:
        command.run_to_its_end(["sh", "-c", f"sleep 1; echo said; echo done >/dev/fd/{lock}"], 0.3, keeps=(lock,))
    assert caught.value.kind == "timeout"
    os.close(lock)
    with open(read, "rb") as file:
        assert file.read() == b"done\n", "it was killed, or lost its descriptor"


def test_what_it_said_is_told_when_it_fails() -> None:
    with pytest.raises(HostError, match=r"bad magic") as caught:
        command.run_to_its_end(["sh", "-c", "echo bad magic; exit 8"], 10, ok=(0, 1))
    assert (caught.value.kind, caught.value.rc) == ("refused", 8)


def test_one_that_left_the_group_and_keeps_the_pipes_is_not_waited_for() -> None:
    begun = time.monotonic()
    with pytest.raises(HostError, match=r"did not end within 0\.3 s"):
        shell("setsid sleep 6 & wait", 0.3)
    assert time.monotonic() - begun < 4


def test_nothing_is_written_in_check_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_reading_only", False)
    command.only_read()
    assert command.run(["true"], 10, writes=False) == ""
    with pytest.raises(HostError, match="true would write in check mode") as caught:
        command.run(["true"], 10, writes=True)
    assert caught.value.kind == "internal"
