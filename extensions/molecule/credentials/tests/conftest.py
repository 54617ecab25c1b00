# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations as users run them, with a vault and servers whose secrets are set by a task file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from extensions.molecule.managed import Managed
from tests.gates.paths import MIRROR, environment
from tests.lab import IscsiServer, Lab, SmbServer
from tests.lab.samba import USERS

SET = """
import sys
from tests.lab import Lab
lab, server, method, user = sys.argv[1:]
getattr(Lab.load(lab).servers[server], method)(user, sys.stdin.read())
"""
"""What the task file runs: it gives a user of a server the secret that it reads."""

CREDENTIALS = "/etc/microvm/credentials/share"
RECORDS = "/var/lib/iscsi/nodes"
RUN_SECONDS = 900
SHOWN = f"ls -li {CREDENTIALS}; cat {CREDENTIALS}; find {RECORDS} -type f -exec ls -li {{}} + -exec cat {{}} +"
CONNECTED = "grep ' cifs ' /proc/self/mountinfo; ls /sys/class/iscsi_session"


@dataclass(frozen=True)
class Kept:
    """A secret: the backend and its option that have it, the variable in the vault, and who sets it on the server.

    ``read``: prints what a host has at rest.
    """

    backend: str
    option: str
    variable: str
    setter: tuple[str, str, str]
    read: str


SHARE = Kept(
    "share", "password", "vault_share", ("smb1", "set_password", "svc"), f"sed -n s/^password=//p {CREDENTIALS}"
)
HOST = Kept(
    *("lun", "password", "vault_lun", ("san1", "set_secret", "host2")),
    f"grep -rhPo 'auth.password = \\K.*' {RECORDS}",
)
TARGET = Kept(
    *("lun", "mutual_password", "vault_target", ("san1", "set_secret", "san")),
    f"grep -rhPo 'auth.password_in = \\K.*' {RECORDS}",
)
"""The password of the share, and for mutual CHAP that of the hosts and that of the target."""


class Rotation:
    """Runs the playbook, and looks at what it leaves."""

    def __init__(self, lab: Lab, hosts: list[Managed]) -> None:
        smb, san = lab.servers["smb1"], lab.servers["san1"]
        assert isinstance(smb, SmbServer) and isinstance(san, IscsiServer)
        self.lab, self.hosts, self.smb, self.san = lab, hosts, smb, san
        self.directory = lab.inventory.parents[1] / "credentials"
        self.vault = self.directory / "vault.yml"
        self._lib = VaultLib([("default", VaultSecret(b"example"))])
        converge = yaml.safe_load((Path(__file__).parents[1] / "converge.yml").read_text())
        self.backends: list[dict[str, Any]] = converge[-1]["vars"]["storage_backends"]

    def item(self, kept: Kept) -> dict[str, Any]:
        """The backend as the inventory has it, with the secrets of the vault."""
        (item,) = [each for each in self.backends if each["name"] == kept.backend]
        secrets = {f"{{{{ {name} }}}}": secret for name, secret in self.secrets().items()}
        return {key: secrets.get(str(value), value) for key, value in item.items()}

    def run(
        self, *arguments: str, kept: Kept = SHARE, secret: str = "", server: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Rotate to ``secret``, or to a generated one; ``server``: the task file sets it there."""
        with self.start(*arguments, kept=kept, secret=secret, server=server) as process:
            said, dummy = process.communicate(timeout=RUN_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, said, "")

    def start(
        self, *arguments: str, kept: Kept = SHARE, secret: str = "", server: bool = False
    ) -> subprocess.Popen[str]:
        """Begin what ``run`` does, in a process group of its own."""
        argv = [sys.executable, "-c", SET, self.lab.name, *kept.setter]
        command = {"argv": argv, "chdir": str(MIRROR), "stdin": "{{ rotate_new }}", "stdin_add_newline": False}
        (self.directory / "set.yml").write_text(json.dumps([{"ansible.builtin.command": command}]))
        variables = {
            "storage_backends": self.backends,
            "rotate_backend": kept.backend,
            "rotate_option": kept.option,
            "rotate_variable": kept.variable,
            "rotate_vault": str(self.vault),
            "rotate_secret": secret,
            "rotate_tasks": str(self.directory / "set.yml") if server else "",
        }
        # Beside the playbook, not as extra vars: those would win over the vault that is read again.
        play = [
            {"hosts": "microvm_hosts", "gather_facts": False, "tasks": [{"include_vars": {"file": str(self.vault)}}]},
            {"import_playbook": "microvm.host.rotate_credentials", "vars": variables},
        ]
        (self.directory / "rotate.yml").write_text(json.dumps(play))
        password = Path(__file__).parents[1] / "password.txt"
        env = {"ANSIBLE_PIPELINING": "1", "ANSIBLE_VAULT_PASSWORD_FILE": str(password)}
        return subprocess.Popen(
            ["ansible-playbook", "--inventory", str(self.lab.inventory), *arguments, "rotate.yml"],
            cwd=self.directory,
            env=environment() | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def secrets(self) -> dict[str, Any]:
        """What the vault has."""
        found: dict[str, Any] = yaml.safe_load(self._lib.decrypt(self.vault.read_bytes()))
        return found

    def state(self) -> list[Any]:
        """All that a rotation may change: the vault, and on each host the secrets at rest, mounts and sessions."""
        return [self.vault.read_bytes(), *((host.sh(SHOWN), host.sh(CONNECTED)) for host in self.hosts)]

    def at_rest(self, kept: Kept = SHARE) -> list[str]:
        """The secret at rest on each host."""
        return [host.sh(kept.read).rstrip("\n") for host in self.hosts]


@pytest.fixture(scope="module")
def rotation(lab: Lab, hv1: Managed, hv2: Managed) -> Iterator[Rotation]:
    """Both hosts have the backends; afterwards the servers have their first secrets again."""
    rotation = Rotation(lab, [hv1, hv2])
    yield rotation
    rotation.smb.set_password("svc", USERS["svc"])
    rotation.san.reset_secrets()
