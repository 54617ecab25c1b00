# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the Pythons of managed hosts (3.9 to 3.13) that this machine has, and links them into ``build/pybin``.

Version managers put shims in PATH that look like interpreters and fail once their variables are gone, which is what
ansible-test does.
"""

from __future__ import annotations

import glob
import os
import subprocess
from pathlib import Path

from tests.gates.paths import PYBIN

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
"""Pythons of managed hosts that the collection supports."""


def candidates(version: str) -> list[str]:
    """Paths where an interpreter of ``version`` may lie, the system's own first."""
    name = f"python{version}"
    home = Path.home()
    managers = [
        f"{os.environ.get('PYENV_ROOT') or home / '.pyenv'}/versions/{version}.*/bin/{name}",
        f"{home}/.local/share/uv/python/cpython-{version}.*/bin/{name}",
    ]
    folders = ["/usr/bin", "/usr/local/bin", *os.environ.get("PATH", "").split(os.pathsep)]
    return [f"{folder}/{name}" for folder in folders] + [
        path for pattern in managers for path in sorted(glob.glob(pattern))
    ]


def real(path: str, version: str) -> bool:
    """Whether ``path`` is an interpreter of ``version`` that runs without a version manager's environment."""
    if not os.access(path, os.X_OK):
        return False
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYENV_", "PYTHON"))}
    asked = subprocess.run(
        [path, "-IS", "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix == sys.base_prefix)"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return asked.returncode == 0 and asked.stdout.split() == [version, "True"] and "/shims/" not in path


def found() -> dict[str, Path]:
    """Version to the link in ``build/pybin``, for each supported Python that exists here."""
    PYBIN.mkdir(parents=True, exist_ok=True)
    links = {}
    for version in VERSIONS:
        link = PYBIN / f"python{version}"
        if not (link.is_symlink() and real(str(link), version)):
            link.unlink(missing_ok=True)
            path = next((path for path in candidates(version) if real(path, version)), None)
            if path is None:
                continue
            link.symlink_to(path)
        links[version] = link
    return links


if __name__ == "__main__":
    for each, where in found().items():
        print(each, where.resolve())
