# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the fault tests and the lab they share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.rig import Rig
from tests.lab import Lab, borrow


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many, and which."""
    parser.addoption("--sample", type=int, default=0, help="draw this many kill points instead of taking all")
    parser.addoption("--seed", default="0", help="what the draw starts from")
    parser.addoption("--shard", default="1/1", help="of all points, every N-th from the I-th on: I/N")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One host that can run machines; three NFS servers, an SMB and an iSCSI server."""
    with borrow("faults", servers=["nfs", "nfs", "nfs", "smb", "iscsi"], machines=True) as lab:
        yield lab


@pytest.fixture(scope="session")
def rig(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """An agent on the host, with the modules as they are now."""
    rig = Rig(lab.hosts["hv1"])
    rig.ship(tmp_path_factory.mktemp("ship"))
    rig.start()
    yield rig
    rig.stop()
