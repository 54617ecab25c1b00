# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab for all contract tests of a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import snapshot
from tests.contract.controller import Controller
from tests.lab import Host, Lab, NfsServer, borrow
from tests.machines import guests


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One prepared host with guests to run; an NFS, an SMB and an iSCSI server."""
    with borrow("contract", servers=["nfs", "smb", "iscsi"], machines=True, bytecode=True) as lab:
        snapshot.install(lab.hosts[snapshot.HOST])
        guests.install(lab.hosts[snapshot.HOST])
        yield lab


@pytest.fixture(scope="session")
def host(lab: Lab) -> Host:
    """The host under test."""
    return lab.hosts[snapshot.HOST]


@pytest.fixture(scope="session")
def nas(lab: Lab) -> NfsServer:
    """The server."""
    server = lab.servers["nas1"]
    assert isinstance(server, NfsServer)
    return server


@pytest.fixture
def bare(lab: Lab) -> None:
    """The host as if the collection had never been there."""
    snapshot.reset(lab)


@pytest.fixture
def controller(lab: Lab, bare: None, tmp_path: Path) -> Controller:
    """Ansible, with a bare host to manage."""
    return Controller(lab, tmp_path)
