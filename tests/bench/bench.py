# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every measurement needs: a lab host with backends, ways to time things there, rows of results."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.gates.paths import BUILD, VENV, environment
from tests.lab import Lab

COUNT = 100
LOOP_VENV = BUILD / "bench-venv"
KEPT = "$(ls -td /root/.ansible/tmp/*/AnsiballZ_{}.py | head -1)"
"""The last module of a name that was sent with ``keep``."""

LOOP = """
- hosts: microvm_hosts
  gather_facts: false
  tasks:
    - ansible.posix.mount:
        src: "{{ server }}:/export/e{{ '%02d' % item }}"
        path: "/mnt/loop{{ item }}"
        fstype: nfs4
        opts: vers=4.2
        state: mounted
      loop: "{{ range(1, count + 1) | list }}"
"""
LIST = """
- hosts: microvm_hosts
  gather_facts: false
  tasks:
    - microvm.host.storage_backend:
        backends: "{{ backends }}"
"""


class Bench:
    """A lab host with COUNT backends, and ways to time things there."""

    def __init__(self, lab: Lab, scratch: Path) -> None:
        self.lab, self.scratch = lab, scratch
        self.host = lab.hosts["hv1"]
        self.server = lab.servers["nas1"].address
        self.backends = [
            {"name": f"b{n:03d}", "kind": "nfs", "server": self.server, "export": f"/export/e{n:02d}", "timeout": 120}
            for n in range(1, COUNT + 1)
        ]
        variables = {"server": self.server, "count": COUNT, "backends": self.backends}
        for name, content in (("vars.json", json.dumps(variables)), ("loop.yml", LOOP), ("list.yml", LIST)):
            (scratch / name).write_text(content)
        self.write("all.json", {"backends": self.backends})
        self.write("one.json", self.backends[0])

    def write(self, name: str, args: dict[str, Any]) -> None:
        """Keep module arguments in a file."""
        (self.scratch / name).write_text(json.dumps(args))

    def ansible(self, program: Path, *arguments: str, keep: bool = False) -> float:
        """Run an Ansible program on the lab; seconds. Exits with what it said when it failed."""
        env = {**environment(), "ANSIBLE_PIPELINING": str(not keep), "ANSIBLE_KEEP_REMOTE_FILES": str(keep)}
        started = time.monotonic()
        done = subprocess.run(
            [str(program), "-i", str(self.lab.inventory), *arguments],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=900,
        )
        seconds = time.monotonic() - started
        if done.returncode:
            sys.exit(f"{program.name} {' '.join(arguments)}:\n{done.stdout[-3000:]}")
        return seconds

    def adhoc(self, module: str, arguments: str = "", keep: bool = False) -> float:
        """One module by `ansible`; `arguments` names a file of the scratch directory."""
        given = ["-a", (self.scratch / arguments).read_text()] if arguments else []
        return self.ansible(VENV / "bin" / "ansible", self.host.name, "-m", module, *given, keep=keep)

    def play(self, playbook: Path, variables: Path) -> float:
        """A playbook by the Ansible that has ansible.posix and community.general."""
        return self.ansible(LOOP_VENV / "bin" / "ansible-playbook", "-e", f"@{variables}", str(playbook))

    def playbook(self, name: str) -> float:
        """One of the scratch directory."""
        return self.play(self.scratch / name, self.scratch / "vars.json")

    def here(self, command: str) -> float:
        """Seconds of a command, timed on the host."""
        script = f"import subprocess, time; t = time.monotonic(); subprocess.run({command!r}, shell=True, check=True, "
        script += "stdout=subprocess.DEVNULL); print(time.monotonic() - t)"
        return float(self.host.ssh(["python3", "-c", script], timeout=600).stdout.split()[-1])


def compare(
    runs: int, ours: Callable[[], float], theirs: Callable[[], float], between: Callable[[], object] = lambda: None
) -> tuple[float, float]:
    """Medians of interleaved runs; ``between`` is done after each."""
    found: tuple[list[float], list[float]] = ([], [])
    for _round in range(runs):
        for times, run in zip(found, (ours, theirs), strict=True):
            times.append(run())
            between()
    return statistics.median(found[0]), statistics.median(found[1])


def row(
    id: str, what: str, values: tuple[float, float], unit: str, runs: int, goal: float | None, faster: bool = False
) -> dict[str, Any]:
    """One result; ``ratio`` is ours over theirs, or theirs over ours where the goal is "so many times faster"."""
    ours, theirs = values
    ratio = theirs / ours if faster else ours / theirs
    holds = None if goal is None else (ratio >= goal if faster else ratio <= goal)
    numbers = {"ours": round(ours, 4), "theirs": round(theirs, 4), "unit": unit, "ratio": round(ratio, 2)}
    return {"id": id, "what": what, **numbers, "goal": goal, "holds": holds, "runs": runs}
