# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench``: build/bench.json and a table. Medians of interleaved runs on one lab host.

The loop needs ansible.posix, which comes with PyPI's `ansible` in a virtual environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import docker
from tests.gates.mirror import mirror
from tests.gates.paths import BUILD, VENV, environment
from tests.lab import Lab

LAB = "bench"
COUNT = 100
LOOP_VENV = BUILD / "bench-venv"
LOOP_PACKAGE = "ansible==12.3.0"
KEPT = "$(ls -td /root/.ansible/tmp/*/AnsiballZ_{}.py | head -1)"

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
        return self.ansible(VENV / "bin" / "ansible", "microvm_hosts", "-m", module, *given, keep=keep)

    def playbook(self, name: str) -> float:
        """A playbook by the Ansible that has ansible.posix."""
        program = LOOP_VENV / "bin" / "ansible-playbook"
        return self.ansible(program, "-e", f"@{self.scratch / 'vars.json'}", str(self.scratch / name))

    def here(self, command: str) -> float:
        """Seconds of a command, timed on the host."""
        script = f"import subprocess, time; t = time.monotonic(); subprocess.run({command!r}, shell=True, check=True, "
        script += "stdout=subprocess.DEVNULL); print(time.monotonic() - t)"
        return float(self.host.ssh(["python3", "-c", script], timeout=120).stdout.split()[-1])


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


def measure(bench: Bench, runs: int) -> list[dict[str, Any]]:
    """All results."""
    ours = "microvm.host.storage_backend"
    bench.adhoc(ours, "all.json")
    found = []
    values = compare(runs, lambda: bench.adhoc(ours, "all.json"), lambda: bench.adhoc("ansible.builtin.ping"))
    found.append(row("list-vs-ping", f"{COUNT} unchanged backends in one call / one ping", values, "s", runs, 1.3))
    values = compare(runs, lambda: bench.adhoc("microvm.host.host_info"), lambda: bench.adhoc("ansible.builtin.ping"))
    found.append(row("info-100", f"host_info with {COUNT} backends / one ping", values, "s", runs, None))
    for module, args in ((ours, "one.json"), ("ansible.builtin.ping", "")):
        bench.adhoc(module, args, keep=True)
    own, bare = (KEPT.format(name) for name in ("storage_backend", "ping"))
    values = compare(runs, lambda: bench.here(f"python3 {own}"), lambda: bench.here(f"python3 {bare}"))
    found.append(row("startup", "unchanged one-item call / bare module, on the host", values, "s", runs, 1.5))
    sizes = [float(bench.host.ssh(f"stat -c %s {path}").stdout) for path in (own, bare)]
    found.append(row("payload", "module as sent / ping as sent", (sizes[0], sizes[1]), "bytes", 1, 2.0))
    export = {"server": bench.server, "export": "/export/rw2", "path": "/mnt/attach", "persistent": False}
    bench.write("attach.json", export)
    (bench.scratch / "mount.txt").write_text(f"mount -t nfs4 -o vers=4.2 {bench.server}:/export/rw2 /mnt/attach")
    bench.adhoc("microvm.host.nfs_export_mount", "attach.json", keep=True)
    bench.host.ssh("umount /mnt/attach")
    bench.adhoc("ansible.builtin.command", "mount.txt", keep=True)
    bench.host.ssh("umount /mnt/attach")
    values = compare(
        runs,
        lambda: bench.here(f"python3 {KEPT.format('nfs_export_mount')}"),
        lambda: bench.here(f"python3 {KEPT.format('command')}"),
        lambda: bench.host.ssh("umount /mnt/attach"),
    )
    what = "probe (write, lock), attach, register / mount(8) by ansible.builtin.command, both as sent, on the host"
    found.append(row("nfs-attach", what, values, "s", runs, None))
    bench.playbook("loop.yml")
    values = compare(runs, lambda: bench.playbook("list.yml"), lambda: bench.playbook("loop.yml"))
    what = f"{COUNT} unchanged in one call / ansible.posix.mount in a loop"
    found.append(row("list-vs-loop", what, values, "s", runs, 30, faster=True))
    bench.adhoc("microvm.host.docker_volume_driver")
    return found + docker.measure(bench.host, bench.server, runs, bench.here, row)


def main() -> None:
    """Measure, write build/bench.json, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs per comparison (default: 5)")
    runs = parser.parse_args().runs
    mirror()
    if not (LOOP_VENV / "bin" / "ansible-playbook").exists():
        subprocess.run([sys.executable, "-m", "venv", LOOP_VENV], check=True)
        subprocess.run([LOOP_VENV / "bin" / "python", "-m", "pip", "install", "--quiet", LOOP_PACKAGE], check=True)
    lab = Lab.up(LAB, hosts=1, servers=["nfs"], prepared=True)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            results = measure(Bench(lab, Path(scratch)), runs)
    finally:
        lab.down()
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
    (BUILD / "bench.json").write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    for each in results:
        verdict = {True: "holds", False: "missed", None: "no goal"}[each["holds"]]
        print(
            f"{each['id']:20} {each['ours']:>12} {each['theirs']:>12} {each['unit']:6} {each['ratio']:>7}x "
            f"goal {each['goal'] or '-'}: {verdict}; {each['what']}"
        )


if __name__ == "__main__":
    main()
