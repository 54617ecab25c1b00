# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL while a LUN is formatted and logged in to: the next run goes on, or takes back all of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.points import Event, events, hit
from tests.faults.rig import Rig
from tests.lab import IscsiServer, Lab, LabError, counts

LUN = {
    "name": "lun",
    "portal": "san1",
    "iqn": "iqn.2026-01.lab:chap",
    "lun": 1,
    "vg": "vg_fault",
    "layout": "thin",
    "username": "host",
    "password": "lab-secret-14",
    "initialize": "vg_fault",
    "timeout": 40,
}
ABSENT = {"name": "lun", "state": "absent"}
LABEL = b"LABELONE"
"""LVM's mark of a physical volume, in one of the first sectors."""

LOOK = """
cat /sys/class/iscsi_session/session*/targetname
find /var/lib/iscsi/nodes /etc/iscsi/nodes /etc/microvm /etc/systemd/system/lvm-activate-* -not -type d
find /tmp -maxdepth 1 -name 'microvm*'
ls /dev/mapper
true
"""
CLEAN = ["control"]
LEAVE = """
dmsetup remove_all
if iscsiadm --mode session >/dev/null 2>&1; then iscsiadm --mode session --logout >/dev/null; fi
rm -rf /var/lib/iscsi/nodes /var/lib/iscsi/static /etc/systemd/system/lvm-activate-*
"""


@pytest.fixture(scope="module")
def san(lab: Lab) -> Iterator[IscsiServer]:
    """The server; its disks are blank again afterwards."""
    server = lab.servers["san1"]
    assert isinstance(server, IscsiServer)
    yield server
    server.blank_all()


def fresh(rig: Rig, san: IscsiServer) -> None:
    """A host that never heard of the collection, and a blank LUN."""
    rig.ask(do="wipe")
    rig.host.ssh(LEAVE)
    san.blank_all()


def run(rig: Rig, args: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Run the module to its end; AssertionError when it failed."""
    answer = rig.run("iscsi_lvm", args, **more)
    result = answer["result"]
    assert result and not result.get("failed"), answer
    return answer


def left(rig: Rig) -> list[str]:
    """What a LUN leaves on a host."""
    return rig.host.ssh(f"({LOOK}) 2>/dev/null").stdout.split()


def formatted(san: IscsiServer) -> bool:
    """Whether the LUN carries a group; half of one is an error."""
    with san.disk("chap", 1).open("rb") as file:
        begin = file.read(1 << 20)
    # Without the mark old metadata is only text: pvremove leaves it.
    assert LABEL not in begin or b"vg_fault {" in begin, "a physical volume without a group"
    return LABEL in begin


def chosen(found: list[Event], request: pytest.FixtureRequest) -> list[Event]:
    """Those of this run: all, a shard, or a sample."""
    sample = request.config.getoption("--sample")
    if sample:
        return random.Random(request.config.getoption("--seed")).sample(found, min(sample, len(found)))
    part, parts = (int(word) for word in request.config.getoption("--shard").split("/"))
    return found[part - 1 :: parts]


def test_a_kill_while_it_is_formatted_and_logged_in_to(
    rig: Rig, san: IscsiServer, request: pytest.FixtureRequest
) -> None:
    fresh(rig, san)
    mine = [event for event in events(run(rig, LUN, trace=True)["trace"]) if not event.role.startswith("program")]
    assert len(mine) > 50 and any(event.role.startswith("child") for event in mine)
    failures = []
    for number, event in enumerate(chosen(mine, request)):
        fresh(rig, san)
        try:
            answer = rig.run("iscsi_lvm", LUN, kill=[event.role, event.call, event.count])
            if not (hit(answer["trace"]) or "").startswith(event.call):
                continue  # the run took another course
            if number % 2:
                run(rig, LUN)
                assert run(rig, LUN)["result"]["changed"] is False
                assert formatted(san)
            else:
                run(rig, ABSENT)
                assert left(rig) == CLEAN
                formatted(san)
            counts.add("kill points")
        except (AssertionError, LabError) as error:
            failures.append(f"{event.key}, then {'again' if number % 2 else 'absent'}: {str(error)[:1500]}")
            rig.start()
    assert not failures, f"{len(failures)} failed:\n" + "\n".join(failures)


def test_power_lost_while_it_is_formatted(rig: Rig, san: IscsiServer) -> None:
    """The physical volume is on the LUN and the session is gone: what settles the intent logs in for it."""
    fresh(rig, san)
    rig.send(do="run", module="iscsi_lvm", args=LUN)
    disk = san.disk("chap", 1)
    while True:
        with disk.open("rb") as file:
            if LABEL in file.read(4096):
                break
    rig.host.kill()
    rig.stop()
    rig.host.boot()
    rig.start()
    run(rig, ABSENT)
    assert left(rig) == CLEAN
    formatted(san)
    run(rig, LUN)
    assert formatted(san)
