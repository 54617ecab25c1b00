# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fifty mounts of which 1, 10, 50 are dead: host_info with refresh ends in time and says which."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.killing import empty
from tests.faults.rig import Rig
from tests.lab import Lab, NfsServer, counts

SHARES = {"nas1": 40, "nas2": 9, "nas3": 1}
"""Mounts per server: with one, two or three of them dead, 1, 10 or 50 mounts are."""

TIMEOUT = 15
"""Of the call, s: a live mount is looked at within its part of that, on a machine that is busy."""
ALIVE = {"ok", "read_only"}
DEAD = {"unreachable", "stale"}


@pytest.fixture(scope="module")
def servers(lab: Lab, rig: Rig) -> Iterator[dict[str, NfsServer]]:
    """Fifty mounts, removed again."""
    found = {name: server for name, server in lab.servers.items() if isinstance(server, NfsServer)}
    rig.start()
    rig.ask(do="wipe")
    for server in found.values():
        empty(server.data("rw"))
        empty(server.data("rw2"))
    mounts = [
        {"name": f"{name}-{number}", "server": found[name].address, "export": f"/export/e{number:02d}", "timeout": 60}
        for name, share in SHARES.items()
        for number in range(1, share + 1)
    ]
    answer = rig.run("nfs_export_mount", {"mounts": mounts})
    assert answer["result"] and not answer["result"].get("failed"), answer
    counts.add("real mounts", len(mounts))
    yield found
    for server in found.values():
        server.resume()
        server.join()
    rig.ask(do="wipe")


@pytest.mark.parametrize(
    ("dead", "how"),
    [
        ([], "pause"),
        (["nas3"], "pause"),
        (["nas3"], "cut"),
        (["nas3", "nas2"], "pause"),
        (["nas3", "nas2"], "cut"),
        (["nas3", "nas2", "nas1"], "pause"),
    ],
)
def test_refresh_ends_in_time_and_names_the_dead(
    rig: Rig, servers: dict[str, NfsServer], dead: list[str], how: str
) -> None:
    for name in dead:
        getattr(servers[name], how)()
    try:
        answer = rig.run("host_info", {"refresh": True, "timeout": TIMEOUT})
    finally:
        for name in dead:
            servers[name].resume()
            servers[name].join()
    result: dict[str, Any] = answer["result"]
    assert not result.get("failed"), result
    statuses = {row["name"]: row["status"] for row in result["mounts"]}
    assert len(statuses) == sum(SHARES.values())
    wrong = {
        name: status
        for name, status in statuses.items()
        if status not in (DEAD if name.rsplit("-", 1)[0] in dead else ALIVE)
    }
    assert not wrong, wrong
    assert answer["seconds"] <= TIMEOUT + 1, f"{answer['seconds']:.2f} s"
    assert not answer["killed"]
