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

from extensions.molecule.calls import call, refused
from extensions.molecule.managed import Converge, Managed
from tests.lab import NfsServer
from tests.lab.daemon import wait_until
from tests.machines import guests

ASKED: dict[str, Any] = yaml.safe_load(Path(__file__).parents[1].joinpath("converge.yml").read_text())[-1]["vars"]
MACHINE: dict[str, Any] = ASKED["web1"]
GROWN = {
    **MACHINE,
    "root": {"size": "12MiB", "backend": "nas"},
    "disks": [{**disk, "size": "8MiB"} for disk in MACHINE["disks"]],
}
TOY = {"name": "toy1", "kernel": guests.TOY, "memory": "64MiB", "wait_for": "TOY-GUEST-READY"}
ROOT = "/var/lib/microvm/mounts/nas-*/web1-root.raw"
SIZES = {"root": 16384, "office": 8192, "san": 8192, "local": 8192, "upper": 8192}
"""Sectors of its disks, which are on four kinds of backend; the guest writes to all but the last as they are."""
GROWN_SIZES = {**dict.fromkeys(SIZES, 16384), "root": 24576}
LATE_SECONDS = 60
"""How long after the host its NFS server comes."""
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
    if hv1.sh("systemctl is-active microvm@web1.service", check=False).strip() not in ("active", "activating"):
        hv1.works("microvm", name="web1", timeout=300)
    wait_boot(hv1, 1)
    yield boots(hv1)


def hypervisor(host: Managed) -> int:
    """Its process ID, 0 while it does not run."""
    return int(host.sh("systemctl show --value -p MainPID microvm@web1.service"))


def left_on(host: Managed) -> str:
    """What the guest wrote to its first disk, and so to all of them."""
    text = host.sh(f"tr -d '\\000' < {ROOT}").strip()
    assert text.startswith("boot ")
    return text


def disks(sizes: dict[str, int]) -> set[str]:
    """What the guest says of disks with these sectors."""
    named = zip("abcde", sizes.items(), strict=True)
    return {f"GUEST-DISK vd{letter} {serial} {size}" for letter, (serial, size) in named}


def test_the_guest_has_what_its_machine_says(hv1: Managed, up: int) -> None:
    lines = console(hv1)
    assert "GUEST-MOUNTED home /home virtiofs rw" in lines
    assert "GUEST-READS /home hello from the host" in lines and "GUEST-WROTE /home" in lines
    assert "GUEST-READS /drop hello from the host" in lines and "GUEST-WROTE /drop" in lines
    assert hv1.sh("cd /srv/files && cat home/back drop/back") == "from guest\n" * 2
    assert hv1.sh("cd /srv/files && stat -c %U home/back drop/back").split() == ["root", "mvm-web1"]
    assert "GUEST-READS /images hello from the host" in lines
    assert "GUEST-REFUSED /images" in lines, "a guest that mounts it writable can write"
    assert "GUEST-READS /writable hello from the host" in lines and "GUEST-WROTE /writable" in lines
    assert hv1.sh("ls /srv/files/images").split() == ["guest.sh", "hello"]
    assert disks(SIZES) <= set(lines)
    (web,) = hv1.works("host_info").result["machines"]
    assert (web["status"], web["accelerator"]) == ("running", "tcg")
    assert web["volumes"] == [f"web1-{serial}" for serial in SIZES]
    tap, macvtap = web["taps"]
    assert "UP" in hv1.sh(f"ip -br link show {tap}")
    assert f"{macvtap}@vec0" in hv1.sh(f"ip -br link show {macvtap}")
    opened = hv1.sh("ls -l /proc/$(systemctl show --value -p MainPID microvm@web1.service)/fd")
    assert "-> /dev/tap" in opened and "-> /dev/net/tun" in opened


def test_what_it_has_is_not_taken_away_under_it(hv1: Managed, hv2: Managed, up: int) -> None:
    volume: dict[str, Any] = {"name": "web1-root", "backend": "nas"}
    backend, absent, copy = hv1.run(
        call("storage_backend", name="nas", state="absent"),
        call("storage_volume", **volume, state="absent"),
        call("storage_volume", **volume, snapshots=["now"]),
    )
    assert [each.result["error"]["kind"] for each in (backend, absent, copy)] == ["in_use"] * 3
    assert "live volume" in backend.result["msg"] and "disk of the machine web1" in absent.result["msg"]
    assert "machine web1" in copy.result["msg"]
    wanted: dict[str, Any] = {**TOY, "root": {"volume": "web1-root", "backend": "nas"}, "adopt": True}
    other, info = hv2.run(call("microvm", **wanted), call("host_info"))
    refused(other, "in_use")
    assert "machine web1 on hv1" in other.result["msg"]
    assert info.result["machines"] == []


