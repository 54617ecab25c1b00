# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab with a Samba server; each test has a project of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.canary.rig import Rig
from tests.lab import Lab

NAME = os.environ.get("MICROVM_LAB", "canary")
"""The lab to use; two runs at once need one each."""

RESET = r"""
grep -E ' - (nfs4?|cifs) ' /proc/self/mountinfo | cut -d' ' -f5 | while read -r path; do umount -l "$path"; done
rm -rf --one-file-system $(grep -ls microvm.host /etc/systemd/system/*.*) /var/lib/microvm /etc/microvm /run/microvm
systemctl daemon-reload
"""


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One prepared host and a Samba server. A lab that is up already stays up."""
    kept = NAME in Lab.names()
    lab = Lab.up(NAME, hosts=1, servers=["smb"], prepared=True)
    try:
        yield lab
    finally:
        if not kept:
            lab.down()


@pytest.fixture
def rig(lab: Lab, tmp_path: Path) -> Rig:
    """A bare host, a server with the password before, a project."""
    rig = Rig(lab, tmp_path)
    rig.host.ssh(RESET, timeout=120)
    rig.smb.set_password("svc", rig.secrets.old)
    return rig
