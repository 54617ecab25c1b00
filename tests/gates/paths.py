# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things lie, whatever the name of the checkout."""

from __future__ import annotations

import os
from pathlib import Path

COLLECTION = Path("build", "ansible_collections", "microvm", "host")
_HERE = Path(__file__).resolve().parents[2]

ROOT = _HERE.parents[3] if _HERE.parts[-4:] == COLLECTION.parts else _HERE
"""The checkout, also when this file is read in the mirror."""

BUILD = ROOT / "build"
"""What the gates make. Ignored by git and removed by ``make clean``."""

MIRROR = ROOT / COLLECTION
"""The collection where Ansible's tools want it; see ``mirror``."""

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PYBIN = BUILD / "pybin"
"""Real interpreters under their usual names; see ``interpreters``."""


def environment() -> dict[str, str]:
    """The environment of a gate: the venv's programs first, the mirror as the only collection, no user settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYENV_", "PYTEST_"))}
    env.pop("VIRTUAL_ENV", None)
    env.pop("PYTHONPATH", None)
    env.update(
        PATH=os.pathsep.join([str(VENV / "bin"), str(PYBIN), env.get("PATH", os.defpath)]),
        ANSIBLE_COLLECTIONS_PATH=str(BUILD),
        PYTHONDONTWRITEBYTECODE="1",
        NO_COLOR="1",
    )
    return env
