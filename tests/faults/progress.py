# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Points that passed already: `make faults` goes on where it was stopped. A change of what is tested starts anew."""

from __future__ import annotations

import datetime
import hashlib
import json
import subprocess
from collections.abc import Sequence
from typing import Any

from tests.gates.paths import BUILD, ROOT

FILE = BUILD / "faults.json"
FOLDER = ROOT / "tests" / "faults"


def commit() -> str:
    """The commit under test and whether the tree differs from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def write_report(name: str, title: str, said: Sequence[str], columns: Sequence[str], rows: Sequence[str]) -> None:
    """A file beside the tests: what was run when, and a table."""
    lines = [
        "<!--",
        # REUSE-IgnoreStart
        "SPDX-FileCopyrightText: 2026 microvm.host contributors",
        "SPDX-License-Identifier: GPL-3.0-or-later",
        # REUSE-IgnoreEnd
        "-->",
        f"# {title}",
        "",
        *said,
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *rows,
        "",
    ]
    (FOLDER / name).write_text("\n".join(lines))


class Table:
    """Rows that are written down when all is done, whatever came of it."""

    def __init__(self, name: str, title: str, columns: Sequence[str]) -> None:
        self.name, self.title, self.columns = name, title, columns
        self.rows: list[list[Any]] = []

    def add(self, *values: object) -> list[Any]:
        """One row, whose values may still change."""
        self.rows.append(list(values))
        return self.rows[-1]

    def write(self, *said: str) -> None:
        """The file, with the day and the commit."""
        when = f"On {datetime.date.today().isoformat()}, commit {commit()}."
        rows = [f"| {' | '.join(map(str, row))} |" for row in self.rows]
        write_report(self.name, self.title, (when, *said), self.columns, rows)


def digest() -> str:
    """Hash of the modules and of these tests."""
    found = hashlib.sha256()
    for path in sorted([*(ROOT / "plugins").rglob("*.py"), *(ROOT / "tests" / "faults").glob("*.py")]):
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()


class Progress:
    """What passed and what there is, kept in build/faults.json."""

    def __init__(self) -> None:
        self.key = digest()[:16]
        kept = json.loads(FILE.read_text()) if FILE.exists() else {}
        self.passed: set[str] = set(kept["passed"]) if kept.get("key") == self.key else set()

    def add(self, point: str) -> None:
        """Keep a point that passed."""
        self.passed.add(point)
        FILE.parent.mkdir(exist_ok=True)
        fresh = FILE.with_suffix(".new")
        fresh.write_text(json.dumps({"key": self.key, "passed": sorted(self.passed)}, indent=1))
        fresh.rename(FILE)

    def write_result(self, counts: dict[str, tuple[int, int]], unreached: int) -> None:
        """RESULT.md: points and passed per pair of operations."""
        rows = [f"| {name} | {points} | {passed} |" for name, (points, passed) in counts.items()]
        total, good = (sum(column) for column in zip(*counts.values(), strict=True))
        said = (
            f"{good} of {total} points passed on {datetime.date.today().isoformat()}, commit {commit()}.",
            "Written by `make faults`, which goes on where it was stopped: what has not passed is untried.",
            "A point is a SIGKILL at one call that changes something, unique by process,",
            "registry transaction, call and kind of path, followed by the same call again or by the opposite one.",
            f"Calls that came in another order when they were to be hit, and are not counted: {unreached}.",
        )
        rows.append(f"| all | {total} | {good} |")
        write_report("RESULT.md", "Kill points", said, ("operation", "points", "passed"), rows)
