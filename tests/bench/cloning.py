# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: clones beside what others copy images with; a thousand that are as they shall be."""

from __future__ import annotations

import json
import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.bench import KEPT, Bench, compare, row
from tests.bench.copies import LVM, PROGRAMS, copying
from tests.lab import IscsiServer

SCRIPT = "/tmp/copies.py"
SIZE_MIB, DATA_MIB = 4096, 600
"""Of the image."""
LUN_BYTES = 3 << 30
"""The lab's own are too small for it."""
COUNT = 1000
XFS = """
set -e
truncate -s 6G /srv/shared.img
mkfs.xfs -q -m reflink=1 /srv/shared.img
mkdir -p /srv/shared
mount -o loop /srv/shared.img /srv/shared
"""
IMAGE = """
import os, random, sys
draw = random.Random(1)
with open(sys.argv[1], "wb") as file:
    file.truncate({size} << 20)
    for place in draw.sample(range({size}), {data}):
        file.seek(place << 20)
        file.write(draw.randbytes(1 << 20))
    os.fsync(file.fileno())
"""


@dataclass(frozen=True)
class Place:
    """Where clones are made: the backend, the image they are made from, whether blocks can be shared there.

    ``files``: volumes are files, so Ansible's own module can copy one.
    """

    name: str
    what: str
    backend: dict[str, Any]
    image: str
    shares: bool
    files: bool = True


def places(filer: str) -> list[Place]:
    """All of them."""
    return [
        Place("ext4", "ext4", {"name": "ext4", "kind": "local_file"}, "/srv/image.raw", False),
        Place(
            "xfs",
            "xfs, image on it",
            {"name": "xfs", "kind": "local_file", "path": "/srv/shared/volumes"},
            "/srv/shared/image.raw",
            True,
        ),
        Place(
            "nfs42",
            "NFS 4.2 on a kernel server with xfs, image on the host",
            {"name": "nfs42", "kind": "nfs", "server": filer, "export": "/export/rw"},
            "/srv/image.raw",
            True,
        ),
        Place(
            "thin",
            "LVM thin on iSCSI, image on the host",
            {
                "name": "thin",
                "kind": "iscsi_lvm",
                "portal": "san1",
                "iqn": "iqn.2026-01.lab:open",
                "lun": 1,
                "vg": "vg_bench",
                "layout": "thin",
                "initialize": "vg_bench",
                "timeout": 60,
            },
            "/srv/image.raw",
            True,
            files=False,
        ),
    ]


def measure(bench: Bench, filer: str, runs: int) -> list[dict[str, Any]]:
    """All results of volumes."""
    host = bench.host
    host.ssh(XFS, timeout=120)
    every = places(filer)
    for image in sorted({place.image for place in every}):
        host.ssh(["python3", "-c", IMAGE.format(size=SIZE_MIB, data=DATA_MIB), image], timeout=300)
    san = bench.lab.servers["san1"]
    assert isinstance(san, IscsiServer)
    if san.disk("open", 1).stat().st_size != LUN_BYTES:
        san.enlarge("open", 1, LUN_BYTES)
    bench.write("places.json", {"backends": [place.backend for place in every]})
    bench.adhoc("microvm.host.storage_backend", "places.json")
    host.put(Path(__file__).with_name("copies.py"), SCRIPT)
    found = []
    for place in every:
        found += _clones(bench, place, runs)
    return found + _unchanged(bench, runs)


