# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of kill points: those that passed, those that failed, those whose call never came."""

from __future__ import annotations

from collections.abc import Iterable

from tests.lab import counts

ATTEMPTS = 5
"""How often a point is aimed at: what it is counted by varies from run to run."""
UNREACHED = 0.02
"""The share of points that may turn out unreachable because the run took another course."""


class Tally:
    """Of one test."""

    def __init__(self) -> None:
        self.passed = 0
        self.failures: list[str] = []
        self.unreached: list[str] = []

    def came(self, point: str, hits: Iterable[bool]) -> bool:
        """Aim at a point until it was hit, ATTEMPTS times at most: each of ``hits`` is one, and checks what is left."""
        if not any(hit for dummy, hit in zip(range(ATTEMPTS), hits, strict=False)):
            self.unreached.append(point)
            return False
        self.passed += 1
        counts.add("kill points")
        return True

    def failed(self, point: str, error: Exception) -> None:
        """Remember a failure, and tell of it at once: the rest may take hours."""
        self.failures.append(f"{point}: {str(error)[:1500]}")
        print(f"FAILED {self.failures[-1]}", flush=True)

    def verdict(self) -> None:
        """AssertionError unless all passed, but for a few that were not reached."""
        aimed = self.passed + len(self.failures) + len(self.unreached)
        print(f"{self.passed} of {aimed} kill points passed, {len(self.unreached)} not reached", flush=True)
        assert not self.failures, f"{len(self.failures)} of {aimed} failed:\n" + "\n".join(self.failures)
        assert len(self.unreached) <= max(1, UNREACHED * aimed), "not reached:\n" + "\n".join(self.unreached)
