# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the host: kills the driver at many moments of each call, and looks at what is left, as JSON.

Arguments: how many moments for each call. Printed: the moments, and what was wrong at which.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

SOCKET = "/run/docker/plugins/nfsd.sock"
BASE = "/var/lib/docker-volumes-nfsd/"
OPTS = {"server": "nas1", "path": "/export/rw", "subdir": "killed", "on_remove": "delete"}
CALLS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "Create": (),
    "Mount": (("Create", {"Opts": OPTS}),),
    "Unmount": (("Create", {"Opts": OPTS}), ("Mount", {"ID": "a"})),
    "Remove": (("Create", {"Opts": OPTS}), ("Mount", {"ID": "a"}), ("Unmount", {"ID": "a"})),
}
MORE: dict[str, dict[str, Any]] = {"Create": {"Opts": OPTS}, "Mount": {"ID": "a"}, "Unmount": {"ID": "a"}, "Remove": {}}
WINDOW = 0.6
"""Seconds: a little more than the longest call takes on a lab host."""
SETTLED_SECONDS = 90.0


def ask(method: str, **request: Any) -> tuple[int, dict[str, Any]]:
    """Status and answer of a call."""
    connection = http.client.HTTPConnection("nfsd")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(SOCKET)
    try:
        connection.request("POST", "/VolumeDriver." + method, json.dumps({"Name": "killed", **request}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def pid() -> int:
    """The driver's; 0 when it does not run."""
    asked = ["systemctl", "show", "--property=MainPID", "--value", "docker-nfsd.service"]
    return int(subprocess.run(asked, stdout=subprocess.PIPE, check=True).stdout)


def mounted() -> bool:
    """Whether anything is mounted below the driver's directory."""
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        return any(line.split()[4].startswith(BASE) for line in lines)


def kill_in(method: str, delay: float) -> str:
    """Kill the driver ``delay`` s after a call began; what is wrong afterwards, "" when nothing is."""
    for before, more in CALLS[method]:
        status, answer = ask(before, **more)
        if status != 200:
            return f"{before} before it: {answer}"
    if not CALLS[method]:
        ask("List")
    victim = pid()
    told: list[int] = []

    def call() -> None:
        try:
            told.append(ask(method, **MORE[method])[0])
        except (OSError, http.client.HTTPException):
            told.append(0)  # it was killed before it answered

    caller = threading.Thread(target=call)
    caller.start()
    time.sleep(delay)  # the moment is what is tried
    os.kill(victim, signal.SIGKILL)
    caller.join()
    known = ask("Get")[0] == 200
    if method == "Create" and told == [200] and not known:
        return "created, and forgotten"
    if method in ("Mount", "Unmount") and not known:
        return "the volume was forgotten"
    if known:
        references = ask("Get")[1]["Volume"]["Status"]["references"]
        if method == "Mount" and told == [200] and references != 1:
            return f"mounted, and {references} references"
        if method == "Unmount" and told == [200] and references:
            return f"unmounted, and {references} references"
        if references and not mounted():
            return "a reference without a mount"
        if ask("Unmount", ID="a")[0] != 200:
            return "Unmount fails"
    end = time.monotonic() + SETTLED_SECONDS
    while mounted():
        if time.monotonic() > end:
            return "an orphan mount"
        time.sleep(0.1)
    # And all of it works as ever.
    for again in ("Create", "Mount", "Unmount", "Remove"):
        status, answer = ask(again, **MORE[again])
        if status != 200:
            return f"{again} afterwards: {answer}"
    left = os.listdir(BASE)
    return f"left in {BASE}: {left}" if left or mounted() else ""


def main() -> None:
    """All calls, at moments from none to a little after a call takes."""
    moments = int(sys.argv[1])
    wrong = []
    for method in CALLS:
        for number in range(moments):
            problem = kill_in(method, WINDOW * number / moments)
            if problem:
                wrong.append(f"{method}, killed after {WINDOW * number / moments:.3f} s: {problem}")
                ask("Remove")
    print(json.dumps({"kills": moments * len(CALLS), "wrong": wrong}))


if __name__ == "__main__":
    main()