def test_its_disks_grow_and_the_guest_knows(hv1: Managed, up: int) -> None:
    grown, again, faster, info, back = hv1.run(
        call("microvm", **GROWN),
        call("microvm", check=True, **GROWN),
        call("microvm", **{**GROWN, "vcpus": 2}),
        call("host_info"),
        call("microvm", **GROWN),
    )
    assert [each.changed for each in (grown, again, faster, back)] == [True, False, True, True]
    assert [each.result["machine"]["restart_required"] for each in (grown, faster, back)] == [False, True, False]
    assert info.items("machines")["web1"]["restart_required"]
    told = [
        f"[vd{letter}] new size: {size} 512-byte" for letter, size in zip("abcde", GROWN_SIZES.values(), strict=True)
    ]
    wait_until(lambda: all(text in hv1.sh(f"cat {CONSOLE}") for text in told), 60, "the guest to see them")


def test_a_root_is_on_any_kind_and_stays_when_its_machine_goes(hv1: Managed) -> None:
    kinds = ("office", "san", "local")  # all machines of this file but these have theirs on nas
    toys = [{**TOY, "name": f"toy-{kind}", "root": {"size": "4MiB", "backend": kind}} for kind in kinds]
    gone = [{"name": toy["name"], "state": "absent"} for toy in toys]
    roots = {f"toy-{kind}-root": kind for kind in kinds}
    made, running, removed, left, deleted = hv1.run(
        call("microvm", machines=toys, timeout=120),
        call("host_info"),
        call("microvm", machines=gone),
        call("host_info"),
        call("storage_volume", volumes=[{"name": name, "state": "absent"} for name in roots]),
    )
    assert not made.failed and not removed.failed and not deleted.failed, (made, removed, deleted)
    assert {running.items("machines")[toy["name"]]["status"] for toy in toys} == {"running"}
    assert list(left.items("machines")) == ["web1"]
    assert roots.items() <= {name: volume["backend"] for name, volume in left.items("volumes").items()}.items()


def test_a_guest_that_feels_no_button_is_ended(hv1: Managed) -> None:
    hv1.works("microvm", **{**TOY, "name": "deaf", "kernel": guests.STUBBORN, "stop_timeout": 1})
    stopped, gone = hv1.run(call("microvm", name="deaf", state="stopped"), call("microvm", name="deaf", state="absent"))
    assert stopped.result["machine"]["stopped"] == "quit" and not gone.failed, (stopped, gone)


def test_no_machine_runs_without_its_bridge(hv1: Managed) -> None:
    toy: dict[str, Any] = {**TOY, "name": "late", "interfaces": [{"bridge": "br-late"}]}
    missing, foreseen = hv1.run(call("microvm", **toy), call("microvm", check=True, **toy))
    refused(missing, "not_found")
    assert missing.result["error"]["field"] == "interfaces[0].bridge"
    assert foreseen.result["machine"]["assumes"] == ["this host has no bridge br-late"]
    bridge = "ip link add br-late type bridge"
    hv1.sh(bridge)
    hv1.works("microvm", **toy)
    hv1.sh("systemctl stop microvm@late.service && ip link delete br-late")
    hv1.sh("systemctl start microvm@late.service", check=False)
    said = hv1.sh("journalctl -u microvm@late.service")
    assert "microvm-net@late.service does not run: journalctl -u" in said and hv1.sh("pgrep -u mvm-late || true") == ""
    hv1.sh(bridge)
    wait_until(lambda: hv1.sh("pgrep -u mvm-late || true") != "", 60, "systemd to start it again", interval=1)
    hv1.sh("systemctl stop microvm@late.service && ip link delete br-late")


