# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines: a start beside the hypervisor alone, fifty that stay as they are, and a site that does."""

from __future__ import annotations

import functools
import json
import shlex
from typing import Any

from tests.bench.bench import KEPT, Bench, compare, row
from tests.gates.paths import VENV
from tests.machines import guests

MACHINES, VOLUMES, RUNNING, BACKENDS = 50, 20, 10, 3
OVERHEAD_SECONDS = 0.5
"""What a start may take beyond the hypervisor's and the guest's own."""
CONSOLE = "/var/lib/microvm/machines/web1/log/console.log"
BY_HAND = """
command=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/microvm@web1.service)
mkdir -p /run/microvm/web1; : > {console}
setsid sh -c "exec $command" </dev/null >/dev/null 2>&1 & echo $! > /run/by-hand
until grep -q TOY-GUEST-READY {console}; do sleep 0.02; done
""".format(console=CONSOLE)
"""The same command line, without the collection."""


def machine(name: str, **more: Any) -> dict[str, Any]:
    """A definition of the guest that is ready at once."""
    return {"name": name, "kernel": guests.TOY, "memory": "32MiB", **more}


def invoked(bench: Bench) -> int:
    """How many modules the host was sent until now."""
    return int(bench.host.ssh("journalctl -q -o cat | grep -c 'Invoked with' || true").stdout)


def measure(bench: Bench, runs: int) -> list[dict[str, Any]]:
    """The rows."""
    guests.install(bench.host)
    return [*start(bench, runs), many(bench, runs), site(bench, max(1, runs // 2))]


def start(bench: Bench, runs: int) -> list[dict[str, Any]]:
    """From a definition to the guest's first word; bare, and as tasks: Ansible's own share is in both then."""
    bench.write("start.json", machine("web1", wait_for="TOY-GUEST-READY"))
    bench.adhoc("microvm.host.microvm", "start.json", keep=True)
    end = "systemctl stop microvm@web1.service; kill -9 $(cat /run/by-hand 2>/dev/null) 2>/dev/null; true"
    bench.host.ssh(end)
    bench.write("by_hand.json", {"argv": ["sh", "-c", BY_HAND]})
    bench.adhoc("ansible.builtin.command", "by_hand.json", keep=True)
    bench.host.ssh(end)
    found = []
    for name, what, command in (
        ("vm-start", "by hand", f"sh -c {shlex.quote(BY_HAND)}"),
        ("vm-start-task", "by ansible.builtin.command, as sent", f"python3 {KEPT.format('command')}"),
    ):
        ours, theirs = compare(
            runs,
            lambda: bench.here(f"python3 {KEPT.format('microvm')}"),
            functools.partial(bench.here, command),
            lambda: bench.host.ssh(end),
        )
        what = f"module as sent, until the guest speaks / the same QEMU {what}, on the host"
        result = row(name, what, (ours, theirs), "s", runs, None)
        found.append({**result, "goal": f"+{OVERHEAD_SECONDS} s", "holds": ours - theirs <= OVERHEAD_SECONDS})
    return found


def many(bench: Bench, runs: int) -> dict[str, Any]:
    """Fifty in one call."""
    module = "microvm.host.microvm"
    listed = [machine(f"vm{number:02d}", state="present") for number in range(MACHINES)]
    bench.write("machines.json", {"machines": listed})
    bench.adhoc(module, "machines.json")
    values = compare(runs, lambda: bench.adhoc(module, "machines.json"), lambda: bench.adhoc("ansible.builtin.ping"))
    bench.write("none.json", {"machines": [], "purge": True})
    bench.adhoc(module, "none.json")
    return row("vms-50", f"{MACHINES} unchanged machines in one call / one ping", values, "s", runs, 2.0)


def site(bench: Bench, runs: int) -> dict[str, Any]:
    """The whole of a host, unchanged."""
    names = [f"v{number:02d}" for number in range(VOLUMES)]
    variables = {
        "storage_backends": bench.backends[:BACKENDS],
        "storage_volumes": [{"name": name, "backend": "local", "size": "1MiB"} for name in names],
        "microvm_machines": [machine(f"vm{each}", root={"volume": f"v{each:02d}"}) for each in range(RUNNING)],
    }
    (bench.scratch / "site.json").write_text(json.dumps(variables))

    def play() -> float:
        program = VENV / "bin" / "ansible-playbook"
        return bench.ansible(program, "-e", f"@{bench.scratch / 'site.json'}", "microvm.host.site")

    play()
    before = invoked(bench)
    values = compare(runs, play, lambda: bench.adhoc("ansible.builtin.ping"))
    calls = (invoked(bench) - before) // runs - 1
    what = f"unchanged site.yml, {BACKENDS + 1} backends, {VOLUMES} volumes, {RUNNING} machines, {calls} remote calls"
    return row("site-nochange", f"{what} / one ping", values, "s", runs, None)
