# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit tests: all on the venv's Python, those of what runs on managed hosts on every other Python found.

The latter are the directories of ``tests/unit`` but ``CONTROLLER``. They run with nothing but pytest, PyYAML and the
part of ansible-core that a module carries along (``ansible.module_utils``, which supports Pythons that ansible-core
itself does not).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.gates import interpreters
from tests.gates.checks import Check, run_all
from tests.gates.mirror import mirror
from tests.gates.paths import BUILD, MIRROR, PYTHON, ROOT, environment
from tests.gates.venv import quiet

LOCK = ROOT / "tests" / "requirements-units.txt"

CONTROLLER = ("controller", "gates", "lab")
"""Directories of tests for what never runs on a managed host; so do the files right in ``tests/unit``."""


def payload() -> Path:
    """A directory with the part of ansible-core that travels to managed hosts."""
    root = BUILD / "units" / "payload"
    package = root / "ansible"
    package.mkdir(parents=True, exist_ok=True)
    source = subprocess.run(
        [PYTHON, "-c", "import ansible; print(ansible.__path__[0])"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    for name in ("__init__.py", "release.py", "module_utils"):
        link = package / name
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.join(source, name))
    return root


def libraries(version: str, python: Path) -> Path:
    """A directory with what the tests import, for one Python; made when the lock or the interpreter is new."""
    target = BUILD / "units" / version
    stamp = target / "lock.sha256"
    wanted = hashlib.sha256(LOCK.read_bytes() + os.fsencode(python.resolve())).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(target, ignore_errors=True)
        pip = [str(PYTHON), "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
        quiet([*pip, "--require-hashes", "--no-deps", "--target", str(target), "--requirement", str(LOCK)])
        stamp.write_text(wanted)
    return target


def own() -> str:
    """The version of the venv's Python."""
    return "%d.%d" % sys.version_info[:2]


def check(version: str, python: Path) -> Check:
    """The tests of what runs on managed hosts, on one Python."""
    path = os.pathsep.join(map(str, (payload(), libraries(version, python))))
    unit = MIRROR / "tests" / "unit"
    directories = sorted(str(entry) for entry in unit.iterdir() if entry.is_dir() and entry.name not in CONTROLLER)
    tests = [str(python), "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", *directories]
    return Check(f"Python {version}", tests, env={"PYTHONPATH": path}, closing=1)


def main(arguments: list[str]) -> None:
    """Run all unit tests; with ``arguments``, only pytest with these on the venv's Python."""
    mirror()
    tests = [str(PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", *(arguments or ["tests/unit"])]
    rc = subprocess.call(tests, cwd=MIRROR, env=environment())
    if rc:
        sys.exit(f"unit: pytest ended with exit code {rc}")
    if not arguments:
        others = {version: python for version, python in interpreters.found().items() if version != own()}
        if others:
            run_all("unit", [check(version, python) for version, python in others.items()])
        else:
            print(f"unit: this machine has no other Python of {', '.join(interpreters.VERSIONS)}")


if __name__ == "__main__":
    main(sys.argv[1:])
