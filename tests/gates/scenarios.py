# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the Molecule scenarios, all or those named, one per core at a time.

Those that share hosts run one after the other on each of the labs; the lab whose scenario has ended takes the next.
One that fails leaves hosts that nobody can be sure of: the next one there gets new ones.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import yaml

from tests.gates.mirror import mirror
from tests.gates.paths import BUILD, MIRROR, environment
from tests.lab import Lab

EXTENSIONS = MIRROR / "extensions"
FIRST = "default"
"""Looks at hosts to which nothing was ever done."""
LONG = ("volumes", "iscsi", "microvm", "nfs", "credentials", "smb")
"""Begun early, the longest first, so that no core is without work while the last one runs."""
CLOSING = re.compile(r"=+ (.*\d+ (?:passed|failed|error).*?) =+")
"""The line by which pytest closes."""


def known() -> list[str]:
    """All scenarios, in the order in which they are begun."""
    names = {path.parent.name for path in EXTENSIONS.glob("molecule/*/molecule.yml")}
    order = (FIRST, *LONG)
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def shares(name: str) -> bool:
    """Whether a scenario runs on the hosts that the others use too."""
    said = yaml.safe_load((EXTENSIONS / "molecule" / name / "molecule.yml").read_text())
    return bool(said.get("shared_state", True))


def forget(lab: str) -> None:
    """Take the hosts away, and what Molecule knows of them."""
    Lab.take_down(lab)
    shutil.rmtree(BUILD / "molecule" / lab, ignore_errors=True)


def test(name: str, lab: str, alone: bool) -> bool:
    """Run one scenario on a lab, which it makes when there is none, and say what came of it.

    Its output passes through when it is ``alone``, else it is printed when it failed.
    """
    start = time.monotonic()
    command = ["molecule", "--base-config", "molecule/config.yml", "test", "--destroy=never", "--scenario-name", name]
    state = {"MICROVM_MOLECULE_LAB": lab, "MOLECULE_EPHEMERAL_DIRECTORY": str(BUILD / "molecule" / lab)}
    done = subprocess.run(
        command,
        cwd=EXTENSIONS,
        env={**environment(), **state},
        stdin=subprocess.DEVNULL,
        stdout=None if alone else subprocess.PIPE,
        stderr=None if alone else subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = (done.stdout or "").splitlines()
    closing = "; ".join(match[1] for match in map(CLOSING.match, lines) if match)
    said = f"  {name:<16} {'FAILED' if done.returncode else 'ok':<8} {time.monotonic() - start:6.1f} s  {closing}"
    print("\n".join([*(f"    | {line}" for line in lines if done.returncode), said]), flush=True)
    return done.returncode == 0


def work(todo: queue.SimpleQueue[str], lab: str, alone: bool) -> list[str]:
    """Run scenarios on one lab until none is left. The names of those that failed."""
    failed = []
    forget(lab)  # what an interrupted run has left would be taken for fresh hosts
    try:
        while True:
            name = todo.get_nowait()
            own = lab if shares(name) else f"molecule-{name}"
            if own != lab:
                forget(own)
            if not test(name, own, alone):
                failed.append(name)
                forget(own)
    except queue.Empty:
        return failed
    finally:
        forget(lab)


def main(names: list[str]) -> None:
    """Run the scenarios named, or all. Exits when one failed."""
    mirror()
    unknown = sorted(set(names) - set(known()))
    if unknown:
        sys.exit(f"molecule: there is no scenario {', '.join(unknown)}; there are {', '.join(known())}")
    wanted = names or known()
    todo: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in wanted:
        todo.put(name)
    labs = [f"molecule{number}" for number in range(1, min(os.cpu_count() or 1, len(wanted)) + 1)]
    print(f"molecule: {len(wanted)} scenarios", flush=True)
    with ThreadPoolExecutor(len(labs)) as pool:
        failed = [name for each in pool.map(lambda lab: work(todo, lab, len(wanted) == 1), labs) for name in each]
    print(f"molecule: {len(wanted) - len(failed)} of {len(wanted)} scenarios passed", flush=True)
    if failed:
        sys.exit(f"molecule: failed: {', '.join(sorted(failed))}")


if __name__ == "__main__":
    main(sys.argv[1:])
