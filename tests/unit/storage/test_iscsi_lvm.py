# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be asked of a LUN, and what its node record must say."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import iscsi_lvm
from ansible_collections.microvm.host.plugins.module_utils._storage.iscsi_lvm import Secrets

ITEM = {"portal": "san", "iqn": "iqn.2026-01.lab:open", "lun": 1, "vg": "vg"}
CHAP = {**ITEM, "username": "host", "password": "lab-secret-14"}


def test_what_is_asked_is_in_one_form() -> None:
    found = iscsi_lvm.asked({**ITEM, "portals": ["SAN:3260", "[2001:DB8::7]"], "layout": "thin"}, "")
    assert found["portals"] == ["san:3260", "[2001:db8::7]:3260"], "the same portal twice is once"
    assert (found["thin_pool"], found["access"], found["saferemove"]) == (iscsi_lvm.POOL, "exclusive", False)
    assert iscsi_lvm.identity(found) == "iqn.2026-01.lab:open|1"
    assert iscsi_lvm.asked(CHAP, "")["username"] == "host"
    assert "lab-secret-14" not in repr(iscsi_lvm.asked(CHAP, ""))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"portal": None}, "portal"),
        ({"portal": "san:x"}, "portal"),
        ({"portals": ["ok", "-bad-"]}, "portals[1]"),
        ({"iqn": None}, "iqn"),
        ({"iqn": "../../etc"}, "iqn"),
        ({"lun": -1}, "lun"),
        ({"lun": 256}, "lun"),
        ({"vg": None}, "vg"),
        ({"vg": "a/b"}, "vg"),
        ({"initialize": "yes"}, "initialize"),
        ({"initialize": "vg2"}, "initialize"),
        ({"access": "shared"}, "access"),
        ({"thin_pool": "pool"}, "thin_pool"),
        ({"layout": "thin", "thin_pool": "-pool"}, "thin_pool"),
        ({"initiator_name": "me"}, "initiator_name"),
        ({"username": ""}, "username"),
        ({"username": "a\nb"}, "username"),
        ({"mutual_username": "san"}, "mutual_username"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(HostError) as refused:
        iscsi_lvm.asked({**ITEM, **change}, "targets[3].")
    assert refused.value.field == f"targets[3].{field}"
    assert field in refused.value.message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"password": "a\nb"}, "password"),
        ({"password": " padded-secret"}, "password"),
        ({"password": "x" * 256}, "password"),
        ({"username": None}, "password"),
        ({"mutual_password": "san-secret-016"}, "mutual_password"),
        ({"mutual_username": "san", "mutual_password": "lab-secret-14"}, "mutual_password"),
    ],
)
def test_secrets_are_refused_by_field_and_never_shown(change: dict[str, Any], field: str) -> None:
    with pytest.raises(HostError) as refused:
        iscsi_lvm.secrets({**CHAP, **change}, "targets[3].")
    assert refused.value.field == f"targets[3].{field}"
    told = refused.value.message + refused.value.hint
    assert not any(str(change.get(key) or "-") in told for key in ("password", "mutual_password") if change.get(key))
    assert "lab-secret-14" not in repr(iscsi_lvm.secrets(CHAP, ""))


def test_a_blank_password_keeps_that_of_the_record() -> None:
    wanted = iscsi_lvm.asked(CHAP, "")
    given = iscsi_lvm.chap(wanted, Secrets("lab-secret-14"), {})
    record = iscsi_lvm.settings(wanted, given)
    blank = iscsi_lvm.secrets({**CHAP, "password": "", "mutual_password": ""}, "")
    assert blank == iscsi_lvm.secrets({**CHAP, "password": None}, "") == Secrets()
    kept = iscsi_lvm.chap(wanted, blank, record)
    assert kept == given
    with pytest.raises(HostError, match="password is required"):
        iscsi_lvm.chap(wanted, Secrets(), {})
    with pytest.raises(HostError, match="password is required"):
        iscsi_lvm.chap({**wanted, "username": "another"}, Secrets(), record)
    assert iscsi_lvm.chap(iscsi_lvm.asked(ITEM, ""), Secrets(), record) is None


def test_a_record_logs_in_by_itself_for_nobody_and_shows_one_lun() -> None:
    record = iscsi_lvm.settings(iscsi_lvm.asked(ITEM, ""), None)
    assert record["node.startup"] == record["node.conn[0].startup"] == record["node.session.scan"] == "manual"
    assert record["node.session.auth.authmethod"] == "None"
    assert not iscsi_lvm.differs({key: value for key, value in record.items() if value}, record)
    assert iscsi_lvm.differs({**record, "node.startup": "automatic"}, record)
    assert iscsi_lvm.differs({**record, "node.session.auth.password": "another"}, record)


def test_a_portal_where_it_was_is_known_until_it_is_there_again() -> None:
    first = {"portal": "san:3260", "address": "10.0.0.7", "port": 3260, "tag": 1}
    second = {**first, "address": "10.0.0.8", "tag": 2}
    facts = iscsi_lvm.learned({}, {**first, "wwid": "naa.1", "other": 1})
    assert facts == {**first, "wwid": "naa.1"} and iscsi_lvm.learned(facts, {}) == facts
    moved = iscsi_lvm.learned(facts, second)
    assert iscsi_lvm.places(moved) == [("10.0.0.8", 3260, 2), ("10.0.0.7", 3260, 1)]
    assert iscsi_lvm.places(iscsi_lvm.learned(moved, first)) == [("10.0.0.7", 3260, 1), ("10.0.0.8", 3260, 2)]
