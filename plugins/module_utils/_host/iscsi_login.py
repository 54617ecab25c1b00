# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An iSCSI login of our own, to prove that it can be done or to ask for targets. Private to microvm.host.

RFC 7143. It has an ISID of its own, so it disturbs no session of this host, and it is given up before any command:
no device appears. Everything here blocks until its deadline and looks up names: call it in a child.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import os
import socket
import struct
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import net
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

PORT = 3260
"""Of iSCSI (RFC 7143, section 14)."""

REQUEST = struct.Struct(">BBBBI6sHIHHII16x")
"""Login Request (section 11.12): opcode, flags, versions, lengths, ISID, TSIH, task tag, CID, 0, CmdSN, ExpStatSN."""
RESPONSE = struct.Struct(">BBBBI6sHI4xIIIBB10x")
"""Login Response (section 11.13): ... task tag, StatSN, ExpCmdSN, MaxCmdSN, status class, status detail."""
TEXT = struct.Struct(">BBHIQIIII16x")
"""Text Request (section 11.10): opcode, flags, 0, lengths, LUN, task tag, transfer tag, CmdSN, ExpStatSN."""
HEADER = 48
LOGIN, TEXT_REQUEST, LOGIN_ANSWER, TEXT_ANSWER = 0x43, 0x44, 0x23, 0x24
TRANSIT, CONTINUE = 0x80, 0x40
SECURITY, OPERATIONAL, FULL = 0, 1, 3
NO_TAG = 0xFFFFFFFF
LARGEST = 1 << 20
"""Of what a target may say at once, bytes; what is longer is no iSCSI."""
ROUNDS = 16
"""Requests that a login may take before it is given up."""

MD5 = "5"
"""The CHAP algorithm that every target has (RFC 7143, section 12.1.3); open-iscsi asks for no other by default."""


@dataclasses.dataclass(frozen=True)
class Chap:
    """Who this host is, and with ``mutual_username`` who the target must be. The secrets are in no repr."""

    username: str
    password: str = dataclasses.field(repr=False)
    mutual_username: str = ""
    mutual_password: str = dataclasses.field(default="", repr=False)


class Portal(t.NamedTuple):
    """Where a target listens; ``server`` as ``net.server`` returns it."""

    server: str
    port: int

    def __str__(self) -> str:
        return "%s:%d" % (net.bracketed(self.server), self.port)


class Proof(t.NamedTuple):
    """What a login showed: the address that answered, the portal group's tag, and whether CHAP was asked for."""

    address: str
    tag: int
    chap: bool


def prove(portal: Portal, target: str, initiator: str, chap: Chap | None, deadline: float) -> Proof:
    """Log in until the target is content with who we are; nothing is left there.

    ``deadline`` is a reading of time.monotonic(). Raises HostError: ``unreachable``, ``auth``, ``refused`` (this
    initiator may not), ``not_found`` (no such target), ``unsupported``, ``timeout``.
    """
    keys = {"InitiatorName": initiator, "SessionType": "Normal", "TargetName": target}
    with _Login(portal, deadline) as login:
        used = login.security(keys, chap, target)
        return Proof(login.address.text, login.tag, used)


def targets(portal: Portal, initiator: str, chap: Chap | None, deadline: float) -> list[dict[str, t.Any]]:
    """The targets that a portal tells this initiator of (SendTargets): ``iqn`` and its ``portals``. Raises as prove."""
    with _Login(portal, deadline) as login:
        login.security({"InitiatorName": initiator, "SessionType": "Discovery"}, chap, str(portal))
        login.operational()
        text = login.ask({"SendTargets": "All"})
    found: list[dict[str, t.Any]] = []
    for key, value in _pairs(text):
        if key == "TargetName":
            found.append({"iqn": value, "portals": []})
        elif key == "TargetAddress" and found:
            found[-1]["portals"].append(value.partition(",")[0])
    return found


