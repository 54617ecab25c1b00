# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario's second host, and the playbook that moves machines there."""

from __future__ import annotations

from pathlib import Path

import pytest

from extensions.molecule.managed import Converge, Managed
from tests.lab import Lab


@pytest.fixture(scope="session")
def hv2(lab: Lab) -> Managed:
    """The second host."""
    return Managed(lab.hosts["hv2"], lab.inventory)


@pytest.fixture(scope="session")
def evacuate(lab: Lab) -> Converge:
    """The playbook that moves machines, with what the inventory says of hosts."""
    return Converge(Path(__file__).parents[1] / "evacuate.yml", lab.inventory)
