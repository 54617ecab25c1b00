# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fault tests of volumes need: calls on a host, an image, what lies on a backend."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.faults.rig import Rig

IMAGE = "/srv/image.raw"
OURS = {".microvm", ".microvm/backend.json", ".microvm/images", ".microvm/locks"}
KEPT = re.compile(r"\.microvm/(images/[0-9a-f]{64}\.raw|locks/.*)")


@dataclass(frozen=True)
class Side:
    """A host with an agent."""

    rig: Rig

    def sh(self, command: str, **more: Any) -> str:
        """Output of a shell command."""
        return self.rig.host.ssh(command, **more).stdout

    def begin(self, module: str, /, **args: Any) -> None:
        """Run a module; ``result`` tells what came of it."""
        self.rig.send(do="run", module=module, args=args)

    def result(self) -> dict[str, Any]:
        """What the module that was begun returned; it has ended, and so has all that it started."""
        answer = self.rig.receive()
        assert answer["result"] and not answer["killed"], answer
        return dict(answer["result"])

    def call(self, module: str, /, **args: Any) -> dict[str, Any]:
        """Run a module to its end."""
        self.begin(module, **args)
        return self.result()

    def works(self, module: str, /, **args: Any) -> dict[str, Any]:
        """Run a module that must not fail."""
        found = self.call(module, **args)
        assert not found.get("failed"), json.dumps(found)[:2000]
        return found

    def registered(self) -> dict[str, Any]:
        """The registry."""
        return dict(self.rig.snapshot()["registry"])


def together(sides: tuple[Side, Side], module: str, /, **args: Any) -> list[dict[str, Any]]:
    """The same call on two hosts at once."""
    for side in sides:
        side.begin(module, **args)
    return [side.result() for side in sides]


def kind(result: dict[str, Any]) -> str:
    """The kind of a failure; empty when there was none."""
    return str(result["error"]["kind"]) if result.get("failed") else ""


def strays(names: set[str]) -> set[str]:
    """Of what lies on a backend what is neither marker nor kept image nor lock: volumes, and what is half made."""
    return {name for name in names - OURS if not KEPT.fullmatch(name)}
