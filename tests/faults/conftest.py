# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the fault tests and the lab they share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.rig import Rig
from tests.lab import IscsiServer, Lab, borrow
from tests.machines import guests


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many, and which."""
    parser.addoption("--sample", type=int, default=0, help="draw this many kill points instead of taking all")
    parser.addoption("--pair", action="append", help="only the kill points of this pair of operations")
    parser.addoption("--seed", default="0", help="what the draw starts from")
    parser.addoption("--shard", default="1/1", help="of all points, every N-th from the I-th on: I/N")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two hosts that can run machines; three NFS servers and a kernel's, an SMB and an iSCSI server."""
    servers = ["nfs", "nfs", "nfs", "knfsd", "smb", "iscsi"]
    with borrow("faults", hosts=2, servers=servers, machines=True) as lab:
        guests.install(lab.hosts["hv1"])
        yield lab


@pytest.fixture(scope="session")
def rig(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """An agent on the first host, with the modules as they are now."""
    yield from agent_on(lab, "hv1", tmp_path_factory)


@pytest.fixture(scope="session")
def other(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One on the second host."""
    yield from agent_on(lab, "hv2", tmp_path_factory)


@pytest.fixture(scope="module")
def san(lab: Lab) -> Iterator[IscsiServer]:
    """The iSCSI server; its disks are blank again afterwards."""
    server = lab.servers["san1"]
    assert isinstance(server, IscsiServer)
    yield server
    server.blank_all()


def agent_on(lab: Lab, name: str, scratch: pytest.TempPathFactory) -> Iterator[Rig]:
    """An agent on a host, ended afterwards."""
    found = Rig(lab.hosts[name])
    found.ship(scratch.mktemp("ship"))
    found.start()
    yield found
    found.stop()
