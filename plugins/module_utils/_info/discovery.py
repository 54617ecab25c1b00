# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What servers offer to this host, for people who are about to add a backend. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._info.offers import Offers

LOGIN = ("username", "password")
OPTIONS = {
    "nfs": ("server",),
    "smb": ("server", *LOGIN, "domain"),
    "iscsi_lvm": ("portal", *LOGIN, "mutual_username", "mutual_password", "initiator_name"),
}
"""What is said of a server of each kind; the first is required, and names it in the answer."""
MOST = 16
"""Servers in one call: each is asked by a process of its own, all at once."""


@dataclasses.dataclass(frozen=True)
class Server:
    """A validated item. ``ask`` blocks until a reading of time.monotonic(), and raises HostError."""

    kind: str
    where: tuple[str, str]
    ask: t.Callable[[float], Offers]


def servers(items: t.Sequence[dict[str, t.Any]]) -> list[Server]:
    """The servers to ask. Raises ``invalid`` naming the option."""
    if len(items) > MOST:
        text = "discover has %d servers, at most %d can be asked at once" % (len(items), MOST)
        raise HostError("invalid", text, field="discover")
    return [_server(item, "discover[%d]." % index) for index, item in enumerate(items)]


def _server(item: dict[str, t.Any] | None, prefix: str) -> Server:
    from ansible_collections.microvm.host.plugins.module_utils._info import offers

    if item is None:
        raise HostError("invalid", "%s is empty" % prefix[:-1], field=prefix[:-1])
    kind = item["kind"]
    for key, value in item.items():
        if value is not None and key != "kind" and key not in OPTIONS[kind]:
            text = "%s%s is not an option of the kind %s" % (prefix, key, kind)
            raise HostError("invalid", text, "it takes %s" % ", ".join(OPTIONS[kind]), field=prefix + key)
    place = OPTIONS[kind][0]
    if item.get(place) is None:
        raise HostError("invalid", "%s%s is required" % (prefix, place), field=prefix + place)
    return Server(kind, (place, item[place]), offers.OF[kind](item, prefix))


class Discovery:
    """All servers are asked at once, each by a child that has ``seconds``; meanwhile other things can be done."""

    def __init__(self, asked: t.Sequence[Server], seconds: float) -> None:
        self._asked = [(server, self._child(server, seconds)) for server in asked]

    @staticmethod
    def _child(server: Server, seconds: float) -> deadline.Child:
        # A little sooner than the child is killed: what the server itself has to say tells more.
        until = time.monotonic() + seconds * 0.9
        return deadline.Child(lambda send: server.ask(until), seconds, "asking %s" % server.where[1])

    def told(self) -> list[dict[str, t.Any]]:
        """The answers in the order of the servers: ``offers``, and ``error`` where none came."""
        waiting = [child for dummy, child in self._asked]
        while waiting:
            waiting.remove(deadline.wait_any(waiting))
        return [_answer(server, child) for server, child in self._asked]


def _answer(server: Server, child: deadline.Child) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {"kind": server.kind, server.where[0]: server.where[1], "offers": []}
    try:
        found["offers"] = child.result()
    except HostError as error:
        found["error"] = dict(error.as_dict(server.where[1]), message=error.message)
    return found
