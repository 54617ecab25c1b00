# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs modules on a lab host as users do: through ansible-playbook, with the collection of the mirror."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract import snapshot
from tests.contract.snapshot import Snapshot
from tests.gates.paths import MIRROR, environment
from tests.lab import Lab

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


class Look:
    """A snapshot of the lab, taken in the play between two module calls."""

    def as_task(self) -> dict[str, Any]:
        """As it stands in a playbook: no module, so nothing of Ansible's is on the host for it."""
        return {"ansible.builtin.raw": snapshot.LOOK}


@dataclass(frozen=True)
class Record:
    """What a play gave: the results of its module calls and its looks, each in their order."""

    results: list[Result]
    looks: list[Snapshot]


class Controller:
    """Ansible for one lab; ``scratch`` is where playbooks and results go."""

    def __init__(self, lab: Lab, scratch: Path) -> None:
        self.inventory = lab.inventory
        self.host = snapshot.HOST
        self.scratch = scratch
        self.exports = snapshot.exports(lab)

    def environment(self, results: Path | None = None) -> dict[str, str]:
        """Of a run whose results are recorded in ``results``."""
        env = environment()
        env.update(ANSIBLE_PIPELINING="1", ANSIBLE_INVENTORY=str(self.inventory), ANSIBLE_LOCALHOST_WARNING="0")
        if results is not None:
            env.update(
                PYTHONPATH=str(MIRROR),
                ANSIBLE_CALLBACK_PLUGINS=str(Path(__file__).with_name("callback_plugins")),
                ANSIBLE_CALLBACKS_ENABLED="recorder",
                MICROVM_RESULTS=str(results),
                MICROVM_EXPORTS=os.pathsep.join(map(str, self.exports)),
            )
        return env

    def run(self, *tasks: Task, user: str = "root") -> list[Result]:
        """The results of ``play`` without a look."""
        return self.play(*tasks, user=user).results

    def play(self, *steps: Task | Look, user: str = "root") -> Record:
        """Run the steps in turn in one play; ends with the first that fails, whose result is the last one then."""
        record = Record([], [])
        for step, line in zip(steps, self.lines(*steps, user=user), strict=False):
            if isinstance(step, Task):
                record.results.append(line["result"])
            else:
                record.looks.append(snapshot.parse(line["result"]["stdout"], line["served"]))
        return record

    def lines(self, *steps: Task | Look, user: str = "root") -> list[dict[str, Any]]:
        """As ``play``, with what the recorder wrote of each step: its result, and what was served after it.

        Raises AssertionError with Ansible's own output when a step gave no result.
        """
        results = self.scratch / "results.jsonl"
        results.unlink(missing_ok=True)
        play = {
            "hosts": self.host,
            "gather_facts": False,
            "remote_user": user,
            "vars": {"ansible_user": user},
            "tasks": [step.as_task() for step in steps],
        }
        playbook = self.scratch / "play.yml"
        playbook.write_text(json.dumps([play]))
        done = self.command(["ansible-playbook", playbook], results)
        lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
        complete = len(lines) == len(steps) or bool(lines and lines[-1]["result"]["failed"])
        assert complete, f"no result of a step:\n{done.stdout}{done.stderr}"
        return lines

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
