# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage kind local_file: a directory of this host. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

PATH = "/var/lib/microvm/volumes"


def asked(item: dict[str, t.Any], prefix: str) -> dict[str, t.Any]:
    """The configuration of validated options. Raises ``invalid``."""
    path = PATH if item.get("path") is None else item["path"]
    return {"path": names.mount_path(path, prefix + "path", "volumes in %s would lie among files of the system")}


def refuse_change(before: dict[str, t.Any], after: dict[str, t.Any], prefix: str) -> None:
    """The directory is the identity of a local backend: it does not change. Raises ``conflict``."""
    if before["path"] != after["path"]:
        raise HostError(
            "conflict",
            "the path of a local_file backend can't change (it is %s)" % before["path"],
            "add a backend under another name and move the volumes",
            field=prefix + "path",
        )
