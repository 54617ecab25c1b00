# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that want to format one LUN at the same time: processes here, and a file that LVM's programs are played on."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import deadline, disk, iscsi, lvm
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import blank_lun, iscsi_lvm

ASKED = iscsi_lvm.asked({"portal": "san", "iqn": "iqn.2026-01.lab:open", "lun": 1, "vg": "vg"}, "")
HOLDS = 1.0
SECONDS = 20.0


class Lun:
    """A disk that several hosts have. The first bytes say what is on it: pv, and owner of the group."""

    def __init__(self, path: Path, slowest: float) -> None:
        self.path = path
        self.slowest = slowest
        path.write_bytes(bytes(2 << 20))

    def read(self) -> dict[str, str]:
        """What is on it."""
        found: dict[str, str] = json.loads(self.path.read_bytes()[:4096].rstrip(b"\0") or b"{}")
        return found

    def look(self, node: str) -> lvm.Found:
        """In place of LVM's report."""
        found = self.read()
        owner = found.get("owner")
        group = lvm.Group("vg", found["pv"], owner, 1, 1, 1, False, 1, ()) if owner else None
        return lvm.Found(found.get("pv", ""), group)

    def change(self, node: str, own: str, words: list[str], seconds: float, alive: Callable[[], None]) -> None:
        """In place of LVM's programs, which take their time."""
        until = time.monotonic() + random.uniform(0, self.slowest)
        while time.monotonic() < until:
            alive()
            time.sleep(0.05)
        found = self.read()
        if words[0] == "pvcreate":
            assert "owner" not in found, "a group was overwritten"
            found = {"pv": words[2]}
        else:
            found["owner"] = own
        with self.path.open("r+b") as file:
            file.write(json.dumps(found).encode().ljust(4096, b"\0"))

    def format(self, host: str) -> deadline.Child:
        """One host formats it, or finds the group of another; the answer is whose it is."""

        def work(send: Callable[..., None]) -> list[Any]:
            random.seed(host)
            found = iscsi.Disk(str(self.path), 1, "", "running")
            blank = lvm.Found("", None)
            lun = blank_lun.BlankLun(ASKED, found, host, f"pv-of-{host}", True, 4.0, deadline.Progress(send))
            seen = lun.formatted(blank)
            return [seen.pv, seen.group.system_id if seen.group else ""]

        return deadline.Child(work, SECONDS, f"formatting on {host}")


def outcome(child: deadline.Child) -> Any:
    """What came of a host: [pv, owner], or the kind of its error."""
    try:
        return deadline.result_of(child)
    except HostError as error:
        return error.kind


@pytest.fixture(name="lun")
def a_lun(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lun]:
    """A blank one; /var/tmp has O_DIRECT, which a tmpfs may not have."""
    lun = Lun(Path("/var/tmp", f"microvm-lun-{os.getpid()}"), 0.4)
    monkeypatch.setattr(disk, "CLAIM_SECONDS", 0.3)
    monkeypatch.setattr(disk, "LATE_SECONDS", 0.15)
    monkeypatch.setattr(blank_lun, "CLAIM_HOLDS", HOLDS)
    monkeypatch.setattr(blank_lun, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(iscsi.Disk, "node", property(lambda self: self.name))
    monkeypatch.setattr(disk, "signs", lambda name: ["LVM2_member"] if lun.read() else [])
    monkeypatch.setattr(lvm, "look", lun.look)
    monkeypatch.setattr(lvm, "change", lun.change)
    yield lun
    lun.path.unlink()


@pytest.mark.parametrize("apart", [0.0, 0.1, 0.3, 0.45])
def test_of_three_hosts_one_owns_it_and_the_others_find_its_group(lun: Lun, apart: float) -> None:
    children = []
    for number in range(3):
        children.append(lun.format(f"hv{number}.{number}"))
        time.sleep(apart)
    found = [outcome(child) for child in children]
    assert found == [found[0]] * 3
    pv, owner = found[0]
    assert pv == f"pv-of-{owner}"


def claimed_by(lun: Lun, host: str) -> None:
    """Wait until that host has claimed it."""
    until = time.monotonic() + 10
    while disk.claimed(str(lun.path)).host != host:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_host_that_died_over_it_is_waited_for_and_replaced(lun: Lun) -> None:
    dead = lun.format("hv0.0")
    claimed_by(lun, "hv0.0")
    dead.kill()
    begun = time.monotonic()
    children = [lun.format("hv1.1"), lun.format("hv2.2")]
    found = [outcome(child) for child in children]
    assert found[0] == found[1] and found[0][1] in ("hv1.1", "hv2.2")
    assert time.monotonic() - begun > HOLDS
    assert outcome(dead) == "interrupted"


def test_a_host_that_was_only_slow_does_not_overwrite_what_was_made_meanwhile(lun: Lun) -> None:
    slow = lun.format("hv0.0")
    claimed_by(lun, "hv0.0")
    os.kill(slow.pid, signal.SIGSTOP)
    made = outcome(lun.format("hv1.1"))
    assert made == ["pv-of-hv1.1", "hv1.1"]
    os.kill(slow.pid, signal.SIGCONT)
    assert outcome(slow) == made
    assert lun.read() == {"pv": "pv-of-hv1.1", "owner": "hv1.1"}


def test_a_group_that_was_made_since_the_disk_was_looked_at_is_found(lun: Lun) -> None:
    made = outcome(lun.format("hv0.0"))
    disk.forget_claim(str(lun.path))
    assert outcome(lun.format("hv1.1")) == made, "it was told that the disk was blank"


def test_a_group_that_is_half_made_when_a_host_comes_is_waited_for(lun: Lun) -> None:
    lun.slowest = 3.0
    first = lun.format("hv0.0")
    while not lun.read():
        time.sleep(0.01)
    assert outcome(lun.format("hv1.1")) == outcome(first) == ["pv-of-hv0.0", "hv0.0"]
