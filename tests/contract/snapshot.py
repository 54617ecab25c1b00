# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab host looks like from outside the collection's code: mounts, files, units, registry, processes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import Host, Lab, NfsServer

LOOK = Path(__file__).with_name("look.py").read_text()

RESET = r"""
set -e
grep -E ' - nfs4? ' /proc/self/mountinfo | cut -d' ' -f5 | while read -r path; do umount -l "$path"; done
grep -l microvm.host /etc/systemd/system/*.mount 2>/dev/null | while read -r unit; do
    systemctl disable --quiet "$(basename "$unit")" || true
    rm -f "$unit"
done
find /etc/systemd/system -xtype l -name '*.mount' -delete
rm -rf --one-file-system /var/lib/microvm /etc/microvm /run/microvm
systemctl daemon-reload
systemctl reset-failed
"""


@dataclass(frozen=True)
class Snapshot:
    """``mounts``: mount point to source, NFS only. ``files``: path to what lstat says of it but access times.

    ``tables``: rows of the registry by table, None when there is no registry. ``units``: names of our mount units.
    ``processes``: command lines of module processes that outlived their task.
    """

    mounts: dict[str, str]
    files: dict[str, Any]
    tables: dict[str, list[dict[str, Any]]] | None
    units: list[str]
    processes: list[str]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a registry table; none when there is no registry."""
        return (self.tables or {}).get(table, [])


def look(host: Host) -> Snapshot:
    """Take a snapshot of a host."""
    return Snapshot(**json.loads(host.ssh("python3 -", stdin=LOOK).stdout))


def reset(lab: Lab) -> None:
    """Make the host and the exports as if the collection had never been there, without its help."""
    for host in lab.hosts.values():
        host.ssh(RESET)
    for server in lab.servers.values():
        assert isinstance(server, NfsServer)
        for export in server.exports:
            for path in server.data(export).glob(".microvm/*"):
                path.unlink()
            for path in server.data(export).glob(".microvm"):
                path.rmdir()


def served(lab: Lab) -> dict[str, Any]:
    """Every file on the exports, by path: kind and permissions, size, time of its last change."""
    found = {}
    for server in lab.servers.values():
        assert isinstance(server, NfsServer)
        for export in server.exports:
            for path in [server.data(export), *server.data(export).rglob("*")]:
                stat = path.lstat()
                found[str(path)] = (stat.st_mode, stat.st_size, stat.st_mtime_ns)
    return found
