# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-test sanity on this machine's Pythons, with no exceptions to it.

ansible-test makes its own venvs under ``~/.ansible/test`` and bootstraps them by a script from a server that many
networks do not reach. The very pip that it wants comes from the package index instead, with a script beside it that
installs that wheel.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.gates import interpreters, packages
from tests.gates.mirror import mirror
from tests.gates.paths import MIRROR, PYTHON, ROOT, environment
from tests.gates.venv import quiet

PIP = ROOT / "tests" / "requirements-ansible-test.txt"
"""The pip that ansible-test of ansible-core 2.19 asks for, with its hash."""

BOOTSTRAP = '''\
"""Installs the pip beside this file, without a network."""
import os
import runpy
import sys

wheel = os.path.join(os.path.dirname(os.path.abspath(__file__)), "{wheel}")
sys.path.insert(0, wheel)
sys.argv = ["pip", "--disable-pip-version-check", "install", "--no-index", "--no-deps", wheel]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
'''


def prime() -> None:
    """Put the bootstrap script where ansible-test looks before it downloads one."""
    version = next(line.split()[0] for line in PIP.read_text().splitlines() if line.startswith("pip==")).split("==")[1]
    cache = Path.home() / ".ansible" / "test" / "cache"
    script = cache / f"get_pip_{version.replace('.', '_')}.py"
    if script.exists():
        return
    cache.mkdir(parents=True, exist_ok=True)
    pip = [str(PYTHON), "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    quiet([*pip, "--dest", str(cache), "--requirement", str(PIP)])
    script.write_text(BOOTSTRAP.format(wheel=f"pip-{version}-py3-none-any.whl"))


def exceptions() -> list[str]:
    """Files by which a collection silences sanity tests."""
    return sorted(str(path.relative_to(MIRROR)) for path in (MIRROR / "tests" / "sanity").glob("ignore*"))


def main(arguments: list[str]) -> None:
    """Run all sanity tests, or only those named: ``--test validate-modules``."""
    mirror()
    if exceptions():
        sys.exit(f"sanity: no exceptions are kept here; found {', '.join(exceptions())}")
    packages.require({"shellcheck": "shellcheck"})
    prime()
    pythons = interpreters.found()
    print(f"sanity: compile and import on Python {', '.join(pythons)}", flush=True)
    rc = subprocess.call(
        ["ansible-test", "sanity", "--local", "--color", "no", *arguments], cwd=MIRROR, env=environment()
    )
    if rc:
        sys.exit(f"sanity: failed with exit code {rc}")
    print("sanity: all tests passed, 0 exceptions")


if __name__ == "__main__":
    main(sys.argv[1:])
