# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Firecracker takes what is generated for it, and obeys. It needs KVM, which the hosts of a lab do not have."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import (
    control,
    definition,
    firecracker,
    hypervisor,
    places,
    stop,
)
from ansible_collections.microvm.host.plugins.modules import microvm
from tests.lab import LabError
from tests.lab.daemon import wait_until
from tests.machines import firecracker as real

pytestmark = pytest.mark.skipif(not real.KVM.exists(), reason="Firecracker needs /dev/kvm, which this machine lacks")
MIB = 1 << 20
SECONDS = 30
LOGGED = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+ \[[^\]\n]*\] .*\n")
"""A line of Firecracker's own."""
STARTS = 6
LIMITS = {"bandwidth_limit": "1MiB", "iops_limit": 100}
BUCKETS = {"bandwidth": 1 << 20, "ops": 100}


class Machine:
    """A definition as the module has it, and the Firecracker that runs it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.name = "web1"
        self.disk = folder / "disk.raw"
        self.disk.write_bytes(bytes(MIB))
        real.guest(folder / "toy")
        item = {key: option.get("default") for key, option in microvm.ITEM.items()}
        disk = {key: option.get("default") for key, option in definition.DISK.items()}
        item.update(hypervisor="firecracker", kernel=str(folder / "toy"), memory="64MiB", vsock=3, balloon=True)
        item.update(disks=[{**disk, "path": str(self.disk), **LIMITS}], **options)
        self.config = definition.asked(item, self.name, "")
        for path in (places.runtime(self.name), places.logs(self.name)):
            Path(path).mkdir(parents=True)
        Path(firecracker.config_file(self.config, self.name)).write_text(
            json.dumps(firecracker.configuration(self.config, self.name))
        )
        binary = str(real.binaries() / "firecracker")
        chosen = hypervisor.Chosen("firecracker", binary, "kvm", "device")
        hypervisor.refuse_old(chosen)
        self.console = Path(places.logs(self.name), "console.log")
        self.control = control.Firecracker(places.control_socket(self.name))
        self.words = firecracker.command_line(self.config, self.name, chosen)
        self.start(self.words)

    def start(self, words: list[str]) -> None:
        """Run a Firecracker."""
        with self.console.open("wb") as output:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def said(self) -> str:
        """What the guest said; and, of lines of its own, Firecracker, which writes them into those of the guest."""
        text = self.console.read_text(errors="replace")
        return LOGGED.sub("", text) + "".join(LOGGED.findall(text))

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
        for left in Path(places.runtime(self.name)).iterdir():
            left.unlink()


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
    assert it.process.wait(SECONDS) == 0 and "TOY-GUEST-OFF" in it.said()
    assert stop.gracefully("firecracker", it.control.path, 1) == "gone"


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
    assert (net["host_dev_name"], net["guest_mac"]) == (places.tap("web1", 0), places.mac("web1", 0))
    for limiter in (net["rx_rate_limiter"], net["tx_rate_limiter"], drive["rate_limiter"]):
        assert {key: bucket["size"] for key, bucket in limiter.items()} == BUCKETS
    assert it.control.order("GET", "/mmds") == {"role": "web"}


def test_a_snapshot_goes_on_in_another_process(machine: Callable[..., Machine], tmp_path: Path) -> None:
    it = machine()
    it.wait_ready()
    it.control.pause()
    files = {"snapshot_path": str(tmp_path / "state"), "mem_file_path": str(tmp_path / "memory")}
    it.control.order("PUT", "/snapshot/create", {"snapshot_type": "Full", **files})
    it.end()
    it.start([str(real.binaries() / "firecracker"), "--api-sock", it.control.path])
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