def test_what_a_failed_start_left_goes_with_a_purge(hv1: Managed) -> None:
    never: dict[str, Any] = {**TOY, "name": "never", "interfaces": [{}], "wait_for": "NEVER", "timeout": 8}
    kept = [{"name": "web1", "state": "present"}]
    short, late, purged, again = hv1.run(
        call("microvm", **{**never, "timeout": 1}),
        call("microvm", **never),
        call("microvm", machines=kept, purge=True),
        call("microvm", machines=kept, purge=True),
    )
    refused(short, "timeout")
    refused(late, "timeout")
    assert (purged.changed, again.changed) == (True, False)
    assert hv1.sh("ls /var/lib/microvm/machines").split() == ["web1"]
    assert hv1.sh("systemctl list-units --all --no-legend '*@never*' '*@late*'") == ""


def test_it_comes_back_by_itself_when_virtiofsd_was_killed_and_its_locks_are_lost(hv1: Managed, up: int) -> None:
    hv1.sh("systemctl kill --signal=KILL microvm-fs@web1@home.service")  # its guest waits for the share for ever
    for ends in ("stop", "kill --kill-whom=main --signal=KILL", "kill --signal=KILL"):
        old = hypervisor(hv1)
        hv1.sh(f"systemctl {ends} microvm-lock@web1.service")
        hv1.sh(f"timeout 45 tail -f /dev/null --pid {old}")  # without its locks it is killed at once
        wait_until(lambda old=old: hypervisor(hv1) not in (0, old), 60, "systemd to start it again", interval=1)
        hv1.sh("systemctl is-active microvm-lock@web1.service")
    assert "GUEST-WROTE /home" in wait_boot(hv1, up + 1)


def test_it_stops_and_comes_back_with_the_host_also_when_its_storage_is_late(
    hv1: Managed, nas: NfsServer, up: int
) -> None:
    left = left_on(hv1)
    hv1.host.poweroff(BOOT_SECONDS)
    assert "holder" not in (nas.data("rw") / ".microvm/locks/web1-root").read_text(), "it has kept its lock"
    nas.cut()
    hv1.host.boot()
    assert "GUEST-OFF" in hv1.sh(f"tail -n 3 {CONSOLE}"), "it was not asked to stop"
    late = f"awk '{{exit $1 < {LATE_SECONDS}}}' /proc/uptime && echo late || true"
    wait_until(lambda: bool(hv1.sh(late)), LATE_SECONDS, "the host to be up for a while", interval=1)
    nas.join()
    lines = wait_boot(hv1, up + 1)
    assert lines.count(left) == len(SIZES) - 1, "a disk is another one"
    assert disks(GROWN_SIZES) <= set(lines)
    assert "GUEST-FINDS /home/back" in lines and "GUEST-FINDS /writable/back" not in lines, "it was not reset"


def test_it_is_moved_off_a_host_that_lost_its_power(hv1: Managed, hv2: Managed, evacuate: Converge, up: int) -> None:
    left = left_on(hv1)
    hv1.host.kill()
    # Without the disks that the second host has no storage for.
    hosts = {"evacuate_from": "hv1", "evacuate_to": "hv2", "evacuate_dead": True}
    moved = evacuate("-e", json.dumps({**hosts, "microvm_machines": [{**GROWN, "disks": [], "overlays": []}]}))
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert left in wait_boot(hv2, 1), "it has other data"
    hv1.host.boot()
    tried = "journalctl -b --no-pager -u microvm-lock@web1.service | grep -c 'not locked' || true"
    wait_until(lambda: int(hv1.sh(tried)) > 0, 120, "the old host to try its machine", interval=1)
    machine, volume, info = hv1.run(
        call("microvm", name="web1", state="absent"),
        call("storage_volume", name="web1-root", state="absent"),
        call("host_info"),
    )
    assert not machine.failed and not volume.failed, (machine, volume)
    assert volume.result["volume"]["actions"] == ["forget volume web1-root, which is that of hv2 now"]
    assert info.result["machines"] == []


