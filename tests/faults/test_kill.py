# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL at every call that changes something: the state is old or new, or the next run sees to it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

import pytest

from tests.faults.killing import Point, Stage
from tests.faults.operations import pairs
from tests.faults.progress import Progress
from tests.faults.rig import Rig
from tests.faults.tally import Tally
from tests.lab import Lab, LabError, NfsServer, SmbServer

PAIRS = 6
"""How many pairs of operations a sample is drawn from: to find the points of a pair takes longer than to hit one."""


@pytest.fixture(scope="session")
def stages(lab: Lab, rig: Rig, request: pytest.FixtureRequest) -> dict[str, Stage]:
    nas, smb = lab.servers["nas1"], lab.servers["smb1"]
    assert isinstance(nas, NfsServer) and isinstance(smb, SmbServer)
    every = {pair.name: Stage(rig, nas, smb, pair) for pair in pairs(nas.address, smb.address)}
    sampled = request.config.getoption("--sample")
    asked = request.config.getoption("--pair") or [name for name in every if not (sampled and every[name].pair.slow)]
    if sampled:
        draw = random.Random(request.config.getoption("--seed"))
        asked = sorted(draw.sample(asked, min(PAIRS, len(asked))), key=list(every).index)
    return {name: every[name] for name in asked}


@pytest.fixture(scope="session")
def every(stages: dict[str, Stage]) -> list[Point]:
    """All kill points, found by watching undisturbed runs."""
    found = []
    for name, stage in stages.items():
        stage.prepare()
        for forward in (True, False):
            for event in stage.traced(forward):
                found += [Point(name, forward, event, retried) for retried in (True, False)]
    assert len({point.key for point in found}) == len(found) > 15 * len(stages)
    return found


@pytest.fixture(scope="session")
def chosen(every: list[Point], request: pytest.FixtureRequest) -> list[Point]:
    """Those of this run: all, a shard, or a sample."""
    sample = request.config.getoption("--sample")
    if sample:
        return random.Random(request.config.getoption("--seed")).sample(every, min(sample, len(every)))
    part, parts = (int(word) for word in request.config.getoption("--shard").split("/"))
    return every[part - 1 :: parts]


def order(points: list[Point]) -> list[Point]:
    """There and back in turns, so that the host need not be brought back in between."""
    ways = {way: [point for point in points if point.forward == way] for way in (True, False)}
    found: list[Point] = []
    away = False
    while ways[True] or ways[False]:
        point = ways[not away].pop() if ways[not away] else ways[away].pop()
        found.append(point)
        away = point.forward if point.retried else not point.forward
    return found


def aimed_at(stage: Stage, point: Point) -> Iterator[bool]:
    """Kill after kill, whether it hit; counted anew for each: a run looks at every process of the host."""
    while True:
        yield stage.kill(point)
        found = {event.key: event for event in stage.traced(point.forward)}
        point = dataclasses.replace(point, event=found.get(point.event.key, point.event))


def test_every_kill_is_survived(
    rig: Rig, stages: dict[str, Stage], every: list[Point], chosen: list[Point], request: pytest.FixtureRequest
) -> None:
    sampled = bool(request.config.getoption("--sample"))
    progress = Progress()
    tally = Tally()
    for name, stage in stages.items():
        mine = [point for point in chosen if point.pair == name and (sampled or point.key not in progress.passed)]
        stage.reset()
        for point in order(mine):
            try:
                if tally.came(point.key, aimed_at(stage, point)) and not sampled:
                    progress.add(point.key)
            except (AssertionError, LabError) as error:
                tally.failed(point.key, error)
                rig.start()
                stage.reset()
    if not sampled and not request.config.getoption("--pair"):
        table = {name: [point.key for point in every if point.pair == name] for name in stages}
        progress.write_result(
            {name: (len(keys), len(progress.passed & set(keys))) for name, keys in table.items()}, len(tally.unreached)
        )
    tally.verdict()
