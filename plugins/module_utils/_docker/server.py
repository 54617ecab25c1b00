# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1 on a Unix socket, as much of it as Docker and podman speak. Private to microvm.host.

Connections are kept alive; each has one request under way at a time. A client that is slow, silent or gone holds up
nobody, and whoever asked learns whether the answer could be delivered.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._docker.loop import READ, WRITE, Loop, Timer

MOST_CONNECTIONS = 512
LARGEST_HEAD = 16 << 10
LARGEST_BODY = 1 << 20
SLOWEST_SECONDS = 30.0
"""How long a request may take to arrive, and an answer to be taken."""
PIECE = 65536
TYPE = "application/vnd.docker.plugins.v1.1+json"
REASONS = {200: "OK", 500: "Internal Server Error"}


class Answer(t.NamedTuple):
    """What is sent back; ``undelivered`` is called when it could not be."""

    status: int
    body: dict[str, t.Any]
    undelivered: t.Callable[[], None] | None = None


Handle = t.Callable[[str, bytes, t.Callable[[Answer], None]], None]
"""Given the path, the body and what takes the answer, now or later."""


class Refused(Exception):
    """A request that is no HTTP, or more than is taken; the connection ends with the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Server:
    """All connections of one listening socket."""

    def __init__(self, loop: Loop, listener: socket.socket, handle: Handle) -> None:
        self.loop = loop
        self.listener = listener
        self.handle = handle
        self.connections: dict[int, Connection] = {}
        listener.setblocking(False)
        self.listening = False
        self.listen()

    def listen(self) -> None:
        """Take connections as long as there is room; others wait in the socket's queue."""
        wanted = self.listener.fileno() >= 0 and len(self.connections) < MOST_CONNECTIONS
        if wanted and not self.listening:
            self.loop.watch(self.listener.fileno(), self._accept)
        elif self.listening and not wanted:
            self.loop.unwatch(self.listener.fileno())
        self.listening = wanted

    def _accept(self) -> None:
        try:
            accepted, dummy = self.listener.accept()
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR):
                return
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM) and self.connections:
                self.loop.unwatch(self.listener.fileno())  # until a connection ends
                self.listening = False
                return
            raise
        accepted.setblocking(False)
        self.connections[accepted.fileno()] = Connection(self, accepted)
        if len(self.connections) >= MOST_CONNECTIONS:
            self._make_room()
        self.listen()

    def _make_room(self) -> None:
        """Of the connections that nobody uses, the one that is so the longest ends; clients expect that."""
        unused = [each for each in self.connections.values() if each.unused()]
        if unused:
            min(unused, key=lambda each: each.since).close()

    def ended(self, fd: int) -> None:
        """A connection is gone."""
        del self.connections[fd]
        self.listen()

    def drain(self) -> None:
        """Take no more connections; those without a request end now, the others with their answer."""
        self.loop.unwatch(self.listener.fileno())
        self.listener.close()
        self.listening = False
        for connection in list(self.connections.values()):
            connection.finish()

    def descriptors(self) -> list[int]:
        """What a child must not keep open: its client would wait for it."""
        return [self.listener.fileno(), *self.connections] if self.listener.fileno() >= 0 else [*self.connections]


