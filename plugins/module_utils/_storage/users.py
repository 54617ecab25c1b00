# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines have of the storage, so that it is not taken away under them. Private to microvm.host.

Their definitions are in the registry; of these this reads the disks and the sources of the shares.
"""

from __future__ import annotations

import sqlite3

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host import names


def of_volumes(connection: sqlite3.Connection) -> dict[str, set[str]]:
    """By volume, the machines that have it as a disk."""
    found: dict[str, set[str]] = {}
    for row in registry.rows(connection, "SELECT name, config FROM machines"):
        for disk in row["config"]["disks"]:
            found.setdefault(disk["volume"], set()).add(row["name"])
    return found


def below(connection: sqlite3.Connection, path: str) -> list[str]:
    """The machines that have a disk or the source of a share at a path or below."""
    found = []
    for row in registry.rows(connection, "SELECT name, config FROM machines ORDER BY name"):
        config = row["config"]
        paths = [disk["path"] for disk in config["disks"]] + [share["source"] for share in config["shares"]]
        if path and any(names.under(each, path) for each in paths if each):
            found.append(row["name"])
    return found
