# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One apt at a time on this machine: ``apt-get update`` waits for nobody, and several tests may need packages."""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

PATIENT = ("-o", "DPkg::Lock::Timeout=300")
"""Options of apt-get: a new machine may be at its own updates."""


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Be the only one of these tests that has apt do something; what was missing may be there by then."""
    with Path(tempfile.gettempdir(), "microvm-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