def test_it_is_moved_while_both_hosts_live(hv1: Managed, hv2: Managed, evacuate: Converge) -> None:
    machine: dict[str, Any] = {
        **TOY,
        "root": {"size": "1MiB", "backend": "nas"},
        "vcpus": 2,
        "interfaces": [{"queues": 2}],
    }
    toy, info, stopped, kept = hv2.run(
        call("microvm", **machine),
        call("host_info"),
        call("microvm", name="web1", state="stopped"),
        call("storage_volume", name="web1-root"),
    )
    assert {each["name"]: each["status"] for each in info.result["machines"]} == {"toy1": "running", "web1": "running"}
    assert not toy.failed and stopped.result["machine"]["stopped"] == "powered off", (toy, stopped)
    assert not kept.changed and kept.result["volume"]["status"] == "ok"
    disk = "/var/lib/microvm/mounts/nas-*/toy1-root.raw"
    hv2.sh(f"printf kept | dd of=$(echo {disk}) conv=notrunc,fsync status=none")
    which = {"evacuate_from": "hv2", "evacuate_to": "hv1", "evacuate_machines": ["toy1", "toy2"]}

    def move(second: dict[str, Any], *arguments: str) -> tuple[int, str]:
        machines = [machine, {**TOY, "name": "toy2", **second}, {"name": "other"}]
        done = evacuate("-e", json.dumps({**which, "microvm_machines": machines}), *arguments)
        return done.returncode, done.stdout + done.stderr

    old = hv2.sh("systemctl show --value -p MainPID microvm@toy1.service")
    lacking, said = move({"kernel": "/nowhere"})
    assert lacking and "nothing was touched" in said and "toy2: there is no file /nowhere" in said, said
    lacking, said = move({"shares": [{"tag": "home", "source": "home", "create": True}]})
    assert lacking and "nothing was touched" in said and "machines/toy2/home on this host for toy2" in said, said
    foreseen, said = move({}, "--check")
    assert foreseen == 0 and "hv2 will forget the volumes toy1-root" in said, said
    assert hv2.sh("systemctl show --value -p MainPID microvm@toy1.service") == old
    failing, said = move({"extra_args": ["-nowhere"]})
    assert failing and "toy2 is off, hv1 does not start it" in said and "toy1 is" not in said, said
    assert "toy1-root" not in hv2.works("host_info").items("volumes")
    moved, said = move({})
    assert moved == 0, said
    assert hv1.sh(f"head -c 4 {disk}") == "kept"
    here, there = (host.works("host_info") for host in (hv1, hv2))
    assert {name: each["status"] for name, each in here.items("machines").items()} == dict.fromkeys(
        ("toy1", "toy2"), "running"
    )
    assert list(there.items("machines")) == ["web1"]
    assert "toy1-root" not in there.items("volumes") and "toy1-root" in here.items("volumes")


def test_a_volume_group_goes_with_all_of_its_machines(hv1: Managed, hv2: Managed, evacuate: Converge) -> None:
    san = ASKED["san"]
    assert hv2.works("storage_backend", **san).result["backend"]["status"] == "standby"
    toys = [{**TOY, "name": name, "root": {"size": "4MiB", "backend": "san"}} for name in ("group1", "group2")]
    hv1.works("microvm", machines=toys, timeout=120)
    disk = "/dev/vg_san/group2-root"
    hv1.sh(f"printf kept | dd of={disk} bs=512 conv=sync,fsync oflag=direct status=none")
    which = {"evacuate_from": "hv1", "evacuate_to": "hv2", "microvm_machines": toys, "storage_backends": [san]}

    def move(*arguments: str, **more: Any) -> tuple[int, str]:
        done = evacuate("-e", json.dumps({**which, **more}), *arguments)
        return done.returncode, done.stdout + done.stderr

    old = hv1.sh("systemctl show --value -p MainPID microvm@group1.service")
    refused_one, said = move(evacuate_machines=["group1"])
    assert refused_one and "nothing was touched" in said and "another backend first: group2" in said, said
    unknown, said = move(storage_backends=[])
    assert unknown and "nothing was touched" in said and "san: hv2 has it neither" in said, said
    foreseen, said = move("--check")
    assert foreseen == 0 and "hv2 will own san" in said, said
    assert hv1.sh("systemctl show --value -p MainPID microvm@group1.service") == old
    moved, said = move()
    assert moved == 0, said
    there, here = (host.works("host_info", refresh=True) for host in (hv1, hv2))
    running = {name: each["status"] for name, each in here.items("machines").items() if name.startswith("group")}
    assert running == dict.fromkeys(("group1", "group2"), "running")
    assert (there.items("backends")["san"]["status"], here.items("backends")["san"]["status"]) == ("standby", "ok")
    assert hv2.sh(f"head -c 4 {disk}") == "kept"
    assert not [name for name in ("group1", "group2") if name in there.items("machines")]
    assert not [name for name in there.items("volumes") if name.startswith("group")]
