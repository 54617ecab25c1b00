# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders to hypervisors, over real sockets; what listens there answers as QEMU 10.0 and Firecracker 1.12 did."""

from __future__ import annotations

import json
import socket
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import control, stop

GREETING = {"QMP": {"version": {"qemu": {"micro": 13, "minor": 0, "major": 10}}, "capabilities": ["oob"]}}


class Server:
    """Serves one client at a time, as QMP does; what it was told is in ``heard``."""

    def __init__(self, folder: Path, serve: t.Callable[[Server, t.Any], bool]) -> None:
        self.path = str(folder / "s.sock")
        self.heard: list[t.Any] = []
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen()
        self.serve = serve
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        going = True
        while going:
            connection, dummy = self.listening.accept()
            with connection, connection.makefile("rwb", buffering=0) as stream:
                going = self.serve(self, stream)
        self.listening.close()


class Machine:
    """A QEMU in a state; ``obeys`` are the orders that end it."""

    def __init__(self, state: str, obeys: t.Container[str]) -> None:
        self.state = state
        self.obeys = obeys

    def __call__(self, server: Server, stream: t.Any) -> bool:
        """One connection; False when it was the last."""
        stream.write(json.dumps(GREETING).encode() + b"\r\n")
        for line in stream:
            command = json.loads(line)["execute"]
            server.heard.append(command)
            if command == "query-status":
                stream.write(json.dumps({"return": {"status": self.state}}).encode() + b"\r\n")
            elif command == "fail":
                stream.write(b'{"error": {"class": "GenericError", "desc": "no"}}\r\n')
            else:
                stream.write(b'{"timestamp": {"seconds": 1}, "event": "POWERDOWN"}\r\n{"return": {}}\r\n')
            if command == "cont":
                self.state = "running"
            if command in self.obeys:
                return False
        return True


def test_qemu_is_asked_and_told(tmp_path: Path) -> None:
    server = Server(tmp_path, Machine("paused", ()))
    qemu = control.connect("qemu", server.path)
    assert qemu.state() == "paused"
    qemu.resume()
    assert qemu.state() == "running"
    qemu.pause()
    assert [word for word in server.heard if word != "qmp_capabilities"] == [
        "query-status",
        "cont",
        "query-status",
        "stop",
    ]
    with pytest.raises(HostError, match=r"QEMU at .*: no"):
        control.Qmp(server.path).order("fail")


def test_a_guest_that_powers_off_is_not_told_to_quit(tmp_path: Path) -> None:
    server = Server(tmp_path, Machine("running", ("system_powerdown",)))
    assert stop.gracefully("qemu", server.path, 5) == "powered off"
    assert "quit" not in server.heard


def test_a_paused_guest_is_resumed_before_it_is_asked(tmp_path: Path) -> None:
    server = Server(tmp_path, Machine("paused", ("system_powerdown",)))
    assert stop.gracefully("qemu", server.path, 5) == "powered off"
    assert server.heard.index("cont") < server.heard.index("system_powerdown")


def test_a_guest_that_does_not_is_told_to_quit(tmp_path: Path) -> None:
    server = Server(tmp_path, Machine("running", ("quit",)))
    assert stop.gracefully("qemu", server.path, 0.2) == "quit"
    assert server.heard[-1] == "quit"


def test_what_does_not_quit_is_left_to_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "QUIT_SECONDS", 0.2)
    server = Server(tmp_path, Machine("running", ()))
    assert stop.gracefully("qemu", server.path, 0.2) == "left"


def test_nothing_to_stop(tmp_path: Path) -> None:
    assert stop.gracefully("qemu", str(tmp_path / "none.sock"), 5) == "gone"
    with pytest.raises(HostError) as error:
        control.connect("qemu", str(tmp_path / "none.sock")).state()
    assert error.value.kind == "not_found"


def test_one_that_does_not_answer_is_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "ANSWER_SECONDS", 0.2)
    release = threading.Event()
    server = Server(tmp_path, lambda dummy, stream: release.wait(5) and False)
    for kind in ("qemu", "firecracker"):
        with pytest.raises(HostError, match="no answer") as error:
            control.connect(kind, server.path).state()
        assert error.value.kind == "timeout"
    release.set()


