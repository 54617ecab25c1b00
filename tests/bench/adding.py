# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Twenty backends of all kinds on a host that has none: in one call, and composed of the modules that there are.

By hand nothing is probed, marked or rolled back, the mounts are lines of /etc/fstab, and every host that sees the LUNs
may write to their volume groups.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.bench import Bench, compare, row
from tests.lab import IscsiServer, LabError
from tests.lab.samba import USERS
from tests.lab.target import iqn

COUNT = 20
NFS, SMB, LUNS = 8, 8, 3
"""Of each kind; the one that is left is a directory of the host."""
TARGET = "open"

LIST = """
- hosts: microvm_hosts
  gather_facts: false
  tasks:
    - microvm.host.storage_backend:
        backends: "{{ backends }}"
"""
HAND = """
- hosts: microvm_hosts
  gather_facts: false
  tasks:
    - ansible.builtin.file:
        path: /srv/hand/local
        state: directory
        mode: "0755"
    - ansible.posix.mount:
        src: "{{ item.server }}:{{ item.export }}"
        path: "/srv/hand/{{ item.name }}"
        fstype: nfs4
        opts: hard,nosuid,nodev,noexec,nofail,_netdev
        state: mounted
      loop: "{{ backends | selectattr('kind', 'eq', 'nfs') }}"
    - ansible.builtin.copy:
        content: "username={{ user }}\\npassword={{ password }}\\n"
        dest: /etc/hand.credentials
        mode: "0600"
    - ansible.posix.mount:
        src: "//{{ item.server }}/{{ item.share }}"
        path: "/srv/hand/{{ item.name }}"
        fstype: cifs
        opts: credentials=/etc/hand.credentials,hard,nosuid,nodev,noexec,nofail,_netdev
        state: mounted
      loop: "{{ backends | selectattr('kind', 'eq', 'smb') }}"
    - community.general.open_iscsi:
        portal: "{{ portal }}"
        target: "{{ iqn }}"
        discover: true
        login: true
    - ansible.builtin.command: udevadm settle
    - community.general.lvg:
        vg: "{{ item.vg }}"
        pvs: "/dev/disk/by-path/ip-{{ portal }}:3260-iscsi-{{ iqn }}-lun-{{ item.lun }}"
      loop: "{{ luns }}"
    - community.general.lvol:
        vg: "{{ item.vg }}"
        thinpool: pool
        size: 90%FREE
      loop: "{{ luns }}"
"""
UNDO = """
set -e
umount /srv/hand/nfs* /srv/hand/smb*
sed -i '\\|/srv/hand/|d' /etc/fstab
rm -r /srv/hand /etc/hand.credentials
vgchange -an {groups}
iscsiadm -m node --logout
iscsiadm -m node -o delete
"""
FOUND = "grep -c -E ' (nfs4|cifs) ' /proc/mounts; lsblk -nro TYPE | grep -c disk"


class Adding:
    """Both ways on one host, taken back after each."""

    def __init__(self, bench: Bench) -> None:
        self._host, self._scratch, self._play = bench.host, bench.scratch, bench.play
        lab = bench.lab
        san = lab.servers["san1"]
        assert isinstance(san, IscsiServer)
        self._san = san
        login = {"username": "svc", "password": USERS["svc"]}
        addresses = {name: lab.servers[name].address for name in ("nas1", "smb1", "san1")}
        target = {"portal": addresses["san1"], "iqn": iqn(TARGET), "layout": "thin"}
        luns = [{"name": f"lun{n}", "lun": n, "vg": f"vg_{n}", "initialize": f"vg_{n}"} for n in range(1, LUNS + 1)]
        backends: list[dict[str, Any]] = [
            {"name": "directory", "kind": "local_file", "path": "/srv/directory"},
            *({"name": f"nfs{n}", "kind": "nfs", "export": f"/export/e{n:02d}"} for n in range(1, NFS + 1)),
            *({"name": f"smb{n}", "kind": "smb", "share": f"s{n:02d}", **login} for n in range(1, SMB + 1)),
            *({**lun, "kind": "iscsi_lvm", **target} for lun in luns),
        ]
        for each in backends:
            each["timeout"] = 120
            if each["kind"] in ("nfs", "smb"):
                each["server"] = addresses["nas1" if each["kind"] == "nfs" else "smb1"]
        assert len(backends) == COUNT
        self._groups = [str(lun["vg"]) for lun in luns]
        common = {"portal": addresses["san1"], "iqn": iqn(TARGET), "luns": luns, "user": "svc"}
        self._there = self._write("add.json", {**common, "backends": backends, "password": USERS["svc"]})
        gone = [{"name": each["name"], "state": "absent"} for each in backends]
        self._back = self._write("gone.json", {"backends": gone})
        self._list, self._hand = self._scratch / "add.yml", self._scratch / "hand.yml"
        self._list.write_text(LIST)
        self._hand.write_text(HAND)
        self._before = self._found()

    def ours(self) -> float:
        """One call; seconds."""
        seconds = self._play(self._list, self._there)
        self._all_there()
        self._play(self._list, self._back)
        self._host.ssh("rm -r /srv/directory")
        self._blank()
        return seconds

    def theirs(self) -> float:
        """By hand; seconds."""
        seconds = self._play(self._hand, self._there)
        self._all_there()
        self._host.ssh(UNDO.format(groups=shlex.join(self._groups)), timeout=120)
        self._blank()
        return seconds

    def _write(self, name: str, variables: dict[str, Any]) -> Path:
        path = self._scratch / name
        path.write_text(json.dumps(variables))
        return path

    def _found(self) -> Sequence[int]:
        """How many mounts of servers and how many disks the host has."""
        return [int(word) for word in self._host.ssh(FOUND, check=False).stdout.split()]

    def _all_there(self) -> None:
        mounts, disks = self._before
        if self._found() != [mounts + NFS + SMB, disks + LUNS]:
            raise LabError(f"the host has {self._found()} mounts and disks, and had {self._before}")

    def _blank(self) -> None:
        for lun in range(1, LUNS + 1):
            self._san.blank(TARGET, lun)


def measure(bench: Bench, runs: int) -> list[dict[str, Any]]:
    """The row; the host must have no backends and no mounts."""
    adding = Adding(bench)
    what = f"{COUNT} new backends of all kinds in one call / by hand: ansible.posix.mount, open_iscsi, lvg, lvol"
    return [row("add-20", what, compare(runs, adding.ours, adding.theirs), "s", runs, None)]
