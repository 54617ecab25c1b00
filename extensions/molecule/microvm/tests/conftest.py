# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook that moves machines to the second host."""

from __future__ import annotations

from pathlib import Path

import pytest

from extensions.molecule.managed import Converge
from tests.lab import Lab


@pytest.fixture(scope="session")
def evacuate(lab: Lab) -> Converge:
    """The playbook that moves machines, with what the inventory says of hosts."""
    return Converge(Path(__file__).parents[1] / "evacuate.yml", lab.inventory)
