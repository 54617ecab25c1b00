# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's side of the agent: ships collection and ansible.module_utils to a host and asks it to run modules."""

from __future__ import annotations

import json
import re
import select
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import ansible

from tests.gates.paths import ROOT
from tests.lab import LabError
from tests.lab.host import Host

PLACE = "/opt/microvm-faults"
ANSWER_SECONDS = 150.0
UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
CREATED = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z")
"""When a volume was made, in its label."""
PREFIX = "ansible_collections/microvm/host"


class Rig:
    """One host with an agent on it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._process: subprocess.Popen[str] | None = None

    def ship(self, scratch: Path) -> None:
        """Copy what a run needs, compiled beforehand so that no run writes byte code."""
        bundle = scratch / "faults.tar"
        core = Path(ansible.__file__).parent
        with tarfile.open(bundle, "w") as archive:
            archive.add(Path(__file__).with_name("agent.py"), "agent.py")
            archive.add(core / "module_utils", "ansible/module_utils", filter=_without_bytecode)
            for name in ("modules", "module_utils"):
                archive.add(ROOT / "plugins" / name, f"{PREFIX}/plugins/{name}", filter=_without_bytecode)
        self.host.put(bundle, "/run/faults.tar")
        self.host.ssh(
            f"rm -rf {PLACE} && mkdir {PLACE} && tar -x -f /run/faults.tar -C {PLACE} && rm /run/faults.tar"
            f" && touch {PLACE}/ansible/__init__.py"
            f" && python3 -m compileall -q {PLACE} && sync",
            timeout=120,
        )

    def start(self) -> None:
        """Connect to a fresh agent."""
        self.stop()
        self._process = subprocess.Popen(
            ["ssh", *self.host.ssh_options(), f"root@{self.host.address}", "--", f"python3 {PLACE}/agent.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> None:
        """End the connection, and the agent with it."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()

    def send(self, **request: Any) -> None:
        """Ask, without waiting for the answer."""
        process = self._process
        if process is None or process.stdin is None:
            raise LabError("the agent is not connected")
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()

    def receive(self, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """The answer to what was sent; LabError when none comes in time or the agent broke."""
        process = self._process
        if process is None or process.stdout is None:
            raise LabError("the agent is not connected")
        if not select.select([process.stdout], [], [], seconds)[0]:
            raise LabError(f"{self.host.name}: the agent gave no answer within {seconds:g} s")
        line = process.stdout.readline()
        if not line:
            raise LabError(f"{self.host.name}: the agent is gone")
        answer = json.loads(line)
        if "broken" in answer:
            raise LabError(f"{self.host.name}: the agent failed:\n{answer['broken']}")
        return dict(answer)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send and receive."""
        self.send(**request)
        return self.receive()

    def snapshot(self) -> dict[str, Any]:
        """What the collection keeps on the host; a backend's UUID is written as <NAME>, any other as <some>.

        The moment at which a volume was made is written as <then>.
        """
        found = self.ask(do="snapshot")
        text = json.dumps(found)
        for row in found["registry"].get("backends", ()):
            identity = row["uuid"].split(":")[-1]
            text = text.replace(identity, f"<{row['name']}>").replace(identity[:8], f"<{row['name']}8>")
        return dict(json.loads(CREATED.sub("<then>", UUID.sub("<some>", text))))

    def run(self, module: str, args: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Run a module; ``result`` is what it printed, ``wall`` the seconds it took here."""
        started = time.monotonic()
        answer = self.ask(do="run", module=module, args=args, **more)
        answer["wall"] = time.monotonic() - started
        return answer


def _without_bytecode(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry
