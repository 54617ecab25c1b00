# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL while a volume in a volume group is made, cloned, snapshotted, grown, restored, moved and deleted.

Whatever was killed, the next run gets there; in the group are only disks that somebody asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.points import Event, hit, points
from tests.faults.rig import Rig
from tests.faults.tally import Tally
from tests.faults.test_lun import chosen, fresh
from tests.lab import IscsiServer, LabError

Arguments = dict[str, Any]

GROUP = {"kind": "iscsi_lvm", "portal": "san1", "iqn": "iqn.2026-01.lab:open", "timeout": 40}
BACKENDS: tuple[Arguments, ...] = (
    {"name": "pool", **GROUP, "lun": 1, "vg": "vg_pool", "initialize": "vg_pool", "layout": "thin"},
    {"name": "thick", **GROUP, "lun": 2, "vg": "vg_thick", "initialize": "vg_thick"},
)
IMAGE = "/srv/logical.raw"
IMAGE_MIB = 5
ABSENT = {"name": "web1", "state": "absent"}
RESTORE = {"name": "web1", "restore": "a"}


def disk(backend: str, **more: Any) -> Arguments:
    """The volume, made from the image."""
    return {"name": "web1", "backend": backend, "size": "8MiB", "image": IMAGE, **more}


@dataclass(frozen=True)
class Pair:
    """``there`` leads away from what ``given`` has made, ``back`` to it; ``acts``: each time that it is run."""

    name: str
    given: Arguments
    there: Arguments
    back: Arguments
    acts: bool = False

    def call(self, forward: bool) -> Arguments:
        """There or back."""
        return self.there if forward else self.back


PAIRS = (
    Pair("pool", ABSENT, disk("pool", snapshots=["a"]), ABSENT),
    Pair("thick", ABSENT, disk("thick", snapshots=["a"]), ABSENT),
    Pair(
        "size",
        disk("thick"),
        disk("thick", size="12MiB", snapshots=["b"]),
        disk("thick", shrink=True, snapshots=[]),
    ),
    Pair("restore thin", disk("pool", snapshots=["a"]), RESTORE, RESTORE, acts=True),
    Pair("restore thick", disk("thick", snapshots=["a"]), RESTORE, RESTORE, acts=True),
    Pair("move", disk("thick"), disk("pool", move=True), disk("thick", move=True)),
)
SHARE = 20
"""A sample has as many kill points as one of all else divided by this."""
NAMES = """
for group in vg_pool vg_thick; do
    lvm lvs --foreign --noheadings -o lv_full_name,lv_size --units b $group --devices $(ls /dev/sd? | paste -sd,)
done
"""
OTHERS = ("microvm-pool", "+image.")
"""What the names of disks begin with that are not the volume's."""


class Group:
    """The host and its two groups, with the volume as an undisturbed run leaves it."""

    def __init__(self, rig: Rig, san: IscsiServer) -> None:
        self.rig, self.san = rig, san

    def begin(self) -> None:
        """Blank LUNs, and a host that never heard of the collection; then both layouts."""
        self.rig.start()
        fresh(self.rig, self.san)
        self.rig.host.ssh(f"head -c {IMAGE_MIB}M /dev/urandom > {IMAGE}")
        for each in BACKENDS:
            self.run(each, "storage_backend")

    def run(self, args: Arguments, module: str = "storage_volume", **more: Any) -> dict[str, Any]:
        """Run a module to its end; AssertionError when it failed."""
        answer = self.rig.run(module, args, **more)
        result = answer["result"]
        assert result and not result.get("failed"), answer
        return answer

    def disks(self) -> list[str]:
        """The disks of the volume, whole or not, each with its size."""
        shown = [" ".join(line.split()) for line in self.rig.host.ssh(NAMES).stdout.splitlines()]
        return sorted(each for each in shown if not each.partition("/")[2].startswith(OTHERS))

    def give(self, pair: Pair) -> None:
        """The volume as a pair begins with it, from nothing."""
        self.run(ABSENT)
        self.run(pair.given)

    def traced(self, pair: Pair, forward: bool) -> list[Event]:
        """The kill points of going there or coming back; what a program does is its own business."""
        found = points(self.run(pair.call(forward), trace=True)["trace"])
        return [event for event in found if not event.role.startswith("program")]

    def aimed_at(self, pair: Pair, forward: bool, event: Event, wanted: list[str]) -> Iterator[bool]:
        """Kill after kill, whether it hit; then the next run must get there. Counted anew for each: a run varies."""
        while True:
            self.run(pair.call(not forward))
            answer = self.rig.run("storage_volume", pair.call(forward), kill=[event.role, event.call, event.count])
            came = hit(answer["trace"]) == f"{event.call} {event.where}"
            if came:
                self.run(pair.call(forward))
                self.check(pair, forward, wanted)
            yield came
            self.run(pair.call(not forward))
            event = {each.key: each for each in self.traced(pair, forward)}.get(event.key, event)

    def check(self, pair: Pair, forward: bool, wanted: list[str]) -> None:
        """After the next run: nothing is left to do, nothing half made, and the data are those of the image."""
        again = self.run(pair.call(forward))["result"]
        assert again["changed"] is pair.acts, again["volume"]
        assert self.disks() == wanted
        assert not self.rig.snapshot()["registry"]["journal"]
        if "path" in again["volume"]:
            self.rig.host.ssh(f"cmp -n {IMAGE_MIB << 20} {IMAGE} {again['volume']['path']}")


def drawn(request: pytest.FixtureRequest) -> Sequence[Pair]:
    """All pairs, or one for a sample: to watch one takes as long as a kill."""
    if not request.config.getoption("--sample"):
        return PAIRS
    return random.Random(request.config.getoption("--seed")).sample(PAIRS, 1)


def test_a_kill_leaves_no_half_volume(rig: Rig, san: IscsiServer, request: pytest.FixtureRequest) -> None:
    group = Group(rig, san)
    group.begin()
    states: dict[tuple[str, bool], list[str]] = {}
    found: list[tuple[Pair, bool, Event]] = []
    for pair in drawn(request):
        group.give(pair)
        before = group.disks()
        for forward in (True, False):
            mine = group.traced(pair, forward)
            assert any(event.role.startswith("child") for event in mine), pair.name
            found += [(pair, forward, event) for event in mine]
            states[pair.name, forward] = group.disks()
        assert before == states[pair.name, False]
        assert pair.acts or before != states[pair.name, True]
    tally = Tally()
    given = ""
    for pair, forward, event in chosen(found, request, SHARE):
        point = f"{pair.name}, {'there' if forward else 'back'}: {event.key}"
        try:
            if given != pair.name:
                group.give(pair)
                given = pair.name
            tally.came(point, group.aimed_at(pair, forward, event, states[pair.name, forward]))
        except (AssertionError, LabError) as error:
            tally.failed(point, error)
            given = ""
            group.begin()
    tally.verdict()
