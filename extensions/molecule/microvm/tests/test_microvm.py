# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of site.yml: its guest has disk and directories, stops when asked, and comes back after its storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from extensions.molecule.managed import Managed
from tests.lab import NfsServer
from tests.lab.daemon import wait_until

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
    hv1.works("microvm", name="web1", timeout=180)
    wait_boot(hv1, 1)
    yield boots(hv1)


def test_the_guest_has_what_its_machine_says(hv1: Managed, up: int) -> None:
    lines = console(hv1)
    assert "GUEST-MOUNTED home /home virtiofs rw" in lines
    assert "GUEST-READS /home hello from the host" in lines and "GUEST-WROTE /home" in lines
    assert hv1.sh("cat /srv/nas/home/back") == "from guest\n"
    assert "GUEST-READS /images hello from the host" in lines
    assert "GUEST-REFUSED /images" in lines, "a guest that mounts it writable can write"
    assert hv1.sh("ls /srv/images").split() == ["guest.sh", "hello"]
    assert "GUEST-DISK vda root 16384" in lines
    (machine,) = hv1.works("host_info").result["machines"]
    assert (machine["status"], machine["accelerator"]) == ("running", "tcg")
    tap = machine["taps"][0]
    assert "UP" in hv1.sh(f"ip -br link show {tap}")


def test_it_stops_when_asked_and_finds_its_data_again(hv1: Managed, up: int) -> None:
    (stopped,) = hv1.works("microvm", name="web1", state="stopped").result["machines"]
    assert (stopped["stopped"], stopped["status"]) == ("powered off", "stopped")
    left = hv1.sh("tr -d '\\000' < /srv/nas/web1.raw").strip()
    assert left.startswith("boot ")
    hv1.works("microvm", name="web1", timeout=180)
    assert left in wait_boot(hv1, up + 1), "the disk is another one"


def test_shares_work_again_after_virtiofsd_was_killed(hv1: Managed, up: int) -> None:
    hv1.sh("systemctl kill --signal=KILL microvm-fs@web1@home.service")
    hv1.sh("systemctl kill --signal=KILL microvm@web1.service")  # its guest waits for the share for ever
    hv1.works("microvm", name="web1", timeout=180)
    assert "GUEST-WROTE /home" in wait_boot(hv1, up + 1)


def test_it_comes_back_with_the_host_also_when_its_storage_is_late(hv1: Managed, nas: NfsServer, up: int) -> None:
    hv1.host.kill()
    nas.cut()
    hv1.host.boot()
    before = boots(hv1)  # power loss may have taken the last lines of the log
    nas.join()
    lines = wait_boot(hv1, before + 1)
    assert "GUEST-WROTE /home" in lines and "GUEST-DISK vda root 16384" in lines
