# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which scenarios there are, and in which order they are begun."""

from __future__ import annotations

from tests.gates import scenarios
from tests.gates.paths import MIRROR


def test_all_are_known_and_the_one_for_untouched_hosts_is_first() -> None:
    known = scenarios.known()
    assert sorted(known) == sorted(path.parent.name for path in MIRROR.glob("extensions/molecule/*/converge.yml"))
    assert tuple(known[: len(scenarios.LONG) + 1]) == (scenarios.FIRST, *scenarios.LONG)


def test_a_scenario_with_hosts_of_its_own_is_told_from_the_others() -> None:
    assert scenarios.shares("nfs")
    assert not scenarios.shares("bookworm")


def test_the_name_of_every_lab_is_short_enough() -> None:
    assert all(len(f"molecule-{name}") <= 20 for name in scenarios.known() if not scenarios.shares(name))


def test_the_closing_line_of_pytest_is_found() -> None:
    for line in ("====== 13 passed in 280.23s (0:04:40) ======", "= 2 failed, 11 passed in 326.31s ="):
        match = scenarios.CLOSING.match(line)
        assert match is not None and match[1].startswith(("13 passed", "2 failed"))
    assert scenarios.CLOSING.match("hv1 : ok=10 changed=2 unreachable=0 failed=0") is None
