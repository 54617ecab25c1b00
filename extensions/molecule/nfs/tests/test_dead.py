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
SECONDS = 4
SLACK = 30
"""What Ansible, ssh and a busy machine may add to the time limits of the modules."""


@pytest.mark.parametrize("fault", ["stop", "pause", "cut"])
def test_dead_server(hv1: Managed, served: NfsServer, asked: Asked, back: Back, fault: str) -> None:
    getattr(served, fault)()
    began = time.monotonic()
    new = {"name": "new", "server": "nas1", "export": "/export/e20", "path": "/srv/new", "timeout": SECONDS}
    backends = [item | ({"options": "noatime"} if item["name"] == "filer" else {}) for item in asked.backends]
    as_before, other, mounts, info = hv1.run(
        call("storage_backend", backends=asked.backends),
        call("storage_backend", backends=backends),
        call("nfs_export_mount", mounts=[*asked.mounts, new]),
        call("host_info", refresh=True, timeout=SECONDS),
    )
    # stop: refused at once; else each look and each try ends at its limit
    assert time.monotonic() - began < 6 * (SECONDS + 1) + SLACK

    dead = dict.fromkeys(("nas", "nolock"), "unreachable")
    assert not as_before.failed and not as_before.changed, as_before.result
    for answer in (as_before, other, info):
        statuses = {name: item["status"] for name, item in answer.items("backends").items()}
        assert statuses == {"filer": "ok", "local": "ok", **dead}
    for name in dead:
        assert f"{name}: mounted, but unreachable" in as_before.warnings
    assert not other.failed, other.result
    assert {name for name, item in other.items("backends").items() if item["changed"]} == {"filer"}

    assert mounts.failed and not mounts.changed, mounts.result
    assert mounts.errors("mounts") == {"new": "timeout" if fault == "pause" else "unreachable"}
    statuses = {name: item["status"] for name, item in mounts.items("mounts").items()}
    assert statuses.pop("literal6") == "ok"
    assert statuses.pop("new") == "not_mounted"
    assert set(statuses.values()) == {"unreachable"}, statuses
    assert hv1.remembers("/export/e20") == ""
    assert hv1.sh("ls /srv") == ""
    back(hv1)


def test_site_is_green_on_a_good_host(hv1: Managed, served: NfsServer, converge: Converge, back: Back) -> None:
    served.pause()
    done = converge("--limit=hv1")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "changed=0" in said and "failed=0" in said.split("RECAP")[1], said
    assert "nas: mounted, but unreachable" in said, said
    back(hv1)


@pytest.mark.parametrize("fault", ["pause", "cut"])
def test_server_dies_during_a_run(hv1: Managed, served: NfsServer, back: Back, fault: str) -> None:
    names = [f"e{number}" for number in range(30, 80)]
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
