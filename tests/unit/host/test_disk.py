# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims on a disk that is a file here; what makes a disk not blank is tried on real ones in the contract."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import disk


@pytest.fixture(name="device")
def a_disk(monkeypatch: pytest.MonkeyPatch) -> str:
    """A file that O_DIRECT works on: a tmpfs may not have it."""
    path = Path("/var/tmp", f"microvm-claim-{os.getpid()}")
    path.write_bytes(b"\xff" * (2 << 20))
    monkeypatch.setattr(disk, "CLAIM_SECONDS", 0.2)
    return str(path)


@pytest.fixture(autouse=True)
def gone(device: str) -> object:
    """The file goes afterwards."""
    yield
    Path(device).unlink()


def test_a_claim_stands_and_touches_one_sector(device: str) -> None:
    assert disk.claimed(device) == disk.NOBODY
    assert disk.claim(device, "hv1.1234 abc", disk.NOBODY)
    assert disk.claimed(device) == ("hv1.1234 abc", 0) and disk.claimed(device).host == "hv1.1234"
    content = Path(device).read_bytes()
    assert content[: disk.CLAIM_AT] == b"\xff" * disk.CLAIM_AT
    assert content[disk.CLAIM_AT + disk.SECTOR :].strip(b"\xff") == b""
    disk.forget_claim(device)
    assert disk.claimed(device) == disk.NOBODY


def test_of_two_claims_the_later_one_stands(device: str) -> None:
    found: dict[str, bool] = {}

    def claim(who: str, instead: disk.Claim) -> None:
        found[who] = disk.claim(device, who, instead)

    first = threading.Thread(target=claim, args=("hv1", disk.NOBODY))
    first.start()
    while disk.claimed(device).who != "hv1":
        pass
    claim("hv2", disk.claimed(device))
    first.join()
    assert found == {"hv1": False, "hv2": True}


def test_only_who_has_it_renews_it(device: str) -> None:
    assert disk.claim(device, "hv1", disk.NOBODY)
    assert disk.renew(device, "hv1") and disk.renew(device, "hv1")
    assert disk.claimed(device) == ("hv1", 2)
    assert not disk.renew(device, "hv2")
    assert not disk.claim(device, "hv2", disk.NOBODY), "it is not nobody's"
    assert not disk.claim(device, "hv2", disk.Claim("hv1", 1)), "its host is at it"
    assert disk.claimed(device) == ("hv1", 2)


def test_a_claim_that_comes_late_is_not_trusted(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LATE_SECONDS", 0.0)
    assert not disk.claim(device, "hv1", disk.NOBODY)
