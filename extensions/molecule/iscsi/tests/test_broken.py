# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that are dead or refuse: an error in time, nothing left behind, everything back when they are."""

from __future__ import annotations

import time
from typing import Any

import pytest

from extensions.molecule.iscsi.tests.conftest import Asked, found, statuses
from extensions.molecule.managed import Managed
from tests.lab import IscsiServer
from tests.lab.daemon import wait_until

OPEN: dict[str, Any] = {"name": "new", "portal": "san1", "iqn": "iqn.2026-01.lab:open", "lun": 2, "vg": "vg_new"}
CHAP = {**OPEN, "iqn": "iqn.2026-01.lab:chap", "username": "host", "password": "lab-secret-14"}
MUTUAL = {**OPEN, "iqn": "iqn.2026-01.lab:mutual", "lun": 2, "username": "host2", "password": "lab-secret-15"}
DELAY_SECONDS = 5


def left(host: Managed) -> str:
    """What a target would have left on a host: sessions, records, masks, files."""
    places = "/var/lib/iscsi/nodes /etc/iscsi/nodes /etc/systemd/system/lvm-activate-* /etc/microvm"
    return host.sh(
        f"cat /sys/class/iscsi_session/session*/targetname; find {places} -type f -o -type l 2>/dev/null || true"
    )


@pytest.mark.parametrize(
    ("item", "kind", "field"),
    [
        ({**CHAP, "password": "wrong"}, "auth", "password"),
        ({**CHAP, "username": "nobody"}, "conflict", "username"),
        ({**OPEN, "iqn": CHAP["iqn"]}, "conflict", "username"),
        ({**MUTUAL, "mutual_username": "san", "mutual_password": "wrong"}, "auth", "mutual_password"),
        ({**CHAP, "mutual_username": "san", "mutual_password": "wrong"}, "conflict", "mutual_username"),
        ({**OPEN, "iqn": "iqn.2026-01.lab:gone"}, "not_found", "iqn"),
        ({**OPEN, "lun": 9}, "not_found", "lun"),
        ({**OPEN}, "not_found", "initialize"),
        ({**OPEN, "portal": "san1:3999"}, "unreachable", "portal"),
    ],
)
def test_a_refusal_names_its_field_and_leaves_nothing(
    hv1: Managed, item: dict[str, Any], kind: str, field: str
) -> None:
    before = left(hv1)
    answer = hv1.fails("iscsi_lvm", kind, **item)
    assert answer.result["error"]["field"] == field
    assert left(hv1) == before
    secrets = [item[key] for key in ("password", "mutual_password") if key in item]
    assert not any(secret in str(answer.result).replace("password", "") for secret in secrets if secret != "wrong")


def test_what_is_not_blank_is_not_formatted(hv1: Managed, storage: IscsiServer) -> None:
    before = left(hv1)
    with storage.disk("open", 3).open("r+b") as file:
        file.seek(1080)
        file.write(b"\x53\xef")  # the magic number of ext4
    for initialize in (None, "vg_new"):
        answer = hv1.fails("iscsi_lvm", "conflict", **{**OPEN, "lun": 3, "initialize": initialize})
        assert "is not blank" in answer.result["msg"]
    assert left(hv1) == before


@pytest.mark.parametrize("how", ["pause", "cut", "stop"])
def test_a_dead_server(hv1: Managed, asked: Asked, served: IscsiServer, how: str) -> None:
    before = found(asked.run(hv1))
    getattr(served, how)()
    begun = time.monotonic()
    answer = hv1.fails("iscsi_lvm", "unreachable", **{**OPEN, "timeout": 8})
    assert time.monotonic() - begun < 25
    assert answer.result["target"]["actions"] == []
    answers = asked.run(hv1)
    assert not any(answer.failed or answer.changed for answer in answers)
    assert set(statuses(answers).values()) == {"unreachable", "ok"}, "the local backend works"
    assert "unreachable" in answers[0].warnings
    served.join()
    if how == "pause":
        served.resume()
    served.start()

    def well() -> bool:
        now = found(asked.run(hv1))
        return all(now[name]["status"] == item["status"] for name, item in before.items())

    wait_until(well, 90, "the sessions to come back by themselves")


def booted(host: Managed) -> float:
    """Seconds from the start of the kernel until the usual target was up."""
    host.sh("timeout 50 sh -c 'until systemctl is-active --quiet multi-user.target; do :; done'")
    shown = host.sh("systemctl show --property=ActiveEnterTimestampMonotonic --value multi-user.target")
    return int(shown) / 1e6


def test_reboot(hv1: Managed, asked: Asked, served: IscsiServer) -> None:
    before = statuses(asked.run(hv1))

    def well() -> bool:
        answers = asked.run(hv1, check=True)
        return not any(answer.changed or answer.failed for answer in answers) and statuses(answers) == before

    hv1.host.reboot()
    usual = booted(hv1)
    wait_until(well, 60, "the LUNs to come back")
    assert hv1.sh("systemctl --failed --no-legend") == ""

    hv1.host.kill()
    served.cut()
    hv1.host.boot()
    assert booted(hv1) - usual < DELAY_SECONDS
    served.join()
    wait_until(well, 120, "the LUNs to come back by themselves")
