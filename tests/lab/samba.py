# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SMB server (Samba, SMB 2.0.2-3.1.1) in a container."""

from __future__ import annotations

import os
from pathlib import Path

from tests.lab.container import Container, ServerSpec
from tests.lab.network import Network

OWNER = 1000
"""Whose the files of all shares are, in the container as on this machine."""
MODERN_PORT = 1445
"""Here the same shares are served by SMB 3.1.1 only."""
USERS = {"svc": "s3cret-of-svc", "other": "s3cret-of-other"}
"""SMB users and their first passwords. ``other`` may only read."""
SHARES: dict[str, str] = {
    "vms": "",
    "vms2": "",
    "with space": "",
    "ro": "read only = yes",
    "guest": "guest ok = yes",
    "small": "",
    **{f"s{number:02d}": "" for number in range(1, 41)},
}
"""Share name to what it has beside the common options."""

GLOBAL = """[global]
server role = standalone server
disable netbios = yes
smb ports = {port}
map to guest = Never
load printers = no
printing = bsd
guest account = nobody
pid directory = /run/{own}
lock directory = /run/{own}
passdb backend = tdbsam:/srv/state/passdb.tdb
private dir = /srv/state
log file = /var/log/samba/log.{own}
log level = 0 auth_audit:3
{more}
"""


class SmbServer(Container):
    """One server; its data and passwords outlive stop, kill and start."""

    port = 445
    entry = "/usr/local/sbin/samba"
    small = {"/srv/share/small": "64k"}

    def __init__(self, spec: ServerSpec, network: Network, directory: Path, work: Path) -> None:
        super().__init__(spec, network, directory, work)
        self.shares = list(SHARES)

    @property
    def described(self) -> dict[str, object]:
        """What the inventory says of it."""
        return {**super().described, "shares": self.shares, "users": USERS}

    def data(self, share: str) -> Path:
        """Where the files of a share lie on this machine."""
        return self._home / "share" / share

    def prepare(self) -> dict[Path, str]:
        """Its configuration and the directories of its shares."""
        (self._home / "state").mkdir(parents=True, exist_ok=True)
        blocks = []
        for share, more in SHARES.items():
            data = self.data(share)
            if not data.exists():
                data.mkdir(parents=True)
                os.chown(data, OWNER, OWNER)
            lines = [f"[{share}]", f"path = /srv/share/{share}", "read only = no", "force user = owner"]
            blocks.append("\n".join([*lines, "read list = other", *([more] if more else []), ""]))
        ordinary = GLOBAL.format(port=self.port, own="samba", more="")
        modern = GLOBAL.format(port=MODERN_PORT, own="samba-modern", more="server min protocol = SMB3_11")
        (self._home / "smb.conf").write_text(ordinary + "\n".join(blocks))
        (self._home / "modern.conf").write_text(modern + "\n".join(blocks))
        return {
            self._home / "share": "/srv/share",
            self._home / "state": "/srv/state",
            self._home / "smb.conf": "/etc/samba/smb.conf",
            self._home / "modern.conf": "/etc/samba/modern.conf",
        }

    def start(self, timeout: float = 180) -> float:
        """As that of every server; the users are made then too."""
        seconds = super().start(timeout)
        self.exec("chmod", "0777", *self.small)
        known = self.exec("pdbedit", "--list")
        for user, password in USERS.items():
            if f"{user}:" not in known:
                self.set_password(user, password)
        return seconds

    def set_password(self, user: str, password: str) -> None:
        """Give a user another password; connections that there are stay."""
        self.exec("smbpasswd", "-s", "-a", user, stdin=f"{password}\n{password}\n")

    def logins(self, user: str) -> int:
        """How often somebody tried to log in as a user since the server was started, on its ordinary port."""
        return self.log.read_text(errors="replace").count(f"]\\[{user}] at [")

    def fill(self) -> None:
        """Leave no room on the share ``small``."""
        self.exec("sh", "-c", "cat /dev/zero > /srv/share/small/ballast", check=False)  # until it fails

    def clear(self) -> None:
        """Room on the share ``small`` again."""
        self.exec("find", "/srv/share/small", "-mindepth", "1", "-delete")

    def disconnect(self) -> None:
        """Cut every connection of every client: each has to log in again."""
        kill = "for p in /proc/[0-9]*; do case $(cat $p/comm) in 'smbd['*) kill -9 ${p#/proc/} ;; esac; done"
        self.exec("sh", "-c", kill, check=False)  # what ends meanwhile is no matter
