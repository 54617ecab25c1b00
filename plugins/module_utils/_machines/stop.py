# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a machine is stopped: asked first, then told, then ended. Private to microvm.host.

systemd's ExecStop= runs it, so a person's ``systemctl stop`` and the shutdown of the host do the same as the module.
What is left when it returns, systemd ends by SIGTERM, and by SIGKILL at last.
"""

from __future__ import annotations

import sys
import time

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import control

AGAIN_SECONDS = 5.0
"""After how long the button is pressed again: a guest that still boots did not feel it."""
QUIT_SECONDS = 10.0
"""How long a hypervisor may take to end in order: it writes back what it holds of the disks."""


def gracefully(kind: str, path: str, seconds: float) -> str:
    """Stop what listens at ``path``. Says how it went:

    ``powered off`` by the guest, ``quit`` when the guest did not within ``seconds``, ``gone`` when there was nothing,
    ``left`` when it must be killed.
    """
    hypervisor = control.connect(kind, path)
    try:
        if hypervisor.state() == "paused":
            hypervisor.resume()  # a paused guest feels no button
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            hypervisor.press_power_button()
            if control.wait_closed(path, min(AGAIN_SECONDS, max(0.0, until - time.monotonic()))):
                return "powered off"
    except HostError as error:
        if error.kind == "not_found":
            return "gone"
        if error.kind == "interrupted":
            return "powered off"
    try:
        if hypervisor.quit() and control.wait_closed(path, QUIT_SECONDS):
            return "quit"
    except HostError as error:
        if error.kind in ("not_found", "interrupted"):
            return "quit"
    return "left"


def run(kind: str, path: str, seconds: float) -> int:
    """``microvm-tool vm-stop``: says how it went; what is left is systemd's."""
    sys.stdout.write("%s\n" % gracefully(kind, path, seconds))
    return 0
