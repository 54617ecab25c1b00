# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume driver as a process: the socket of systemd, the signals, the end. Private to microvm.host.

All that it will ever need is loaded at its start: the archive it runs from may be replaced under it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import sys
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._docker.api import Api
from ansible_collections.microvm.host.plugins.module_utils._docker.loop import Loop
from ansible_collections.microvm.host.plugins.module_utils._docker.server import Server
from ansible_collections.microvm.host.plugins.module_utils._docker.tasks import Tasks
from ansible_collections.microvm.host.plugins.module_utils._docker.units import VERSION_FILE
from ansible_collections.microvm.host.plugins.module_utils._docker.volumes import Volumes
from ansible_collections.microvm.host.plugins.module_utils._docker.workers import Workers
from ansible_collections.microvm.host.plugins.module_utils._host import files, mounts
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

FIRST_PASSED = 3
"""The first descriptor that systemd passes (sd_listen_fds(3))."""
RECONCILE_SECONDS = 60.0
LOADED = ctypes.__name__


def log(event: str, **more: t.Any) -> None:
    """One JSON object a line, for the journal."""
    sys.stdout.write(json.dumps(dict(event=event, **more)) + "\n")
    sys.stdout.flush()


def listener() -> socket.socket:
    """The socket that systemd listens on for us. Raises HostError ``unsupported`` when there is none."""
    passed = os.environ.get("LISTEN_FDS") == "1" and os.environ.get("LISTEN_PID") == str(os.getpid())
    if not passed:
        hint = "it is started by docker-nfsd.socket: systemctl start docker-nfsd.socket"
        raise HostError("unsupported", "this is a service with socket activation", hint)
    os.set_inheritable(FIRST_PASSED, False)
    return socket.socket(fileno=FIRST_PASSED)


def ready() -> None:
    """Tell systemd that the driver serves (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
            told.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)


class Daemon:
    """The volume driver on a listening socket, until it is told to stop."""

    def __init__(self, listening: socket.socket, scope: str) -> None:
        self.loop = Loop()
        self.tasks = Tasks(self.loop, Workers(self.loop, self._inherited))
        self.volumes = Volumes(self.tasks, log)
        self.server = Server(self.loop, listening, Api(self.volumes, self.tasks, scope).handle)
        self.stopping = False
        self.waking, self.woken = os.pipe()
        for fd in (self.waking, self.woken):
            os.set_blocking(fd, False)
        self.loop.watch(self.waking, self._stop)

    def _inherited(self) -> list[int]:
        return self.server.descriptors()

    def run(self) -> None:
        """Serve; after SIGTERM or SIGINT finish what is under way."""
        before = signal.set_wakeup_fd(self.woken, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *dummy: None)
        try:
            self._reconcile()
            while not (self.stopping and self.tasks.idle() and not self.server.connections):
                self.loop.turn()
        finally:
            signal.set_wakeup_fd(before)
            self.loop.close()
            os.close(self.waking)
            os.close(self.woken)

    def _stop(self) -> None:
        os.read(self.waking, 512)
        if not self.stopping:
            log("stopping", under_way=sorted(self.tasks.queues))
            self.stopping = True
            self.server.drain()

    def _reconcile(self) -> None:
        try:
            self.volumes.reconcile()
        except HostError as error:
            log("failed", error=error.as_dict(), message=error.message)
        self.loop.at(time.monotonic() + RECONCILE_SECONDS, self._reconcile)


def run(version: str, scope: str) -> int:
    """Be the volume driver; 1 when it can't be."""
    try:
        if not mounts.in_host_namespace():
            hint = "the unit must have no setting that gives it one: no ProtectSystem=, no PrivateTmp="
            text = "this process has a mount namespace of its own: containers would not see what it mounts"
            raise HostError("unsupported", text, hint)
        daemon = Daemon(listener(), scope)
        files.make_directories(os.path.dirname(VERSION_FILE))
        files.write(VERSION_FILE, version.encode(), 0o644, "new")
    except HostError as error:
        log("not started", error=error.as_dict(), message=error.message)
        return 1
    gc.collect()
    gc.freeze()  # what is loaded stays: a child that touches it less copies less
    log("started", version=version, scope=scope, volumes=len(daemon.volumes.volumes))
    ready()
    daemon.run()
    log("stopped")
    return 0
