# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that are dead or refuse: an error in time, nothing left behind, everything back when they are."""

from __future__ import annotations

import time
from typing import Any

import pytest

from extensions.molecule.calls import call, refused
from extensions.molecule.iscsi.tests.conftest import Asked, Group, found, statuses
from extensions.molecule.managed import Managed
from tests.lab import IscsiServer
from tests.lab.daemon import wait_until

OPEN: dict[str, Any] = {"name": "new", "portal": "san1", "iqn": "iqn.2026-01.lab:open", "lun": 2, "vg": "vg_new"}
CHAP = {**OPEN, "iqn": "iqn.2026-01.lab:chap", "username": "host", "password": "lab-secret-14"}
MUTUAL = {**OPEN, "iqn": "iqn.2026-01.lab:mutual", "lun": 2, "username": "host2", "password": "lab-secret-15"}
DELAY_SECONDS = 20
"""What a busy machine may add to a boot; less than a login at boot waits for its server."""


def left(host: Managed) -> str:
    """What a target would have left on a host: sessions, records, masks, files."""
    places = "/var/lib/iscsi/nodes /etc/iscsi/nodes /etc/systemd/system/lvm-activate-* /etc/microvm"
    return host.sh(
        f"cat /sys/class/iscsi_session/session*/targetname; find {places} -type f -o -type l 2>/dev/null || true"
    )


REFUSED: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({**CHAP, "password": "wrong"}, "auth", "password"),
    ({**CHAP, "username": "nobody"}, "conflict", "username"),
    ({**OPEN, "iqn": CHAP["iqn"]}, "conflict", "username"),
    ({**MUTUAL, "mutual_username": "san", "mutual_password": "wrong"}, "auth", "mutual_password"),
    ({**CHAP, "mutual_username": "san", "mutual_password": "wrong"}, "conflict", "mutual_username"),
    ({**OPEN, "iqn": "iqn.2026-01.lab:gone"}, "not_found", "iqn"),
    ({**OPEN, "lun": 9}, "not_found", "lun"),
    ({**OPEN}, "not_found", "initialize"),
    ({**OPEN, "portal": "san1:3999"}, "unreachable", "portal"),
)
"""Items, the kind of error that each gives, and the field that it names."""


def test_a_refusal_names_its_field_and_leaves_nothing(hv1: Managed) -> None:
    before = left(hv1)
    answers = hv1.run(*(call("iscsi_lvm", **item) for item, dummy, field in REFUSED))
    for answer, (item, kind, field) in zip(answers, REFUSED, strict=True):
        refused(answer, kind)
        assert answer.result["error"]["field"] == field, item
        secrets = [item[key] for key in ("password", "mutual_password") if key in item]
        assert not any(secret in str(answer.result).replace("password", "") for secret in secrets if secret != "wrong")
    assert left(hv1) == before


def test_what_is_not_blank_is_not_formatted(hv1: Managed, storage: IscsiServer) -> None:
    before = left(hv1)
    with storage.disk("open", 3).open("r+b") as file:
        file.seek(1080)
        file.write(b"\x53\xef")  # the magic number of ext4
    for initialize in (None, "vg_new"):
        answer = hv1.fails("iscsi_lvm", "conflict", **{**OPEN, "lun": 3, "initialize": initialize})
        assert "is not blank" in answer.result["msg"]
    assert left(hv1) == before


def test_a_lun_that_lost_its_group_is_refused_and_never_formatted_again(hv1: Managed, storage: IscsiServer) -> None:
    before = left(hv1)
    item = {**OPEN, "initialize": "vg_new"}
    out = {"name": "new", "state": "logged_out"}
    made, left_alone = hv1.run(call("iscsi_lvm", **item), call("iscsi_lvm", **out))
    assert made.changed and left_alone.changed and not made.failed
    storage.blank("open", 2)
    answer = hv1.fails("iscsi_lvm", "conflict", **item)
    assert "is not the disk that was registered" in answer.result["msg"]
    assert storage.disk("open", 2).stat().st_blocks == 0
    hv1.works("iscsi_lvm", name="new", state="absent")
    assert left(hv1) == before


@pytest.mark.parametrize("how", ["pause", "cut", "stop"])
def test_a_dead_server(hv1: Managed, asked: Asked, served: IscsiServer, how: str) -> None:
    before = found(asked.run(hv1))
    getattr(served, how)()
    begun = time.monotonic()
    answer = hv1.fails("iscsi_lvm", "unreachable", **{**OPEN, "timeout": 8})
    assert time.monotonic() - begun < 60
    assert answer.result["target"]["actions"] == []
    answers = asked.run(hv1)
    assert not any(answer.failed or answer.changed for answer in answers)
    assert set(statuses(answers).values()) == {"unreachable"}
    assert all("unreachable" in answer.warnings for answer in answers)
    served.join()
    if how == "pause":
        served.resume()
    served.start()

    def well() -> bool:
        now = found(asked.run(hv1))
        return all(now[name]["status"] == item["status"] for name, item in before.items())

    wait_until(well, 90, "the sessions to come back by themselves")


LOAD = """
import os
disk, progress = os.open("{disk}", os.O_WRONLY | os.O_DSYNC), os.open("/run/load", os.O_RDWR | os.O_CREAT)
number = 0
while not os.path.exists("/run/enough"):
    os.pwrite(disk, b"%8d" % number * 64, number % 10000 * 512)
    os.pwrite(progress, b"%8d" % number, 0)
    number += 1
"""
"""Writes block after block, each of which is on the server before the next, until it is told that it is enough."""
WRITTEN = """
import os
last = int(open("/run/load").read())
disk = open("{disk}", "rb")
for number in range(max(0, last - 9999), last + 1):
    disk.seek(number % 10000 * 512)
    assert disk.read(512) == b"%8d" % number * 64, number
"""


def test_a_session_lost_under_load_comes_back(
    pair: tuple[Managed, Managed], asked: Asked, group: Group, served: IscsiServer
) -> None:
    """Who writes waits meanwhile, and loses nothing: no error of the disk, no block that is not there."""
    owner, dummy = pair
    disk = group.make("load", "8M")

    def progress() -> int:
        return int(owner.sh("cat /run/load 2>/dev/null || true") or 0)

    def goes_on() -> bool:
        before = progress()
        return progress() > before

    owner.host.ssh("cat > /run/load.py", stdin=LOAD.format(disk=disk))
    owner.sh("rm -f /run/load /run/enough; systemd-run --quiet --unit=load python3 /run/load.py")
    try:
        wait_until(lambda: progress() > 50, 30, "the load to begin")
        owner.fails("storage_backend", "in_use", name="san", state="absent")
        served.cut()
        state = "cat /sys/class/iscsi_session/session*/state"
        wait_until(lambda: "FAILED" in owner.sh(state), 60, "the loss of the session to be noticed")
        assert not goes_on()
        answers = asked.run(owner)
        assert not any(answer.failed or answer.changed for answer in answers)
        assert statuses(answers)["san"] == "unreachable"
        owner.fails("storage_backend", "unreachable", name="san", state="absent")
        served.join()
        wait_until(goes_on, 90, "the load to go on")
        assert owner.sh("systemctl is-active load").strip() == "active"
    finally:
        owner.sh("touch /run/enough; while systemctl is-active --quiet load; do sleep 0.2; done")
    assert owner.sh("systemctl --failed --no-legend") == ""
    owner.host.ssh(f"blockdev --flushbufs {disk}; python3 -", stdin=WRITTEN.format(disk=disk))
    group.lvm("lvremove", "vg_san/load")
    assert statuses(asked.run(owner))["san"] == "ok"


def test_a_thin_pool_is_warned_of_before_it_is_full(pair: tuple[Managed, Managed], asked: Asked, group: Group) -> None:
    owner, dummy = pair
    disk = group.make("big", "1G")

    def pool() -> tuple[float, str]:
        (answer, other) = asked.run(owner)
        assert not any(each.failed or each.changed for each in (answer, other))
        return found([answer, other])["san"]["capacity"]["data_percent"], answer.warnings

    size = found(asked.run(owner))["san"]["capacity"]["total_bytes"] >> 20
    part = size * 85 // 100
    write = f"dd if=/dev/zero of={disk} bs=1M oflag=direct status=none"
    waits = "/sys/module/dm_thin_pool/parameters/no_space_timeout"
    before = owner.sh(f"cat {waits}; echo 0 > {waits}").strip()  # for ever: this machine may be busy
    owner.sh(f"{write} count={part}")
    full, warnings = pool()
    assert 80 <= full < 100 and "vg_san/microvm-pool: data is 8" in warnings
    owner.sh(f"systemd-run --quiet --unit=fill {write} count={size - part + 2} seek={part}")
    wait_until(lambda: pool()[0] == 100.0, 60, "the pool to be full")
    assert owner.sh("systemctl is-active fill").strip() == "active", "who writes waits for space"
    group.lvm("lvextend", "--extents +100%FREE vg_san/microvm-pool")
    owner.sh("timeout 60 sh -c 'while systemctl is-active --quiet fill; do sleep 0.2; done'")
    owner.sh(f"echo {before} > {waits}")
    assert owner.sh("systemctl --failed --no-legend") == ""
    group.lvm("lvremove", "vg_san/big")
    assert pool() == (0.0, "")


def test_what_a_thin_pool_has_no_room_for_leaves_nothing(
    pair: tuple[Managed, Managed], asked: Asked, group: Group
) -> None:
    """A file tells how much data it holds, a block device does not. The pool is never written to its end."""
    owner, dummy = pair

    def state() -> tuple[str, Any]:
        lvs = group.lvm("lvs", "--noheadings -o lv_name,lv_size,lv_tags,data_percent vg_san")
        return lvs, owner.works("host_info", refresh=True).result["volumes"]

    def emptied(name: str) -> None:
        gone = {"volumes": [{"name": name, "state": "absent"}]}, {"volumes": [], "prune_images": True}
        assert all(answer.changed for answer in owner.run(*(call("storage_volume", **options) for options in gone)))

    size = found(asked.run(owner))["san"]["capacity"]["free_bytes"] * 3 // 5 >> 20
    owner.sh(f"for name in filler large; do head -c {size}M /dev/urandom > /srv/$name; done")
    owner.works("storage_volume", name="filler", backend="san", image="/srv/filler")
    before = state()
    for image in ("/dev/vg_san/filler", "/srv/large"):
        large = {"name": "large", "backend": "san", "image": image, "size": "1GiB"}
        assert "bytes are needed" in owner.fails("storage_volume", "full", **large).result["msg"]
        assert state() == before
    emptied("filler")
    owner.converges("storage_volume", **large)
    owner.sh(f"cmp -n {size << 20} /srv/large /dev/vg_san/large; rm /srv/large /srv/filler")
    emptied("large")


def booted(host: Managed) -> float:
    """Seconds from the start of the kernel until the usual target was up."""
    host.sh("timeout 50 sh -c 'until systemctl is-active --quiet multi-user.target; do sleep 0.1; done'")
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
