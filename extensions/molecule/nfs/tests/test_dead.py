# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that is dead before a run, dies during one, and after one: what is on the others goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from extensions.molecule.calls import call
from extensions.molecule.managed import Converge, Managed
from extensions.molecule.nfs.tests.conftest import Asked
from tests.lab import NfsServer

Back = Callable[[Managed], None]
SECONDS = 10
SLACK = 60
"""What Ansible, ssh and a busy machine may add to the time limits of the modules."""


NEW = {"name": "new", "server": "nas1", "export": "/export/e20", "path": "/srv/new", "timeout": SECONDS}


def left_nothing(host: Managed) -> None:
    """Nothing of the new mount is on the host."""
    assert host.remembers("/export/e20") == ""
    assert host.sh("ls /srv") == ""


@pytest.mark.parametrize("fault", ["stop", "cut"])
def test_dead_server(hv1: Managed, served: NfsServer, asked: Asked, back: Back, fault: str) -> None:
    filer = {"options": "noatime"}
    wanted = [item | (filer if item["name"] == "filer" else {}) for item in asked.backends]
    getattr(served, fault)()
    began = time.monotonic()
    backends, mounts = hv1.run(
        call("storage_backend", backends=wanted), call("nfs_export_mount", mounts=[*asked.mounts, NEW])
    )
    assert time.monotonic() - began < 4 * (SECONDS + 1) + SLACK

    assert not backends.failed, backends.result
    found = backends.items("backends")
    assert {name for name, item in found.items() if item["changed"]} == {"filer"}
    dead = dict.fromkeys(("nas", "nolock"), "unreachable")
    assert {name: item["status"] for name, item in found.items()} == {"filer": "ok", "local": "ok", **dead}
    for name in dead:
        assert f"{name}: mounted, but unreachable: nas1 (" in backends.warnings

    assert mounts.failed and not mounts.changed, mounts.result
    assert mounts.errors("mounts") == {"new": "unreachable"}
    statuses = {name: item["status"] for name, item in mounts.items("mounts").items()}
    assert (statuses.pop("literal6"), statuses.pop("new")) == ("ok", "not_mounted")
    assert set(statuses.values()) == {"unreachable"}, statuses
    left_nothing(hv1)
    back(hv1)


def test_site_is_green_on_good_hosts(hv1: Managed, served: NfsServer, converge: Converge, back: Back) -> None:
    served.pause()
    done = converge()
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    recap = done.stdout.split("PLAY RECAP")[1]
    assert recap.count("changed=0") == 2 and recap.count("failed=0") == 2, recap
    assert "nas: mounted, but unreachable" in said, said
    hv1.fails("nfs_export_mount", "timeout", **NEW)
    left_nothing(hv1)
    back(hv1)


@pytest.mark.parametrize("fault", ["pause", "cut"])
def test_server_dies_during_a_run(hv1: Managed, served: NfsServer, back: Back, fault: str) -> None:
    names = [f"e{number}" for number in range(30, 90)]  # more than are worked on at a time
    mounts: list[dict[str, Any]] = [
        {"name": name, "server": "nas1", "export": f"/export/{name}", "path": f"/srv/{name}", "probe": "write"}
        for name in names
    ]
    began = time.monotonic()
    running = hv1.start(call("nfs_export_mount", mounts=mounts, timeout=SECONDS))
    hv1.sh("timeout 50 sh -c 'until grep -q /export/e30 /proc/self/mountinfo; do :; done'")
    getattr(served, fault)()
    (answer,) = running.answers()
    assert time.monotonic() - began < 4 * (SECONDS + 1) + SLACK
    failed = answer.errors("mounts")
    assert failed and set(failed.values()) <= {"unreachable", "timeout"}, failed
    on = {f"/srv/{name}" for name in names if name not in failed}
    assert {path for path in hv1.table() if path.startswith("/srv/")} == on
    units = hv1.sh("ls /etc/systemd/system").split()
    assert {unit for unit in units if unit.startswith("srv-")} == {f"srv-{path[5:]}.mount" for path in on}
    back(hv1)
    again = call("nfs_export_mount", mounts=mounts, timeout=30)
    gone = call("nfs_export_mount", mounts=[{"name": name, "state": "absent"} for name in names])
    repeated, nothing, removed = hv1.run(again, again, gone)
    assert not repeated.failed and not nothing.failed and not removed.failed, (repeated, nothing, removed)
    assert (repeated.changed, nothing.changed, removed.changed) == (True, False, True)
    assert {name for name, item in repeated.items("mounts").items() if item["changed"]} == set(failed)
    assert hv1.remembers("/srv/") == ""
    assert hv1.sh("ls /srv") == ""
