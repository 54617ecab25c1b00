# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the Molecule scenarios, all or those named."""

from __future__ import annotations

import subprocess
import sys

from tests.gates.mirror import mirror
from tests.gates.paths import MIRROR, environment


def main(names: list[str]) -> None:
    """Run ``molecule test`` for ``names``, or for all scenarios at once."""
    mirror()
    which = [option for name in names for option in ("--scenario-name", name)] or ["--all"]
    # What an interrupted run has left would be taken for fresh hosts.
    for arguments in (["destroy"], ["reset", "--all"], ["test", *which]):
        command = ["molecule", "--base-config", "molecule/config.yml", *arguments]
        rc = subprocess.call(command, cwd=MIRROR / "extensions", env=environment())
    if rc:
        sys.exit(f"molecule: failed with exit code {rc}")
    scenarios = names or sorted(
        path.parent.name for path in (MIRROR / "extensions" / "molecule").glob("*/molecule.yml")
    )
    print(f"molecule: {len(scenarios)} scenarios passed: {', '.join(scenarios)}")


if __name__ == "__main__":
    main(sys.argv[1:])
