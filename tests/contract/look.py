# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the lab host: prints a snapshot as JSON. Standard library only, nothing of the collection."""

from __future__ import annotations

import glob
import json
import os
import sqlite3

TREES = (
    "/var/lib/microvm",
    "/etc/microvm",
    "/run/microvm",
    "/etc/systemd/system",
    "/usr/local",
    "/var/lib/iscsi",
    "/etc/iscsi",
    "/mnt",
    "/srv",
    "/opt",
)
REGISTRY = "/var/lib/microvm/registry.db"


def mounts() -> dict[str, str]:
    """Mount point to source of every NFS and SMB mount."""
    found = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, dummy, rest = line.partition(" - ")
            fstype, source = rest.split()[:2]
            if fstype in ("nfs", "nfs4", "cifs"):
                found[fields.split()[4]] = source
    return found


def files() -> dict[str, list[int]]:
    """Every path below TREES; mount points are listed, but not entered."""
    mounted = set(mounts())
    found = {}
    for tree in TREES:
        for top, folders, names in os.walk(tree):
            for path in [top, *(os.path.join(top, name) for name in names)]:
                if path not in mounted:
                    stat = os.lstat(path)
                    # Who holds the lock of a volume writes to it every ten seconds.
                    changed = 0 if "/.microvm/locks/" in path else stat.st_mtime_ns
                    found[path] = [stat.st_mode, stat.st_uid, stat.st_size, stat.st_ino, changed]
            folders[:] = [name for name in folders if os.path.join(top, name) not in mounted]
    return found


def tables() -> dict[str, list[dict[str, object]]] | None:
    """All rows of the registry, read only."""
    if not os.path.exists(REGISTRY):
        return None
    registry = sqlite3.connect(f"file:{REGISTRY}?mode=ro", uri=True)
    registry.row_factory = sqlite3.Row
    names = [row[0] for row in registry.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: [dict(row) for row in registry.execute(f'SELECT * FROM "{name}" ORDER BY rowid')] for name in names}


def luns() -> list[str]:
    """Every LUN that is attached, as TARGET LUN."""
    found = []
    for path in glob.glob("/sys/class/iscsi_session/session*"):
        with open(path + "/targetname") as file:
            target = file.read().strip()
        for device in glob.glob(path + "/device/target*/*:*:*:*/block"):
            found.append("%s %s" % (target, os.path.dirname(device).rpartition(":")[2]))
    return sorted(found)


def units() -> list[str]:
    """Mount units that carry the collection's name."""
    found = []
    for path in sorted(glob.glob("/etc/systemd/system/*.mount")):
        with open(path) as file:
            if "microvm.host" in file.read():
                found.append(os.path.basename(path))
    return found


def processes() -> list[str]:
    """Command lines of Ansible's module processes."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                line = file.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "AnsiballZ" in line or "ansible" in line:
            found.append(line)
    return found


def volumes() -> list[str]:
    """Names of device-mapper's devices, and groups of LVM whose own activation is masked."""
    return sorted(os.listdir("/dev/mapper")) + sorted(glob.glob("/etc/systemd/system/lvm-activate-*"))


# What changes by being looked at (the registry's own lock files) is not there in between.
LOOKS = (mounts, files, tables, luns, volumes, units, processes)
print(json.dumps({look.__name__: look() for look in LOOKS}))
