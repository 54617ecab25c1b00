# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab looks like from outside the collection's code: mounts, files, units, registry, processes, exports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract.served import Served, served
from tests.lab import Host, IscsiServer, Lab, NfsServer, SmbServer

HOST = "hv1"
LOOK = "python3 -IS /tmp/look.py"
"""The command that prints a snapshot of the host it runs on; ``install`` puts it there."""

RESET = r"""
set -e
systemctl stop 'docker-nfsd*'
systemctl kill --signal=KILL 'microvm@*' 2>/dev/null || true
systemctl stop 'microvm@*' 'microvm-net@*' 'microvm-fs@*'
grep -o '^mvm-[^:]*' /etc/passwd | while read -r user; do userdel "$user"; done
if grep -q ^microvm: /etc/group; then groupdel microvm; fi
grep -E ' - (nfs4?|cifs) ' /proc/self/mountinfo | cut -d' ' -f5 | while read -r path; do umount -l "$path"; done
dmsetup remove_all
if iscsiadm --mode session >/dev/null 2>&1; then iscsiadm --mode session --logout >/dev/null; fi
rm -rf /var/lib/iscsi/nodes /var/lib/iscsi/static /etc/systemd/system/lvm-activate-*
units=$(grep -ls microvm.host /etc/systemd/system/*.* || true)
rm -rf --one-file-system $units /var/lib/microvm /etc/microvm /run/microvm /usr/local/libexec/microvm
if [ -n "$units" ]; then
    find /etc/systemd/system -xtype l -delete
    systemctl daemon-reload
    systemctl reset-failed
fi
"""


@dataclass(frozen=True)
class Snapshot:
    """``mounts``: mount point to source, NFS and SMB only. ``files``: path to what lstat says of it but access times.

    ``tables``: rows of the registry by table, None when there is no registry. ``units``: names of our mount units.
    ``luns``: TARGET LUN of each that is attached. ``volumes``: device-mapper's devices.
    ``processes``: command lines of module processes that outlived their task. ``served``: files on the exports.
    """

    mounts: dict[str, str]
    files: dict[str, Any]
    tables: dict[str, list[dict[str, Any]]] | None
    luns: list[str]
    volumes: list[str]
    units: list[str]
    processes: list[str]
    served: Served

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a registry table; none when there is no registry."""
        return (self.tables or {}).get(table, [])


def install(host: Host) -> None:
    """Make LOOK work on a host."""
    host.put(Path(__file__).with_name("look.py"), "/tmp/look.py")


def look(host: Host, directories: Iterable[Path] = ()) -> Snapshot:
    """Take a snapshot of a host, and of what the directories on this machine hold."""
    return parse(host.ssh(LOOK).stdout, served(directories))


def parse(seen: str, held: Served) -> Snapshot:
    """A snapshot from what look.py printed and what the exports held."""
    return Snapshot(**json.loads(seen), served=held)


def exports(lab: Lab) -> list[Path]:
    """The directories on this machine that the lab's servers export or share."""
    found = []
    for server in lab.servers.values():
        if isinstance(server, NfsServer):
            found += [server.data(name) for name in server.exports]
        if isinstance(server, IscsiServer):
            found.append(server.disks)
        if isinstance(server, SmbServer):
            found += [server.data(name) for name in server.shares]
    return found


def reset(lab: Lab) -> None:
    """Make the host and the exports as if the collection had never been there, without its help."""
    lab.hosts[HOST].ssh(RESET)
    for export in exports(lab):
        shutil.rmtree(export / ".microvm", ignore_errors=True)
        for pattern in ("*.raw", "*.json", ".*.raw.*"):
            for path in export.glob(pattern):
                path.unlink()
    for server in lab.servers.values():
        if isinstance(server, IscsiServer):
            server.blank_all()
