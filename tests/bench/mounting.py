# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the lab host: seconds of mounts through the volume driver and by the kernel alone, as JSON.

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


def driver(number: int, times: list[float]) -> None:
    """One mount through the driver."""
    client = Client()
    client.connect()
    begun = time.monotonic()
    client.ask("Mount", Name=f"bench{number}", ID="bench")
    times.append(time.monotonic() - begun)
    client.ask("Unmount", Name=f"bench{number}", ID="bench")
    client.close()


def bare(server: str, number: int, times: list[float]) -> None:
    """One mount by the calls that the kernel needs, in a child as one thread would hold up the others."""
    mounts = sys.modules[MOUNTS]
    path = f"{BARE}{number}"
    os.makedirs(path, exist_ok=True)
    parameters = [("source", f"{server}:/export/e{number:02}"), ("vers", "4.2"), ("addr", server), ("hard", None)]
    reading, writing = os.pipe()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        mounts.attach(mounts.detached("nfs4", parameters, ["nosuid", "nodev", "noatime"]), path)
        os.write(writing, b".")
        os._exit(0)
    os.close(writing)
    done = os.read(reading, 1)
    times.append(time.monotonic() - begun)
    os.close(reading)
    os.waitpid(pid, 0)
    mounts.detach(path)
    os.rmdir(path)
    if not done:
        raise RuntimeError(f"mounting {path} failed")


def main() -> None:
    """Interleaved rounds of both."""
    server, count, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sys.path.insert(0, TOOL)
    importlib.import_module(MOUNTS)  # before there are threads: a child of one must not find the lock of imports held
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _round in range(rounds):
        for key, times in found.items():
            threads = [
                threading.Thread(target=driver, args=(number, times))
                if key == "ours"
                else threading.Thread(target=bare, args=(server, number, times))
                for number in range(1, count + 1)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if len(times) % count:
                raise SystemExit(f"{key}: a mount failed")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
