# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the tests of one directory that need real hosts. Nothing is skipped: what the machine lacks is a failure."""

from __future__ import annotations

import subprocess
import sys

from tests.gates.mirror import mirror
from tests.gates.paths import MIRROR, PYTHON, environment

PARALLEL = {"tests/contract": ["--numprocesses=auto", "--maxprocesses=4", "--dist=worksteal"]}
"""Directories whose tests take a lab per process; as many as there are cores, one of these being a host's."""


def main(arguments: list[str]) -> None:
    """Run pytest on the directory named first, with the rest of ``arguments``."""
    mirror()
    if not (MIRROR / arguments[0]).exists():
        sys.exit(f"{arguments[0]}: there is no such directory")
    tests = [str(PYTHON), "-m", "pytest", "-p", "no:cacheprovider", "--durations=5", "--durations-min=5"]
    sys.exit(subprocess.call([*tests, *PARALLEL.get(arguments[0], []), *arguments], cwd=MIRROR, env=environment()))


if __name__ == "__main__":
    main(sys.argv[1:])
