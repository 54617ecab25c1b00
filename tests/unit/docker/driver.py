# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume driver in a process of its own, on a real socket, over a kernel that keeps its mounts in a directory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
import traceback
import typing as t
from pathlib import Path

from ansible_collections.microvm.host.plugins.module_utils._docker import daemon, mounting, namespaces
from ansible_collections.microvm.host.plugins.module_utils._host import mounts
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

PATIENCE = 10.0
PROGRAMS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.spawn", "pty.spawn")


class Kernel:
    """Mounts as files: the name is the path of the mount, the text its source."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def table(self, pid: str = "self") -> list[mounts.Mount]:
        """In place of mounts.table."""
        found = []
        for number, entry in enumerate(sorted(self.folder.iterdir())):
            try:
                source = entry.read_text()
            except FileNotFoundError:  # unmounted since
                continue
            path = entry.name.replace("|", "/")
            options = ("rw", "vers=4.2", "addr=192.0.2.1")
            found.append(mounts.Mount(number, 1, "0:%d" % number, "/", path, ("rw",), (), "nfs4", source, options))
        return found

    def attach(self, wanted: t.Any, root: t.Any, marker: str, end: float) -> t.Any:
        """In place of mounting.attach: a server named dead never answers, one named none refuses until it is up."""
        asked = mounting.asked_of(wanted, root)
        if root["server"] == "dead":
            signal.pause()
        if root["server"] == "slow":
            time.sleep(0.5)  # a server that takes its time
        if root["server"] == "none" and not (self.folder.parent / "up").exists():
            raise HostError("unreachable", "none:2049: Connection refused", "start it")
        path = mounting.path_of(wanted.name)
        os.makedirs(path, exist_ok=True)
        (self.folder / path.replace("/", "|")).write_text("%s:%s" % (asked["server"], asked["export"]))
        return {"asked": asked, "version": "4.2", "address": "192.0.2.1"}

    def detach(self, path: str, lazily: bool) -> t.Any:
        """In place of mounting.detach: what is marked busy goes only lazily."""
        if (self.folder.parent / "busy").exists() and not lazily:
            raise HostError("in_use", "%s is in use" % path)
        (self.folder / path.replace("/", "|")).unlink()
        return {}

    def held(self) -> set[namespaces.Place]:
        """In place of namespaces.in_use."""
        names = {entry.name for entry in self.folder.parent.glob("held-*")}
        return {namespaces.place_of(mount) for mount in self.table() if "held-" + os.path.basename(mount.path) in names}

    def hold(self, volume: str) -> None:
        """A container has the volume."""
        (self.folder.parent / ("held-" + volume)).touch()

    def release(self, volume: str) -> None:
        """It has ended."""
        (self.folder.parent / ("held-" + volume)).unlink()

    def mounted(self) -> list[str]:
        """The names of the volumes that are mounted."""
        return [mount.path.rpartition("/")[2] for mount in self.table()]


class Driver:
    """The process, and what a client does with it."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "nfsd.sock")
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen(256)
        self.kernel = Kernel(folder / "kernel")
        self.folder = folder
        self.pid = 0

    def start(self) -> None:
        """As systemd starts it; the socket was there before and stays."""
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            code = 1
            sys.addaudithook(self._refuse_programs)
            try:
                daemon.Daemon(self.listening.dup(), "local").run()
                code = 0
            except BaseException:
                traceback.print_exc()  # nobody else would, as the process leaves by _exit
                sys.stderr.flush()
                raise
            finally:
                os._exit(code)

    def _refuse_programs(self, event: str, dummy: t.Any) -> None:
        """An audit hook, of the driver and so of its children: what runs a program is noted."""
        if event in PROGRAMS:
            (self.folder / "programs").write_text(event)

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        code = os.waitpid(self.pid, 0)[1]
        self.pid = 0
        return code

    def connect(self) -> socket.socket:
        """A client's connection, to a driver that lives: the socket would take one without it."""
        if self.pid and os.waitpid(self.pid, os.WNOHANG) != (0, 0):
            self.pid = 0
            raise AssertionError("the driver has died")
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(self.path)
        return client

    def raw(self, data: bytes) -> bytes:
        """All that comes back for these bytes on a connection of their own."""
        with self.connect() as client, contextlib.suppress(BrokenPipeError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            found = b""
            while True:
                piece = client.recv(65536)
                if not piece:
                    return found
                found += piece
        return b""

    def call(self, method: str, **request: t.Any) -> tuple[int, t.Any]:
        """Status and body of one call."""
        return self.post("/VolumeDriver.%s" % method, json.dumps(request).encode())

    def post(self, path: str, body: bytes) -> tuple[int, t.Any]:
        """Status and body of one request."""
        with self.connect() as client:
            client.sendall(request_of(path, body))
            return answer_of(client)

    def log(self) -> list[dict[str, t.Any]]:
        """What it said."""
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

    def fds(self) -> int:
        """How many descriptors it has open beside one connection; by its answer all that ended before is closed."""
        with self.connect() as client:
            client.sendall(request_of("/VolumeDriver.List", b"{}"))
            answer_of(client)
            return len(os.listdir("/proc/%d/fd" % self.pid))

    def children(self) -> str:
        """The pids of its children."""
        return Path("/proc/%d/task/%d/children" % (self.pid, self.pid)).read_text()

    def until(self, holds: t.Callable[[], t.Any]) -> None:
        """Wait for a condition."""
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, self.log()
            time.sleep(0.01)


def request_of(path: str, body: bytes) -> bytes:
    """A request as Docker sends it."""
    head = "POST %s HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: %d\r\n"
    head += "Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n"
    return (head % (path, len(body))).encode() + body


def answer_of(client: socket.socket) -> tuple[int, t.Any]:
    """Status and body of the next answer on a connection."""
    held = b""
    while b"\r\n\r\n" not in held:
        piece = client.recv(65536)
        assert piece, held
        held += piece
    head, dummy, body = held.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65536)
    return int(head.split()[1]), json.loads(body)
