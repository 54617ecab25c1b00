# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rotation as users run it, with a vault and a server whose password is set by a task file."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from extensions.molecule.managed import Managed
from tests.gates.paths import MIRROR, environment
from tests.lab import Lab
from tests.lab.samba import USERS, SmbServer

SET = """
import sys
from tests.lab import Lab
Lab.load(sys.argv[1]).servers["smb1"].set_password("svc", sys.stdin.read())
"""
CREDENTIALS = "/etc/microvm/credentials/share"
RUN_SECONDS = 300


class Rotation:
    """Runs the playbook, and looks at what it leaves."""

    def __init__(self, lab: Lab, hosts: list[Managed]) -> None:
        server = lab.servers["smb1"]
        assert isinstance(server, SmbServer)
        self.lab, self.hosts, self.smb = lab, hosts, server
        self.directory = lab.inventory.parents[1] / "credentials"
        self.vault = self.directory / "vault.yml"
        self._lib = VaultLib([("default", VaultSecret(b"example"))])
        argv = [sys.executable, "-c", SET, lab.name]
        command = {"argv": argv, "chdir": str(MIRROR), "stdin": "{{ rotate_new }}", "stdin_add_newline": False}
        (self.directory / "set.yml").write_text(json.dumps([{"ansible.builtin.command": command}]))
        backend = {"name": "share", "kind": "smb", "server": "smb1", "share": "vms", "username": "svc"}
        self.backend = {**backend, "password": "{{ vault_share }}"}

    def run(self, *arguments: str, secret: str = "", server: bool = False) -> subprocess.CompletedProcess[str]:
        """Rotate to ``secret``, or to a generated one; ``server``: the task file sets it there."""
        variables = {
            "storage_backends": [self.backend],
            "rotate_backend": "share",
            "rotate_variable": "vault_share",
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
        return subprocess.run(
            ["ansible-playbook", "--inventory", str(self.lab.inventory), *arguments, "rotate.yml"],
            cwd=self.directory,
            env=environment() | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def secrets(self) -> dict[str, Any]:
        """What the vault has."""
        found: dict[str, Any] = yaml.safe_load(self._lib.decrypt(self.vault.read_bytes()))
        return found

    def state(self) -> list[Any]:
        """All that a rotation may change: the vault, and on each host the password at rest and the mount."""
        seen: list[Any] = [self.vault.read_bytes()]
        for host in self.hosts:
            seen.append(
                (host.sh(f"ls -li {CREDENTIALS}; cat {CREDENTIALS}"), host.sh("grep ' cifs ' /proc/self/mountinfo"))
            )
        return seen

    def at_rest(self) -> list[str]:
        """The password at rest on each host."""
        return [host.sh(f"sed -n s/^password=//p {shlex.quote(CREDENTIALS)}").rstrip("\n") for host in self.hosts]


@pytest.fixture(scope="module")
def rotation(lab: Lab, hv1: Managed, hv2: Managed) -> Iterator[Rotation]:
    """Both hosts have the backend; afterwards the server has its first password again."""
    rotation = Rotation(lab, [hv1, hv2])
    yield rotation
    rotation.smb.set_password("svc", USERS["svc"])
