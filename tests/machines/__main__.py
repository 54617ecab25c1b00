# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.machines LAB [NAME...]``: put the guests, the one with Linux too, on all hosts of a lab.

The names are those of directories to share, which are made on its NFS server.
"""

from __future__ import annotations

import sys

from tests.lab import Lab, NfsServer
from tests.machines import guests

if __name__ == "__main__":
    lab = Lab.load(sys.argv[1])
    for name in sys.argv[2:]:
        nas = lab.servers["nas1"]
        assert isinstance(nas, NfsServer)
        guests.fill(nas.data("rw2") / name)
    for host in lab.hosts.values():
        guests.install(host)
        guests.install_linux(host)
