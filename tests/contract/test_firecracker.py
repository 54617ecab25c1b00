# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Firecracker takes what is generated for it, and obeys. It needs KVM, which the hosts of a lab do not have."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import mounts, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import (
    control,
    definition,
    firecracker,
    hypervisor,
    jail,
    network,
    places,
    ready,
    stop,
    unit,
)
from ansible_collections.microvm.host.plugins.modules import microvm
from tests.lab import LabError
from tests.lab.daemon import wait_until
from tests.machines import firecracker as real

pytestmark = pytest.mark.skipif(not real.KVM.exists(), reason="Firecracker needs /dev/kvm, which this machine lacks")
MIB = 1 << 20
SECONDS = 30
STARTS = 6
SAID = "TOY-GUEST-READY\nTOY-GUEST-OFF\n"
"""A console that only the guest writes to."""
LIMITS = {"bandwidth_limit": "1MiB", "iops_limit": 100}
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
TOOL = [
    sys.executable,
    "-c",
    "from ansible_collections.microvm.host.plugins.module_utils._tool import main; raise SystemExit(main.main('test'))",
]
NAME = "web-" + os.environ.get("PYTEST_XDIST_WORKER", "gw0")
"""A tap is this machine's: another worker's machine has another name."""
BUCKETS = {"bandwidth": 1 << 20, "ops": 100}