class _Login:
    """One connection, from the first request to its end."""

    def __init__(self, portal: Portal, deadline: float) -> None:
        self.portal = portal
        self.deadline = deadline
        self.isid = b"\x80" + os.urandom(3) + b"\0\0"  # type 10b: random (section 11.12.5)
        self.task = struct.unpack(">I", b"\0" + os.urandom(3))[0]
        self.status = 0
        self.tag = 1
        self._connect()

    def _connect(self) -> None:
        addresses = net.resolve(self.portal.server, "portal")
        self.address = net.reach(addresses, self.portal.port, self.deadline)
        family, place = net.sockaddr(self.address, self.portal.port)
        self.connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            self.connection.settimeout(self._left())
            self.connection.connect(place)
        except OSError as error:
            self.connection.close()
            raise self._lost(error) from None

    def __enter__(self) -> _Login:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.connection.close()

    def security(self, keys: dict[str, str], chap: Chap | None, what: str) -> bool:
        """The first stage of a login: who we are. Returns whether the target asked for CHAP."""
        for dummy in range(4):
            begin = dict(keys, AuthMethod="CHAP,None" if chap else "None")
            answer = self._negotiate(SECURITY, OPERATIONAL, begin, chap is None, what)
            if answer is None:
                continue  # it sent us elsewhere
            if "TargetPortalGroupTag" in answer:
                self.tag = int(answer["TargetPortalGroupTag"])
            method = answer.get("AuthMethod", "None")
            if chap is None or method == "None":
                if chap is not None:
                    if chap.mutual_username:
                        raise HostError(
                            "auth",
                            "%s: the target does not prove who it is" % what,
                            "set up mutual CHAP there, or leave mutual_username out",
                            field="mutual_username",
                        )
                    self._negotiate(SECURITY, OPERATIONAL, {}, True, what)
                return False
            self._chap(chap, what)
            return True
        raise HostError("unsupported", "%s sends us from place to place" % str(self.portal))

    def _chap(self, chap: Chap, what: str) -> None:
        asked = self._expect(SECURITY, {"CHAP_A": MD5}, False, what)
        challenge = _binary(asked.get("CHAP_C", ""))
        if asked.get("CHAP_A") != MD5 or not challenge or not asked.get("CHAP_I", "").isdigit():
            raise self._nonsense("its CHAP challenge can't be read")
        keys = {
            "CHAP_N": chap.username,
            "CHAP_R": "0x" + _digest(int(asked["CHAP_I"]), chap.password, challenge).hex(),
        }
        own, own_id = os.urandom(16), os.urandom(1)[0]
        if chap.mutual_username:
            keys.update(CHAP_I=str(own_id), CHAP_C="0x" + own.hex())
        answer = self._expect(SECURITY, keys, True, what)
        if not chap.mutual_username:
            return
        expected = _digest(own_id, chap.mutual_password, own)
        right = hmac.compare_digest(expected, _binary(answer.get("CHAP_R", "")))
        if not right or answer.get("CHAP_N") != chap.mutual_username:
            text = "%s: the target's proof of who it is is wrong" % what
            hint = "check mutual_username and mutual_password; this may be another target than you think"
            raise HostError("auth", text, hint, field="mutual_password")

    def operational(self) -> None:
        """The second stage: only what must be said; afterwards the session takes requests."""
        keys = {"HeaderDigest": "None", "DataDigest": "None", "MaxRecvDataSegmentLength": "262144"}
        for dummy in range(ROUNDS):
            self._expect(OPERATIONAL, keys, True, str(self.portal), FULL)
            if self.flags & TRANSIT:
                return
            keys = {}
        raise self._nonsense("it does not end the negotiation")

    def ask(self, keys: dict[str, str]) -> bytes:
        """A text request of a running session; the whole answer."""
        text, tag, data = b"", NO_TAG, _encoded(keys)
        for dummy in range(ROUNDS * 16):
            flags = TRANSIT
            header = TEXT.pack(TEXT_REQUEST, flags, 0, len(data), 0, self.task, tag, self.command, self.status + 1)
            self._send(header, data)
            head, answer = self._receive(TEXT_ANSWER)
            text += answer
            tag = struct.unpack_from(">I", head, 20)[0]
            self.status = struct.unpack_from(">I", head, 24)[0]
            if tag == NO_TAG or head[1] & TRANSIT:
                return text
            data = b""
        raise self._nonsense("it does not end its answer")

    def _expect(
        self, stage: int, keys: dict[str, str], transit: bool, what: str, following: int = OPERATIONAL
    ) -> dict[str, str]:
        answer = self._negotiate(stage, following, keys, transit, what)
        if answer is None:
            raise self._nonsense("it sends us elsewhere in the middle of a login")
        return answer

    def _negotiate(
        self, stage: int, following: int, keys: dict[str, str], transit: bool, what: str
    ) -> dict[str, str] | None:
        """One request and its whole answer; None when the target is elsewhere and we are connected there now."""
        data, text = _encoded(keys), b""
        flags = (TRANSIT | stage << 2 | following) if transit else stage << 2
        for dummy in range(ROUNDS):
            header = REQUEST.pack(LOGIN, flags, 0, 0, len(data), self.isid, 0, self.task, 0, 0, 1, self.status + 1)
            self._send(header, data)
            head, answer = self._receive(LOGIN_ANSWER)
            fields = RESPONSE.unpack(head)
            self.flags, self.status, self.command, kind, detail = fields[1], fields[8], fields[9], *fields[11:13]
            text += answer
            if kind:
                found = dict(_pairs(text))
                if kind == 1 and found.get("TargetAddress"):
                    self._move(found["TargetAddress"])
                    return None
                raise _refused(self.portal, what, kind, detail)
            if not self.flags & CONTINUE:
                return dict(_pairs(text))
            data = b""
        raise self._nonsense("it does not end its answer")

    def _move(self, place: str) -> None:
        """Go where a redirection points to: ``address[:port][,tag]``."""
        self.connection.close()
        server, port = split(place.partition(",")[0], "portal")
        self.portal = Portal(server, port)
        self.status = 0
        self._connect()

    def _send(self, header: bytes, data: bytes) -> None:
        try:
            self.connection.settimeout(self._left())
            self.connection.sendall(header + data + b"\0" * (-len(data) % 4))
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self, expected: int) -> tuple[bytes, bytes]:
        """Header and data of the next answer."""
        head = self._exactly(HEADER)
        length = struct.unpack_from(">I", head, 4)[0]
        length, extra = length & 0xFFFFFF, (length >> 24) * 4
        if head[0] & 0x3F != expected or length + extra > LARGEST:
            raise self._nonsense("it answers with 0x%02x" % head[0])
        data = self._exactly(extra + length + -length % 4)
        return head, data[extra : extra + length]

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            try:
                self.connection.settimeout(self._left())
                part = self.connection.recv(count - len(found))
            except OSError as error:
                raise self._lost(error) from None
            if not part:
                hint = "something listens there, but it may be no iSCSI target"
                raise HostError("unreachable", "%s closed the connection" % str(self.portal), hint, field="portal")
            found += part
        return found

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout()
        return left

    def _lost(self, error: OSError) -> HostError:
        if isinstance(error, socket.timeout):
            text, hint = "takes connections and does not answer", "its service hangs, or is no iSCSI target"
        else:
            text, hint = os.strerror(error.errno or 0), "check the server and the network"
        return HostError("unreachable", "%s: %s" % (self.portal, text), hint, field="portal")

    def _nonsense(self, why: str) -> HostError:
        return HostError("unsupported", "%s does not speak iSCSI as we know it: %s" % (self.portal, why))


