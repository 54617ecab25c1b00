# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firecracker as users have it: a service of systemd, made by the module, on a host that has KVM; and huge pages."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract.controller import Controller, Task
from tests.lab import Host, Lab, LabError, borrow
from tests.lab.daemon import wait_until
from tests.machines import firecracker as real
from tests.machines import guests

pytestmark = pytest.mark.skipif(not real.KVM.exists(), reason="Firecracker needs /dev/kvm, which this machine lacks")
GUEST = "/srv/guests/toy-firecracker"
MACHINE: dict[str, Any] = {
    "name": "web1",
    "hypervisor": "firecracker",
    "kernel": GUEST,
    "memory": "64MiB",
    "root": {"size": "1MiB"},
    "interfaces": [{"type": "tap"}],
    "vsock": 3,
}
UNIT = "microvm@web1.service"
CONSOLE = "/var/lib/microvm/machines/web1/log/console.log"
POOL = Path("/proc/sys/vm/nr_hugepages")
"""Of this machine, whose kernel the host has. Each page is 2 MiB."""
STARTS = 6
"""Where KVM itself runs in a virtual machine, a guest now and then does not begin."""


@pytest.fixture(scope="module")
def kvm() -> Iterator[Lab]:
    """A host with KVM, a Firecracker with its jailer, and a guest."""
    with borrow("kvm", machines=True, kvm=True) as lab:
        host = lab.hosts["hv1"]
        for path in real.binaries().iterdir():
            host.put(path, f"/usr/local/bin/{path.name}")
        with tempfile.TemporaryDirectory() as folder:
            real.guest(Path(folder, "toy"))
            guests.install(host)
            host.put(Path(folder, "toy"), GUEST)
        yield lab


@pytest.fixture
def ansible(kvm: Lab, tmp_path: Path) -> Controller:
    """Ansible for this host, which has a backend."""
    controller = Controller(kvm, tmp_path)
    (made,) = controller.run(Task("storage_backend", {"name": "local", "kind": "local_file", "default": True}))
    assert not made["failed"], made
    return controller


def begins(host: Host) -> int:
    """How often the guest began."""
    return host.ssh(f"cat {CONSOLE}").stdout.count("TOY-GUEST-READY")


def wait_ready(host: Host, number: int) -> None:
    """Until the guest began that often."""
    for dummy in range(STARTS):
        try:
            wait_until(lambda: begins(host) >= number, 10, "the guest to be ready")
        except LabError:
            host.ssh(f"systemctl kill --signal=KILL {UNIT}")
        else:
            return
    raise LabError(f"the guest never began: {host.journal()[-4000:]}")


def main_pid(host: Host) -> str:
    """The process of the machine."""
    return host.ssh(f"systemctl show --value -p MainPID {UNIT}").stdout.strip()


def runs_anew(host: Host, process: str) -> bool:
    """Whether the machine runs in another process than this one."""
    return main_pid(host) not in ("0", process)


@pytest.mark.parametrize("jailed", [True, False])
def test_a_firecracker_is_a_service(kvm: Lab, ansible: Controller, jailed: bool) -> None:
    host = kvm.hosts["hv1"]
    host.ssh("cp /usr/local/bin/firecracker /usr/bin/firecracker-alone")
    machine = MACHINE if jailed else {**MACHINE, "binary": "/usr/bin/firecracker-alone"}

    steps = ansible.run(*(Task("microvm", machine, check=check) for check in (True, False, False, True)))
    assert [(step["changed"], step["failed"]) for step in steps] == [(True, False)] * 2 + [(False, False)] * 2, steps
    made = steps[1]["machine"]
    assert (made["status"], made["hypervisor"], made["accelerator"]) == ("running", "firecracker", "kvm")
    wait_ready(host, 1)
    assert (
        host.ssh(f"systemd-analyze verify {UNIT} microvm-lock@web1.service microvm-net@web1.service 2>&1").stdout == ""
    )
    process = main_pid(host)
    assert host.ssh(f"stat -c %U /proc/{process}").stdout == "mvm-web1\n"
    assert host.ssh(f"grep CapEff /proc/{process}/status").stdout.split()[1] == "0" * 16
    assert ("TOY" in host.ssh(f"ls /proc/{process}/root/usr 2>&1 && echo TOY", check=False).stdout) is not jailed
    assert "UP" in host.ssh(f"ip -br link show {made['taps'][0]}").stdout
    (volume,) = ansible.run(Task("storage_volume", {"name": "web1-root", "state": "absent"}))
    assert volume["error"]["kind"] == "in_use", volume

    for killed in (UNIT, "microvm-lock@web1.service"):
        process, number = main_pid(host), begins(host)
        host.ssh(f"systemctl kill --signal=KILL {killed}")
        wait_until(partial(runs_anew, host, process), 60, "systemd to start it again")
        wait_ready(host, number + 1)

    paused, resumed, stopped = ansible.run(
        *(Task("microvm", {"name": "web1", "state": state}) for state in ("paused", "started", "stopped"))
    )
    assert [each["machine"]["status"] for each in (paused, resumed)] == ["paused", "running"]
    assert (stopped["machine"]["status"], stopped["machine"]["stopped"]) == ("stopped", "powered off")
    assert "TOY-GUEST-OFF" in host.ssh(f"cat {CONSOLE}").stdout
    assert "running" not in host.ssh("systemctl list-units --no-legend 'microvm*@web1*'").stdout

    (gone,) = ansible.run(Task("microvm", {"name": "web1", "state": "absent", "delete_volumes": True}))
    assert gone["changed"] and not gone["failed"], gone
    places = "/run/microvm /etc/systemd/system /etc/systemd/system/*.wants /var/lib/microvm /var/lib/microvm/volumes"
    left = host.ssh(f"ls -A {places}; cat /etc/passwd; ip -br link; ps ax").stdout
    assert "registry.db" in left
    assert "web1" not in left and made["taps"][0] not in left and "machines" not in left.split()


@pytest.fixture
def pool() -> Iterator[None]:
    """Puts the pool of huge pages back."""
    before = POOL.read_text()
    yield
    POOL.write_text(before)


def free_pages(host: Host) -> int:
    """Huge pages that nobody has."""
    return int(host.ssh("awk '/HugePages_Free/ {print $2}' /proc/meminfo").stdout)


def test_machines_have_huge_pages(kvm: Lab, ansible: Controller, pool: None) -> None:
    host = kvm.hosts["hv1"]
    small = {"name": "web2", "memory": "64MiB", "hugepages": True}
    firecracker = {**small, "hypervisor": "firecracker", "kernel": GUEST}
    qemu = {**small, "hypervisor": "qemu", "accelerator": "tcg", "kernel": guests.TOY, "wait_for": "TOY-GUEST-READY"}
    POOL.write_text("0")
    (refused,) = ansible.run(Task("microvm", qemu))
    assert (refused["error"]["kind"], refused["error"]["field"]) == ("unsupported", "hugepages"), refused
    POOL.write_text("32")
    for machine in (firecracker, qemu):
        free = free_pages(host)
        (made,) = ansible.run(Task("microvm", machine))
        assert not made["failed"] and made["machine"]["status"] == "running", made
        assert free_pages(host) < free
        (gone,) = ansible.run(Task("microvm", {"name": "web2", "state": "absent"}))
        assert not gone["failed"] and free_pages(host) == free, gone
