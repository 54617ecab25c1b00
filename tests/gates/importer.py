# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the collection and imports it as Galaxy does. A warning is a failure."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.gates.paths import BUILD, MIRROR, PYTHON

WARNINGS = re.compile(r"^(WARNING|ERROR|CRITICAL)\b.*", re.MULTILINE)


def main() -> None:
    """Build into ``build/importer`` and import from there."""
    out = BUILD / "importer"
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.tar.gz"):
        old.unlink()
    subprocess.run(["ansible-galaxy", "collection", "build", "--output-path", out], cwd=MIRROR, check=True)
    (artifact,) = out.glob("*.tar.gz")
    imported = subprocess.run(
        [PYTHON, "-m", "galaxy_importer.main", artifact],
        cwd=out,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(imported.stdout)
    complaints = [match.group() for match in WARNINGS.finditer(imported.stdout)]
    if imported.returncode or complaints:
        sys.exit(f"galaxy-importer: exit code {imported.returncode}, {len(complaints)} warnings")


if __name__ == "__main__":
    main()
