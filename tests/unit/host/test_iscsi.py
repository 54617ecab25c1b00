# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Node records in both layouts, sessions and disks of a sysfs as a lab host had it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import iscsi
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

IQN = "iqn.2026-01.lab:open"
RECORD = """# BEGIN RECORD 2.1.11
node.name = iqn.2026-01.lab:open
node.tpgt = 1
node.startup = automatic
iface.iscsi_ifacename = default
node.session.auth.authmethod = None
node.session.scan = auto
node.conn[0].address = 10.77.0.91
node.conn[0].port = 3260
# END RECORD
"""


@pytest.fixture(name="nodes")
def two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The directories of new and old open-iscsi."""
    nodes = [tmp_path / "var", tmp_path / "etc"]
    monkeypatch.setattr(iscsi, "NODES", tuple(map(str, nodes)))
    return nodes


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("layout", ["10.77.0.91,3260,1/default", "10.77.0.91,3260"])
def test_records_are_found_in_both_layouts(nodes: list[Path], place: int, layout: str) -> None:
    path = nodes[place] / IQN / layout
    path.parent.mkdir(parents=True)
    path.write_text(RECORD)
    assert iscsi.record(IQN, "10.77.0.91", 3260) == str(path)
    assert iscsi.record(IQN, "10.77.0.91", 3261) is None
    assert iscsi.record(IQN, "10.77.0.9", 3260) is None
    assert iscsi.record(IQN + "2", "10.77.0.91", 3260) is None


def test_a_record_is_changed_line_by_line() -> None:
    wanted = {
        "node.startup": "manual",
        "node.session.auth.authmethod": "CHAP",
        "node.session.auth.username": "host",
        "node.session.auth.password": "a = b # c",
        "iface.initiatorname": "",
    }
    text = iscsi.changed(RECORD, wanted)
    found = iscsi.settings(text)
    assert {key: found.get(key, "") for key in wanted} == wanted
    assert {key: value for key, value in found.items() if key not in wanted} == {
        key: value for key, value in iscsi.settings(RECORD).items() if key not in wanted
    }
    assert text.endswith("# END RECORD\n") and iscsi.changed(text, wanted) == text
    assert "username" not in iscsi.changed(text, {"node.session.auth.username": ""})


@pytest.fixture(name="sysfs")
def a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One session with LUN 2 attached."""
    session = tmp_path / "devices" / "host3" / "session7"
    files = {
        "iscsi_session/session7/targetname": IQN,
        "iscsi_session/session7/state": "LOGGED_IN",
        "iscsi_session/session7/username": "host",
        "iscsi_session/session7/password": "lab-secret-14",
        "iscsi_session/session7/username_in": "(null)",
        "iscsi_session/session7/password_in": "(null)",
        "connection7:0/iscsi_connection/connection7:0/persistent_address": "10.77.0.91",
        "connection7:0/iscsi_connection/connection7:0/persistent_port": "3260",
        "target3:0:0/3:0:0:2/wwid": "t10.IET     00010002   ",
        "target3:0:0/3:0:0:2/state": "running",
        "target3:0:0/3:0:0:2/block/sdb/size": "524288",
        "target3:0:0/3:0:0:0/state": "running",
    }
    for name, text in files.items():
        path = session / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    place = session / "iscsi_session" / "session7"
    (place / "device").symlink_to(session)
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "session7").symlink_to(place)
    monkeypatch.setattr(iscsi, "SESSIONS", str(tmp_path / "class"))
    return session


def test_sessions_and_their_disks(sysfs: Path) -> None:
    (session,) = iscsi.sessions(IQN)
    assert session == (7, IQN, "10.77.0.91", 3260, "LOGGED_IN", 3, str(sysfs))
    assert iscsi.sessions() == [session] and iscsi.sessions("iqn.2026-01.lab:chap") == []
    assert iscsi.disks(session) == [("sdb", 2, "t10.IET 00010002", "running")]
    assert iscsi.disk(session, 2) is not None and iscsi.disk(session, 0) is None, "a controller is no disk"
    assert iscsi.credentials(session) == ("host", "lab-secret-14", "", "")


def test_a_session_that_ends_while_it_is_read_is_none(sysfs: Path) -> None:
    (sysfs / "connection7:0/iscsi_connection/connection7:0/persistent_port").unlink()
    assert iscsi.sessions() == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("InitiatorName=iqn.2026-01.lab:hv1\n", "iqn.2026-01.lab:hv1"),
        ("# ours\nInitiatorName = iqn.2026-01.lab:hv1 \n", "iqn.2026-01.lab:hv1"),
    ],
)
def test_the_hosts_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str) -> None:
    monkeypatch.setattr(iscsi, "INITIATOR_NAME", str(tmp_path / "name"))
    (tmp_path / "name").write_text(text)
    assert iscsi.initiator_name() == name


@pytest.mark.parametrize("text", [None, "", "GenerateName=yes\n", "InitiatorName=\n"])
def test_a_host_without_a_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    monkeypatch.setattr(iscsi, "INITIATOR_NAME", str(tmp_path / "name"))
    if text is not None:
        (tmp_path / "name").write_text(text)
    with pytest.raises(HostError) as refused:
        iscsi.initiator_name()
    assert (refused.value.kind, refused.value.field) == ("unsupported", "initiator_name")
    assert ("install open-iscsi" in refused.value.hint) == (text is None), "it is there, and starting it makes no name"


@pytest.mark.parametrize(
    "value",
    ["iqn.2026-01.com.example:vms", "iqn.2005-10.org.freenas.ctl:a_b", "eui.0011223344AABBCC", "naa." + "5" * 32],
)
def test_names(value: str) -> None:
    assert iscsi.name(value, "iqn") == value


@pytest.mark.parametrize(
    "value",
    ["", "iqn", "iqn.", "iqn.2026.com", "iqn.2026-1.com", "iqn.2026-01.", "iqn.2026-01.com example", "iqn.2026-01.a/b",
     "eui.12", "naa.xyz", "../../etc", "iqn.2026-01.com.example:" + "x" * 220, "iqn.2026-01.a\n", None, 3],
)  # fmt: skip
def test_what_is_no_name_is_refused(value: object) -> None:
    with pytest.raises(HostError) as refused:
        iscsi.name(value, "targets[0].iqn")
    assert (refused.value.kind, refused.value.field) == ("invalid", "targets[0].iqn")
