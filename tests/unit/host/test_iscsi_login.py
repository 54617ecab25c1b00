# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The login of our own, against what a real target said."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import iscsi_login, net
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.iscsi_login import Chap, Portal
from tests.unit.host.conversations import CONVERSATIONS

INITIATOR = "iqn.2026-01.lab:me"
CHAP = Chap("host", "lab-secret-14")
MUTUAL = Chap("host2", "lab-secret-15", "san", "san-secret-016")


@contextlib.contextmanager
def playing(conversation: list[tuple[str, str]]) -> Iterator[tuple[Portal, list[bytes]]]:
    """A target that says what was recorded, in turn; what it is told is in the list. It then hangs up."""
    told: list[bytes] = []

    def play(listening: socket.socket) -> None:
        connection = listening.accept()[0]
        with connection:
            for who, text in conversation:
                data = bytes.fromhex(text)
                if who == "target":
                    connection.sendall(data)
                    continue
                heard = b""
                while len(heard) < len(data):
                    part = connection.recv(len(data) - len(heard))
                    if not part:
                        break
                    heard += part
                told.append(heard)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=play, args=(listening,))
        thread.start()
        try:
            yield Portal("127.0.0.1", listening.getsockname()[1]), told
        finally:
            # A target that waits for what never comes is let go.
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.fixture(autouse=True)
def as_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random bytes as when it was recorded, and no connection only to see who answers."""
    monkeypatch.setattr(os, "urandom", lambda count: bytes(range(1, count + 1)))
    monkeypatch.setattr(net, "reach", lambda addresses, port, deadline: addresses[0])


def prove(target: str, chap: Chap | None) -> Callable[[Portal], Any]:
    """A login to one of the lab's targets."""
    return lambda portal: iscsi_login.prove(portal, f"iqn.2026-01.lab:{target}", INITIATOR, chap, time.monotonic() + 5)


@pytest.mark.parametrize(
    ("name", "login", "chap"),
    [
        ("open", prove("open", None), False),
        ("chap", prove("chap", CHAP), True),
        ("mutual", prove("mutual", MUTUAL), True),
    ],
)
def test_a_login_says_what_was_accepted_then(name: str, login: Callable[[Portal], Any], chap: bool) -> None:
    with playing(CONVERSATIONS[name]) as (portal, told):
        found = login(portal)
    assert found == ("127.0.0.1", 1, chap)
    assert [data.hex() for data in told] == [text for who, text in CONVERSATIONS[name] if who == "initiator"]


def test_no_secret_goes_over_the_wire() -> None:
    for name in ("chap", "mutual"):
        said = b"".join(bytes.fromhex(text) for dummy, text in CONVERSATIONS[name])
        assert not any(secret.encode() in said for secret in ("lab-secret-14", "lab-secret-15", "san-secret-016"))


@pytest.mark.parametrize(
    ("name", "login", "kind", "field"),
    [
        ("wrong", prove("chap", Chap("host", "wrong")), "auth", "password"),
        ("unknown", prove("gone", None), "not_found", "iqn"),
        ("mutual", prove("mutual", Chap(MUTUAL.username, MUTUAL.password, "san", "other")), "auth", "mutual_password"),
        ("mutual", prove("mutual", Chap(MUTUAL.username, MUTUAL.password, "nas", "san-secret-016")), "auth", "mutual"),
        ("open", prove("open", MUTUAL), "auth", "mutual_username"),
    ],
)
def test_refusals_name_their_field(name: str, login: Callable[[Portal], Any], kind: str, field: str) -> None:
    with playing(CONVERSATIONS[name]) as (portal, dummy), pytest.raises(HostError) as refused:
        login(portal)
    assert refused.value.kind == kind
    assert (refused.value.field or "").startswith(field)
    assert "secret" not in refused.value.message


def test_targets_are_asked_for() -> None:
    with playing(CONVERSATIONS["targets"]) as (portal, dummy):
        found = iscsi_login.targets(portal, INITIATOR, None, time.monotonic() + 5)
    assert [each["iqn"] for each in found] == [f"iqn.2026-01.lab:{name}" for name in ("open", "chap", "mutual")]
    assert all(len(each["portals"]) == 1 for each in found)


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", bytes(48), b"\x23" * 48, b"#"],
    ids=["nothing", "http", "zeros", "too_long", "cut_short"],
)
def test_what_is_no_target_is_told_as_such(answer: bytes) -> None:
    first = CONVERSATIONS["open"][0]
    with playing([first, ("target", answer.hex())]) as (portal, dummy), pytest.raises(HostError) as refused:
        prove("open", None)(portal)
    assert refused.value.kind in ("unreachable", "unsupported")


def test_a_silent_target_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        begun = time.monotonic()
        portal = Portal("127.0.0.1", listening.getsockname()[1])
        with pytest.raises(HostError) as refused:
            iscsi_login.prove(portal, "iqn.2026-01.lab:x", INITIATOR, None, begun + 0.3)
    assert refused.value.kind == "unreachable"
    assert 0.2 < time.monotonic() - begun < 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("san", ("san", 3260)),
        ("san:3261", ("san", 3261)),
        ("10.0.0.7:3260", ("10.0.0.7", 3260)),
        ("[2001:db8::7]:3261", ("2001:db8::7", 3261)),
        ("[2001:db8::7]", ("2001:db8::7", 3260)),
        ("2001:db8::7", ("2001:db8::7", 3260)),
    ],
)
def test_portals(value: str, expected: tuple[str, int]) -> None:
    assert iscsi_login.split(value, "portal") == expected
    assert iscsi_login.split(str(Portal(*expected)), "portal") == expected


@pytest.mark.parametrize(
    "value", ["san:0", "san:65536", "san:x", "san:", ":3260", "a b", "[::1", "san:3260,1", "san:²"]
)
def test_what_is_no_portal_is_refused(value: str) -> None:
    with pytest.raises(HostError) as refused:
        iscsi_login.split(value, "targets[2].portal")
    assert (refused.value.kind, refused.value.field) == ("invalid", "targets[2].portal")


def test_secrets_are_in_no_repr() -> None:
    assert "secret" not in repr(MUTUAL)
