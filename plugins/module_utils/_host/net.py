# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers: how they may be written, what they resolve to, whether somebody answers. Private to microvm.host."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.names import refuse, shown

STAGGER_SECONDS = 0.25
"""How long one address gets before the next is tried beside it (RFC 8305, section 5)."""

_LONGEST_HOST = 253
_LONGEST_LABEL = 63
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_ZONE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_LONGEST_INTERFACE = 15


class Address(t.NamedTuple):
    """An IP address; ``family`` is 4 or 6, ``text`` its canonical form (a link-local one with ``%interface``)."""

    family: int
    text: str


def server(value: object, field: str) -> str:
    """A server as users name it: a host name, an IPv4 or an IPv6 address, the latter with or without brackets.

    Returned in canonical form: lower case, no brackets, no final dot. Host names are those of RFC 1123; an underscore
    is tolerated, as in many names of Windows and Docker networks. Names that inet_aton(3) would read as an address
    (``10.1``, ``0x7f.1``) are refused.
    """
    if not isinstance(value, str) or not value:
        refuse(field, "%s is not a server" % shown(value), "give a host name or an IP address")
    if not value.isascii():
        refuse(field, "%s is not ASCII" % shown(value), "write an international name in its xn-- form")
    numeric = _numeric(value, field)
    return numeric.text if numeric else _host(value, field)


def bracketed(server: str) -> str:
    """A server as it stands before ``:/export``: IPv6 addresses in brackets."""
    return "[%s]" % server if ":" in server else server


