# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_info tells of Docker's volumes. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._docker import mounting, state
from ansible_collections.microvm.host.plugins.module_utils._docker.volumes import status
from ansible_collections.microvm.host.plugins.module_utils._host import mounts
from ansible_collections.microvm.host.plugins.module_utils._storage import filesystems


def volumes() -> list[dict[str, t.Any]]:
    """Each volume of the driver: as asked for, as it is, and where the two differ. No mount is touched."""
    table = mounts.table()
    found = []
    for name, volume in sorted(state.load().items()):
        path = mounting.path_of(name)
        stack = mounts.stack_at(path, table)
        told = status(volume, bool(stack))
        holders = [{"id": key, "count": each.count} for key, each in sorted(volume.references.items())]
        drift = ["asked for again with %s" % text for text in volume.refused]
        drift += _differences(volume, stack[-1]) if stack else []
        found.append(
            {
                "name": name,
                "options": volume.opts,
                "created": volume.created,
                "path": path,
                "status": told["health"],
                "version_negotiated": told["version"] or "",
                "references": holders,
                "drift": drift,
                "error": volume.error,
            }
        )
    return found


def _differences(volume: state.Volume, mount: mounts.Mount) -> list[str]:
    """How a volume's mount differs from what was mounted there."""
    if volume.asked is None:
        return []
    if not filesystems.of(volume.asked).is_mount_of(mount, volume.asked, volume.address):
        return ["mounted is %s instead of %s" % (mount.source, mounting.source(volume.asked))]
    wanted = set(filesystems.of(volume.asked).parsed(volume.asked).flags)
    shown = {flag for flag in mount.flags if flag in mounts.ATTRIBUTES or flag == "relatime"}
    return ["mounted with %s instead of %s" % (_listed(shown), _listed(wanted))] if shown != wanted else []


def _listed(flags: set[str]) -> str:
    return ",".join(sorted(flags)) or "no flags"
