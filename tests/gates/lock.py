# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolves ``tests/*.in`` into the locks beside them: one file for all Pythons, each download with its hashes."""

from __future__ import annotations

import subprocess

from tests.gates.paths import BUILD, PYTHON, ROOT
from tests.gates.venv import quiet

OLDEST = {"requirements": "3.11", "requirements-units": "3.9", "requirements-ansible-test": "3.9"}
"""The lock to the oldest Python that it must serve."""

HEADER = "# SPDX-FileCopyrightText: 2026 microvm.host contributors\n# SPDX-License-Identifier: GPL-3.0-or-later\n"


def main() -> None:
    """Write all locks with the newest versions that fit, by uv, which alone resolves for all Pythons at once."""
    tools = BUILD / "uv"
    uv = str(tools / "bin" / "uv")
    quiet([PYTHON, "-m", "pip", "install", "--quiet", "--upgrade", "--target", tools, "uv"])
    for name, python in OLDEST.items():
        command = [uv, "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header"]
        resolved = subprocess.run(
            [*command, "--no-annotate", "--python-version", python, f"tests/{name}.in"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        (ROOT / "tests" / f"{name}.txt").write_text(HEADER + resolved.stdout)


if __name__ == "__main__":
    main()
