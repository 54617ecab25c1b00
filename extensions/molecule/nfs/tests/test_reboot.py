# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a reboot everything is mounted again; a dead server does not keep a host from booting."""

from __future__ import annotations

from extensions.molecule.managed import Managed
from extensions.molecule.nfs.tests.conftest import Asked, healthy, revive
from tests.lab import NfsServer
from tests.lab.daemon import wait_until

DELAY_SECONDS = 20
"""What a busy machine may add to a boot; less than a mount unit waits for its server."""


def booted(host: Managed) -> dict[str, float]:
    """Seconds from the start of the kernel until ssh and the usual target were up."""
    wait = "until systemctl is-active --quiet multi-user.target; do sleep 0.1; done"
    host.sh(f"timeout 50 sh -c '{wait}'")
    shown = host.sh("systemctl show --property=Id,ActiveEnterTimestampMonotonic ssh.service multi-user.target")
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n")]
    return {block["Id"]: int(block["ActiveEnterTimestampMonotonic"]) / 1e6 for block in blocks}


def test_reboot(hv1: Managed, hv2: Managed, asked: Asked, served: NfsServer) -> None:
    def mounted() -> bool:
        return sorted(path for path, stack in hv1.table().items() if stack[-1]["type"].startswith("nfs")) == paths

    def well() -> bool:
        answers = hv1.run(*asked.calls(check=True))
        return not any(answer.changed or answer.failed for answer in answers) and healthy(asked.statuses(answers))

    paths = sorted(path for path, stack in hv1.table().items() if stack[-1]["type"].startswith("nfs"))
    alive = {path for path in paths if not hv1.table()[path][-1]["source"].startswith("nas1:")}
    hv1.host.reboot()
    usual = booted(hv1)
    wait_until(mounted, 90, "the mounts to come back")
    wait_until(well, 60, "all of them to answer")

    hv1.host.kill()
    served.cut()
    hv1.host.boot()
    without = booted(hv1)
    for unit, seconds in without.items():
        assert seconds - usual[unit] < DELAY_SECONDS, (usual, without)
    wait_until(lambda: alive <= set(hv1.table()), 60, "the mounts of the other server")
    answers = hv1.run(*asked.calls())
    statuses = asked.statuses(answers)
    assert {statuses[name] for name in ("filer", "local", "literal6")} == {"ok"}
    remote = {name for name in statuses if name not in ("filer", "local", "literal6")}
    assert {statuses[name] for name in remote} == {"not_mounted"}
    failed = {**answers[0].errors("backends"), **answers[1].errors("mounts")}
    assert failed == dict.fromkeys(remote, "unreachable")

    revive(served)
    wait_until(mounted, 90, "the mounts to come back by themselves")
    wait_until(well, 60, "all of them to answer")
