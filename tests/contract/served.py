# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the servers of a lab hold. Read here on the machine that runs them, also by the callback of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

Served = dict[str, tuple[int, int, int]]


def served(exports: Iterable[Path]) -> Served:
    """Every file below the directories, by path: kind and permissions, size, time of its last change in ns."""
    found = {}
    for export in exports:
        for path in [export, *export.rglob("*")]:
            stat = path.lstat()
            found[str(path)] = (stat.st_mode, stat.st_size, stat.st_mtime_ns)
    return found
