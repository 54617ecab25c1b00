# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that host_info asks: which options each takes, what an answer is, how an export is told from a directory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import command, net
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._info import discovery, offers

OPTIONS = ("server", "portal", "username", "password", "domain", "mutual_username", "mutual_password", "initiator_name")


def item(**given: Any) -> dict[str, Any]:
    """An item as AnsibleModule hands it over."""
    return {"kind": None, **dict.fromkeys(OPTIONS), **given}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"kind": "nfs"}, "discover[0].server"),
        ({"kind": "nfs", "server": "a/b"}, "discover[0].server"),
        ({"kind": "nfs", "server": "nas", "password": "x"}, "discover[0].password"),
        ({"kind": "smb", "server": "nas", "username": "svc"}, "discover[0].password"),
        ({"kind": "smb", "server": "nas", "password": "x"}, "discover[0].username"),
        ({"kind": "smb", "server": "nas", "username": "a%b", "password": "x"}, "discover[0].username"),
        ({"kind": "smb", "portal": "nas"}, "discover[0].portal"),
        ({"kind": "iscsi_lvm", "server": "san"}, "discover[0].server"),
        ({"kind": "iscsi_lvm"}, "discover[0].portal"),
        ({"kind": "iscsi_lvm", "portal": "san:x"}, "discover[0].portal"),
        ({"kind": "iscsi_lvm", "portal": "san", "username": "svc"}, "discover[0].password"),
        ({"kind": "iscsi_lvm", "portal": "san", "password": "x"}, "discover[0].username"),
        ({"kind": "iscsi_lvm", "portal": "san", "mutual_username": "san"}, "discover[0].mutual_password"),
        ({"kind": "iscsi_lvm", "portal": "san", "initiator_name": "x"}, "discover[0].initiator_name"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(HostError) as refused:
        discovery.servers([item(**given)])
    assert (refused.value.kind, refused.value.field) == ("invalid", field)


def test_too_many_are_refused() -> None:
    with pytest.raises(HostError) as refused:
        discovery.servers([item(kind="nfs", server=f"nas{number}") for number in range(17)])
    assert refused.value.field == "discover"


def test_each_server_has_an_answer_of_its_own_and_a_deadline() -> None:
    def refuse(until: float) -> offers.Offers:
        raise HostError("auth", "no", "ask another", field="password")

    def hang(until: float) -> offers.Offers:
        time.sleep(60)
        return []

    asked = [
        discovery.Server("nfs", ("server", "dead"), hang),
        discovery.Server("smb", ("server", "strict"), refuse),
        discovery.Server("iscsi_lvm", ("portal", "san"), lambda until: [{"iqn": "iqn.x", "portals": []}]),
    ]
    begun = time.monotonic()
    silent, strict, san = discovery.Discovery(asked, 0.5).told()
    assert time.monotonic() - begun < 5
    assert (silent["server"], silent["offers"], silent["error"]["kind"]) == ("dead", [], "timeout")
    assert (strict["error"]["kind"], strict["error"]["message"], strict["error"]["item"]) == ("auth", "no", "strict")
    assert san == {"kind": "iscsi_lvm", "portal": "san", "offers": [{"iqn": "iqn.x", "portals": []}]}


def served(root: Path, *borders: str) -> Callable[[int], os.stat_result]:
    """``os.fstat`` of a server's name space: behind each of ``borders`` is another file system."""
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        path = "/" + os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), root)
        behind = [border for border in borders if f"{path}/".startswith(f"{border}/")]
        return os.stat_result((*found[:2], max(map(len, behind), default=0), *found[3:10]))

    return fstat


@pytest.mark.parametrize(
    ("tree", "borders", "expected"),
    [
        (["/export/rw/disk.raw", "/export/ro/"], ("/export/rw", "/export/ro"), ["/export/ro", "/export/rw"]),
        (["/tank/vms/a/b/", "/tank/iso/x"], ("/tank", "/tank/vms", "/tank/iso"), ["/tank/iso", "/tank/vms"]),
        (["/tank/vms/x", "/tank/notes"], ("/tank", "/tank/vms"), ["/tank", "/tank/vms"]),
        (["/home/me/", "/readme"], (), []),
        ([], (), []),
    ],
    ids=["pseudo", "borders_that_only_lead_on", "nested", "root_is_the_export", "empty"],
)
def test_an_export_begins_at_another_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: list[str], borders: tuple[str, ...], expected: list[str]
) -> None:
    for path in tree:
        place = tmp_path / path.strip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            place.mkdir()
        else:
            place.touch()
    monkeypatch.setattr(os, "fstat", served(tmp_path, *borders))
    root = os.open(tmp_path, offers.DIRECTORY)
    try:
        assert list(offers.exports(root, "")) == expected
    finally:
        os.close(root)


LISTED = """Disk|vms|
Disk|with space|two | bars
Disk|guest|
IPC|IPC$|IPC Service (Samba 4.22.11-Debian-4.22.11+dfsg-0+deb13u1)
SMB1 disabled -- no workgroup available
"""


def test_shares_are_those_of_disks() -> None:
    assert offers.shares(LISTED) == [
        {"share": "vms", "comment": ""},
        {"share": "with space", "comment": "two | bars"},
        {"share": "guest", "comment": ""},
    ]


def test_showmount_names_those_who_may_too() -> None:
    text = "/export/e98    (everyone)\n/export/with space 10.0.0.0/24,10.1.0.1\n"
    assert offers.listed(text) == ["/export/e98", "/export/with space"]


@pytest.mark.parametrize(
    ("said", "kind", "field"),
    [
        ("session setup failed: NT_STATUS_LOGON_FAILURE\n", "auth", "password"),
        ("NT_STATUS_ACCESS_DENIED listing \\*\n", "refused", "username"),
    ],
)
def test_a_refused_login_is_told(monkeypatch: pytest.MonkeyPatch, said: str, kind: str, field: str) -> None:
    """smbclient says it on its standard output, and returns 1."""
    heard = []

    def run(argv: list[str], seconds: float, writes: bool, keeps: list[int], **more: Any) -> str:
        heard.append(os.read(keeps[0], 100))
        assert "secret" not in f"{argv}{more}"
        return said

    monkeypatch.setattr(command, "find", lambda program: program)
    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(net, "resolve", lambda server: [])
    monkeypatch.setattr(net, "reach", lambda *where: None)
    ask = offers.of_smb(item(kind="smb", server="nas", username="svc", password="a secret"), "")
    with pytest.raises(HostError) as refused:
        ask(time.monotonic() + 5)
    assert (refused.value.kind, refused.value.field) == (kind, field)
    assert heard == [b"a secret\n"]
