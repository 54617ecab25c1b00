# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench``: build/bench.json and a table. Medians of interleaved runs on one lab host.

What is composed by hand needs ansible.posix and community.general, which come with PyPI's `ansible` in a virtual
environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import adding, cloning, docker, machines
from tests.bench.bench import COUNT, KEPT, LOOP_VENV, Bench, compare, row
from tests.gates.mirror import mirror
from tests.gates.paths import BUILD
from tests.lab import borrow

LOOP_PACKAGE = "ansible==12.3.0"
MEMORY_MIB = 3072
"""Of a host: an image and copies of it shall be in memory, or the disk would be measured."""


def calls(bench: Bench, runs: int) -> list[dict[str, Any]]:
    """Calls of modules beside Ansible's own."""
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
    return found


def driver(bench: Bench, runs: int) -> list[dict[str, Any]]:
    """Docker's volume driver."""
    bench.adhoc("microvm.host.storage_backend", "all.json")
    bench.adhoc("microvm.host.docker_volume_driver")
    return docker.measure(bench.host, bench.server, runs, bench.here, row)


def volumes(bench: Bench, runs: int) -> list[dict[str, Any]]:
    """Clones, and a thousand volumes."""
    return cloning.measure(bench, bench.lab.servers["filer1"].address, runs)


PARTS: dict[str, Callable[[Bench, int], list[dict[str, Any]]]] = {
    "adding": adding.measure,
    "calls": calls,
    "docker": driver,
    "volumes": volumes,
    "machines": machines.measure,
}
"""In their order: the first wants a host that has nothing yet."""


def main() -> None:
    """Measure, write build/bench.json, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs per comparison (default: 5)")
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    given = parser.parse_args()
    runs = given.runs
    mirror()
    if given.only in (None, "adding", "calls") and not (LOOP_VENV / "bin" / "ansible-playbook").exists():
        subprocess.run([sys.executable, "-m", "venv", LOOP_VENV], check=True)
        subprocess.run([LOOP_VENV / "bin" / "python", "-m", "pip", "install", "--quiet", LOOP_PACKAGE], check=True)
    wanted = [part for name, part in PARTS.items() if given.only in (None, name)]
    with (
        borrow("bench", servers=["nfs", "knfsd", "smb", "iscsi"], memory=MEMORY_MIB, machines=True) as lab,
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
    ):
        bench = Bench(lab, Path(scratch))
        results = [result for part in wanted for result in part(bench, runs)]
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