def http(status: str, body: dict[str, t.Any] | None) -> t.Callable[[Server, t.Any], bool]:
    """Answers each request with this; keeps method, URL and body."""

    def serve(server: Server, stream: t.Any) -> bool:
        method, url = stream.readline().split()[:2]
        length = 0
        while (line := stream.readline().strip()) != b"":
            name, dummy, value = line.partition(b": ")
            length = int(value) if name.lower() == b"content-length" else length
        sent = json.loads(stream.read(length)) if length else None
        server.heard.append((method.decode(), url.decode(), sent))
        data = b"" if body is None else json.dumps(body).encode()
        stream.write(b"HTTP/1.1 %s \r\nContent-length: %d\r\n\r\n%s" % (status.encode(), len(data), data))
        return True

    return serve


def test_firecracker_orders(tmp_path: Path) -> None:
    server = Server(tmp_path, http("204", None))
    machine = control.connect("firecracker", server.path)
    machine.pause()
    machine.resume()
    machine.press_power_button()
    assert machine.quit() is False
    assert server.heard == [
        ("PATCH", "/vm", {"state": "Paused"}),
        ("PATCH", "/vm", {"state": "Resumed"}),
        ("PUT", "/actions", {"action_type": "SendCtrlAltDel"}),
    ]


@pytest.mark.parametrize(
    ("kind", "said", "state"),
    [
        ("firecracker", {"id": "web1", "state": "Running", "vmm_version": "1.12.1"}, "running"),
        ("firecracker", {"id": "web1", "state": "Not started", "vmm_version": "1.12.1"}, "starting"),
        ("cloud_hypervisor", {"state": "Paused"}, "paused"),
        ("cloud_hypervisor", {"state": "Created"}, "starting"),
    ],
)
def test_states_by_http(tmp_path: Path, kind: str, said: dict[str, t.Any], state: str) -> None:
    server = Server(tmp_path, http("200", said))
    assert control.connect(kind, server.path).state() == state


def test_cloud_hypervisor_orders(tmp_path: Path) -> None:
    server = Server(tmp_path, http("204", None))
    machine = control.connect("cloud_hypervisor", server.path)
    machine.pause()
    machine.resume()
    machine.press_power_button()
    assert machine.quit() is True
    asked = [
        ("PUT", "/api/v1/%s" % word, None) for word in ("vm.pause", "vm.resume", "vm.power-button", "vmm.shutdown")
    ]
    assert server.heard == asked


def test_a_refusal_is_told(tmp_path: Path) -> None:
    server = Server(tmp_path, http("400", {"fault_message": "not supported before starting the microVM"}))
    with pytest.raises(HostError, match=r"400 .*not supported before") as error:
        control.connect("firecracker", server.path).pause()
    assert error.value.kind == "refused"


def test_growth_and_balloon_are_told_to_qemu(tmp_path: Path) -> None:
    server = Server(tmp_path, Machine("running", ()))
    qemu = control.connect("qemu", server.path)
    qemu.grow_disk("disk0", "/a", 4096)
    qemu.balloon(128 << 20, 64 << 20)
    assert server.heard == ["qmp_capabilities", "block_resize", "qmp_capabilities", "balloon"]


@pytest.mark.parametrize(
    ("kind", "growth", "balloon"),
    [
        (
            "firecracker",
            ("PATCH", "/drives/disk1", {"drive_id": "disk1", "path_on_host": "/a"}),
            ("PATCH", "/balloon", {"amount_mib": 64}),
        ),
        (
            "cloud_hypervisor",
            ("PUT", "/api/v1/vm.resize-disk", {"id": "disk1", "desired_size": 4096}),
            ("PUT", "/api/v1/vm.resize", {"desired_balloon": 64 << 20}),
        ),
    ],
)
def test_growth_and_balloon_of_the_others(
    monkeypatch: pytest.MonkeyPatch, kind: str, growth: t.Any, balloon: t.Any
) -> None:
    said: list[t.Any] = []
    other = control.connect(kind, "/none")
    monkeypatch.setattr(other, "order", lambda *words: said.append(words))
    other.grow_disk("disk1", "/a", 4096)
    other.balloon(128 << 20, 64 << 20)
    assert said == [growth, balloon]
