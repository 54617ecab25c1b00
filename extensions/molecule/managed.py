# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as an administrator sees it: modules and playbooks by Ansible, everything else by ssh."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extensions.molecule.calls import RUN_SECONDS, Answer, Call, Running, call, refused
from tests.gates.paths import environment
from tests.lab import Host

SHELL_SECONDS = 180


@dataclass(frozen=True)
class Managed:
    """A host of the lab as an administrator sees it: modules by Ansible, everything else by ssh."""

    host: Host
    inventory: Path

    @property
    def name(self) -> str:
        """Name in the inventory."""
        return self.host.name

    def sh(self, command: str, check: bool = True) -> str:
        """Output of a shell command."""
        return self.host.ssh(command, timeout=SHELL_SECONDS, check=check).stdout

    def start(self, *calls: Call) -> Running:
        """Begin a play of these calls."""
        return Running(self.name, self.inventory, calls)

    def run(self, *calls: Call) -> list[Answer]:
        """The answers to these calls, made one after the other, whatever comes of each."""
        return self.start(*calls).answers()

    def works(self, module: str, /, **options: Any) -> Answer:
        """Run a module that must not fail."""
        (answer,) = self.run(call(module, **options))
        assert not answer.failed, answer.result
        return answer

    def fails(self, module: str, kind: str, /, **options: Any) -> Answer:
        """Run a module that must fail with this kind of error and change nothing."""
        (answer,) = self.run(call(module, **options))
        refused(answer, kind)
        return answer

    def converges(self, module: str, /, **options: Any) -> Answer:
        """Run, check: something changes, and nothing is left to do. The answer is that of the run."""
        done, again = self.run(call(module, **options), call(module, check=True, **options))
        assert not done.failed and not again.failed, (done, again)
        assert (done.changed, again.changed) == (True, False), (done, again)
        return done

    def backends(self, refresh: bool = False) -> dict[str, dict[str, Any]]:
        """The backends as host_info tells them, by name."""
        return {item["name"]: item for item in self.works("host_info", refresh=refresh).result["backends"]}

    def table(self) -> dict[str, list[dict[str, str]]]:
        """What is mounted, by path, the lowest of a stack first; nothing is touched."""
        found: dict[str, list[dict[str, str]]] = {}
        for line in self.sh("cat /proc/self/mountinfo").splitlines():
            fields = line.split()
            kind, source, options = fields[fields.index("-") + 1 :]
            entry = {"type": kind, "source": source, "options": f"{fields[5]},{options}"}
            found.setdefault(fields[4], []).append(entry)
        return found

    def mounts_on(self, path: str) -> list[dict[str, str]]:
        """What is mounted on a path, the lowest first."""
        return self.table().get(path, [])

    def mounted(self, path: str) -> dict[str, str]:
        """The one mount on a path."""
        found = self.mounts_on(path)
        assert len(found) == 1, found
        return found[0]

    def remembers(self, text: str) -> str:
        """Where a text is in units, mount table or registry of the host: empty when it has left nothing behind."""
        places = "/proc/self/mountinfo /etc/systemd/system /var/lib/microvm/registry.db"
        return self.sh(f"grep -rlaF -- {shlex.quote(text)} {places} || test $? -eq 1")

    def row(self, statement: str, values: Sequence[object] = ()) -> None:
        """Change the registry behind the collection's back."""
        program = (
            "import json, sqlite3, sys; c = sqlite3.connect('/var/lib/microvm/registry.db'); "
            "c.execute(*json.load(sys.stdin)); c.commit()"
        )
        self.host.ssh(["python3", "-c", program], stdin=json.dumps([statement, list(values)]))


@dataclass(frozen=True)
class Converge:
    """A playbook of the scenario under test."""

    playbook: Path
    inventory: Path

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        command = ["ansible-playbook", "--inventory", str(self.inventory), *arguments, self.playbook.name]
        env = environment() | {"ANSIBLE_PIPELINING": "1", "ANSIBLE_INJECT_FACT_VARS": "0"}
        return subprocess.run(
            command, cwd=self.playbook.parent, env=env, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )
