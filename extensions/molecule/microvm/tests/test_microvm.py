# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of site.yml: their guests have disks and directories, stop when asked, and come back after their storage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extensions.molecule.calls import call
from extensions.molecule.managed import Converge, Managed
from tests.lab import NfsServer
from tests.lab.daemon import wait_until
from tests.machines import guests

MACHINE: dict[str, Any] = next(
    each
    for each in yaml.safe_load(Path(__file__).parents[1].joinpath("host_vars/hv1.yml").read_text())["microvm_machines"]
    if each["name"] == "web1"
)
DISKS = ("nas-*/web1-root.raw", "office-*/web1-data.raw")
"""Where they are below the directory of mounts."""
BOOT_SECONDS = 300
"""An emulated guest on an emulated host, on a busy machine."""
CONSOLE = "/var/lib/microvm/machines/web1/log/console.log"


def console(host: Managed) -> list[str]:
    """What the guest said since its last start."""
    text = host.sh(f"cat {CONSOLE}")
    return text[text.rfind("GUEST-UP") :].split("\n") if "GUEST-UP" in text else []


def boots(host: Managed) -> int:
    """How often the guest came up."""
    return int(host.sh(f"grep -c GUEST-READY {CONSOLE} || true"))


def wait_boot(host: Managed, number: int) -> list[str]:
    """The console of the guest's boot of that number, when it is ready."""
    wait_until(lambda: boots(host) >= number, BOOT_SECONDS, "the guest to be ready", interval=1)
    return console(host)


@pytest.fixture
def up(hv1: Managed) -> Iterator[int]:
    """The machine runs and its guest is ready; how often it was up until now."""
    hv1.works("microvm", name="web1", timeout=300)
    wait_boot(hv1, 1)
    yield boots(hv1)


def test_the_guest_has_what_its_machine_says(hv1: Managed, up: int) -> None:
    lines = console(hv1)
    assert "GUEST-MOUNTED home /home virtiofs rw" in lines
    assert "GUEST-READS /home hello from the host" in lines and "GUEST-WROTE /home" in lines
    assert hv1.sh("cat /srv/home/back") == "from guest\n"
    assert "GUEST-READS /images hello from the host" in lines
    assert "GUEST-REFUSED /images" in lines, "a guest that mounts it writable can write"
    assert hv1.sh("ls /srv/images").split() == ["guest.sh", "hello"]
    assert "GUEST-DISK vda root 16384" in lines and "GUEST-DISK vdb data 8192" in lines
    toy, web = hv1.works("host_info").result["machines"]
    assert (web["status"], web["accelerator"], web["volumes"]) == ("running", "tcg", ["web1-root", "web1-data"])
    assert (toy["status"], toy["volumes"]) == ("running", ["toy1-root"])
    assert "UP" in hv1.sh(f"ip -br link show {web['taps'][0]}")


def test_what_it_has_is_not_taken_away_under_it(hv1: Managed, hv2: Managed, up: int) -> None:
    volume = {"name": "web1-root", "backend": "nas"}
    backend, absent, copy = hv1.run(
        call("storage_backend", name="nas", state="absent"),
        call("storage_volume", **volume, state="absent"),
        call("storage_volume", **volume, snapshots=["now"]),
    )
    assert [each.result["error"]["kind"] for each in (backend, absent, copy)] == ["in_use"] * 3
    assert "live volume" in backend.result["msg"] and "disk of the machine web1" in absent.result["msg"]
    assert "machine web1" in copy.result["msg"]
    toy = {"name": "thief", "kernel": guests.TOY, "memory": "64MiB", "root": {"volume": "web1-root", "backend": "nas"}}
    other = hv2.fails("microvm", "in_use", **toy, adopt=True)
    assert "machine web1 on hv1" in other.result["msg"]
    assert hv2.works("host_info").result["machines"] == []


def test_its_disk_grows_and_the_guest_knows(hv1: Managed, up: int) -> None:
    web = hv1.works("host_info").result["machines"][1]
    assert not web["restart_required"]
    grown = {**MACHINE, "root": {"size": "12MiB", "backend": "nas"}}
    assert not hv1.converges("microvm", **grown).result["machine"]["restart_required"]
    wait_until(lambda: "GUEST-GREW vda 24576" in console(hv1), 60, "the guest to see its disk grow", interval=1)
    hv1.works("microvm", **{**grown, "vcpus": 2})
    assert hv1.works("host_info").result["machines"][1]["restart_required"]
    hv1.works("microvm", **grown)


def test_it_stops_when_asked_and_finds_its_data_again(hv1: Managed, up: int) -> None:
    (stopped,) = hv1.works("microvm", name="web1", state="stopped").result["machines"]
    assert (stopped["stopped"], stopped["status"]) == ("powered off", "stopped")
    assert "holder" not in hv1.sh("cat /var/lib/microvm/mounts/nas-*/.microvm/locks/web1-root"), "it has kept its lock"
    left = [hv1.sh(f"tr -d '\\000' < /var/lib/microvm/mounts/{disk}").strip() for disk in DISKS]
    assert all(each.startswith("boot ") for each in left) and left[0] == left[1]
    hv1.works("microvm", name="web1", timeout=300)
    assert wait_boot(hv1, up + 1).count(left[0]) == 2, "a disk is another one"


def test_shares_work_again_after_virtiofsd_was_killed(hv1: Managed, up: int) -> None:
    hv1.sh("systemctl kill --signal=KILL microvm-fs@web1@home.service")
    hv1.sh("systemctl kill --signal=KILL microvm@web1.service")  # its guest waits for the share for ever
    hv1.works("microvm", name="web1", timeout=300)
    assert "GUEST-WROTE /home" in wait_boot(hv1, up + 1)


def test_it_comes_back_with_the_host_also_when_its_storage_is_late(hv1: Managed, nas: NfsServer, up: int) -> None:
    hv1.host.kill()
    nas.cut()
    hv1.host.boot()
    before = boots(hv1)  # power loss may have taken the last lines of the log
    nas.join()
    lines = wait_boot(hv1, before + 1)
    assert "GUEST-WROTE /home" in lines and "GUEST-DISK vda root 24576" in lines


def test_it_is_moved_off_a_host_that_lost_its_power(hv1: Managed, hv2: Managed, evacuate: Converge, up: int) -> None:
    left = hv1.sh(f"tr -d '\\000' < /var/lib/microvm/mounts/{DISKS[0]}").strip()
    hv1.host.kill()
    # Without its second disk: an SMB server keeps the locks of a client that is gone for as long as TCP does.
    hosts = {"evacuate_from": "hv1", "evacuate_to": "hv2", "evacuate_dead": True}
    moved = evacuate("-e", json.dumps({**hosts, "microvm_machines": [{**MACHINE, "disks": []}]}))
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert left in wait_boot(hv2, 1), "it has other data"
    hv1.host.boot()
    refused = "journalctl -b --no-pager -u microvm-lock@web1.service | grep -c 'not locked' || true"
    wait_until(lambda: int(hv1.sh(refused)) > 0, 120, "the old host to try its machine", interval=1)
    assert [each["status"] for each in hv2.works("host_info").result["machines"]] == ["running"]
    hv1.works("microvm", name="web1", state="absent")
    (forgotten,) = hv1.works("storage_volume", name="web1-root", state="absent").result["volumes"]
    assert forgotten["actions"] == ["forget volume web1-root, which is that of hv2 now"]
    assert [each["status"] for each in hv2.works("host_info").result["machines"]] == ["running"]
