# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario's own lab."""

from __future__ import annotations

import pytest

from tests.lab import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab that prepare has made."""
    return Lab.load("moleculevm")
