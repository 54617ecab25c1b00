# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks for secrets while others work: arguments and environment of every new process, files in temporary directories.

Runs on the controller and on hosts, standard library only. The first line of its input is JSON: ``needles``,
hexadecimal; ``directories``. It says "ready", looks again and again until its input ends, and prints where it saw one.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time

LEAST_SECONDS = 0.02
LARGEST = 1 << 20


def running() -> set[str]:
    """The number of every process."""
    return set(filter(str.isdigit, os.listdir("/proc")))


def processes(older: set[str]) -> dict[str, bytes]:
    """Arguments and environment of every process but the older ones, by their files in /proc."""
    found: dict[str, bytes] = {}
    now = running()
    older &= now  # a number that was free may be another process's
    for pid in now - older:
        for part in ("cmdline", "environ"):
            read(f"/proc/{pid}/{part}", found)
    return found


def files(directories: list[str]) -> dict[str, bytes]:
    """The beginning of every file below the directories."""
    found: dict[str, bytes] = {}
    for directory in directories:
        for top, dummy, names in os.walk(directory):
            for name in names:
                read(os.path.join(top, name), found)
    return found


def read(path: str, found: dict[str, bytes]) -> None:
    """Add a file, if it is still there and one that ends: no pipe, no socket."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        found[path] = os.read(descriptor, LARGEST)
    except OSError:
        return
    finally:
        os.close(descriptor)


def main() -> None:
    """Until the input ends."""
    asked = json.loads(sys.stdin.readline())
    needles = [bytes.fromhex(needle) for needle in asked["needles"]]
    seen: dict[str, str] = {}
    looks, older = 0, running()
    print("ready", flush=True)
    while True:
        began = time.monotonic()
        for path, data in {**processes(older), **files(asked["directories"])}.items():
            if any(needle in data for needle in needles):
                seen.setdefault(path, data[:200].decode(errors="replace"))
        looks += 1
        took = time.monotonic() - began  # as long is left to what is watched
        if select.select([sys.stdin], [], [], max(took, LEAST_SECONDS))[0] and not sys.stdin.readline():
            break
    print(json.dumps({"looks": looks, "seen": seen}))


if __name__ == "__main__":
    main()
