# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of mount units, compared with what systemd-escape --path --suffix=mount said (systemd 257), and their text."""

from __future__ import annotations

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import systemd


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/", "-.mount"),
        ("/var/lib/microvm/mounts/nas-abc12345", r"var-lib-microvm-mounts-nas\x2dabc12345.mount"),
        ("/a b", r"a\x20b.mount"),
        ("/.hid/x", r"\x2ehid-x.mount"),
        ("/foo//bar/", "foo-bar.mount"),
        ("/\u00e4", r"\xc3\xa4.mount"),
        ("/a@b+c%d", r"a\x40b\x2bc\x25d.mount"),
        ("/x\\y", r"x\x5cy.mount"),
        ("/a-b_c:d.", r"a\x2db_c:d..mount"),
    ],
)
def test_unit_names(path: str, unit: str) -> None:
    assert systemd.unit_of_path(path) == unit


def test_text_of_a_mount_unit() -> None:
    text = systemd.mount_unit("nas:/a%b", "/mnt/50%", "nfs", "vers=4.2,_netdev,nofail", 30, ["After=rpc-statd.service"])
    assert text.splitlines() == [
        "# Made by microvm.host, which overwrites changes.",
        "[Unit]",
        "Description=nas:/a%%b (microvm.host)",
        "Wants=network-online.target",
        "After=network-online.target",
        "After=rpc-statd.service",
        "",
        "[Mount]",
        "What=nas:/a%%b",
        "Where=/mnt/50%%",
        "Type=nfs",
        "Options=vers=4.2,_netdev,nofail",
        "TimeoutSec=30",
        "",
        "[Install]",
        "WantedBy=remote-fs.target",
    ]
    assert text.endswith("\n")
