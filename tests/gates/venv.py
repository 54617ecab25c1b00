# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes ``.venv`` from ``tests/requirements.txt``: pinned versions, hashed files, PyPI or whatever index pip is set to.

Runs on a bare system Python. A stamp with the hash of the lock and the interpreter makes the next call free.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.gates import packages
from tests.gates.paths import BUILD, PYTHON, ROOT, VENV

SUPPORTED = ((3, 11), (3, 13))
"""Pythons that ansible-core 2.19 runs on, first and last."""

LOCK = ROOT / "tests" / "requirements.txt"


def quiet(command: list[str | Path]) -> None:
    """Run a command; print what it said only when it fails, and exit."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stdout.decode(errors="replace"))
        sys.exit(f"failed with exit code {done.returncode}: {' '.join(map(str, command))}")


def main() -> None:
    """Make ``.venv`` unless it is what the lock says already."""
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        sys.exit(
            "Python 3.11, 3.12 or 3.13 is needed; this is %d.%d. Say: make PYTHON=python3.13" % sys.version_info[:2]
        )
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
        stamp = VENV / "lock.sha256"
        if stamp.is_file() and stamp.read_text() == wanted and os.access(PYTHON, os.X_OK):
            return
        if importlib.util.find_spec("ensurepip") is None:
            packages.install(["python3-venv"], "this Python cannot make virtual environments")
        print(f"making {VENV.name} from {LOCK.relative_to(ROOT)} (about a minute)", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        quiet([sys.executable, "-m", "venv", VENV])
        quiet([PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--requirement", LOCK])
        stamp.write_text(wanted)


if __name__ == "__main__":
    main()