class Machine:
    """A definition as the module has it, and the Firecracker that runs it."""

    def __init__(self, folder: Path, jailed: bool = False, guest: Path = real.GUEST, **options: Any) -> None:
        self.name = NAME
        self.disk = folder / "disk.raw"
        self.disk.write_bytes(bytes(MIB))
        self.disk.chmod(0o666)
        real.guest(folder / "toy", guest)
        item = {key: option.get("default") for key, option in microvm.ITEM.items()}
        disk = {key: option.get("default") for key, option in definition.DISK.items()}
        item.update(hypervisor="firecracker", kernel=str(folder / "toy"), memory="64MiB", vsock=3, balloon=True)
        item.update(disks=[{**disk, "path": str(self.disk), **LIMITS}], **options)
        self.config = definition.asked(item, self.name, "")
        for path in (places.runtime(self.name), places.logs(self.name), places.jail(self.name)):
            Path(path).mkdir(parents=True, exist_ok=True)
        Path(firecracker.config_file(self.config, self.name)).write_text(
            json.dumps(firecracker.configuration(self.config, self.name))
        )
        binary = str(real.binaries() / "firecracker")
        jailer = str(real.binaries() / "jailer") if jailed else ""
        self.chosen = hypervisor.Chosen("firecracker", binary, "kvm", "device", jailer=jailer)
        hypervisor.refuse_old(self.chosen, "hypervisor")
        self.console = Path(places.logs(self.name), "console.log")
        self.log = Path(firecracker.log_file(self.name))
        self.control = control.Firecracker(places.control_socket(self.name))
        words = firecracker.command_line(self.config, self.name, self.chosen)
        self.words = [*TOOL, *words[1:]] if jailed else words
        self.net = (network.unit_text(self.config, self.name) or "").splitlines() if jailed else []
        self.network("ExecStart=")
        self.start(self.words)

    def network(self, key: str) -> None:
        """Run what the service of its taps has under this key."""
        for line in self.net:
            if line.startswith(key):
                subprocess.run(line.removeprefix(key).lstrip("-").split(), check=True)

    def start(self, words: list[str]) -> None:
        """Run a Firecracker, with what the machine's service does before: its log anew, no sockets of a run before."""
        for left in (places.control_socket(self.name), places.vsock_socket(self.name)):
            Path(left).unlink(missing_ok=True)
        self.log.write_text("")
        self.log.chmod(0o666)
        words = [*unit.into_console(self.name, self.chosen), *words]
        with self.console.open("wb") as output:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=output, env=ENVIRONMENT)

    def said(self) -> str:
        """What the guest said, and Firecracker's last words."""
        return self.console.read_text(errors="replace")

    def wait_ready(self) -> None:
        """Until the guest runs. Where KVM itself runs in a virtual machine, a guest now and then does not begin."""
        for dummy in range(STARTS):
            with contextlib.suppress(LabError):
                wait_until(lambda: "TOY-GUEST-READY" in self.said() or self.process.poll() is not None, 5, "the guest")
                break
            self.end()
            self.start(self.words)
        assert self.process.poll() is None and "TOY-GUEST-READY" in self.said(), self.said()

    def listens(self) -> bool:
        """Whether it answers; its socket is there a moment before."""
        try:
            return bool(self.control.state())
        except HostError as error:
            assert error.kind == "not_found", error
            return False

    def end(self) -> None:
        """As by a power loss."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Machine]]:
    """Makes machines; they are ended afterwards."""
    monkeypatch.setattr(places, "BASE", str(tmp_path / "machines"))
    monkeypatch.setattr(places, "RUN", str(tmp_path / "run"))
    made: list[Machine] = []

    def make(**options: Any) -> Machine:
        made.append(Machine(tmp_path, **options))
        return made[-1]

    yield make
    for each in made:
        each.end()
        each.network("ExecStopPost=")


def test_it_runs_what_is_generated_and_stops_when_asked(machine: Callable[..., Machine]) -> None:
    it = machine()
    it.wait_ready()
    shown = it.control.order("GET", "/vm/config")
    assert shown["machine-config"]["mem_size_mib"] == 64 and shown["drives"][0]["path_on_host"] == str(it.disk)
    assert it.control.state() == "running"
    it.control.pause()
    assert it.control.state() == "paused"
    it.control.resume()
    assert stop.gracefully("firecracker", it.control.path, SECONDS) == "powered off"
    assert it.process.wait(SECONDS) == 0 and it.said() == SAID and "Running Firecracker" in it.log.read_text()
    assert stop.gracefully("firecracker", it.control.path, 1) == "gone"


def test_it_runs_in_its_jail_as_its_own_user(
    machine: Callable[..., Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "user", lambda name: "nobody")
    monkeypatch.setattr(places, "credential", lambda name, key: str(tmp_path / key))
    (tmp_path / "metadata").write_text('{"role": "web"}')
    (tmp_path / "metadata").chmod(0o400)
    interface = {key: option.get("default") for key, option in definition.INTERFACE.items()}
    before = {each.path for each in mounts.table()}
    it = machine(jailed=True, interfaces=[interface], metadata=str(tmp_path / "metadata"))
    it.wait_ready()
    process = Path("/proc", str(it.process.pid))
    nobody = pwd.getpwnam("nobody")
    assert (process.stat().st_uid, process.stat().st_gid) == (nobody.pw_uid, nobody.pw_gid)
    assert "CapEff:\t0000000000000000" in (process / "status").read_text()
    assert (process / "cgroup").read_text() == Path("/proc/self/cgroup").read_text()
    inside = {each.path for each in mounts.table(str(it.process.pid))}
    assert {str(it.disk), places.runtime(NAME), str(tmp_path / "toy")} <= inside and "/home" not in inside
    assert not {"etc", "home", "usr"} & set(os.listdir(process / "root"))
    assert it.control.order("GET", "/mmds") == {"role": "web"}
    it.disk.write_bytes(bytes(2 * MIB))
    it.control.grow_disk("disk0", str(it.disk), 2 * MIB)
    assert stop.gracefully("firecracker", it.control.path, SECONDS) == "powered off"
    assert it.process.wait(SECONDS) == 0 and it.said() == SAID and "Running Firecracker" in it.log.read_text()
    left = {each.path for each in mounts.table()} - before
    assert not [path for path in left if NAME in path], "mounts are left"
    jail.clear(places.jail(NAME))
    assert it.disk.stat().st_size == 2 * MIB and os.listdir(places.jail(NAME)) == []


def test_disk_and_balloon_change_while_it_runs(machine: Callable[..., Machine]) -> None:
    it = machine(balloon_target="48MiB")
    it.wait_ready()
    assert it.control.order("GET", "/balloon")["amount_mib"] == 16
    with pytest.raises(HostError, match="not activated"):  # this guest has no driver for it
        it.control.balloon(64 * MIB, 32 * MIB)
    it.disk.write_bytes(bytes(2 * MIB))
    it.control.grow_disk("disk0", str(it.disk), 2 * MIB)
    it.disk.unlink()
    with pytest.raises(HostError, match="No such file") as refused:
        it.control.grow_disk("disk0", str(it.disk), 2 * MIB)
    assert refused.value.kind == "refused"


def test_it_has_its_tap_its_limits_and_its_metadata(
    machine: Callable[..., Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "credential", lambda name, key: str(tmp_path / key))
    (tmp_path / "metadata").write_text('{"role": "web"}')
    interface = {key: option.get("default") for key, option in definition.INTERFACE.items()}
    it = machine(interfaces=[{**interface, **LIMITS}], metadata=str(tmp_path / "metadata"))
    it.wait_ready()
    shown = it.control.order("GET", "/vm/config")
    (net,), (drive,) = shown["network-interfaces"], shown["drives"]
    assert (net["host_dev_name"], net["guest_mac"]) == (places.tap(NAME, 0), places.mac(NAME, 0))
    for limiter in (net["rx_rate_limiter"], net["tx_rate_limiter"], drive["rate_limiter"]):
        assert {key: bucket["size"] for key, bucket in limiter.items()} == BUCKETS
    assert it.control.order("GET", "/mmds") == {"role": "web"}


@pytest.mark.parametrize("jailed", [False, True])
def test_its_guest_says_over_vsock_that_it_is_ready(
    machine: Callable[..., Machine], jailed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(places, "user", lambda name: nobody.pw_name)
    monkeypatch.setattr(names, "GROUP", grp.getgrgid(nobody.pw_gid).gr_name)
    with ready.Listener("firecracker", NAME, 3) as listener:
        it = machine(jailed=jailed, guest=real.TELLING_GUEST, notify=True)
        it.wait_ready()
        wait_until(lambda: listener.hears(0.1), SECONDS, "its guest to say that it is ready")
    assert ":10003" in it.control.order("GET", "/vm/config")["boot-source"]["boot_args"]


def test_a_snapshot_goes_on_in_another_process(machine: Callable[..., Machine], tmp_path: Path) -> None:
    it = machine()
    it.wait_ready()
    it.control.pause()
    files = {"snapshot_path": str(tmp_path / "state"), "mem_file_path": str(tmp_path / "memory")}
    it.control.order("PUT", "/snapshot/create", {"snapshot_type": "Full", **files})
    it.end()
    log = ["--log-path", str(it.log)]
    it.start([str(real.binaries() / "firecracker"), "--api-sock", it.control.path, *log])
    wait_until(it.listens, SECONDS, "Firecracker to listen")
    memory = {"backend_type": "File", "backend_path": files["mem_file_path"]}
    again = {"snapshot_path": files["snapshot_path"], "mem_backend": memory, "resume_vm": True}
    it.control.order("PUT", "/snapshot/load", again)
    assert it.control.state() == "running"
    assert stop.gracefully("firecracker", it.control.path, SECONDS) == "powered off"
    assert "TOY-GUEST-OFF" in it.said()


def test_a_key_that_it_does_not_know_is_refused(
    machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what is generated has no such key: the first test would fail."""
    right = firecracker.configuration
    wrong = {"boot-source": {"kernel": "x"}}
    monkeypatch.setattr(firecracker, "configuration", lambda *given: {**right(*given), **wrong})
    it = machine()
    assert it.process.wait(SECONDS) != 0 and "unknown field `kernel`" in it.said()
