# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_info tells of machines and their shares. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._machines import machines, shares


def gather(seconds: float) -> dict[str, list[dict[str, t.Any]]]:
    """``machines`` and ``machine_shares``, as the modules microvm and virtiofs_share return them.

    Hypervisors are asked within ``seconds``.
    """
    registered = machines.registered()
    seen = machines.Seen(registered, seconds)
    return {
        "machines": [dict(machines.described(seen.rows[name], seen), name=name) for name in registered],
        "machine_shares": [
            dict(shares.described(name, share), name=name + shares.SEPARATOR + share["tag"], vm=name, tag=share["tag"])
            for name in registered
            for share in seen.rows[name]["config"]["shares"]
        ],
    }
