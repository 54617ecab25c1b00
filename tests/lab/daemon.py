# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that outlive the command that started them, known by a file with pid and start time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab.machine import LabError


def _start_time(pid: int) -> str | None:
    """Start time of a living process in clock ticks since boot (field 22 of /proc/PID/stat), None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


class Daemon:
    """A background process in a session of its own; its identity is pid and start time, so a reused pid is not hit."""

    def __init__(self, pid_file: Path, log: Path) -> None:
        self.pid_file = pid_file
        self.log = log

    def start(self, argv: Sequence[str], **environment: str) -> None:
        """Start `argv` with output appended to the log; does nothing when it runs already."""
        if self.pid() is not None:
            return
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **environment},
            )
        self.pid_file.write_text(f"{process.pid} {_start_time(process.pid)}\n")
        # reaped here when we are still its parent, by init otherwise
        _children[process.pid] = process

    def pid(self) -> int | None:
        """Pid while the process lives, else None."""
        try:
            number, started = self.pid_file.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        child = _children.get(int(number))
        if child is not None:
            child.poll()
        return int(number) if _start_time(int(number)) == started else None

    def signal(self, number: int) -> None:
        """Send a signal to the process and its session; LabError when it is gone."""
        pid = self.pid()
        if pid is None:
            raise LabError(f"no process of {self.pid_file} lives")
        for member in _session(pid):
            try:
                os.kill(member, number)
            except ProcessLookupError:  # ended meanwhile
                continue

    def kill(self, timeout: float = 60) -> None:
        """SIGKILL the process and its session; returns when it is gone. LabError after `timeout` seconds."""
        pid = self.pid()
        if pid is not None:
            self.signal(signal.SIGKILL)
            wait_until(lambda: self.pid() is None, timeout, f"process {pid} to die")
        self.pid_file.unlink(missing_ok=True)


_children: dict[int, subprocess.Popen[bytes]] = {}


def _session(leader: int) -> list[int]:
    """The leader first, then every process of its session."""
    members = [leader]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == leader:
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[3] == str(leader):
            members.append(int(entry.name))
    return members


def end_ssh(sockets: Path, timeout: float = 10) -> None:
    """End every ssh that holds or uses a shared connection in the directory `sockets`; returns when all are gone."""

    def users() -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if line.startswith(b"ssh") and os.fsencode(f"{sockets}/") in line and _start_time(int(entry.name)):
                found.append(int(entry.name))
        return found

    for pid in users():
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:  # ended meanwhile
            continue
    wait_until(lambda: not users(), timeout, f"ssh of {sockets} to end")


def wait_until(condition: Callable[[], bool], timeout: float, what: str, interval: float = 0.1) -> float:
    """Poll `condition` until it is true; returns the seconds it took. LabError naming `what` after `timeout`."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout:
            raise LabError(f"waited {timeout:.0f} s for {what}")
        time.sleep(interval)
    return time.monotonic() - started
