# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of modules on a host, many in one play: a run of Ansible costs more than what most of them do."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gates.paths import environment

RUN_SECONDS = 900
PLUGINS = Path(__file__).with_name("callback_plugins")


@dataclass(frozen=True)
class Call:
    """One call of a module; with ``check`` it only says what it would do."""

    module: str
    options: dict[str, Any]
    check: bool = False

    def as_task(self) -> dict[str, Any]:
        """As it stands in a playbook; the tasks behind it run even when it fails."""
        task = {f"microvm.host.{self.module}": self.options, "check_mode": self.check, "diff": True}
        return {"block": [task], "rescue": [{"meta": "noop"}]}


def call(module: str, /, check: bool = False, **options: Any) -> Call:
    """A call with the options that are not None."""
    return Call(module, {name: value for name, value in options.items() if value is not None}, check)


@dataclass(frozen=True)
class Answer:
    """What a module returned."""

    result: dict[str, Any]

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return bool(self.result["failed"])

    @property
    def changed(self) -> bool:
        """Whether something was changed."""
        return bool(self.result["changed"])

    @property
    def kind(self) -> str:
        """The kind of the failure."""
        return str(self.result["error"]["kind"])

    @property
    def warnings(self) -> str:
        """What Ansible warned of, one a line."""
        return "\n".join(self.result.get("warnings", ()))

    def items(self, plural: str) -> dict[str, dict[str, Any]]:
        """The items of a list, by name."""
        return {item["name"]: item for item in self.result[plural]}

    def errors(self, plural: str) -> dict[str, str]:
        """The kinds of the errors of those items that failed, by name."""
        return {name: item["error"]["kind"] for name, item in self.items(plural).items() if "error" in item}


class Running:
    """A play on its way: calls of modules on one host, one after the other."""

    def __init__(self, host: str, inventory: Path, calls: Sequence[Call]) -> None:
        self._count = len(calls)
        self._scratch = tempfile.TemporaryDirectory()
        directory = Path(self._scratch.name)
        self._results = directory / "results"
        tasks = [each.as_task() for each in calls]
        play = {"hosts": host, "become": True, "gather_facts": False, "tasks": tasks}
        (directory / "play.yml").write_text(json.dumps([play]))
        env = environment() | {
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_CALLBACK_PLUGINS": str(PLUGINS),
            "ANSIBLE_CALLBACKS_ENABLED": "answers",
            "MICROVM_ANSWERS": str(self._results),
        }
        self._process = subprocess.Popen(
            ["ansible-playbook", "--inventory", str(inventory), "play.yml"],
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def answers(self) -> list[Answer]:
        """The answer to each call; one without a result, as a traceback is one, is a failed test."""
        said, dummy = self._process.communicate(timeout=RUN_SECONDS)
        lines = self._results.read_text().splitlines() if self._results.exists() else []
        self._scratch.cleanup()
        assert "Traceback" not in said, said
        assert len(lines) == self._count, said
        return [Answer(json.loads(line)) for line in lines]


def refused(answer: Answer, kind: str) -> None:
    """The call has failed with this kind of error and changed nothing."""
    assert answer.failed, answer.result
    assert answer.kind == kind, answer.result
    assert not answer.changed, answer.result
