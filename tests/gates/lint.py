# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is judged by reading: style, types, licences, documentation, changelog, and what Galaxy would say."""

from __future__ import annotations

import sys

from tests.gates.checks import Check, run_all
from tests.gates.mirror import mirror
from tests.gates.paths import PYTHON, ROOT

COLLECTION = "ansible_collections.microvm.host"
CONTROLLER = ("action", "plugin_utils")


def packages(controller: bool) -> list[str]:
    """The options that name to mypy the plugins that run on the controller, or all others."""
    names = sorted(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir() and path.name != "__pycache__")
    wanted = [name for name in names if (name in CONTROLLER) is controller]
    return [option for name in wanted for option in ("--package", f"{COLLECTION}.plugins.{name}")]


CHECKS = [
    Check("galaxy-importer", [PYTHON, "-m", "tests.gates.importer"]),
    Check("ansible-lint", ["ansible-lint", "--config-file", "tests/gates/ansible-lint.yml", "--offline", "-q"]),
    Check(
        "antsibull-docs",
        [
            "antsibull-docs",
            "lint-collection-docs",
            "--plugin-docs",
            "--validate-collection-refs",
            "self",
            "--skip-rstcheck",
            ".",
        ],
    ),
    # Managed hosts: the standard library of the oldest Python. Controller and tests: that of the oldest controller.
    Check("mypy plugins", ["mypy", "--python-version", "3.9", *packages(controller=False)]),
    Check("mypy controller", ["mypy", "--python-version", "3.11", *packages(controller=True)]),
    Check("mypy tests", ["mypy", "--python-version", "3.11", "tests"]),
    Check("antsibull-changelog", ["antsibull-changelog", "lint"]),
    Check("reuse", ["reuse", "lint", "--lines"]),
    Check("yamllint", ["yamllint", "--strict", "."]),
    Check("ruff check", ["ruff", "check", "--quiet"]),
    Check("ruff format", ["ruff", "format", "--diff", "--quiet"]),
]


def main() -> None:
    """Run all checks, or those whose names begin with an argument."""
    mirror()
    run_all("lint", [check for check in CHECKS if not sys.argv[1:] or check.name.startswith(tuple(sys.argv[1:]))])


if __name__ == "__main__":
    main()
