# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs independent checks side by side and says what each of them said when it failed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tests.gates.paths import MIRROR, environment


@dataclass(frozen=True)
class Check:
    """One command that must exit with 0. ``closing`` shows its last lines also when it does."""

    name: str
    command: Sequence[str | Path]
    env: dict[str, str] = field(default_factory=dict)
    closing: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of a check: exit code, seconds, what it printed."""

    check: Check
    rc: int
    seconds: float
    output: str


def run(check: Check, cwd: Path = MIRROR) -> Outcome:
    """Run one check in ``cwd`` with the environment of the gates."""
    start = time.monotonic()
    done = subprocess.run(
        list(check.command),
        cwd=cwd,
        env={**environment(), **check.env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return Outcome(check, done.returncode, time.monotonic() - start, done.stdout.decode(errors="replace"))


def report(outcome: Outcome) -> None:
    """Print one outcome: everything the check said when it failed, otherwise a line and what it closes with."""
    verdict = "ok" if outcome.rc == 0 else f"FAILED ({outcome.rc})"
    print(f"  {outcome.check.name:<28} {verdict:<12} {outcome.seconds:6.1f} s", flush=True)
    lines = outcome.output.strip().splitlines()
    for line in lines if outcome.rc else lines[-outcome.check.closing :] if outcome.check.closing else []:
        print(f"    | {line}", flush=True)


def run_all(gate: str, checks: Sequence[Check], jobs: int | None = None) -> None:
    """Run all ``checks`` in the order listed, ``jobs`` at a time (default: one per core). Exits when one failed."""
    print(f"{gate}: {len(checks)} checks", flush=True)
    outcomes = []
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        for future in as_completed([pool.submit(run, check) for check in checks]):
            outcomes.append(future.result())
            report(outcomes[-1])
    failed = sorted(outcome.check.name for outcome in outcomes if outcome.rc)
    print(f"{gate}: {len(outcomes) - len(failed)} of {len(outcomes)} checks passed", flush=True)
    if failed:
        sys.exit(f"{gate}: failed: {', '.join(failed)}")
