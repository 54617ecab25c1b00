# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the lab host: seconds of clones made by the collection's own steps and by other programs, as JSON.

Each is timed until data and name are durable. Both are bare operations: the programs have no Ansible task around them,
and of the collection all steps of a new volume count (lock, label, copy, comparison, name) but not the start of Python,
its imports and the registry, which a call pays once for all volumes.

Arguments: the backend, the image, rounds. Printed: where the backend is, what others clone there, and the seconds by
clone and method. In a thin pool the programs write to a volume that LVM has made for them, and LVM's own snapshot is
one of the methods.
"""

from __future__ import annotations

import glob
import importlib
import json
import os
import subprocess
import sys
import time
from typing import Any

TOOL = "/usr/local/libexec/microvm/microvm-tool"
PACKAGE = "ansible_collections.microvm.host.plugins.module_utils."
CONVERT = ["qemu-img", "convert", "-f", "raw", "-O", "raw"]
PROGRAMS = {
    "cp": ["cp"],
    "cp --reflink": ["cp", "--reflink=always"],
    "qemu-img": CONVERT,
    "dd": ["dd", "bs=1M", "conv=sparse", "status=none"],
}
LVM = "lvcreate --snapshot"
KEY = "b" * 64
SECONDS = 600.0


class Backend:
    """A registered backend, and what is timed on it."""

    rivals = PROGRAMS

    def __init__(self, name: str, image: str) -> None:
        self.observed, self.kinds, self.store, self.deadline, self.lvm = (
            importlib.import_module(PACKAGE + module)
            for module in ("_storage.observed", "_storage.kinds", "_storage.store", "_host.deadline", "_host.lvm")
        )
        seen = self.observed.Seen(lambda seen: [], 0)
        self.volumes = self.kinds.store_of(seen.backends[name], seen)
        self.image = image
        self.folder = os.path.dirname(self.volumes.disk("x"))
        self.beside = os.path.isdir(self.folder) and os.stat(image).st_dev == os.stat(self.folder).st_dev
        self.count = 0

    def source(self, first: bool) -> str:
        """What others copy: the image, or what the backend has of it."""
        return self.image if first or self.beside else self.volumes.disks.path(self.volumes.disks.image(KEY))

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

    def forget(self) -> None:
        """Have the next clone be the first."""
        self.carry_out(self.volumes.prune(KEY, SECONDS), finish=True)

    def theirs(self, first: bool) -> dict[str, float]:
        """Copies by programs; without those that can't."""
        target = os.path.join(self.folder, "rival.raw")
        found = {}
        for name, argv in self.rivals.items():
            begun = time.monotonic()
            done = copied(argv, self.source(first), target)
            if done:
                found[name] = time.monotonic() - begun
            os.unlink(target)
        return found


class Thin(Backend):
    """One whose volumes are in a thin pool."""

    # The new volume has no data: what is not written is zero. cp would fill it.
    rivals = {"qemu-img": [*CONVERT, "-n", "--target-is-zero"], "dd": PROGRAMS["dd"]}

    def change(self, *words: str) -> None:
        """LVM, as its user runs it."""
        (node,) = {os.path.realpath(link) for link in glob.glob("/dev/disk/by-path/*-iscsi-*")}
        self.lvm.change(node, self.lvm.system_id(), words, SECONDS)

    def theirs(self, first: bool) -> dict[str, float]:
        """Copies of the image; of one that is in the pool LVM's snapshot too."""
        group, size = os.path.basename(self.folder), os.stat(self.image).st_size
        made = ["--type", "thin", "--virtualsize", f"{size}b", "--thinpool", self.volumes.disks.pool]
        found = {}
        for name, argv in self.rivals.items():
            begun = time.monotonic()
            self.change("lvcreate", "--yes", *made, "--name", "rival", group)
            if copied(argv, self.image, f"/dev/{group}/rival"):
                found[name] = time.monotonic() - begun
            self.change("lvremove", "--yes", f"{group}/rival")
        if not first:
            image = self.volumes.disks.image(KEY)
            begun = time.monotonic()
            self.change("lvcreate", "--yes", "--snapshot", "-kn", "--name", "rival", f"{group}/{image}")
            found[LVM] = time.monotonic() - begun
            self.change("lvremove", "--yes", f"{group}/rival")
        return found


def copying(argv: list[str], source: str, target: str) -> list[str]:
    """The whole command line of one of the programs."""
    return [*argv, f"if={source}", f"of={target}"] if argv[0] == "dd" else [*argv, source, target]


def copied(argv: list[str], source: str, target: str) -> bool:
    """Copy by a program and have it durable, its name too; False when that program can't."""
    done = subprocess.run(copying(argv, source, target), stderr=subprocess.DEVNULL, check=False)
    for path, flags in ((target, os.O_RDWR | os.O_CREAT), (os.path.dirname(target), os.O_RDONLY)):
        descriptor = os.open(path, flags)
        os.fsync(descriptor)
        os.close(descriptor)
    return not done.returncode


def main() -> None:
    """Interleaved rounds: the first clone on a backend, and one when the image is there."""
    name, image, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sys.path.insert(0, TOOL)
    backend = (Thin if name == "thin" else Backend)(name, image)
    found: dict[str, dict[str, list[float]]] = {"first": {}, "nth": {}}
    subprocess.run(["cat", image], stdout=subprocess.DEVNULL, check=True)  # the image is in memory for all of them
    backend.ours()  # loads what the steps are made of
    for _round in range(rounds):
        backend.forget()
        for which, times in found.items():
            times.setdefault("ours", []).append(backend.ours())
            for rival, seconds in backend.theirs(which == "first").items():
                times.setdefault(rival, []).append(seconds)
    print(json.dumps({"folder": backend.folder, "source": backend.source(False), "times": found}))


if __name__ == "__main__":
    main()