def split(value: str, field: str) -> tuple[str, int]:
    """Server and port of ``host``, ``host:port``, ``[IPv6]:port`` or a bare IPv6 address. Raises ``invalid``."""
    host, colon, port = value.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")) or value.endswith("]"):
        host, port = value, str(PORT)
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        message = "%s: the port must be a number from 1 to 65535" % field
        raise HostError("invalid", message, "write host:port, and IPv6 as [address]:port", field=field)
    return net.server(host, field), int(port)


def _digest(identifier: int, secret: str, challenge: bytes) -> bytes:
    """The CHAP response (RFC 1994, section 4.1)."""
    data = bytes([identifier & 0xFF]) + secret.encode() + challenge
    return hashlib.new("md5", data, usedforsecurity=False).digest()


def _binary(value: str) -> bytes:
    """A binary value: hexadecimal after 0x, or base64 after 0b (section 6.1); b"" when it is neither."""
    try:
        if value[:2] in ("0x", "0X"):
            return bytes.fromhex(value[2:] if len(value) % 2 == 0 else "0" + value[2:])
        if value[:2] in ("0b", "0B"):
            return base64.b64decode(value[2:], validate=True)
    except ValueError:
        pass
    return b""


def _encoded(keys: dict[str, str]) -> bytes:
    return b"".join(b"%s=%s\0" % (key.encode(), value.encode()) for key, value in keys.items())


def _pairs(text: bytes) -> t.Iterator[tuple[str, str]]:
    for pair in text.split(b"\0"):
        key, equals, value = pair.decode(errors="replace").partition("=")
        if equals:
            yield key, value


def _refused(portal: Portal, what: str, kind: int, detail: int) -> HostError:
    """A login that the target ended, by the status of its answer (section 11.13.5)."""
    said = "%s at %s" % (what, portal)
    if (kind, detail) == (2, 1):
        hint = "check username and password; without them the target wants CHAP"
        return HostError("auth", "%s refuses these credentials" % said, hint, field="password")
    if (kind, detail) == (2, 2):
        hint = "allow the name of this host's initiator there (an access list or initiator group)"
        return HostError("refused", "%s does not admit this initiator" % said, hint, field="initiator_name")
    if (kind, detail) in ((2, 3), (2, 4)):
        hint = "check iqn; some servers also say so when the initiator is not allowed"
        return HostError("not_found", "%s: no such target" % said, hint, field="iqn")
    if kind == 3:
        return HostError(
            "unreachable", "%s: the server can't serve it now (0x03%02x)" % (said, detail), "try again later"
        )
    return HostError("refused", "%s refuses the login (status 0x%02x%02x)" % (said, kind, detail))
