# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: does it boot, serve, break on purpose, and leave nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab, LabError, NfsServer, counts

NAME = f"self{os.getpid()}"
HUNGFS = Path(__file__).with_name("hungfs.py")


def traces(name: str, bridge: str) -> list[str]:
    """Everything of a lab that this machine still holds."""
    found = []
    for what, command in (("link", "ip -o link"), ("namespace", "ip netns"), ("mount", "cat /proc/mounts")):
        text = subprocess.run(command.split(), capture_output=True, text=True, check=True, timeout=30).stdout
        found += [f"{what}: {line}" for line in text.splitlines() if bridge in line or f"/{name}/" in line]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"{name}/" in line or f"ifname={bridge}t" in line:
            found.append(f"process: {line}")
    places = [Path("/run/microvm-lab", name), Path("/var/tmp/microvm-lab", name)]
    found += [f"path: {place}" for place in places if place.exists()]
    return found


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One prepared host and one server, taken away again; then nothing of them may be left."""
    lab = Lab.up(NAME, hosts=1, servers=["nfs"], prepared=True)
    assert traces(NAME, lab.network.bridge), "the search for traces finds nothing of a running lab"
    try:
        yield lab
    finally:
        lab.down()
    assert traces(NAME, lab.network.bridge) == []


def nas(lab: Lab) -> NfsServer:
    """The ganesha server."""
    server = lab.servers["nas1"]
    assert isinstance(server, NfsServer)
    return server


def test_second_up_changes_nothing_and_is_quick(lab: Lab) -> None:
    boot_id = lab.hosts["hv1"].ssh("cat /proc/sys/kernel/random/boot_id").stdout
    started = time.monotonic()
    again = Lab.up(NAME, hosts=1, servers=["nfs"], prepared=True)
    assert time.monotonic() - started < 10
    assert again.hosts["hv1"].ssh("cat /proc/sys/kernel/random/boot_id").stdout == boot_id


def test_other_variant_of_a_running_host_is_refused(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"hv1 of lab .* is trixie/prepared, not bookworm/bare"):
        Lab.up(NAME, hosts=1, suite="bookworm")


def test_inventory_names_hosts_servers_and_dead_addresses(lab: Lab) -> None:
    inventory = json.loads(lab.inventory.read_text())["all"]
    assert list(inventory["children"]["microvm_hosts"]["hosts"]) == ["hv1"]
    assert inventory["vars"]["lab_servers"]["nas1"]["exports"]["rw"] == "/export/rw"
    assert len(inventory["vars"]["lab_dead_addresses"]) == 60


@pytest.mark.parametrize("version", ["3", "4.0", "4.1", "4.2"])
@pytest.mark.parametrize("family", [4, 6])
def test_mount(lab: Lab, version: str, family: int) -> None:
    host, server = lab.hosts["hv1"], nas(lab)
    address = server.address if family == 4 else f"[{server.address6}]"
    options = f"vers={version}" + (",nolock" if version == "3" else "")
    host.ssh(f"mkdir -p /mnt/t && mount -t nfs -o {options} {address}:/export/rw /mnt/t")
    try:
        host.ssh(f"echo {version}-{family} > /mnt/t/said")
        assert f"vers={version}," in host.ssh("grep ' /mnt/t ' /proc/mounts").stdout
        assert (server.data("rw") / "said").read_text() == f"{version}-{family}\n"
    finally:
        host.ssh("umount /mnt/t")


@pytest.mark.parametrize(("export", "error"), [("ro", "Read-only file system"), ("squash", "Permission denied")])
def test_rights(lab: Lab, export: str, error: str) -> None:
    host = lab.hosts["hv1"]
    host.ssh(f"mkdir -p /mnt/t && mount -t nfs nas1:/export/{export} /mnt/t")
    try:
        done = host.ssh("touch /mnt/t/x", check=False)
        assert done.returncode == 1 and error in done.stderr
    finally:
        host.ssh("umount /mnt/t")


def test_counts_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROVM_COUNTS", str(tmp_path / "build" / "counts"))
    counts.add("hosts booted")
    counts.add("real mounts", 3)
    counts.add("hosts booted", 2)
    assert counts.summary() == "hosts booted: 3, real mounts: 3, kill points: 0"
    counts.reset()
    assert counts.totals() == {}


def connects(lab: Lab, address: str) -> int:
    """Exit status of a connection to port 2049 with 3 s to make it: 0 yes, 1 refused, 124 no answer at all."""
    return lab.hosts["hv1"].ssh(f"timeout 3 bash -c '</dev/tcp/{address}/2049'", check=False).returncode


def test_stop_cut_and_dead_address_differ(lab: Lab) -> None:
    server = nas(lab)
    assert connects(lab, server.address) == 0
    server.stop()
    try:
        assert connects(lab, server.address) == 1
    finally:
        server.start()
    server.cut()
    try:
        assert connects(lab, server.address) == 124
    finally:
        server.join()
    assert connects(lab, server.address) == 0
    assert connects(lab, lab.dead_addresses(126)[-1]) == 124


def test_paused_server_answers_nothing_and_comes_back(lab: Lab) -> None:
    host, server = lab.hosts["hv1"], nas(lab)
    host.ssh("mkdir -p /mnt/t && mount -t nfs nas1:/export/rw /mnt/t")
    try:
        server.pause()
        try:
            assert host.ssh("timeout 3 stat -f /mnt/t", check=False).returncode == 124
        finally:
            server.resume()
        host.ssh("timeout 20 stat -f /mnt/t")
        server.kill()
        server.start()
        host.ssh("timeout 50 touch /mnt/t/after")
    finally:
        host.ssh("umount -l /mnt/t")


def test_power_loss_keeps_the_disk_and_reboot_is_a_new_boot(lab: Lab) -> None:
    host = lab.hosts["hv1"]
    host.ssh("echo kept > /root/kept && sync")
    before = host.ssh("cat /proc/sys/kernel/random/boot_id").stdout
    host.kill()
    assert not host.running()
    assert host.boot() < 60
    assert host.ssh("cat /root/kept; cat /proc/sys/kernel/random/boot_id").stdout.split() != ["kept", before.strip()]
    assert host.ssh("cat /root/kept").stdout == "kept\n"
    assert host.reboot() < 60
    assert connects(lab, nas(lab).address) == 0


def test_cut_host(lab: Lab) -> None:
    host = lab.hosts["hv1"]
    host.cut()
    try:
        with pytest.raises((LabError, subprocess.TimeoutExpired)):
            host.ssh("true", timeout=3)
    finally:
        host.join()
    assert host.ssh("echo back", timeout=60).stdout == "back\n"


def test_apt_works_and_reaches_only_the_mirror(lab: Lab) -> None:
    host = lab.hosts["hv1"]
    host.ssh("apt-get update && apt-get download hello && test -s hello_*.deb", timeout=120)
    ask = "import urllib.request as u; u.build_opener(u.ProxyHandler({'http': 'http://packages.lab:3142'})).open('http://localhost/')"
    done = host.ssh(f'python3 -c "{ask}"', check=False)
    assert "403" in done.stderr


def test_hung_mounts(lab: Lab) -> None:
    host = lab.hosts["hv1"]
    host.put(HUNGFS, "/root/hungfs.py")
    host.ssh("python3 /root/hungfs.py start 50")
    try:
        assert host.ssh("grep -c ' fuse.nfs4 ' /proc/mounts").stdout == "50\n"
        assert host.ssh("timeout 2 stat -f /mnt/hung/49", check=False).returncode == 124
    finally:
        host.ssh("python3 /root/hungfs.py stop")
    assert host.ssh("grep -c ' fuse.nfs4 ' /proc/mounts", check=False).stdout == "0\n"


def test_kernel_server_clones(lab: Lab) -> None:
    Lab.up(NAME, hosts=1, servers=["nfs", "knfsd"], prepared=True)
    lab.servers["filer1"] = filer = Lab.load(NAME).servers["filer1"]
    host = lab.hosts["hv1"]
    for version in ("3", "4.0", "4.1", "4.2"):
        host.ssh(f"mkdir -p /mnt/t && mount -t nfs -o vers={version} filer1:/export/rw /mnt/t")
        try:
            host.ssh("flock -n /mnt/t/lock true")
            if version == "4.2":
                host.ssh("cd /mnt/t && head -c 20M /dev/urandom > a && cp --reflink=always a b && cmp a b")
        finally:
            host.ssh("umount /mnt/t")
    filer.pause()
    assert connects(lab, filer.address) == 124
    filer.resume()
    assert connects(lab, filer.address) == 0
    filer.kill()
    filer.start()
    assert connects(lab, filer.address) == 0


def test_two_labs_and_debian_12(lab: Lab) -> None:
    other = Lab.up(f"{NAME}b", hosts=1, suite="bookworm")
    try:
        assert other.network.ipv4 != lab.network.ipv4
        assert "bookworm" in other.hosts["hv1"].ssh("cat /etc/os-release").stdout
        assert other.hosts["hv1"].ssh("dpkg -s nfs-common", check=False).returncode == 1
    finally:
        other.down()
    assert traces(other.name, other.network.bridge) == []
