# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab with an SMB and an iSCSI server; each test has a project of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canary.rig import Rig
from tests.contract import snapshot
from tests.lab import IscsiServer, Lab, SmbServer, borrow
from tests.lab.samba import USERS
from tests.machines import guests


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One prepared host with a guest to run, and the servers."""
    with borrow("canary", servers=["smb", "iscsi"], machines=True, bytecode=True) as lab:
        guests.install(lab.hosts[snapshot.HOST])
        yield lab
        for server in lab.servers.values():
            if isinstance(server, IscsiServer):
                server.reset_secrets()
            elif isinstance(server, SmbServer):
                server.set_password("svc", USERS["svc"])


@pytest.fixture
def rig(lab: Lab, tmp_path: Path) -> Iterator[Rig]:
    """A bare host, servers with the secrets before, a project."""
    snapshot.reset(lab)
    rig = Rig(lab, tmp_path)
    rig.smb.set_password("svc", rig.secrets.old)
    rig.san.set_secret("host2", rig.secrets.old)
    rig.san.set_secret("san", rig.secrets.target)
    yield rig
    snapshot.reset(lab)
