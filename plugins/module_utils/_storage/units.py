# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd unit of a mount: where it is and what it says. Private to microvm.host.

Apart from the steps that write it, because each unchanged call compares it and no step is loaded then.
"""

from __future__ import annotations

import os

from ansible_collections.microvm.host.plugins.module_utils._host import systemd
from ansible_collections.microvm.host.plugins.module_utils._storage import filesystems


def unit_file(path: str) -> str:
    """Where the unit of a mount point is."""
    return os.path.join(systemd.DIRECTORY, systemd.unit_of_path(path))


def unit_link(path: str) -> str:
    """The link that has the unit started at boot."""
    return os.path.join(systemd.DIRECTORY, "remote-fs.target.wants", systemd.unit_of_path(path))


def unit_text(asked: filesystems.Asked, path: str) -> str:
    """The unit of an asked mount."""
    return filesystems.of(asked).unit_text(asked, path)
