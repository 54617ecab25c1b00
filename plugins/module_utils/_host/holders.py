# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps a mount busy, found without touching the mount. Private to microvm.host.

fuser(1) and lsof(8) stat what they look for and hang on a dead server; the links below /proc are only read.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import mounts

MACHINES = ("microvm", "microvm-fs", "microvm-lock")
"""Units of machines, of the daemons for their directories and of the holders of their locks, up to the ``@``."""


def of_mount(path: str) -> list[str]:
    """Who uses the mount at ``path``: ``name (pid)`` per process, then the mounts on or below it, sorted.

    A process of another mount namespace that holds a copy of the mount is named too, ``name (pid, own namespace)``. One
    that runs a machine, serves a directory to it or holds its locks has the name ``machine NAME``.
    """
    table = mounts.table()
    stack = mounts.stack_at(path, table)
    if not stack:
        return []
    device = stack[-1].device
    found = ["mount %s" % mount.path for mount in table if mount.path.startswith(path + "/")]
    ours = os.readlink("/proc/self/ns/mnt")
    seen = {ours}
    for pid in sorted((entry for entry in os.listdir("/proc") if entry.isdigit()), key=int):
        if int(pid) == os.getpid():
            continue
        try:
            namespace = os.readlink("/proc/%s/ns/mnt" % pid)
            if any(_below(link, path) for link in _links(pid)):
                found.append("%s (%s)" % (_name(pid), pid))
            elif namespace not in seen:
                seen.add(namespace)
                # A copy that follows ours (master:N, as in most services) goes when ours goes; a private one stays.
                copies = [mount for mount in mounts.table(pid) if mount.device == device]
                if any(not tag.startswith(("master:", "shared:")) for copy in copies for tag in copy.tags or ("",)):
                    found.append("%s (%s, own namespace)" % (_name(pid), pid))
        except OSError:
            continue  # the process ended while we looked
    return found


def _below(link: str, path: str) -> bool:
    return link == path or link.startswith(path + "/")


def _links(pid: str) -> t.Iterator[str]:
    folder = "/proc/%s/" % pid
    for name in ("cwd", "root", "exe"):
        yield from _link(folder + name)
    for name in os.listdir(folder + "fd"):
        yield from _link(folder + "fd/" + name)
    with open(folder + "maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.rstrip("\n").split(None, 5)
            if len(fields) == 6:
                yield fields[5]


def _link(path: str) -> t.Iterator[str]:
    try:
        yield os.readlink(path)
    except OSError:
        return  # a kernel thread has no exe, a descriptor may be closed by now


def _name(pid: str) -> str:
    """What people call a process. Its unit is the last part of its control group (cgroups(7))."""
    with open("/proc/%s/cgroup" % pid, encoding="utf-8", errors="replace") as file:
        unit = os.path.basename(file.read().strip())
    kind, at, machine = unit.partition("@")
    if at and kind in MACHINES and machine.endswith(".service"):
        return "machine " + machine[: -len(".service")].partition("@")[0]
    with open("/proc/%s/comm" % pid, encoding="utf-8", errors="replace") as file:
        return file.read().strip()
