# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of all scenarios' verify steps."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from extensions.molecule.managed import Converge, Managed
from tests.lab import Lab, NfsServer

LAB = os.environ.get("MICROVM_MOLECULE_LAB", "molecule")


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab that scenario default has made."""
    return Lab.load(LAB)


@pytest.fixture(scope="session")
def nas(lab: Lab) -> NfsServer:
    """The NFS server."""
    server = lab.servers["nas1"]
    assert isinstance(server, NfsServer)
    return server


@pytest.fixture(scope="session")
def hv1(lab: Lab) -> Managed:
    """The first host."""
    return Managed(lab.hosts["hv1"], lab.inventory)


@pytest.fixture(scope="session")
def hv2(lab: Lab) -> Managed:
    """The second host."""
    return Managed(lab.hosts["hv2"], lab.inventory)


@pytest.fixture
def converge(lab: Lab, request: pytest.FixtureRequest) -> Converge:
    """Runs the scenario's converge playbook with more arguments."""
    return Converge(request.path.parents[1] / "converge.yml", lab.inventory)


@pytest.fixture
def remove(lab: Lab, request: pytest.FixtureRequest) -> Converge:
    """Runs the playbook that the scenario ends with."""
    return Converge(request.path.parents[1] / "cleanup.yml", lab.inventory)


@pytest.fixture
def served(nas: NfsServer) -> Iterator[NfsServer]:
    """The server, for tests that break it: back in service afterwards."""
    yield nas
    nas.join()
    if nas.running():
        nas.resume()
    nas.start()
