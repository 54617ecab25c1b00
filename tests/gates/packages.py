# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages the gates need: installed when root, otherwise named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from tests import apt


def install(packages: Sequence[str], why: str) -> None:
    """Install Debian ``packages``. Exits with the command to give when not root, or not on a Debian system."""
    wanted = " ".join(packages)
    program = shutil.which("apt-get")
    if program is None:
        sys.exit(f"{why}: this is what Debian calls {wanted}; install it with your system's package manager.")
    if os.geteuid() != 0:
        sys.exit(f"{why}. As root: apt-get install --no-install-recommends {wanted}")
    print(f"{why}: installing {wanted}", flush=True)
    options = ["-qq", *apt.PATIENT]
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C")
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        rc = subprocess.call(
            [program, *options, *command], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        if rc:
            sys.exit(f"{why}: apt-get {' '.join(command)} failed with exit code {rc}")


def require(programs: dict[str, str]) -> None:
    """See to it that each program (key) is there, from its Debian package (value)."""
    if not _missing(programs):
        return
    with apt.turn():
        missing = _missing(programs)
        if not missing:
            return
        install(sorted({programs[name] for name in missing}), "missing: " + ", ".join(missing))
        still = _missing(programs)
        if still:
            sys.exit("installed, but still not in PATH: " + ", ".join(still))


def _missing(programs: dict[str, str]) -> list[str]:
    return sorted(name for name in programs if shutil.which(name) is None)
