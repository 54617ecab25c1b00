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

from tests.gates.paths import environment
from tests.lab import Host

CALL_SECONDS = 120


@dataclass(frozen=True)
class Answer:
    """What a module returned, with the warnings and errors that Ansible printed beside it."""

    result: dict[str, Any]
    failed: bool
    said: str

    @property
    def changed(self) -> bool:
        """Whether something was changed."""
        return bool(self.result["changed"])

    @property
    def kind(self) -> str:
        """The kind of the failure."""
        return str(self.result["error"]["kind"])


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
        return self.host.ssh(command, check=check).stdout

    def _command(self, module: str, options: dict[str, Any], check_mode: bool) -> list[str]:
        command = ["ansible", self.name, "--inventory", str(self.inventory), "--become"]
        command += ["--module-name", f"microvm.host.{module}"]
        command += ["--args", json.dumps(options)] if options else []
        return command + (["--check"] if check_mode else [])

    def start(self, module: str, /, check_mode: bool = False, **options: Any) -> subprocess.Popen[str]:
        """Start a module; its answer is to be read by finish()."""
        env = environment() | {"ANSIBLE_PIPELINING": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}
        return subprocess.Popen(
            self._command(module, options, check_mode),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Answer:
        """The answer of a started module; an answer without a result, as a traceback is one, is a failed test."""
        out, said = process.communicate(timeout=CALL_SECONDS)
        assert "Traceback" not in out + said, out + said
        head, arrow, text = out.partition("=> ")
        assert arrow, f"{shlex.join(map(str, process.args))}\n{out}{said}"  # type: ignore[arg-type]
        assert "UNREACHABLE" not in head, out
        return Answer(json.loads(text), "FAILED" in head, said)

    def module(self, module: str, /, check_mode: bool = False, **options: Any) -> Answer:
        """Run a module, whatever comes of it."""
        return self.finish(self.start(module, check_mode, **options))

    def works(self, module: str, /, **options: Any) -> Answer:
        """Run a module that must not fail."""
        answer = self.module(module, **options)
        assert not answer.failed, answer.result
        return answer

    def fails(self, module: str, kind: str, /, **options: Any) -> Answer:
        """Run a module that must fail with this kind of error and change nothing."""
        answer = self.module(module, **options)
        assert answer.failed, answer.result
        assert answer.kind == kind, answer.result
        assert not answer.changed, answer.result
        return answer

    def converges(self, module: str, /, **options: Any) -> Answer:
        """Run, check: something changes, and nothing is left to do. The answer is that of the run."""
        done = self.works(module, **options)
        again = self.works(module, check_mode=True, **options)
        assert (done.changed, again.changed) == (True, False), (done, again)
        return done

    def backends(self, refresh: bool = False) -> dict[str, dict[str, Any]]:
        """The backends as host_info tells them, by name."""
        return {item["name"]: item for item in self.works("host_info", refresh=refresh).result["backends"]}

    def mounts_on(self, path: str) -> list[dict[str, str]]:
        """What is mounted on a path, the lowest first, without touching it."""
        found = []
        for line in self.sh("cat /proc/self/mountinfo").splitlines():
            fields = line.split()
            if fields[4] == path:
                dash = fields.index("-")
                kind, source, options = fields[dash + 1 : dash + 4]
                found.append({"type": kind, "source": source, "options": f"{fields[5]},{options}"})
        return found

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
    """The converge playbook of the scenario under test."""

    playbook: Path
    inventory: Path

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        command = ["ansible-playbook", "--inventory", str(self.inventory), *arguments, self.playbook.name]
        env = environment() | {"ANSIBLE_PIPELINING": "1", "ANSIBLE_INJECT_FACT_VARS": "0"}
        return subprocess.run(
            command, cwd=self.playbook.parent, env=env, capture_output=True, text=True, timeout=300, check=False
        )
