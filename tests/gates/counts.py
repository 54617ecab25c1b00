# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run did to real machines, in numbers: hosts booted, real mounts, kill points.

Whoever does it says so by ``add``; ``make test`` ends with the sums. The file survives the processes that write to it.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "MICROVM_COUNTS"
"""The file that collects the counts of one run. Unset: nobody wants to know."""


def add(what: str, number: int = 1) -> None:
    """Count ``number`` more of ``what``. One short append, so that parallel tests do not mix."""
    path = os.environ.get(VARIABLE)
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{number} {what}\n")


def totals(path: Path) -> dict[str, int]:
    """The sums by name, in the order in which the names came up first."""
    sums: dict[str, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        number, what = line.split(" ", 1)
        sums[what] = sums.get(what, 0) + int(number)
    return sums
