# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one machine of a host has alone: a disk that is written to, a vsock address. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import definition
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import Config


def refuse(config: Config, others: t.Mapping[str, Config], prefix: str) -> None:
    """Refuse a disk that another machine writes to, or writing to one that another has; and a vsock address twice."""
    for other, its in others.items():
        if config["vsock"] and config["vsock"] == its["vsock"]:
            text = "the machine %s has the vsock address %d" % (other, config["vsock"])
            raise HostError("conflict", text, "each machine of a host has its own", field=prefix + "vsock")
        theirs = {place: disk["read_only"] for disk in its["disks"] for place in _places(disk)}
        for index, disk in enumerate(config["disks"]):
            shared = [place for place in _places(disk) if place in theirs]
            if shared and not (disk["read_only"] and theirs[shared[0]]):
                text = "%s is a disk of the machine %s" % (shared[0], other)
                field = definition.disk_field(config, index, prefix) + ("volume" if disk["volume"] else "path")
                raise HostError("conflict", text, "a disk with a writer has one machine", field=field)


def _places(disk: dict[str, t.Any]) -> list[str]:
    """What a disk is known by."""
    return (["volume " + disk["volume"]] if disk["volume"] else []) + ([disk["path"]] if disk["path"] else [])
