# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_info tells of machines and their shares. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._machines import told
from ansible_collections.microvm.host.plugins.module_utils._machines.seen import Seen, registered


def gather(seconds: float) -> dict[str, list[dict[str, t.Any]]]:
    """``machines`` and ``machine_shares``, as the modules microvm and virtiofs_share return them.

    Hypervisors are asked within ``seconds``.
    """
    there = registered()
    seen = Seen(there, seconds)
    return {
        "machines": [dict(told.machine(seen.rows[name], seen), name=name) for name in there],
        "machine_shares": [
            dict(told.share(name, share), name=name + told.SEPARATOR + share["tag"], vm=name, tag=share["tag"])
            for name in there
            for share in seen.rows[name]["config"]["shares"]
        ],
    }
