# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of a resource at a time: an flock per resource. Private to microvm.host."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

DIRECTORY = "/run/microvm/locks"
POLL_SECONDS = 0.05
_ours: set[str] = set()
"""The locks that this process holds."""


def held() -> list[dict[str, t.Any]]:
    """What is being changed now: ``resource``, ``name``, ``pid`` and ``since`` (UTC, ISO 8601) of each lock held.

    Read from /proc/locks (proc(5)): no lock is touched.
    """
    try:
        files = {_inode(entry.stat()): entry for entry in os.scandir(DIRECTORY)}
    except FileNotFoundError:
        return []
    found = []
    with open("/proc/locks", encoding="ascii") as lines:
        for fields in map(str.split, lines):
            # 1: FLOCK  ADVISORY  WRITE 1234 00:1a:5678 0 EOF; one that waits has "->" after its number
            if fields[1] != "FLOCK" or fields[5] not in files:
                continue
            entry = files[fields[5]]
            resource, dummy, name = entry.name.partition("-")
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.stat().st_mtime))
            found.append({"resource": resource, "name": name, "pid": int(fields[4]), "since": since})
    return sorted(found, key=lambda lock: (lock["resource"], lock["name"]))


def _inode(status: os.stat_result) -> str:
    return "%02x:%02x:%d" % (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)


@contextlib.contextmanager
def holding(resource: str, name: str, seconds: float, directory: str | None = None) -> t.Iterator[None]:
    """Hold the lock of one resource. Waits up to ``seconds``, then raises ``busy`` naming the pid that has it.

    ``directory`` has the lock files of what is not a host's own; by default DIRECTORY.

    A lock that this process holds already is held: items of one call may share it. The file stays: removing it would
    let two processes lock two files of one name.
    """
    directory = directory or DIRECTORY
    path = os.path.join(directory, "%s-%s" % (resource, name))
    if path in _ours:
        yield
        return
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
            if time.monotonic() >= until:
                holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "unknown"
                raise HostError(
                    "busy",
                    "%s %s is being changed by process %s for more than %g s" % (resource, name, holder, seconds),
                    "wait for that run to end, or raise timeout",
                )
            time.sleep(POLL_SECONDS)  # flock(2) knows no time limit: the wait is for the lock, up to the deadline
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        _ours.add(path)
        yield
    finally:
        _ours.discard(path)
        # Not by closing alone: a child that hangs in the kernel has the descriptor too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
