# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make test``: every gate, all of them even when one fails; at the end what each of them said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.gates.paths import BUILD, PYTHON, ROOT
from tests.lab import counts

CLOSING = re.compile(r"^\S.*?\d+ (of \d+ )?(checks |scenarios )?(passed|failed|exceptions)\b")
"""The line by which a gate closes, pytest's among them."""
TELLING = re.compile(r"[\s|]*(FAILED |ERROR |fatal: |CRITICAL |E  +\w+(Error|Exception)\b|\S+ +FAILED )")
"""The lines that tell what failed: pytest's, Ansible's, Molecule's, and those of our own tables."""
TOLD = 15
"""So many of a gate's last telling lines are said again at the end, which is all that some CI pages show."""


@dataclass(frozen=True)
class Stage:
    """One gate: the module that runs it and its arguments."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: exit code, seconds, its closing lines, and those that tell what failed."""

    stage: Stage
    rc: int
    seconds: float
    closing: tuple[str, ...]
    telling: tuple[str, ...]


def commit() -> str:
    """The commit under test, the seed of what is drawn at random: one commit always draws the same."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return asked.stdout.strip()


ROUNDS = (
    (Stage("lint", ("tests.gates.lint",)),),
    (Stage("sanity", ("tests.gates.sanity",)),),
    (Stage("contract", ("tests.gates.lab", "tests/contract")),),
    (Stage("molecule", ("tests.gates.scenarios",)),),
    (
        Stage("faults", ("tests.gates.lab", "tests/faults", "--sample=40", f"--seed={commit()}")),
        Stage("docker", ("tests.gates.lab", "tests/docker")),
        Stage("canary", ("tests.gates.lab", "tests/canary")),
        Stage("unit", ("tests.gates.units",)),
        Stage("input", ("tests.gates.lab", "tests/input")),
    ),
)
"""All gates. Of one round two run side by side, as none of them keeps both cores busy for long; the longest come first.

``make faults`` runs every kill point; here a sample must do.
"""


def run(stage: Stage, alone: bool) -> Outcome:
    """Run one stage; its output passes through when it is ``alone``, else it is printed as a whole at the end."""
    print(f"\n===== {stage.name}{'' if alone else ' begins'} =====", flush=True)
    start = time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(
        [PYTHON, "-m", *stage.command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            if alone:
                print(line, end="", flush=True)
    if not alone:
        print(f"\n===== {stage.name} =====\n{''.join(lines)}", end="", flush=True)
    closing = tuple(line.strip(" =\n") for line in lines if CLOSING.match(line))
    telling = tuple(line.rstrip()[:200] for line in lines if TELLING.match(line))[-TOLD:] if process.returncode else ()
    return Outcome(stage, process.returncode, time.monotonic() - start, closing, telling)


def run_round(stages: Sequence[Stage]) -> list[Outcome]:
    """Run the stages of one round, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda stage: run(stage, alone=len(stages) == 1), stages))


def main() -> None:
    """Run all rounds and exit with 1 when a stage failed."""
    os.environ["MICROVM_COUNTS"] = str(BUILD / "counts-of-test")
    counts.reset()
    start = time.monotonic()
    outcomes = [outcome for stages in ROUNDS for outcome in run_round(stages)]
    print("\n===== all =====", flush=True)
    for outcome in outcomes:
        verdict = "ok" if outcome.rc == 0 else "FAILED"
        print(f"{outcome.stage.name:<10} {verdict:<7} {outcome.seconds:7.1f} s  {'; '.join(outcome.closing)}")
    print(counts.summary())
    for outcome in outcomes:
        print("".join(f"{outcome.stage.name}: {line}\n" for line in outcome.telling), end="")
    failed = [outcome.stage.name for outcome in outcomes if outcome.rc]
    passed = len(outcomes) - len(failed)
    print(f"{passed} of {len(outcomes)} gates passed in {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        sys.exit("failed: " + ", ".join(failed))


if __name__ == "__main__":
    main()
