# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody did to the mounts by hand is told and put right, and no user of a mount loses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from extensions.molecule.calls import call, refused
from extensions.molecule.managed import Managed
from tests.lab import Filer, Lab

SOFT = "umount {path} && mount -t nfs -o nosuid,nodev,noexec,soft {source} {path}"
BY_HAND = {
    "same": ("true", ""),
    "gone": ("umount {path}", '"no"'),
    "stacked": ("mount -t tmpfs tmpfs {path}", "2 mounts stacked"),
    "other": ("umount {path} && mount -t nfs nas1:/export/e29 {path}", "other source nas1:/export/e29"),
    "flags": ("mount -o remount,exec {path}", "options drifted: "),
    "soft": (SOFT, "options drifted: "),
    "held": (SOFT, ""),
    "unit": ("echo Options=soft >> /etc/systemd/system/srv-unit.mount", '"edited"'),
    "unlinked": ("rm /etc/systemd/system/srv-unlinked.mount", '"persistent": false'),
    "stale": ("true", '"stale"'),
}
"""What is done to each mount, and how the difference is told."""


@pytest.fixture
def items(hv1: Managed, lab: Lab) -> Iterator[list[dict[str, Any]]]:
    """A mount for each of them; all gone afterwards."""
    filer = lab.servers["filer1"]
    assert isinstance(filer, Filer)
    filer.host.ssh("mkdir -p /export/rw/stale")
    wanted = [
        {"name": name, "server": "nas1", "export": f"/export/e2{number}", "path": f"/srv/{name}"}
        for number, name in enumerate(BY_HAND)
    ]
    wanted[-1].update(server="filer1", export="/export/rw/stale", version="4.2")
    hv1.works("nfs_export_mount", mounts=wanted)
    filer.host.ssh("rmdir /export/rw/stale && mkdir /export/rw/stale")
    yield wanted
    hv1.sh("systemctl stop 'holder-*'")
    hv1.works("nfs_export_mount", mounts=[{"name": name, "state": "absent"} for name in BY_HAND])
    assert hv1.sh("ls /srv; grep /srv/ /proc/self/mountinfo || true") == ""
    filer.host.ssh("rmdir /export/rw/stale")


def test_drift(hv1: Managed, items: list[dict[str, Any]]) -> None:
    def sound() -> set[str]:
        """The mounts that are as they were, by name."""
        table = hv1.table()
        return {name for name, path in paths.items() if table.get(path) == made[name]}

    paths = {item["name"]: item["path"] for item in items}
    made = {name: hv1.table()[path] for name, path in paths.items()}
    units = hv1.sh("cat /etc/systemd/system/srv-*.mount")
    assert sound() == set(BY_HAND)
    for item in items:
        source = f"{item['server']}:{item['export']}"
        hv1.sh(BY_HAND[item["name"]][0].format(path=item["path"], source=source))
    for name in ("flags", "held"):
        hv1.sh(f"systemd-run --quiet --unit=holder-{name} --working-directory=/srv/{name} sleep infinity")
    assert sound() == {"same", "unit", "unlinked", "stale"}

    wanted = call("nfs_export_mount", mounts=items)
    gone = call("nfs_export_mount", name="flags", state="absent")
    done, nothing, in_use = hv1.run(wanted, call("nfs_export_mount", check=True, mounts=items), gone)
    assert not done.failed and not nothing.failed, (done, nothing)
    found = done.items("mounts")
    assert {name for name, item in found.items() if not item["changed"]} == {"same", "held"}
    assert {item["status"] for item in found.values()} == {"ok"}
    told = {entry["before_header"].split()[-1]: json.dumps(entry["before"]) for entry in done.result["diff"]}
    assert {name: word in told.get(name, "") for name, (dummy, word) in BY_HAND.items()} == dict.fromkeys(BY_HAND, True)
    assert [who.split()[0] for who in found["held"]["pending_remount"]] == ["sleep"]
    assert "held is mounted otherwise than asked (options drifted" in done.warnings
    assert not nothing.changed, nothing.result
    refused(in_use, "in_use")
    assert "sleep" in in_use.result["msg"]
    assert sound() == set(BY_HAND) - {"held"}
    assert hv1.sh("cat /etc/systemd/system/srv-*.mount") == units
    assert hv1.sh("systemctl is-active holder-flags holder-held") == "active\nactive\n"

    hv1.sh("systemctl stop 'holder-*'")
    put_right = hv1.converges("nfs_export_mount", mounts=items).items("mounts")
    assert {name for name, item in put_right.items() if item["changed"]} == {"held"}
    assert sound() == set(BY_HAND)


def test_mount_that_a_backend_uses_too(hv1: Managed) -> None:
    shared = {"name": "again", "server": "nas1", "export": "/export/e03"}
    first, off, gone, now = hv1.run(
        call("nfs_export_mount", **shared),
        call("nfs_export_mount", name="again", state="unmounted"),
        call("nfs_export_mount", name="again", state="absent"),
        call("host_info", refresh=True),
    )
    path = now.items("backends")["nas"]["path"]
    assert first.changed and first.result["mount"]["path"] == path
    refused(off, "in_use")
    assert gone.changed and not gone.failed
    assert now.items("backends")["nas"]["status"] == "ok"
    assert len(hv1.mounts_on(path)) == 1
