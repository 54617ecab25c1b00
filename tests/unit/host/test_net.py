# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers as users write them, look-ups, and the TCP pre-check against real sockets on the loopback."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import net
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


@pytest.mark.parametrize(
    ("value", "canonical", "bracketed"),
    [
        ("nas", "nas", "nas"),
        ("NAS.Local.", "nas.local", "nas.local"),
        ("file_server.lab", "file_server.lab", "file_server.lab"),
        ("3com.example", "3com.example", "3com.example"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("10.0.0.9", "10.0.0.9", "10.0.0.9"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("fd00::1", "fd00::1", "[fd00::1]"),
        ("[fd00::1]", "fd00::1", "[fd00::1]"),
        ("FD00:0:0::0001", "fd00::1", "[fd00::1]"),
        ("::1", "::1", "[::1]"),
        ("fe80::1%eth0", "fe80::1%eth0", "[fe80::1%eth0]"),
        ("[FE80::1%br-lan.5]", "fe80::1%br-lan.5", "[fe80::1%br-lan.5]"),
        ("::ffff:10.0.0.9", "10.0.0.9", "10.0.0.9"),
    ],
)
def test_servers(value: str, canonical: str, bracketed: str) -> None:
    assert net.server(value, "server") == canonical
    assert net.server(canonical, "server") == canonical
    assert net.bracketed(canonical) == bracketed


@pytest.mark.parametrize(
    ("value", "because"),
    [
        ("", "is not a server"),
        (None, "is not a server"),
        (5, "is not a server"),
        (["nas"], "is not a server"),
        ("m\u00fcnchen.de", "xn--"),
        ("nas\u200b", "xn--"),
        ("\udcff", "xn--"),
        ("10.0.0.256", "four numbers"),
        ("10.1", "four numbers"),
        ("010.0.0.1", "four numbers"),
        ("2130706433", "four numbers"),
        ("0x7f.0.0.1", "four numbers"),
        ("0x7f000001", "four numbers"),
        ("0.0.0.0", "one machine"),
        ("255.255.255.255", "one machine"),
        ("239.1.1.1", "one machine"),
        ("::", "one machine"),
        ("ff02::1%eth0", "one machine"),
        ("::ffff:0.0.0.0", "one machine"),
        ("fe80::1", "fe80::1%eth0"),
        ("fe80::1%", "fe80::1%eth0"),
        ("fd00::1%eth0", "not link-local"),
        ("fd00::1%", "not link-local"),
        ("fe80::1%../../x", "no possible interface"),
        ("fe80::1%a b", "no possible interface"),
        ("fe80::1%a%b", "no possible interface"),
        ("fe80::1%" + "x" * 16, "no possible interface"),
        ("[10.0.0.1]", "brackets"),
        ("[nas]", "brackets"),
        ("[", "brackets"),
        ("[::1", "brackets"),
        ("[::g]", "not an IPv6 address"),
        ("[::1]:2049", "their own options"),
        ("[::1]x", "their own options"),
        ("nas:2049", "port in its own option"),
        ("10.0.0.1:2049", "port in its own option"),
        ("::1::2", "port in its own option"),
        ("::1\0", "port in its own option"),
        ("nas:/export", "path in its own option"),
        ("nfs://nas/export", "path in its own option"),
        ("nas/24", "path in its own option"),
        ("nas,nas2", "neither a host name"),
        ("nas;id", "neither a host name"),
        ("nas nas", "neither a host name"),
        (" nas", "neither a host name"),
        ("nas\n", "neither a host name"),
        ("nas\0", "neither a host name"),
        ("-nas", "neither a host name"),
        ("nas-", "neither a host name"),
        ("--", "neither a host name"),
        (".", "neither a host name"),
        ("a..b", "neither a host name"),
        (".a", "neither a host name"),
        ("nas%eth0", "neither a host name"),
        ("{{ x }}", "neither a host name"),
        ("user@nas", "neither a host name"),
        ("a" * 64, "neither a host name"),
        (".".join(["a" * 60] * 5), "neither a host name"),
        ("a" * 2**20, "neither a host name"),
    ],
)
def test_what_is_no_server(value: object, because: str) -> None:
    with pytest.raises(HostError) as caught:
        net.server(value, "mounts[0].server")
    error = caught.value
    assert (error.kind, error.field) == ("invalid", "mounts[0].server")
    assert because in "%s | %s" % (error.message, error.hint)
    assert error.message.isprintable() and len(error.message) < 200


def test_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    assert net.resolve("10.0.0.9") == [net.Address(4, "10.0.0.9")]
    assert net.resolve("fe80::1%eth0") == [net.Address(6, "fe80::1%eth0")]


def test_a_name_gives_each_address_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(host: object, *_arguments: object, **_options: object) -> list[tuple[object, ...]]:
        assert host == b"nas.local"
        return [
            (socket.AF_INET6, 1, 6, "", ("fd00::1", 0, 0, 0)),
            (socket.AF_INET6, 1, 6, "", ("fe80::1", 0, 0, 1)),
            (socket.AF_INET, 1, 6, "", ("10.0.0.9", 0)),
            (socket.AF_INET, 1, 6, "", ("10.0.0.9", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    interface = socket.if_indextoname(1)
    assert net.resolve("nas.local") == [
        net.Address(6, "fd00::1"),
        net.Address(6, "fe80::1%" + interface),
        net.Address(4, "10.0.0.9"),
    ]


@pytest.mark.parametrize(
    ("number", "hint"), [(socket.EAI_NONAME, "check the name"), (socket.EAI_AGAIN, "name servers do not answer")]
)
def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch, number: int, hint: str) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(number, "no such thing")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(HostError, match="'nas' does not resolve: no such thing") as caught:
        net.resolve("nas", "portal")
    assert (caught.value.kind, caught.value.field) == ("unreachable", "portal")
    assert hint in caught.value.hint


@contextlib.contextmanager
def listener(address: str = "127.0.0.1", port: int = 0, full: bool = False) -> Iterator[int]:
    """A listening port; ``full`` leaves it without room, so that further connections get no answer."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind((address, port))
        server.listen(0 if full else 8)
        port = server.getsockname()[1]
        if full:
            for dummy in range(4):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex((address, port))
        yield port


def closed_port() -> int:
    """A port on which nothing listens."""
    with listener() as port:
        return port


def loopback(*last: int) -> list[net.Address]:
    """Addresses of this machine that are not listened on unless a test does."""
    return [net.Address(4, "127.0.0.%d" % number) for number in last]


def test_who_answers_first_is_returned() -> None:
    with listener("127.0.0.3") as port:
        assert net.reach(loopback(2, 3), port, time.monotonic() + 5) == net.Address(4, "127.0.0.3")


def test_a_silent_address_does_not_hold_up_the_next() -> None:
    with listener("127.0.0.2", full=True) as port, listener("127.0.0.3", port):
        start = time.monotonic()
        assert net.reach(loopback(2, 3), port, start + 5) == net.Address(4, "127.0.0.3")
        assert net.STAGGER_SECONDS <= time.monotonic() - start < 2


def test_a_refusal_tells_so_at_once() -> None:
    port = closed_port()
    start = time.monotonic()
    with pytest.raises(HostError) as caught:
        net.reach(loopback(2, 3), port, start + 5)
    assert time.monotonic() - start < 1
    error = caught.value
    assert error.kind == "unreachable"
    assert "127.0.0.2: connection refused; 127.0.0.3: connection refused" in error.message
    assert "listen on port %d" % port in error.hint


def test_silence_ends_at_the_deadline() -> None:
    with listener("127.0.0.2", full=True) as port:
        start = time.monotonic()
        with pytest.raises(HostError, match=r"127\.0\.0\.2: no answer in time") as caught:
            net.reach(loopback(2), port, start + 0.4)
        assert 0.4 <= time.monotonic() - start < 1
        assert "firewalls" in caught.value.hint


def test_a_deadline_in_the_past_tries_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "socket")
    with pytest.raises(HostError, match="no answer in time"):
        net.reach(loopback(2), 2049, time.monotonic() - 1)


def test_no_address_at_all() -> None:
    with pytest.raises(HostError, match="no address"):
        net.reach([], 2049, time.monotonic() + 1)


def test_an_interface_that_is_not_there() -> None:
    address = net.Address(6, "fe80::1%nosuchif")
    with pytest.raises(HostError, match="no such interface"):
        net.reach([address], 2049, time.monotonic() + 1)
    with pytest.raises(HostError, match="no such interface"):
        net.local_address(address)


def test_the_address_packets_leave_from() -> None:
    assert net.local_address(net.Address(4, "127.0.0.9")) == "127.0.0.1"


@pytest.mark.parametrize(("seconds", "patience"), [(1, 0.8), (1.5, 1.0), (15, 7.5)])
def test_a_server_is_given_up_before_the_whole_is(seconds: float, patience: float) -> None:
    assert net.patience(seconds) == pytest.approx(patience)
