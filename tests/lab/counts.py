# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters of what a test run really did, kept in build/counts (or $MICROVM_COUNTS): one `name<TAB>number` per line."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from pathlib import Path


def counts_file() -> Path:
    """Where counts are kept."""
    default = Path(__file__).resolve().parents[2] / "build" / "counts"
    return Path(os.environ.get("MICROVM_COUNTS") or default)


def add(what: str, number: int = 1) -> None:
    """Append a count, e.g. add("hosts booted"); safe from many processes at once."""
    path = counts_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{what}\t{number}\n")


def totals() -> dict[str, int]:
    """Sum per name, empty when nothing was counted."""
    sums: Counter[str] = Counter()
    path = counts_file()
    for line in path.read_text().splitlines() if path.exists() else []:
        what, dummy, number = line.partition("\t")
        sums[what] += int(number)
    return dict(sums)


def reset() -> None:
    """Forget all counts: the start of a test run."""
    counts_file().unlink(missing_ok=True)


def summary() -> str:
    """One line for the end of a run, e.g. `hosts booted: 3, real mounts: 41, kill points: 60`."""
    sums = {"hosts booted": 0, "real mounts": 0, "kill points": 0} | totals()
    return ", ".join(f"{what}: {number}" for what, number in sums.items())
