# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The iSCSI server (tgt) in a container: targets without and with CHAP, two portals, disks that are sparse files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.lab.container import Container, ServerSpec
from tests.lab.network import Network

LUN_BYTES = 256 << 20
"""Size of a disk; sparse."""
SECOND_PORTAL = 3261


@dataclass(frozen=True)
class Target:
    """`luns` are numbered from 1: 0 is tgt's own controller. Accounts are (user, secret); `mutual` is the target's."""

    luns: int
    account: tuple[str, str] | None = None
    mutual: tuple[str, str] | None = None

    @property
    def chap(self) -> dict[str, str]:
        """What a host gives to log in, by the names of the module's options."""
        found = dict(zip(("username", "password"), self.account, strict=True)) if self.account else {}
        if self.mutual:
            found.update(zip(("mutual_username", "mutual_password"), self.mutual, strict=True))
        return found


TARGETS: dict[str, Target] = {
    "open": Target(3),
    "chap": Target(2, ("host", "lab-secret-14")),
    "mutual": Target(1, ("host2", "lab-secret-15"), ("san", "san-secret-016")),
}
"""By the last part of their name: iqn.2026-01.lab:NAME."""

ACCOUNTS: dict[str, tuple[str, str]] = {
    f"--tid {tid}{way}": account
    for tid, target in enumerate(TARGETS.values(), 1)
    for way, account in (("", target.account), (" --outgoing", target.mutual))
    if account
}
"""User and secret of each account, by the words of tgtadm for where it is bound."""


def iqn(name: str) -> str:
    """The full name of a target."""
    return f"iqn.2026-01.lab:{name}"


class IscsiServer(Container):
    """One server; its disks outlive stop, kill and start."""

    port = 3260
    entry = "/usr/local/sbin/target"

    def __init__(self, spec: ServerSpec, network: Network, directory: Path, work: Path) -> None:
        super().__init__(spec, network, directory, work)
        self.portals = [f"{self.name}:{self.port}", f"{self.name}:{SECOND_PORTAL}"]
        self.targets = {name: iqn(name) for name in TARGETS}

    @property
    def described(self) -> dict[str, object]:
        """What the inventory says of it."""
        return {**super().described, "portals": self.portals, "targets": self.targets}

    @property
    def disks(self) -> Path:
        """The directory of the disks, on this machine."""
        return self._home / "luns"

    def disk(self, target: str, lun: int) -> Path:
        """The file behind a LUN, on this machine."""
        return self.disks / f"{target}-{lun}.img"

    def blank(self, target: str, lun: int) -> None:
        """Make a disk as it was when new; no host may be logged in."""
        with self.disk(target, lun).open("r+b") as file:
            file.truncate(0)
            file.truncate(LUN_BYTES)

    def enlarge(self, target: str, lun: int, size: int) -> None:
        """Have a disk of another size, as new, until the server is started again; no host may be logged in."""
        which = f"--mode logicalunit --tid {[*TARGETS].index(target) + 1} --lun {lun}"
        self.administer(f"--op delete {which}")
        with self.disk(target, lun).open("r+b") as file:
            file.truncate(0)
            file.truncate(size)
        self.administer(f"--op new {which} {backing(target, lun)}")

    def blank_all(self) -> None:
        """Make the disks that were written to as they were when new."""
        for name, target in TARGETS.items():
            for lun in range(1, target.luns + 1):
                if self.disk(name, lun).stat().st_blocks:
                    self.blank(name, lun)

    def ready(self) -> bool:
        """Whether all targets are there: the set-up script says so."""
        return (self.disks / "ready").exists()

    def prepare(self) -> dict[Path, str]:
        """The disks, and the script that makes the targets."""
        self.disks.mkdir(parents=True, exist_ok=True)
        (self.disks / "ready").unlink(missing_ok=True)
        for name, target in TARGETS.items():
            for lun in range(1, target.luns + 1):
                if not self.disk(name, lun).exists():
                    self.disk(name, lun).touch()
                    self.blank(name, lun)
        (self._home / "setup").write_text(setup())
        return {self.disks: "/luns", self._home / "setup": "/etc/tgt/setup"}

    def initiators(self) -> list[str]:
        """The names of the hosts that are logged in, one for each session."""
        shown = self.administer("--op show --mode target")
        words = (line.strip().partition(": ") for line in shown.splitlines())
        return [value for key, dummy, value in words if key == "Initiator"]

    def change_secret(self, user: str, old: str, new: str) -> None:
        """Another secret of an account that has ``old``; sessions go on."""
        assert (user, old) in ACCOUNTS.values(), f"{user} has another secret"
        self.set_secret(user, new)

    def set_secret(self, user: str, new: str) -> None:
        """Another secret of an account, a host's or a target's own; sessions go on."""
        (where,) = [place for place, (name, dummy) in ACCOUNTS.items() if name == user]
        self.administer(f"--op delete --mode account --user {user}")
        self.administer(f"--op new --mode account --user {user} --password {new}")
        self.administer(f"--op bind --mode account {where} --user {user}")

    def reset_secrets(self) -> None:
        """The first secret of each account again."""
        for user, secret in ACCOUNTS.values():
            self.set_secret(user, secret)

    def administer(self, arguments: str) -> str:
        """Run tgtadm on the server."""
        return self.exec("tgtadm", "--lld", "iscsi", *arguments.split())


def backing(target: str, lun: int) -> str:
    """Where the server finds a disk, for tgtadm."""
    return f"--backing-store /luns/{target}-{lun}.img"


def setup() -> str:
    """The shell script that makes the targets once tgtd runs."""
    lines = ["set -e", f"tgt --op new --mode portal --param portal=0.0.0.0:{SECOND_PORTAL}"]
    for tid, (name, target) in enumerate(TARGETS.items(), 1):
        lines.append(f"tgt --op new --mode target --tid {tid} --targetname {iqn(name)}")
        for lun in range(1, target.luns + 1):
            lines.append(f"tgt --op new --mode logicalunit --tid {tid} --lun {lun} {backing(name, lun)}")
        lines.append(f"tgt --op bind --mode target --tid {tid} --initiator-address ALL")
    for where, (user, secret) in ACCOUNTS.items():
        lines.append(f"tgt --op new --mode account --user {user} --password {secret}")
        lines.append(f"tgt --op bind --mode account {where} --user {user}")
    lines.append("touch /luns/ready")
    return "\n".join(lines) + "\n"
