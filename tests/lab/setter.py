# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The task file of a rotation, as users have one: it sets the new secret on a server of a lab."""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROGRAM = """
import sys
from tests.lab import Lab
lab, server, method, user = sys.argv[1:]
getattr(Lab.load(lab).servers[server], method)(user, sys.stdin.read())
"""


def write(path: Path, lab: str, server: str = "smb1", method: str = "set_password", user: str = "svc") -> None:
    """Write it to ``path``; ``method`` of the server gives ``user`` the secret, which is in no argument of the task."""
    task = {
        "argv": [sys.executable, "-c", PROGRAM, lab, server, method, user],
        "chdir": str(Path(__file__).parents[2]),
        "stdin": "{{ rotate_new }}",
        "stdin_add_newline": False,
    }
    path.write_text(json.dumps([{"ansible.builtin.command": task, "changed_when": True}]))
