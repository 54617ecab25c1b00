# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL while a LUN is formatted, logged in to and out of: the next run goes on, or takes back all of it."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from tests.faults.points import Event, hit, points
from tests.faults.rig import Rig
from tests.faults.tally import Tally
from tests.faults.test_power import RECOVERED
from tests.lab import IscsiServer, LabError
from tests.lab.daemon import wait_until

Arguments = dict[str, Any]
Answer = dict[str, Any]
Chosen = TypeVar("Chosen")

LUN: Arguments = {
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
ABSENT: Arguments = {"name": "lun", "state": "absent"}
OUT: Arguments = {"name": "lun", "state": "logged_out"}
ROTATED = "lab-secret-24"
SHARE = 6
"""A sample has as many kill points of LUNs as one of all else divided by this."""
LABEL = b"LABELONE"
"""LVM's mark of a physical volume, in one of the first sectors."""
DEAD_SECONDS = 45.0
"""How long a server is dead, s: longer than the steps that wait for it."""

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


def fresh(rig: Rig, san: IscsiServer) -> None:
    """A host that never heard of the collection, and a blank LUN."""
    rig.ask(do="wipe")
    rig.host.ssh(LEAVE)
    san.blank_all()


def run(rig: Rig, args: Arguments, **more: Any) -> Answer:
    """Run the module to its end; AssertionError when it failed."""
    answer = rig.run("iscsi_lvm", args, **more)
    result = answer["result"]
    assert result, answer
    assert not result.get("failed"), result["msg"]
    return answer


def left(rig: Rig) -> list[str]:
    """What a LUN leaves on a host."""
    return rig.host.ssh(f"({LOOK}) 2>/dev/null").stdout.split()


def group(san: IscsiServer) -> str:
    """The UUID of the group on the LUN, "" for none; a physical volume without a group is an error."""
    with san.disk("chap", 1).open("rb") as file:
        begin = file.read(1 << 20)
    if LABEL not in begin:  # without the mark old metadata is only text: pvremove leaves it
        return ""
    found = re.findall(rb'vg_fault \{\nid = "([^"]+)"', begin)
    assert found, "a physical volume without a group"
    return str(found[-1].decode())


@dataclass(frozen=True)
class Operation:
    """What is killed: ``call``, on a host where ``given`` was run before. Then ``call`` or ``instead`` must succeed."""

    name: str
    given: Arguments | None
    call: Arguments
    instead: Arguments


OPERATIONS = (
    Operation("format and log in", None, LUN, ABSENT),
    Operation("rotate", LUN, {**LUN, "password": ROTATED}, ABSENT),
    Operation("log out", LUN, OUT, LUN),
    Operation("remove", LUN, ABSENT, LUN),
)


class Place:
    """The host and the LUN, brought to where an operation begins."""

    def __init__(self, rig: Rig, san: IscsiServer) -> None:
        self.rig, self.san = rig, san
        self.password = str(LUN["password"])

    def run(self, args: Arguments, **more: Any) -> Answer:
        """Run the module to its end, once the server has the secret that it gives."""
        self.serve(args)
        return run(self.rig, args, **more)

    def aimed_at(self, operation: Operation, event: Event, instead: bool) -> Iterator[bool]:
        """Kill after kill, whether it hit; then all must be well. Counted anew for each: a run varies."""
        while True:
            before = self.begin(operation)
            self.serve(operation.call)
            answer = self.rig.run("iscsi_lvm", operation.call, kill=[event.role, event.call, event.count])
            came = hit(answer["trace"]) == f"{event.call} {event.where}"
            if came:
                self.end(operation, instead, before)
            yield came
            event = {each.key: each for each in self.traced(operation)}.get(event.key, event)

    def traced(self, operation: Operation) -> list[Event]:
        """The kill points of an operation; what a program does is its own business."""
        self.begin(operation)
        found = points(self.run(operation.call, trace=True)["trace"])
        return [event for event in found if not event.role.startswith("program")]

    def serve(self, args: Arguments) -> None:
        """Have the server admit this host by the password of a call, if it gives one."""
        wanted = str(args.get("password", self.password))
        if wanted != self.password:
            self.san.set_secret("host", wanted)
            self.password = wanted

    def begin(self, operation: Operation) -> str:
        """Where it begins; the group's identity on the LUN, "" for a blank one."""
        if operation.given is None:
            fresh(self.rig, self.san)
        else:
            self.run(operation.given)
        return group(self.san)

    def end(self, operation: Operation, instead: bool, before: str) -> None:
        """The next run succeeds, the one after it has nothing to do, and the group is the one that was there."""
        args = operation.instead if instead else operation.call
        self.run(args)
        again = self.run(args)["result"]
        assert again["changed"] is False, again["target"]
        if args == ABSENT:
            assert left(self.rig) == CLEAN
        now = group(self.san)
        assert now == before if before else now or args == ABSENT


@pytest.fixture
def place(rig: Rig, san: IscsiServer) -> Iterator[Place]:
    """The host and the LUN; the server's password is what it was, afterwards."""
    place = Place(rig, san)
    yield place
    place.serve(LUN)


def chosen(found: list[Chosen], request: pytest.FixtureRequest, share: int = SHARE) -> list[Chosen]:
    """Those of this run: all, a shard, or a sample."""
    sample = request.config.getoption("--sample") // share
    if sample:
        seed = request.config.getoption("--seed")
        drawn = random.Random(seed).sample(range(len(found)), min(sample, len(found)))
        return [found[number] for number in sorted(drawn)]
    part, parts = (int(word) for word in request.config.getoption("--shard").split("/"))
    return found[part - 1 :: parts]


def test_a_kill_in_any_change(place: Place, rig: Rig, san: IscsiServer, request: pytest.FixtureRequest) -> None:
    fresh(rig, san)
    found: list[tuple[Operation, Event]] = []
    for operation in OPERATIONS:
        mine = place.traced(operation)
        assert len(mine) > 20 and any(event.role.startswith("child") for event in mine), operation.name
        found += [(operation, event) for event in mine]
    tally = Tally()
    for number, (operation, event) in enumerate(chosen(found, request)):
        instead = number % 2 == 1
        then = operation.instead if instead else operation.call
        point = f"{operation.name}: {event.key}, then {then.get('state', 'present')}"
        try:
            tally.came(point, place.aimed_at(operation, event, instead))
        except (AssertionError, LabError) as error:
            tally.failed(point, error)
            rig.start()
            fresh(rig, san)
    tally.verdict()


def begun(rig: Rig, san: IscsiServer, **more: Any) -> None:
    """Have a blank LUN formatted; returns when it is a physical volume."""
    fresh(rig, san)
    rig.send(do="run", module="iscsi_lvm", args={**LUN, **more})

    def labelled() -> bool:
        with san.disk("chap", 1).open("rb") as file:
            return LABEL in file.read(4096)

    wait_until(labelled, 60, "the LUN to be formatted", interval=0.001)


def forgotten(rig: Rig, san: IscsiServer) -> None:
    """Nothing is left of it once it is not wanted, and it can be had again."""
    run(rig, ABSENT)
    assert left(rig) == CLEAN
    assert group(san) == ""
    run(rig, LUN)
    assert group(san)


def test_power_lost_while_it_is_formatted(rig: Rig, san: IscsiServer) -> None:
    """The physical volume is on the LUN and the session is gone: what settles the intent logs in for it."""
    begun(rig, san)
    rig.host.kill()
    rig.stop()
    rig.host.boot()
    rig.host.ssh(RECOVERED, timeout=300)
    rig.start()
    forgotten(rig, san)


def test_a_record_that_power_loss_left_empty_is_made_again(rig: Rig, san: IscsiServer) -> None:
    """Whoever made it: open-iscsi syncs none, and can neither write nor delete an empty one."""
    fresh(rig, san)
    lun = {**LUN, "portal": san.address}
    new = f"iscsiadm --mode node --targetname {LUN['iqn']} --portal {san.address},1 --op"
    empty = f": > /var/lib/iscsi/nodes/{LUN['iqn']}/{san.address},3260,1/default"
    rig.host.ssh(f"{new} new && {empty}")
    assert "database failure" in rig.host.ssh(f"{new} new", check=False).stderr
    assert "No records found" in rig.host.ssh(f"{new} delete", check=False).stderr
    for given in (None, lun, OUT):
        if given:
            run(rig, given)
            rig.host.ssh(empty)
        assert run(rig, lun)["result"]["changed"] is True, given
        assert run(rig, lun)["result"]["changed"] is False, given
    rig.host.ssh(empty)
    run(rig, ABSENT)
    assert left(rig) == CLEAN


def test_a_server_that_dies_while_it_is_formatted(rig: Rig, san: IscsiServer) -> None:
    begun(rig, san, timeout=20)
    san.cut()  # at once: to pause it may take as long as the rest of the formatting
    san.pause()
    san.join()
    back = threading.Timer(DEAD_SECONDS, san.resume)  # what hangs on it does not end before
    back.start()
    try:
        result = rig.receive()["result"]
    finally:
        back.join()
    assert result["failed"] and result["error"]["kind"] in ("timeout", "unreachable"), result
    forgotten(rig, san)
