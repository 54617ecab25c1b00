# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SMB server, and the share that the tests take and give back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import Lab, SmbServer
from tests.lab.samba import USERS


@pytest.fixture
def smb(lab: Lab) -> Iterator[SmbServer]:
    """The server; afterwards it serves, with the passwords of the beginning."""
    server = lab.servers["smb1"]
    assert isinstance(server, SmbServer)
    yield server
    server.join()
    if server.running():
        server.resume()
    server.start()
    for user, password in USERS.items():
        server.set_password(user, password)
