# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file systems containers have in use, told by the mounts of other namespaces. Private to microvm.host."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._docker import units
from ansible_collections.microvm.host.plugins.module_utils._host import mounts

Place = tuple[str, str]
"""``major:minor`` and root of a mount: the same for all mounts of one directory of one file system."""


def place_of(mount: mounts.Mount) -> Place:
    """What a mount has in common with its copies in containers."""
    return mount.device, mount.root


def in_use() -> set[Place]:
    """What is mounted anywhere but below our base, in whatever namespace. Touches no mount.

    A copy of our own mount, as each service with a mount namespace has one, goes with ours and does not count.
    """
    found = set(_elsewhere(mounts.table()))
    seen = {os.readlink("/proc/self/ns/mnt")}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            namespace = os.readlink("/proc/%s/ns/mnt" % pid)
            if namespace not in seen:
                found.update(_elsewhere(mounts.table(pid)))
                seen.add(namespace)
        except OSError:
            continue  # the process ended while we looked
    return found


def _elsewhere(table: t.Iterable[mounts.Mount]) -> t.Iterator[Place]:
    for mount in table:
        # A container may have the host's tree below a directory of its own (/host).
        if units.BASE + "/" not in mount.path:
            yield place_of(mount)
