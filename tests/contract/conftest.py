# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab for all contract tests of a process."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import snapshot
from tests.contract.controller import Controller
from tests.lab import Host, Lab, NfsServer

NAME = "-".join([os.environ.get("MICROVM_LAB", "contract"), *os.environ.get("PYTEST_XDIST_WORKER", "").split()])
"""The lab to use, one for each process; a second run with the same name waits for the first."""

FEW_GENERATORS = """
mkdir -p /etc/systemd/system-generators && cd /etc/systemd/system-generators
for generator in /usr/lib/systemd/system-generators/*; do
    [ "$generator" = "${generator%fstab-generator}" ] && ln -sf /dev/null "${generator##*/}"
done
true
"""
"""Reading units again takes twice as long with a dozen generators of which only one makes mounts."""


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One prepared host and an NFS server. One that is up already stays up."""
    with Path(tempfile.gettempdir(), f"microvm-lab-{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run with this lab would reset the host under our feet
        yield from _lab()


def _lab() -> Iterator[Lab]:
    kept = NAME in Lab.names()
    lab = Lab.up(NAME, hosts=1, servers=["nfs"], prepared=True)
    try:
        lab.hosts[snapshot.HOST].ssh(FEW_GENERATORS)
        snapshot.install(lab.hosts[snapshot.HOST])
        yield lab
    finally:
        if not kept:
            lab.down()


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
