# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd unit of a mount: where it is and what it says. Private to microvm.host.

Apart from the steps that write it, because each unchanged call compares it and no step is loaded then.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import nfs as parser
from ansible_collections.microvm.host.plugins.module_utils._host import systemd
from ansible_collections.microvm.host.plugins.module_utils._storage import nfs


def unit_file(path: str) -> str:
    """Where the unit of a mount point is."""
    return os.path.join(systemd.DIRECTORY, systemd.unit_of_path(path))


def unit_link(path: str) -> str:
    """The link that has the unit started at boot."""
    return os.path.join(systemd.DIRECTORY, "remote-fs.target.wants", systemd.unit_of_path(path))


def unit_text(asked: dict[str, t.Any], path: str) -> str:
    """The unit of an asked mount."""
    options = nfs.parsed(asked)
    return systemd.mount_unit(
        nfs.source(asked),
        path,
        "nfs",
        parser.unit_options(options, asked["version"]),
        options.mount_timeout or 30,
        options.unit_lines(),
    )
