# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make test``: every gate in turn, all of them even when one fails; at the end what each of them said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.gates.paths import BUILD, PYTHON, ROOT
from tests.lab import counts

CLOSING = re.compile(r"^\S.*?\d+ (of \d+ )?(checks |scenarios )?(passed|failed|exceptions)\b")
"""The line by which a gate closes, pytest's among them."""


@dataclass(frozen=True)
class Stage:
    """One gate: the module that runs it and its arguments; where its tests lie."""

    name: str
    command: tuple[str, ...]
    tree: str = "tests"


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: exit code, seconds, its closing lines."""

    stage: Stage
    rc: int
    seconds: float
    closing: tuple[str, ...]


def commit() -> str:
    """The commit under test, the seed of what is drawn at random: one commit always draws the same."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return asked.stdout.strip()


STAGES = (
    Stage("lint", ("tests.gates.lint",)),
    Stage("sanity", ("tests.gates.sanity",)),
    Stage("unit", ("tests.gates.units",)),
    Stage("contract", ("tests.gates.lab", "tests/contract"), "tests/contract"),
    Stage("molecule", ("tests.gates.scenarios",), "extensions/molecule"),
    Stage("input", ("tests.gates.lab", "tests/input"), "tests/input"),
    Stage("faults", ("tests.gates.lab", "tests/faults", "--sample=60", f"--seed={commit()}"), "tests/faults"),
)
"""All gates, the quick ones first. ``make faults`` runs every kill point; here a sample must do."""


def run(stage: Stage) -> Outcome:
    """Run one stage; its output passes through."""
    print(f"\n===== {stage.name} =====", flush=True)
    start = time.monotonic()
    closing: list[str] = []
    with subprocess.Popen(
        [PYTHON, "-m", *stage.command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if CLOSING.match(line):
                closing.append(line.strip(" =\n"))
    return Outcome(stage, process.returncode, time.monotonic() - start, tuple(closing))


def main() -> None:
    """Run all stages and exit with 1 when one failed."""
    os.environ["MICROVM_COUNTS"] = str(BUILD / "counts-of-test")
    counts.reset()
    start = time.monotonic()
    outcomes = [run(stage) for stage in STAGES if (ROOT / stage.tree).is_dir()]
    print("\n===== all =====", flush=True)
    for stage in STAGES:
        if not (ROOT / stage.tree).is_dir():
            print(f"{stage.name:<10} not there yet")
    for outcome in outcomes:
        verdict = "ok" if outcome.rc == 0 else "FAILED"
        print(f"{outcome.stage.name:<10} {verdict:<7} {outcome.seconds:7.1f} s  {'; '.join(outcome.closing)}")
    print(counts.summary())
    failed = [outcome.stage.name for outcome in outcomes if outcome.rc]
    passed = len(outcomes) - len(failed)
    print(f"{passed} of {len(outcomes)} gates passed in {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        sys.exit("failed: " + ", ".join(failed))


if __name__ == "__main__":
    main()
