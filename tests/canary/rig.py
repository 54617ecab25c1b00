# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs Ansible with known secrets, at -vvvv with diffs, and looks for them wherever they must not be."""

from __future__ import annotations

import contextlib
import json
import secrets
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from tests.canary.needles import needles, where
from tests.contract.snapshot import HOST
from tests.gates.paths import MIRROR, environment
from tests.lab import Host, IscsiServer, Lab, SmbServer
from tests.lab.target import iqn

ALLOWED = ("/etc/microvm/credentials/", "/var/lib/iscsi/nodes/", "/etc/iscsi/nodes/")
"""Where secrets are at rest on a host, readable by root only."""
TEMPORARY = ["/tmp", "/var/tmp", "/dev/shm", "/root/.ansible", "/home/admin/.ansible", "/run/microvm"]
HERE = Path(__file__).parent
RUN_SECONDS = 400
SHARE = {"server": "smb1", "username": "svc"}
LUN = {"portal": "san1", "iqn": iqn("mutual"), "lun": 1, "username": "host2", "mutual_username": "san", "timeout": 60}
"""What is beside the secrets in an item; its name and place are the caller's."""


TWIN = "twin"
"""Another name of the host in the inventory, for what needs two; in no group, so that no group's tasks run on it."""


def made() -> str:
    """A secret that CHAP would take too; one for each test, as logs keep what was planted in them."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for dummy in range(16))


@dataclass(frozen=True)
class Secrets:
    """``old`` is this host's on the servers, ``new`` shall be, ``wrong`` never was; ``target`` is the target's own."""

    old: str = field(default_factory=made)
    new: str = field(default_factory=made)
    wrong: str = field(default_factory=made)
    target: str = field(default_factory=made)


@dataclass
class Seen:
    """Where the secrets were met while something ran."""

    on_host: dict[str, str] = field(default_factory=dict)
    here: dict[str, str] = field(default_factory=dict)
    looks: int = 0


class Rig:
    """A lab with its servers, a project with a vault, and what is to be kept secret."""

    def __init__(self, lab: Lab, scratch: Path) -> None:
        smb, san = lab.servers["smb1"], lab.servers["san1"]
        assert isinstance(smb, SmbServer) and isinstance(san, IscsiServer)
        self.lab, self.smb, self.san, self.scratch = lab, smb, san, scratch
        self.host: Host = lab.hosts[HOST]
        self.secrets = Secrets()
        self.needles = needles(vars(self.secrets).values())
        self.began = float(self.host.ssh("date +%s").stdout) - 1
        self.host.put(HERE / "watch.py", "/tmp/watch.py")
        self.host.put(HERE / "search.py", "/tmp/search.py")
        self.project = scratch / "project"
        self.vault = self.project / "group_vars" / "microvm_hosts" / "vault.yml"
        self._lay_out()

    def _lay_out(self) -> None:
        self.vault.parent.mkdir(parents=True)
        inventory = json.loads(self.lab.inventory.read_text())
        hosts = inventory["all"]["children"]["microvm_hosts"]["hosts"]
        inventory["all"]["hosts"] = {TWIN: hosts[HOST]}
        (self.project / "hosts.yml").write_text(json.dumps(inventory))
        (self.scratch / "password").write_text("example")
        self.lib = VaultLib([("default", VaultSecret(b"example"))])
        lines = [f"canary_{name}: {secret}\n" for name, secret in vars(self.secrets).items()]
        lines += [f"vault_{name}: {self.secrets.old}\n" for name in ("share", "lun")]
        self.vault.write_bytes(self.lib.encrypt("".join(lines)))
        share = {"password": "{{ vault_share }}", **SHARE}
        lun = {"password": "{{ vault_lun }}", "mutual_password": "{{ canary_target }}", **LUN}
        backends = [
            {"name": "share", "kind": "smb", "share": "vms", **share},
            {"name": "lun", "kind": "iscsi_lvm", "vg": "vg_lun", "initialize": "vg_lun", **lun},
        ]
        mount = {"name": "mount", "share": "vms2", **share}
        variables = {"storage_backends": backends, "storage_smb_shares": [mount]}
        (self.vault.parent / "main.yml").write_text(json.dumps(variables))

    def in_vault(self, name: str) -> str:
        """What the vault has by now."""
        found: dict[str, str] = yaml.safe_load(self.lib.decrypt(self.vault.read_bytes()))
        return found[name]

    def environment(self, pipelining: bool = True) -> dict[str, str]:
        """Everything that Ansible can be made to write down is written into ``scratch``."""
        return {
            **environment(),
            "PYTHONPATH": str(MIRROR),
            "ANSIBLE_INVENTORY": str(self.project / "hosts.yml"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(self.scratch / "password"),
            "ANSIBLE_PIPELINING": str(int(pipelining)),
            "ANSIBLE_HOME": str(self.scratch / "home"),
            "ANSIBLE_LOG_PATH": str(self.scratch / "ansible.log"),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE.parent / "contract" / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "recorder",
            "MICROVM_RESULTS": str(self.scratch / "results.jsonl"),
            "MICROVM_EXPORTS": "",
        }

    def start(self, what: str | Path, *arguments: str, pipelining: bool = True) -> subprocess.Popen[str]:
        """Begin a playbook."""
        command = ["ansible-playbook", "-vvvv", "--diff", *arguments, str(what)]
        output = (self.scratch / "output").open("a")
        return subprocess.Popen(
            command,
            cwd=self.project,
            env=self.environment(pipelining),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, what: str | Path, *arguments: str, pipelining: bool = True) -> int:
        """A playbook to its end; its exit code is for the caller to judge."""
        with self.start(what, *arguments, pipelining=pipelining) as process:
            return process.wait(RUN_SECONDS)

    def tasks(self, calls: list[dict[str, Any]]) -> Path:
        """A playbook of tasks that all run, whatever comes of each."""
        blocks = [{"block": [call], "rescue": [{"meta": "noop"}]} for call in calls]
        path = self.project / "calls.yml"
        path.write_text(json.dumps([{"hosts": HOST, "become": True, "gather_facts": False, "tasks": blocks}]))
        return path

    def results(self) -> list[dict[str, Any]]:
        """What every task of all runs gave."""
        lines = (self.scratch / "results.jsonl").read_text().splitlines()
        return [json.loads(line)["result"] for line in lines]

    @contextlib.contextmanager
    def watching(self) -> Iterator[Seen]:
        """Look at processes and temporary directories here and on the host, meanwhile."""
        seen = Seen()
        asked = {"needles": [needle.hex() for needle in self.needles], "directories": TEMPORARY}
        ssh = ["ssh", *self.host.ssh_options(), f"root@{self.host.address}", "--", "python3 -IS /tmp/watch.py"]
        own = [str(self.scratch / "home"), str(self.scratch / "tmp"), tempfile.gettempdir() + "/ansible"]
        watchers = []
        for argv, directories in ((ssh, TEMPORARY), ([sys.executable, "-IS", str(HERE / "watch.py")], own)):
            watcher = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert watcher.stdin is not None and watcher.stdout is not None
            watcher.stdin.write(json.dumps({**asked, "directories": directories}) + "\n")
            watcher.stdin.flush()
            assert watcher.stdout.readline() == "ready\n"
            watchers.append(watcher)
        try:
            yield seen
        finally:
            told = [json.loads(watcher.communicate(timeout=60)[0]) for watcher in watchers]
            seen.on_host, seen.here = (each["seen"] for each in told)
            seen.looks = min(each["looks"] for each in told)

    def on_disk(self) -> list[tuple[str, int, int]]:
        """Files of the host that hold a secret: path, permissions, owner."""
        asked = {"needles": [needle.hex() for needle in self.needles], "since": self.began}
        done = self.host.ssh("python3 -IS /tmp/search.py", stdin=json.dumps(asked), timeout=300)
        return [(str(path), mode, owner) for path, mode, owner in json.loads(done.stdout)]

    def leaks(self) -> list[str]:
        """Every place outside the files that are allowed, on the host and in what Ansible wrote here."""
        found = [
            f"{path} of {self.host.name}, {mode:o}, user {owner}"
            for path, mode, owner in self.on_disk()
            if not (path.startswith(ALLOWED) and mode == 0o600 and owner == 0)
        ]
        journal = self.host.ssh(f"journalctl --no-pager --output=export --since=@{int(self.began)}", timeout=120).stdout
        found += [f"journal: {text!r}" for text in where(journal.encode(), self.needles)]
        for path in self.scratch.rglob("*"):
            if path.is_file() and not path.is_symlink():
                found += [f"{path.name}: {text!r}" for text in where(path.read_bytes(), self.needles)]
        return found
