# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest whose systemd says over vsock that it has started. Private to microvm.host.

It sends READY=1 (sd_notify(3)) to where the credential vmm.notify_socket tells it (systemd.system-credentials(7)). The
kernel's command line passes that, which all hypervisors can. What a guest sends to a port of the host, QEMU brings to
the host's own vsock, where each machine needs a port of its own; Firecracker and Cloud Hypervisor (their docs/vsock.md)
bring it to a Unix socket whose name ends in the port. Only who waits for a start listens: else the guest is refused,
which does not bother it.
"""

from __future__ import annotations

import contextlib
import grp
import os
import select
import socket
import types

from ansible_collections.microvm.host.plugins.module_utils._host import files, names
from ansible_collections.microvm.host.plugins.module_utils._machines import places

LONGEST = 65536
"""Bytes of a message; systemd's have some hundred."""
MOST = 16
"""Connections at a time; systemd has one for each message."""


class Listener:
    """Hears a guest, as a context. ``cid``: its vsock address. Raises HostError when it can't listen."""

    def __init__(self, kind: str, name: str, cid: int) -> None:
        self.cid = cid
        self.port = places.notify_port(cid)
        self.path = "" if kind == "qemu" else "%s_%d" % (places.vsock_socket(name), self.port)
        self.socket = socket.socket(socket.AF_UNIX if self.path else socket.AF_VSOCK, socket.SOCK_STREAM)
        self.said: dict[socket.socket, bytes] = {}

    def __enter__(self) -> Listener:
        try:
            if self.path:
                os.makedirs(os.path.dirname(self.path), 0o750, exist_ok=True)
                files.remove(self.path)
                self.socket.bind(self.path)
                os.chown(self.path, -1, grp.getgrnam(names.GROUP).gr_gid)
                os.chmod(self.path, 0o660)
            else:
                self.socket.bind((socket.VMADDR_CID_ANY, self.port))
            self.socket.listen()
        except OSError as error:
            self.socket.close()
            raise files.from_os(error, "listening for the guest on vsock port %d" % self.port) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        for each in (self.socket, *self.said):
            each.close()
        if self.path:
            files.remove(self.path)

    def hears(self, seconds: float) -> bool:
        """Whether the guest says within ``seconds`` that it is ready."""
        ready = False
        for each in select.select([self.socket, *self.said], [], [], seconds)[0]:
            if each is self.socket:
                self._accept()
            else:
                ready = self._read(each) or ready
        return ready

    def _accept(self) -> None:
        connection, peer = self.socket.accept()
        if len(self.said) >= MOST or (not self.path and peer[0] != self.cid):  # of QEMU's, any guest can come here
            connection.close()
            return
        connection.setblocking(False)
        self.said[connection] = b""

    def _read(self, connection: socket.socket) -> bool:
        part = b""
        with contextlib.suppress(OSError):  # a guest that is reset has said what it has said
            part = connection.recv(LONGEST)
        self.said[connection] += part
        said = self.said[connection]
        if not part or len(said) >= LONGEST:
            connection.close()
            del self.said[connection]
        return b"READY=1" in said.split(b"\n")
