# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume driver: latency of a mount, beside the bare kernel and Docker's own driver; memory and start."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.docker.engine import INSTALL
from tests.lab import Host

AT_ONCE = (1, 10, 50)
ROUNDS = {1: 40, 10: 8, 50: 3}
GOAL_MIB = 30.0
SCRIPT = "/tmp/mounting.py"
CALL = "curl -sf --unix-socket /run/docker/plugins/nfsd.sock -X POST http://nfsd"

Row = Callable[..., dict[str, Any]]


def measure(host: Host, server: str, runs: int, here: Callable[[str], float], row: Row) -> list[dict[str, Any]]:
    """All results of the driver, which is on the host; ``here`` times a command there."""
    host.ssh(INSTALL, timeout=400)
    host.put(Path(__file__).with_name("mounting.py"), SCRIPT)
    for number in range(1, max(AT_ONCE) + 1):
        host.ssh(f"docker volume create -d nfsd -o server={server} -o path=/export/e{number:02} bench{number}")
    found = _latency(host, server, row)
    options = f"-o type=nfs -o o=addr={server},vers=4.2 -o device=:/export/e01"
    host.ssh(f"docker volume create -d local {options} rival")
    times: dict[str, list[float]] = {"bench1": [], "rival": []}
    for _run in range(runs):
        for volume, each in times.items():
            each.append(here(f"docker run --rm --network none -v {volume}:/data alpine true"))
    values = (statistics.median(times["bench1"]), statistics.median(times["rival"]))
    what = "docker run with a volume of nfsd / of Docker's local driver with type=nfs"
    found.append(row("docker-local-driver", what, values, "s", runs, None))
    pid = host.ssh("systemctl show -P MainPID docker-nfsd").stdout.strip()
    resident = int(host.ssh(f"grep VmRSS /proc/{pid}/status").stdout.split()[1]) / 1024
    what = f"resident memory of the driver with {max(AT_ONCE)} volumes / goal"
    found.append(row("docker-rss", what, (resident, GOAL_MIB), "MiB", 1, 1.0))
    started = []
    for _run in range(runs):
        host.ssh("systemctl stop docker-nfsd.service")
        started.append(here(f"{CALL}/Plugin.Activate"))
    values = (statistics.median(started), here("python3 -c pass"))
    found.append(
        row("docker-start", "first answer of a driver that is started for it / python3", values, "s", runs, None)
    )
    return found


def _latency(host: Host, server: str, row: Row) -> list[dict[str, Any]]:
    found = []
    for count in AT_ONCE:
        rounds = ROUNDS[count]
        times = json.loads(host.ssh(f"python3 {SCRIPT} {server} {count} {rounds}", timeout=600).stdout)
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            values = (_quantile(times["ours"], share), _quantile(times["theirs"], share))
            what = f"Mount, {count} at once / the kernel's calls alone"
            suffix = "" if count == 1 else f"-{count}"
            found.append(row(f"docker-mount-{name}{suffix}", what, values, "s", rounds * count, None))
    return found


def _quantile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, round(share * (len(times) - 1)))]
