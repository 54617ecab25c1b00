# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The balloon of a machine that systemd starts. Private to microvm.host.

QEMU has no option for its first size: it is told when it runs.
"""

from __future__ import annotations

import sys
import time

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import control

SECONDS = 20.0
"""How long QEMU may take to listen."""


def run(path: str, target: int) -> int:
    """``microvm-tool vm-balloon``: leave ``target`` bytes to the guest of the QEMU that listens at ``path``."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            control.connect("qemu", path).balloon(0, target)
            return 0
        except HostError as error:
            if error.kind != "not_found" or time.monotonic() >= until:
                sys.stderr.write("%s\n" % error)
                return 1
        time.sleep(0.05)  # it tells nobody that it listens: it is asked
