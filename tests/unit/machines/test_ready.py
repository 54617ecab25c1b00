# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that says that it is ready, at the end of a real Unix socket, where Firecracker brings its vsock."""

from __future__ import annotations

import grp
import os
import pathlib
import socket
import time
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import places, ready


@pytest.fixture(name="listener")
def a_listener(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[ready.Listener]:
    """One for the machine web1, in a temporary directory; it is closed afterwards."""
    monkeypatch.setattr(places, "RUN", str(tmp_path))
    monkeypatch.setattr(names, "GROUP", grp.getgrgid(os.getgid()).gr_name)
    with ready.Listener("firecracker", "web1", 3) as found:
        assert found.path == str(tmp_path / "web1" / "vsock.sock_10003")
        yield found
    assert os.listdir(tmp_path / "web1") == []


def say(listener: ready.Listener, *parts: bytes) -> socket.socket:
    """Send a message as systemd does, but without its end."""
    guest = socket.socket(socket.AF_UNIX)
    guest.connect(listener.path)
    for part in parts:
        guest.sendall(part)
    return guest


def heard(listener: ready.Listener) -> bool:
    """Whether it hears within a while that the guest is ready, or else nothing more."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if listener.hears(0.2):
            return True
        if not listener.said:
            return False
    return False


def test_a_guest_is_ready_when_it_says_so(listener: ready.Listener) -> None:
    assert not listener.hears(0.01)
    say(listener, b"X_SYSTEMD_UNIT_ACTIVE=ssh.service").close()
    say(listener, b"STATUS=NOT_READY=1\nREADY=10").close()
    assert not heard(listener) and not listener.said
    guest = say(listener, b"READY=1\n", b"STATUS=Startup finished in 1s.")
    assert heard(listener)
    guest.close()


def test_a_guest_that_says_too_much_or_too_often_is_not_heard(listener: ready.Listener) -> None:
    guests = [say(listener, b"x" * 1000) for dummy in range(ready.MOST + 4)]
    while listener.hears(0.2) or len(listener.said) < ready.MOST:
        pass
    for dummy in range(8):
        listener.hears(0.2)
    assert len(listener.said) == ready.MOST
    with pytest.raises(OSError):
        guests[0].settimeout(5)
        while True:
            guests[0].send(b"x" * 1000)
            listener.hears(0.2)
    for guest in guests:
        guest.close()


def test_of_qemu_s_guests_only_the_right_one_is_heard() -> None:
    """They share the host's vsock."""
    ends = {cid: socket.socketpair() for cid in (3, 4)}
    peers = iter([(ends[4][1], (4, 1024)), (ends[3][1], (3, 1024))])
    listener = ready.Listener("qemu", "web1", 3)
    assert listener.socket.family == socket.AF_VSOCK
    listener.socket.close()
    listener.socket = t.cast("socket.socket", Accepting(peers))
    for near, dummy in ends.values():
        near.sendall(b"READY=1")
    assert [listener.hears(1) for dummy in range(2)] == [False, False]
    assert list(listener.said) == [ends[3][1]]


class Accepting:
    """A vsock of the host with a queue of guests: no test has a real one."""

    def __init__(self, peers: t.Iterator[t.Any]) -> None:
        self.peers = peers
        self.near, self.far = socket.socketpair()
        self.near.send(b"12")

    def fileno(self) -> int:
        """Readable as long as somebody waits."""
        return self.far.fileno()

    def accept(self) -> t.Any:
        """The next of them."""
        self.far.recv(1)
        return next(self.peers)


def test_where_it_cannot_listen_it_says_so(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "RUN", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="vsock port 10003"), ready.Listener("firecracker", "web1", 3):
        pass
