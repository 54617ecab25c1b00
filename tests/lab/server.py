# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user-space NFS server (nfs-ganesha, NFSv4.0-4.2) in a container."""

from __future__ import annotations

from pathlib import Path

from tests.lab.container import Container, ServerSpec
from tests.lab.network import Network

MANY = 100
"""Number of small exports e01, e02, ... e100 beside the named ones, for benches."""

EXPORTS: dict[str, str] = {
    "rw": "Access_Type = RW;",
    "rw2": "Access_Type = RW;",
    "ro": "Access_Type = RO;",
    "squash": "Access_Type = RW; Squash = Root_Squash;",
    **{f"e{number:02d}": "Access_Type = RW;" for number in range(1, MANY + 1)},
}
"""Export name to its rights; the path, also as seen by clients, is /export/NAME."""

GANESHA = """
NFS_CORE_PARAM { Protocols = 3, 4; Enable_UDP = false; MNT_Port = 20048;
    Enable_NLM = false; Enable_RQUOTA = false; allow_set_io_flusher_fail = true; }
NFSv4 { Graceless = true; Lease_Lifetime = 20; Grace_Period = 20; Minor_Versions = 0, 1, 2; RecoveryBackend = fs; }
EXPORT_DEFAULTS { SecType = sys; Squash = No_Root_Squash; }
LOG { Default_Log_Level = WARN; }
"""


class NfsServer(Container):
    """One server; its data outlive stop, kill and start."""

    port = 2049
    entry = "/usr/local/sbin/nas"
    capabilities = "SYS_ADMIN,DAC_READ_SEARCH"

    def __init__(self, spec: ServerSpec, network: Network, directory: Path, work: Path) -> None:
        super().__init__(spec, network, directory, work)
        self.exports = {name: f"/export/{name}" for name in EXPORTS}

    @property
    def described(self) -> dict[str, object]:
        """What the inventory says of it."""
        return {**super().described, "exports": self.exports}

    def data(self, export: str) -> Path:
        """Where the files of an export lie on this machine."""
        return self._home / "export" / export

    def prepare(self) -> dict[Path, str]:
        """Its configuration and the directories of its exports."""
        (self._home / "state").mkdir(parents=True, exist_ok=True)
        blocks = [GANESHA]
        for number, (name, rights) in enumerate(EXPORTS.items(), start=1):
            data = self.data(name)
            if not data.exists():
                data.mkdir(parents=True)
                data.chmod(0o755)
            path = self.exports[name]
            blocks.append(
                f"EXPORT {{ Export_Id = {number}; Path = {path}; Pseudo = {path}; {rights} "
                f"Filesystem_id = 77.{number}; FSAL {{ Name = VFS; }} }}\n"
            )
        (self._home / "ganesha.conf").write_text("".join(blocks))
        return {
            self._home / "export": "/export",
            self._home / "state": "/var/lib/nfs/ganesha",
            self._home / "ganesha.conf": "/etc/ganesha/ganesha.conf",
        }
