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


@contextlib.contextmanager
def holding(resource: str, name: str, seconds: float) -> t.Iterator[None]:
    """Hold the lock of one resource. Waits up to ``seconds``, then raises ``busy`` naming the pid that has it.

    The file stays: removing it would let two processes lock two files of one name.
    """
    os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
    path = os.path.join(DIRECTORY, "%s-%s" % (resource, name))
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
        yield
    finally:
        os.close(descriptor)
