# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the lab host: seconds of mounts through the volume driver and by the kernel alone, as JSON.

Those that are asked for at once are timed from one moment on, so that what waits for the processor counts.

Arguments: the server, how many at once, rounds. Volumes bench1 ... are there, of the exports e01 ...
"""

from __future__ import annotations

import ctypes
import http.client
import importlib
import json
import os
import socket
import sys
import threading
import time
from typing import Any

TOOL = "/usr/local/libexec/microvm/microvm-tool"
SOCKET = "/run/docker/plugins/nfsd.sock"
BARE = "/mnt/bare"
MOUNTS = "ansible_collections.microvm.host.plugins.module_utils._host.mounts"
LOADED = ctypes.__name__
"""Which MOUNTS imports when it is first needed."""


class Client(http.client.HTTPConnection):
    """The volume driver."""

    def __init__(self) -> None:
        super().__init__("nfsd")

    def connect(self) -> None:
        """To its socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(SOCKET)

    def ask(self, method: str, **request: Any) -> dict[str, Any]:
        """Call a method; RuntimeError when it fails."""
        self.request("POST", "/VolumeDriver." + method, json.dumps(request))
        answer: dict[str, Any] = json.loads(self.getresponse().read())
        if "Err" in answer:
            raise RuntimeError(answer["Err"])
        return answer


def driver(count: int) -> list[float]:
    """So many mounts at once through the driver."""
    times: list[float] = []
    clients = [Client() for dummy in range(count)]
    for client in clients:
        client.connect()
    begun: list[float] = []
    start = threading.Barrier(count, lambda: begun.append(time.monotonic()))

    def mount(number: int, client: Client) -> None:
        start.wait()
        client.ask("Mount", Name=f"bench{number}", ID="bench")
        times.append(time.monotonic() - begun[0])

    _at_once([threading.Thread(target=mount, args=pair) for pair in enumerate(clients, 1)])
    for number, client in enumerate(clients, 1):
        client.ask("Unmount", Name=f"bench{number}", ID="bench")
        client.close()
    if len(times) < count:
        raise RuntimeError("a mount failed")
    return times


def bare(server: str, count: int) -> list[float]:
    """The same by the calls that the kernel needs, in children that are there already: their forks do not count."""
    mounts = sys.modules[MOUNTS]
    start, started = os.pipe()
    reading, writing = os.pipe()
    pids = []
    for number in range(1, count + 1):
        path = f"{BARE}{number}"
        os.makedirs(path, exist_ok=True)
        parameters = [("source", f"{server}:/export/e{number:02}"), ("vers", "4.2"), ("addr", server), ("hard", None)]
        pids.append(os.fork())
        if pids[-1] == 0:
            os.close(started)
            os.read(start, 1)
            mounts.attach(mounts.detached("nfs4", parameters, ["nosuid", "nodev", "noatime"]), path)
            os.write(writing, f"{time.monotonic()}\n".encode())
            os._exit(0)
    os.close(writing)
    os.close(start)
    begun = time.monotonic()
    os.close(started)  # all of them go
    with open(reading, encoding="ascii") as lines:
        times = [float(line) - begun for line in lines]
    for number, pid in enumerate(pids, 1):
        os.waitpid(pid, 0)
        mounts.detach(f"{BARE}{number}")
        os.rmdir(f"{BARE}{number}")
    if len(times) < count:
        raise RuntimeError("a mount failed")
    return times


def _at_once(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    """Interleaved rounds of both."""
    server, count, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sys.path.insert(0, TOOL)
    importlib.import_module(MOUNTS)
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _round in range(rounds):
        found["ours"] += driver(count)
        found["theirs"] += bare(server, count)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
