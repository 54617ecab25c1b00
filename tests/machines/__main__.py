# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.machines LAB``: put the guests that are ready at once on all hosts of a lab."""

from __future__ import annotations

import sys

from tests.lab import Lab
from tests.machines import guests

if __name__ == "__main__":
    for host in Lab.load(sys.argv[1]).hosts.values():
        guests.install(host)
