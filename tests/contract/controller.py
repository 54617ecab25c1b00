# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs modules on a lab host as users do: through ansible-playbook, with the collection of the mirror."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gates.paths import environment

Arguments = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One module call; with ``check`` it only says what it would do."""

    module: str
    args: Arguments
    check: bool = False

    def as_task(self) -> dict[str, Any]:
        """As it stands in a playbook."""
        return {f"microvm.host.{self.module}": self.args, "check_mode": self.check, "diff": True}


class Controller:
    """Ansible with one inventory; ``scratch`` is where playbooks and results go."""

    def __init__(self, inventory: Path, scratch: Path) -> None:
        self.inventory = inventory
        self.scratch = scratch

    def environment(self, results: Path | None = None) -> dict[str, str]:
        """Of a run whose results are recorded in ``results``."""
        env = environment()
        env.update(ANSIBLE_PIPELINING="1", ANSIBLE_INVENTORY=str(self.inventory), ANSIBLE_LOCALHOST_WARNING="0")
        if results is not None:
            env.update(
                ANSIBLE_CALLBACK_PLUGINS=str(Path(__file__).with_name("callback_plugins")),
                ANSIBLE_CALLBACKS_ENABLED="recorder",
                MICROVM_RESULTS=str(results),
            )
        return env

    def run(self, *tasks: Task, user: str = "root") -> list[Result]:
        """Run the tasks in turn in one play; ends with the first that fails, whose result is the last one then.

        Raises AssertionError with Ansible's own output when a task gave no result.
        """
        results = self.scratch / "results.jsonl"
        results.unlink(missing_ok=True)
        play = {
            "hosts": "microvm_hosts",
            "gather_facts": False,
            "remote_user": user,
            "vars": {"ansible_user": user},
            "tasks": [task.as_task() for task in tasks],
        }
        playbook = self.scratch / "play.yml"
        playbook.write_text(json.dumps([play]))
        done = self.command(["ansible-playbook", playbook], results)
        found = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
        complete = len(found) == len(tasks) or bool(found and found[-1].get("failed"))
        assert complete, f"no result of a task:\n{done.stdout}{done.stderr}"
        return found

    def command(self, words: Sequence[str | Path], results: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of Ansible's commands; its exit code is for the caller to judge."""
        return subprocess.run(
            list(words),
            env=self.environment(results),
            cwd=self.scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