class Connection:
    """One client."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.fd = sock.fileno()
        self.held = bytearray()
        self.out = b""
        self.working = False
        self.last = False
        self.hung_up = False
        self.undelivered: t.Callable[[], None] | None = None
        self.timer: Timer | None = None
        self.since = time.monotonic()
        self._watch()

    def unused(self) -> bool:
        """True when it is kept alive for nothing."""
        return not (self.working or self.out or self.held)

    def finish(self) -> None:
        """End it when what the client asked for, as far as it has arrived, is answered."""
        self.last = True
        if not self.working and not self.out:
            self._receive()
        if not self.working and not self.out:
            self.close()

    def close(self) -> None:
        """End it."""
        if self.fd not in self.server.connections:
            return
        self._limit(None)
        self.server.loop.unwatch(self.fd)
        self.sock.close()
        self.server.ended(self.fd)

    def _watch(self) -> None:
        """Watch for what can happen next. A client that hung up while it is worked for is not read again."""
        events = (WRITE if self.out else 0) | (0 if self.hung_up or self.out or self._full() else READ)
        if events:
            self.server.loop.watch(self.fd, self._ready, events)
        else:
            self.server.loop.unwatch(self.fd)

    def _full(self) -> bool:
        return self.working and len(self.held) > LARGEST_HEAD

    def _limit(self, seconds: float | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None if seconds is None else self.server.loop.at(time.monotonic() + seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._fail()

    def _fail(self) -> None:
        """The client is gone, or as good as: what it was told does not count."""
        undelivered, self.undelivered = self.undelivered, None
        self.close()
        if undelivered is not None:
            undelivered()

    def _ready(self) -> None:
        if self.out:
            self._send()
        else:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self.sock.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:  # reset: it went away without reading the last answer
            data = None
        if not data:
            if self.working:
                self.hung_up = True  # it may have closed one direction only: the answer will tell
                self._watch()
            elif data is None:
                self._fail()
            else:
                self.close()
            return
        self.held += data
        if not self.working:
            self.undelivered = None  # a client that asks again has read the answer before
            self._next()
        self._watch_open()

    def _watch_open(self) -> None:
        if self.fd in self.server.connections:
            self._watch()

    def _next(self) -> None:
        """Take the next request out of what has arrived, when it is whole."""
        try:
            request = self._parse()
        except Refused as refused:
            self.last = True
            self.working = True
            self._answer(Answer(refused.status, {"Err": str(refused)}))
            return
        if request is None:
            if self.held and self.timer is None:
                self._limit(SLOWEST_SECONDS)
            return
        self._limit(None)
        self.working = True
        self.server.handle(*request, self._answer)

    def _parse(self) -> tuple[str, bytes] | None:
        """Path and body of a whole request, taken out of ``held``; None when there is more to come."""
        end = self.held.find(b"\r\n\r\n")
        if end < 0:
            if len(self.held) > LARGEST_HEAD:
                raise Refused(431, "the head of the request is longer than %d bytes" % LARGEST_HEAD)
            return None
        first, *lines = self.held[:end].decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
            raise Refused(400, "this is no HTTP/1.1 request")
        headers = {}
        for line in lines:
            key, colon, value = line.partition(":")
            if not colon:
                raise Refused(400, "this is no HTTP/1.1 header")
            headers[key.strip().lower()] = value.strip()
        if "transfer-encoding" in headers:
            raise Refused(411, "send a Content-Length, not a Transfer-Encoding")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            raise Refused(400, "the Content-Length is no number")
        if int(length) > LARGEST_BODY:
            raise Refused(413, "the body is longer than %d bytes" % LARGEST_BODY)
        if words[0] != "POST":
            raise Refused(405, "the methods of a volume driver are called by POST")
        start, end = end + 4, end + 4 + int(length)
        if len(self.held) < end:
            if headers.get("expect", "").lower() == "100-continue" and len(self.held) == start:
                with contextlib.suppress(OSError):  # a client that does not get it sends its body all the same
                    self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body = bytes(self.held[start:end])
        del self.held[:end]
        choice = headers.get("connection", "").lower()
        if choice == "close" or (words[2] == "HTTP/1.0" and choice != "keep-alive"):
            self.last = True
        return words[1], body

    def _answer(self, answer: Answer) -> None:
        """Send the answer to the request under way."""
        if not self.working or self.fd not in self.server.connections:
            if answer.undelivered is not None:
                answer.undelivered()
            return
        body = json.dumps(answer.body).encode() + b"\n"
        head = "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n" % (
            answer.status,
            REASONS.get(answer.status, "Refused"),
            TYPE,
            len(body),
            "Connection: close\r\n" if self.last else "",
        )
        self.out = head.encode() + body
        self.undelivered = answer.undelivered
        self._limit(SLOWEST_SECONDS)
        self._send()

    def _send(self) -> None:
        try:
            sent = self.sock.send(self.out, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._fail()
            return
        self.out = self.out[sent:]
        if self.out:
            self._watch()
            return
        self._limit(None)
        self.working = False
        self.since = time.monotonic()
        if self.last or self.hung_up:
            self.close()
            return
        if self.held:
            # The next request came before this answer was read: of its delivery nothing is known, as of any other.
            self.server.loop.at(time.monotonic(), self._go_on)
        self._watch()

    def _go_on(self) -> None:
        if self.fd in self.server.connections and not self.working:
            self._next()
            self._watch_open()
