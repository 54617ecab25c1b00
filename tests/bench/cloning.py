# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: clones beside what others copy images with; a thousand that are as they shall be."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.bench import KEPT, Bench, compare, row
from tests.bench.copies import LVM

SCRIPT = "/tmp/copies.py"
SIZE_MIB, DATA_MIB = 1024, 150
"""Of the image: a quarter of the 4 GiB with 600 MiB of data that it should be, the disks of the lab are small."""
THIN_MIB, THIN_DATA_MIB = 192, 28
"""Of that for a LUN, which is smaller still."""
COUNT = 1000
XFS = """
set -e
truncate -s 5G /srv/shared.img
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
    size: int = SIZE_MIB
    data: int = DATA_MIB
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
            "/srv/thin.raw",
            True,
            THIN_MIB,
            THIN_DATA_MIB,
            files=False,
        ),
    ]


def measure(bench: Bench, filer: str, runs: int) -> list[dict[str, Any]]:
    """All results of volumes."""
    host = bench.host
    host.ssh(XFS, timeout=120)
    every = places(filer)
    for image, size, data in sorted({(place.image, place.size, place.data) for place in every}):
        host.ssh(["python3", "-c", IMAGE.format(size=size, data=data), image], timeout=300)
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
        times["first"]["copy remote_src"] = _remote_source(bench, place.image, f"{done['folder']}/rival.raw", runs)
    image = f"{place.size} MiB image with {place.data} MiB of data (for 4096 with 600: the lab's disks are small)"
    found = []
    for which, by in times.items():
        ours = by.pop("ours")
        bare = by.pop(LVM, None)
        best = min(by, key=lambda method: by[method])
        what = f"{which} clone of a {image} on {place.what} / the best other, {best}"
        more = {"others": {method: round(seconds, 4) for method, seconds in by.items()}}
        found.append(row(f"clone-{which}-{place.name}", what, (ours, by[best]), "s", runs, 1.15) | more)
        if which == "nth" and place.shares:
            what = f"{which} clone of the same on {place.what} / qemu-img convert"
            values = (ours, by["qemu-img"])
            found.append(row(f"clone-nth-{place.name}-qemu", what, values, "s", runs, 50, faster=True))
        if bare is not None:
            what = f"{which} clone of the same on {place.what} / {LVM} alone: nobody asks whose the group is"
            found.append(row(f"clone-{which}-{place.name}-lvm", what, (ours, bare), "s", runs, None))
    return found


def _remote_source(bench: Bench, image: str, target: str, runs: int) -> float:
    """ansible.builtin.copy with remote_src, the module as sent, on the host."""
    bench.write("copy.json", {"src": image, "dest": target, "remote_src": True})
    bench.adhoc("ansible.builtin.copy", "copy.json", keep=True)
    times = []
    for _run in range(runs):
        bench.host.ssh(["rm", target])
        times.append(bench.here(f"python3 {KEPT.format('copy')} && sync {target}"))
    bench.host.ssh(["rm", target])
    return statistics.median(times)


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