def resolve(server: str, field: str = "server") -> list[Address]:
    """The addresses of a server, best first (RFC 6724); an address is returned as it is, without a look-up.

    ``server`` is what the function of that name returned. A look-up blocks for as long as the name servers please, so
    this runs in a child that can be killed. Raises HostError ``unreachable``.
    """
    numeric = _numeric(server, field)
    if numeric:
        return [numeric]
    try:
        # As bytes: for a str Python would import its whole IDNA codec.
        found = socket.getaddrinfo(server.encode("ascii"), None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        passing = error.errno == socket.EAI_AGAIN
        raise HostError(
            "unreachable",
            "%s: %s does not resolve: %s" % (field, shown(server), error.strerror),
            "the name servers do not answer: check resolv.conf and the network"
            if passing
            else "check the name, the name servers and /etc/hosts on this host",
            field=field,
        ) from None
    addresses = [_from_sockaddr(family, sockaddr) for family, _type, _proto, _name, sockaddr in found]
    return list(dict.fromkeys(address for address in addresses if address))


def same_address(one: str, two: str) -> bool:
    """Whether two texts are one IP address, however written: the kernel writes IPv6 without shortening it."""
    bare = [text.partition("%")[0] for text in (one, two)]
    families = (socket.AF_INET6, socket.AF_INET)
    packed = [[_packed(family, text) for text in bare] for family in families]
    return any(first is not None and first == second for first, second in packed)


def patience(seconds: float) -> float:
    """How long a server is looked for, of the ``seconds`` that a mount may take in all.

    Less than the whole: one that does not answer is told as unreachable, not as a timeout.
    """
    return min(max(1.0, seconds / 2), 0.8 * seconds)


def reach(addresses: t.Sequence[Address], port: int, deadline: float) -> Address:
    """The first of ``addresses`` that takes a TCP connection on ``port``, tried in order, each a little later.

    Never blocks beyond ``deadline``, a reading of time.monotonic(). Raises HostError ``unreachable`` that says for
    each address whether it refused, did not answer or has no route.
    """
    failures: dict[Address, str] = {}
    trying: dict[int, tuple[Address, socket.socket]] = {}
    waiting = list(addresses)
    poll = select.poll()
    next_start = time.monotonic()
    try:
        while waiting or trying:
            now = time.monotonic()
            if now >= deadline:
                break
            if waiting and (now >= next_start or not trying):
                address = waiting.pop(0)
                next_start = now + STAGGER_SECONDS
                number, connection = _start(address, port)
                if connection is None:
                    failures[address] = _reason(number)
                else:
                    trying[connection.fileno()] = (address, connection)
                    poll.register(connection, select.POLLOUT)
                continue
            until = min(deadline, next_start) if waiting else deadline
            for fd, _event in poll.poll(int(max(0.0, until - now) * 1000) + 1):
                address, connection = trying.pop(fd)
                poll.unregister(fd)
                number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                connection.close()
                if number == 0:
                    return address
                failures[address] = _reason(number)
                next_start = now
    finally:
        for _address, connection in trying.values():
            connection.close()
    raise _unreachable(addresses, port, failures)


def sockaddr(address: Address, port: int) -> tuple[int, t.Any]:
    """Address family and socket address of a port; raises OSError for an interface that is not there."""
    if address.family == 4:
        return socket.AF_INET, (address.text, port)
    text, _percent, zone = address.text.partition("%")
    scope = 0 if not zone else int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
    return socket.AF_INET6, (text, port, 0, scope)


def local_address(address: Address) -> str:
    """The address of this host that packets to ``address`` leave from; no packet is sent.

    Raises HostError ``unreachable`` when there is no route.
    """
    try:
        family, place = sockaddr(address, 9)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(place)
            return str(probe.getsockname()[0])
    except OSError as error:
        reason = _reason(error.errno or errno.ENODEV)
        raise HostError("unreachable", "%s: %s" % (address.text, reason), "check the routes of this host") from None


def _numeric(value: str, field: str) -> Address | None:
    """The address that ``value`` is; None when it is no address."""
    inner = value
    if value.startswith("["):
        inner, closing, rest = value[1:].partition("]")
        if not closing or ":" not in inner:
            refuse(field, "%s: brackets are for an IPv6 address" % shown(value))
        if rest:
            refuse(field, "%s has more than an address" % shown(value), "give port and path in their own options")
    plain, percent, zone = inner.partition("%")
    packed = _packed(socket.AF_INET6, plain)
    if packed is not None:
        return _six(packed, percent, zone, value, field)
    packed = _packed(socket.AF_INET, inner)
    if packed is not None:
        return _four(packed, value, field)
    if inner is not value:
        refuse(field, "%s is not an IPv6 address" % shown(value))
    return None


def _four(packed: bytes, value: str, field: str) -> Address:
    if packed[0] == 0 or packed[0] >= 224:
        refuse(field, "%s is not the address of a server" % shown(value), "give the address of one machine")
    return Address(4, socket.inet_ntop(socket.AF_INET, packed))


def _six(packed: bytes, percent: str, zone: str, value: str, field: str) -> Address:
    if packed.startswith(b"\0" * 10 + b"\xff\xff") and not percent:
        return _four(packed[12:], value, field)
    if packed == b"\0" * 16 or packed[0] == 0xFF:
        refuse(field, "%s is not the address of a server" % shown(value), "give the address of one machine")
    link_local = packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
    if link_local and not zone:
        refuse(field, "%s is link-local and names no interface" % shown(value), "add it, as in fe80::1%eth0")
    if percent and not link_local:
        refuse(field, "%s has an interface but is not link-local" % shown(value), "leave out the '%' and what follows")
    if zone in (".", "..") or len(zone) > _LONGEST_INTERFACE or not _ZONE.issuperset(zone):
        refuse(field, "%s names no possible interface after '%%'" % shown(value))
    return Address(6, socket.inet_ntop(socket.AF_INET6, packed) + percent + zone)


def _packed(family: int, text: str) -> bytes | None:
    try:
        return socket.inet_pton(family, text)
    except (OSError, ValueError):  # ValueError: a NUL inside
        return None


def _host(value: str, field: str) -> str:
    if "/" in value:
        refuse(field, "%s has a path" % shown(value), "give the server alone, and the path in its own option")
    if ":" in value:
        refuse(field, "%s has a port or is no IPv6 address" % shown(value), "give the port in its own option")
    host = value[:-1].lower() if value.endswith(".") else value.lower()
    labels = host.split(".")
    fine = len(host) <= _LONGEST_HOST and all(
        0 < len(label) <= _LONGEST_LABEL
        and _LABEL.issuperset(label)
        and not label.startswith("-")
        and not label.endswith("-")
        for label in labels
    )
    if not fine:
        refuse(
            field,
            "%s is neither a host name nor an IP address" % shown(value),
            "a host name has labels of a-z, 0-9, '-' and '_' with dots between, at most %d characters" % _LONGEST_HOST,
        )
    if labels[-1].isdigit() or (labels[-1].startswith("0x") and labels[-1].isalnum()):
        refuse(field, "%s is not a complete IPv4 address" % shown(value), "write four numbers from 0 to 255")
    return host


def _from_sockaddr(family: int, sockaddr: t.Any) -> Address | None:
    if family == socket.AF_INET:
        return Address(4, sockaddr[0])
    if family == socket.AF_INET6:
        text = sockaddr[0].partition("%")[0]
        return Address(6, "%s%%%s" % (text, socket.if_indextoname(sockaddr[3])) if sockaddr[3] else text)
    return None


def _start(address: Address, port: int) -> tuple[int, socket.socket | None]:
    """Begin to connect: (0, the socket), or (errno, None) when it failed at once."""
    try:
        family, place = sockaddr(address, port)
        connection = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return error.errno or errno.ENODEV, None
    connection.setblocking(False)
    number = connection.connect_ex(place)
    if number in (0, errno.EINPROGRESS):
        return 0, connection
    connection.close()
    return number, None


def _reason(number: int) -> str:
    return {
        errno.ECONNREFUSED: "connection refused",
        errno.ENETUNREACH: "no route",
        errno.EHOSTUNREACH: "no route to the host",
        errno.ETIMEDOUT: "no answer",
        errno.EAFNOSUPPORT: "this host does not speak its protocol",
        errno.ENODEV: "no such interface",
        errno.ENXIO: "no such interface",
    }.get(number) or os.strerror(number)


def _unreachable(addresses: t.Sequence[Address], port: int, failures: dict[Address, str]) -> HostError:
    reasons = {address: failures.get(address, "no answer in time") for address in addresses}
    if "connection refused" in reasons.values():
        hint = "a machine is there: is its service running, and does it listen on port %d?" % port
    else:
        hint = "check that the server is up, and the network and firewalls between"
    told = "; ".join("%s: %s" % (bracketed(address.text), reason) for address, reason in reasons.items())
    return HostError("unreachable", "TCP port %d cannot be reached: %s" % (port, told or "no address"), hint)