def _clones(bench: Bench, place: Place, runs: int) -> list[dict[str, Any]]:
    done = json.loads(bench.host.ssh(f"python3 {SCRIPT} {place.name} {place.image} {runs}", timeout=3000).stdout)
    times: dict[str, dict[str, float]] = {
        which: {method: statistics.median(seconds) for method, seconds in by.items()}
        for which, by in done["times"].items()
    }
    if place.files:
        times["first"]["copy remote_src"] = _remote_source(bench, place.image, f"{done['folder']}/rival.raw")
    image = f"{SIZE_MIB} MiB image with {DATA_MIB} MiB of data"
    found = []
    for which, by in times.items():
        ours = by.pop("ours")
        bare = by.pop(LVM, None)
        best = min(by, key=lambda method: by[method])
        what = f"{which} clone of a {image} on {place.what} / the best other, {best}; bare, without Ansible"
        more = {"others": {method: round(seconds, 4) for method, seconds in by.items()}}
        found.append(row(f"clone-{which}-{place.name}", what, (ours, by[best]), "s", runs, 1.15) | more)
        if which == "nth" and place.shares:
            what = f"{which} clone of the same on {place.what} / qemu-img convert"
            values = (ours, by["qemu-img"])
            found.append(row(f"clone-nth-{place.name}-qemu", what, values, "s", runs, 50, faster=True))
        if which == "nth" and place.files:
            found.append(_as_tasks(bench, place, best, done, runs))
        if bare is not None:
            what = f"{which} clone of the same on {place.what} / {LVM} alone: nobody asks whose the group is"
            found.append(row(f"clone-{which}-{place.name}-lvm", what, (ours, bare), "s", runs, None))
    return found


def _as_tasks(bench: Bench, place: Place, program: str, done: dict[str, Any], runs: int) -> dict[str, Any]:
    """What a user waits for: a task that makes a volume / one that copies by the best program, and writes it out."""
    module, target = "microvm.host.storage_volume", f"{done['folder']}/task"
    volume = {"name": "task", "backend": place.name}
    argv = copying(PROGRAMS[program], done["source"], target)
    bench.write("clone.json", {**volume, "image": place.image})
    bench.write("gone.json", {**volume, "state": "absent"})
    bench.write("program.json", {"argv": ["sh", "-c", f"{shlex.join(argv)} && sync {target}"]})

    def away() -> None:
        bench.adhoc(module, "gone.json")
        bench.host.ssh(["rm", "-f", target])

    bench.adhoc(module, "clone.json")
    away()
    values = compare(
        runs,
        lambda: bench.adhoc(module, "clone.json"),
        lambda: bench.adhoc("ansible.builtin.command", "program.json"),
        away,
    )
    what = f"nth clone of the same on {place.what}, as a task / {program} as a task, both by ansible from here"
    return row(f"clone-nth-{place.name}-task", what, values, "s", runs, 1.15)


def _remote_source(bench: Bench, image: str, target: str) -> float:
    """ansible.builtin.copy with remote_src, as a task. It fills the holes and takes a minute: once will do."""
    bench.write("copy.json", {"src": image, "dest": target, "remote_src": True})
    seconds = bench.adhoc("ansible.builtin.copy", "copy.json") + bench.here(f"sync {target}")
    bench.host.ssh(["rm", target])
    return seconds


def _unchanged(bench: Bench, runs: int) -> list[dict[str, Any]]:
    module, file = "microvm.host.storage_volume", "thousand.json"
    bench.write(
        file, {"volumes": [{"name": f"v{number:04d}", "backend": "ext4", "size": "1MiB"} for number in range(COUNT)]}
    )
    bench.adhoc(module, file)
    values = compare(runs, lambda: bench.adhoc(module, file), lambda: bench.adhoc("ansible.builtin.ping"))
    found = [row("volumes-1000", f"{COUNT} unchanged volumes in one call / one ping", values, "s", runs, 2.0)]
    bench.adhoc(module, file, keep=True)
    bench.adhoc("ansible.builtin.ping", keep=True)
    values = compare(
        runs,
        lambda: bench.here(f"python3 {KEPT.format('storage_volume')}"),
        lambda: bench.here(f"python3 {KEPT.format('ping')}"),
    )
    what = f"{COUNT} unchanged volumes / bare module, both as sent, on the host"
    return [*found, row("volumes-1000-host", what, values, "s", runs, None)]
