# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the lab host: seconds of clones made by the collection's own steps and by other programs, as JSON.

Each is timed until it is durable. The collection's time is that of all steps of a new volume: lock, label, copy,
comparison, name; not of Python's start and the registry, which a call pays once for all its volumes.

Arguments: the backend, the image, rounds. Printed: where the backend is, and the seconds by clone and method.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from typing import Any

TOOL = "/usr/local/libexec/microvm/microvm-tool"
PACKAGE = "ansible_collections.microvm.host.plugins.module_utils."
RIVALS: dict[str, list[str]] = {
    "cp": ["cp"],
    "cp --reflink": ["cp", "--reflink=always"],
    "qemu-img": ["qemu-img", "convert", "-f", "raw", "-O", "raw"],
    "dd": ["dd", "bs=1M", "conv=sparse", "status=none"],
}
KEY = "b" * 64
SECONDS = 600.0


class Backend:
    """A registered backend, and what is timed on it."""

    def __init__(self, name: str, image: str) -> None:
        self.observed, self.kinds, self.store, self.deadline = (
            importlib.import_module(PACKAGE + module)
            for module in ("_storage.observed", "_storage.kinds", "_storage.store", "_host.deadline")
        )
        seen = self.observed.Seen(lambda seen: [], 0)
        self.volumes = self.kinds.store_of(seen.backends[name], seen)
        self.image = image
        self.folder = os.path.dirname(self.volumes.disk("x"))
        self.kept = os.path.join(self.folder, ".microvm", "images", KEY + ".raw")
        self.beside = os.stat(image).st_dev == os.stat(self.folder).st_dev
        self.count = 0

    def carry_out(self, steps: list[Any], finish: bool = False) -> None:
        """Do steps, each in its child."""
        for step in steps:
            child = step.apply({})
            if isinstance(child, self.deadline.Child):
                self.deadline.wait_any([child])
                child.result()
        for step in steps if finish else ():
            step.finish({})

    def ours(self) -> float:
        """A new volume."""
        self.count += 1
        name = f"bench{self.count}"
        identity = f"00000000-0000-4000-8000-{self.count:012d}"
        size = os.stat(self.image).st_size
        source = self.store.Source(self.image, "raw", size, "" if self.beside else KEY)
        making = self.store.Making(name, identity, size, source, None, {"created": "now"})
        begun = time.monotonic()
        self.carry_out(self.volumes.provision(making, SECONDS))
        seconds = time.monotonic() - begun
        self.carry_out(self.volumes.delete(name, identity, False, SECONDS), finish=True)
        return seconds

    def theirs(self, argv: list[str], source: str) -> float | None:
        """A copy by a program; None where it can't."""
        target = os.path.join(self.folder, "rival.raw")
        given = [f"if={source}", f"of={target}"] if argv[0] == "dd" else [source, target]
        begun = time.monotonic()
        done = subprocess.run([*argv, *given], stderr=subprocess.DEVNULL, check=False)
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT)
        os.fsync(descriptor)
        seconds = time.monotonic() - begun
        os.close(descriptor)
        os.unlink(target)
        return None if done.returncode else seconds


def main() -> None:
    """Interleaved rounds: the first clone on a backend, and one when the image is there."""
    name, image, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sys.path.insert(0, TOOL)
    backend = Backend(name, image)
    found: dict[str, dict[str, list[float]]] = {"first": {}, "nth": {}}
    subprocess.run(["cat", image], stdout=subprocess.DEVNULL, check=True)  # the image is in memory for all of them
    for _round in range(rounds):
        if os.path.exists(backend.kept):
            os.unlink(backend.kept)
        for which, times in found.items():
            source = image if which == "first" or backend.beside else backend.kept
            times.setdefault("ours", []).append(backend.ours())
            for rival, argv in RIVALS.items():
                seconds = backend.theirs(argv, source)
                if seconds is not None:
                    times.setdefault(rival, []).append(seconds)
    print(json.dumps({"folder": backend.folder, "times": found}))


if __name__ == "__main__":
    main()
