# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host: copies equal their image and are as sparse, file systems grow, snapshots come back, moves lose nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from extensions.molecule.calls import Answer, call, refused
from extensions.molecule.managed import Managed
from tests.lab import NfsServer
from tests.lab.daemon import wait_until

IMAGE = "/srv/image.raw"
MAKE = f"""
set -e
truncate -s 48M {IMAGE}
mkfs.ext4 -q -F {IMAGE} 32M
head -c 6M /dev/urandom > /srv/random
debugfs -w -R 'write /srv/random random' {IMAGE} >/dev/null 2>&1
dd if=/srv/random of={IMAGE} bs=1M seek=42 conv=notrunc status=none
qemu-img convert -O qcow2 {IMAGE} /srv/image.qcow2
sha256sum {IMAGE} | cut -d' ' -f1
"""
BACKENDS = ("nas", "filer", "files", "local", "pool")
FULL = "thick"
"""The backend whose disks take all their room, and which so keeps no images."""


@pytest.fixture(scope="module")
def checksum(hv1: Managed) -> str:
    """Of the raw image; the same disk is there as qcow2 too."""
    return hv1.sh(MAKE).strip()


@pytest.fixture
def made(hv1: Managed) -> Iterator[list[str]]:
    """Names of volumes that are deleted after the test."""
    found: list[str] = []
    yield found
    hv1.works("storage_volume", volumes=[{"name": name, "state": "absent"} for name in found])


def blocks(host: Managed, path: str) -> int:
    """Bytes that a file takes."""
    return int(host.sh(f"stat -c %b {path}")) * 512


def same(host: Managed, path: str, *paths: str) -> None:
    """Disks have the same content."""
    for each in paths:
        host.sh(f"cmp {path} {each}")


def images(answer: Answer) -> dict[str, list[str]]:
    """The images that host_info tells of, as a prune names them, and the volumes that need each."""
    return {f"{image['backend']}:{image['key']}": image["volumes"] for image in answer.result["images"]}


def test_clones_are_equal_and_as_sparse_and_images_that_nobody_needs_are_pruned(
    hv1: Managed, checksum: str, made: list[str]
) -> None:
    wanted: list[dict[str, Any]] = []
    for backend in (*BACKENDS, FULL):
        for number, how in enumerate(({}, {"checksum": checksum}, {"image": "/srv/image.qcow2", "format": "qcow2"})):
            wanted.append({"name": f"{backend}-{number}", "backend": backend, "image": IMAGE, **how})
    made += [each["name"] for each in wanted]
    done = hv1.converges("storage_volume", volumes=wanted).result["volumes"]
    same(hv1, IMAGE, *(item["path"] for item in done))
    source = blocks(hv1, IMAGE)
    for item in done:
        assert item["backend"] == FULL or item["allocated_bytes"] <= source * 1.01, item

    before, gone, unused, pruned, again, after = hv1.run(
        call("host_info", refresh=True),
        call("storage_volume", volumes=[{"name": f"files-{number}", "state": "absent"} for number in range(3)]),
        call("host_info", refresh=True),
        call("storage_volume", volumes=[], prune_images=True),
        call("storage_volume", check=True, volumes=[], prune_images=True),
        call("host_info", refresh=True),
    )
    kept = images(before)
    others = {item["name"] for item in done if item["backend"] != FULL}
    assert {name for users in kept.values() for name in users} == others - {"local-0"}, "that one lies beside its image"
    for backend in BACKENDS:
        there = [name for name in kept if name.startswith(backend + ":")]
        assert len(there) == (2 if backend == "local" else 3), "one of each image"
        assert f"{backend}:{checksum}" in there
    assert not gone.failed and pruned.changed and not again.changed, (gone, pruned, again)
    spare = {name for name, users in images(unused).items() if not users}
    assert spare == {name for name in kept if name.startswith("files:")} == set(pruned.items("volumes"))
    assert set(images(after)) == set(kept) - spare


def test_a_long_copy_tells_how_far_it_is(hv1: Managed, nas: NfsServer, served: Any, made: list[str]) -> None:
    made += ["long"]
    hv1.sh("head -c 256M /dev/urandom > /srv/long.raw")
    running = hv1.start(call("storage_volume", name="long", backend="nas", image="/srv/long.raw", timeout=120))
    known = "import sqlite3; c = sqlite3.connect('file:/var/lib/microvm/registry.db?mode=ro', uri=True); "
    known += "print(*c.execute('SELECT known FROM journal'))"
    part = re.compile(r'"percent": [1-9][0-9]?[,.}]')  # neither 0 nor 100
    wait_until(lambda: bool(part.search(hv1.sh(f'python3 -c "{known}"', check=False))), 60, "a report of the copy")
    nas.cut()  # at once, so that it is under way as long as it takes to look
    try:
        (job,) = hv1.works("host_info").result["jobs"]
    finally:
        nas.join()
    (done,) = running.answers()
    assert not done.failed, done.result
    assert (job["resource"], job["name"]) == ("volume", "long")
    assert 0 < job["percent"] < 100 and job["rate"] > 0 and job["seconds_left"] > 0
    hv1.sh(f"cmp /srv/long.raw {done.result['volume']['path']}; rm /srv/long.raw")


def test_a_wrong_checksum_leaves_nothing(hv1: Managed, checksum: str) -> None:
    before = hv1.sh("find /var/lib/microvm/volumes | sort")
    wrong = "0" * 64
    answer = hv1.fails("storage_volume", "invalid", name="wrong", backend="local", image=IMAGE, checksum=wrong)
    assert checksum in answer.result["msg"] and answer.result["error"]["field"] == "checksum"
    assert hv1.sh("find /var/lib/microvm/volumes | sort") == before


def test_file_systems_grow_and_shrink_with_their_disks(hv1: Managed, checksum: str, made: list[str]) -> None:
    backends = {"grown": "local", "thin": "pool", "linear": FULL}
    made += backends

    def each(**more: Any) -> list[dict[str, Any]]:
        return [{"name": name, "backend": backend, **more} for name, backend in backends.items()]

    inner = {"type": "ext4"}
    grown, *logical = each(size="9MiB", filesystem=inner)
    hv1.works("storage_volume", volumes=[{**grown, "size": "32MiB", "image": "volume:hv1-image"}, *logical])
    for asked, size, more in (("62MiB", 64, {}), ("24MiB", 24, {"shrink": True})):
        done = hv1.converges("storage_volume", volumes=each(size=asked, **more)).items("volumes")
        for name, item in done.items():
            extents = size if name != "grown" else int(asked[:2])
            path = item["path"]
            head = hv1.sh(f"e2fsck -fn {path} >/dev/null 2>&1 && dumpe2fs -h {path} 2>/dev/null").splitlines()
            fields = dict(line.split(":", 1) for line in head if ":" in line)
            assert int(fields["Block count"]) * int(fields["Block size"]) == extents << 20, "whole extents"

    path = done["linear"]["path"]
    hv1.sh(f"(sleep 1000 | qemu-io -f raw {path}) >/run/io 2>&1 </dev/null &")
    opened = f"dmsetup info --columns --noheadings -o open {path}"
    wait_until(lambda: hv1.sh(opened).strip() != "0", 20, "qemu-io to open the disk")
    used, smaller = hv1.run(
        call("storage_volume", name="linear", size="32MiB"), call("storage_volume", name="grown", size="16MiB")
    )
    refused(used, "in_use")
    refused(smaller, "conflict")
    assert "is open" in used.result["msg"]
    hv1.sh("pkill -x qemu-io; pkill -x sleep")


def test_a_new_file_system_has_what_was_asked_for_and_grows(hv1: Managed, made: list[str]) -> None:
    sizes = {"ext4": (16, 32), "xfs": (320, 512), "btrfs": (128, 256)}
    made += sizes

    def each(which: int) -> list[dict[str, Any]]:
        inner = {"label": "data", "owner": "7:8", "directories": ["a/b"]}
        return [
            {"name": kind, "backend": "local", "size": f"{both[which]}MiB", "filesystem": {"type": kind, **inner}}
            for kind, both in sizes.items()
        ]

    hv1.converges("storage_volume", volumes=each(0))
    done = hv1.converges("storage_volume", volumes=each(1)).items("volumes")
    look = "blkid -o value -s LABEL {0}; mount -o loop,ro {0} /mnt && stat -c %u:%g /mnt /mnt/a /mnt/a/b; "
    look += "df -B1M --output=size /mnt | tail -1; umount /mnt"
    for kind, both in sizes.items():
        label, *owners, size = hv1.sh(look.format(done[kind]["path"])).split()
        assert (label, owners) == ("data", ["7:8"] * 3)
        assert int(size) > sum(both) / 2


def test_a_snapshot_comes_back(hv1: Managed, checksum: str, made: list[str]) -> None:
    backends = (*BACKENDS, FULL)
    made += backends

    def each(**more: Any) -> list[dict[str, Any]]:
        return [{"name": backend, "backend": backend, **more} for backend in backends]

    done = hv1.converges("storage_volume", volumes=each(image=IMAGE, snapshots=["one"]))
    paths = [item["path"] for item in done.result["volumes"]]
    for path in paths:
        hv1.sh(f"dd if=/srv/random of={path} bs=1M count=2 seek=3 conv=notrunc,fsync status=none")
    hv1.sh(f"cp --sparse=always {paths[0]} /srv/two")
    hv1.converges("storage_volume", volumes=each(snapshots=["one", "two"]))
    first, second = hv1.run(*[call("storage_volume", volumes=each(restore="one"))] * 2)
    assert (first.changed, second.changed) == (True, True), "a restore is an act"
    same(hv1, IMAGE, *paths)
    back, gone = hv1.run(
        call("storage_volume", volumes=each(restore="two", snapshots=["two"])),
        call("storage_volume", volumes=each(restore="one")),
    )
    assert not back.failed, back.result
    same(hv1, "/srv/two", *paths)
    assert gone.errors("volumes") == dict.fromkeys(backends, "not_found")


def test_a_restored_disk_has_its_size_and_so_has_its_file_system(hv1: Managed, made: list[str]) -> None:
    backends = {"restored": "local", "thin": "pool", "linear": FULL}
    made += backends
    inner = {"type": "ext4"}

    def each(**more: Any) -> list[dict[str, Any]]:
        return [{"name": name, "backend": backend, **more} for name, backend in backends.items()]

    def sizes(answer: Answer, mebibytes: int) -> None:
        """Of the disks and of what is in them, as the registry, the item and the disk tell."""
        known = hv1.works("host_info").items("volumes")
        for name, item in answer.items("volumes").items():
            path = item["path"]
            head = hv1.sh(f"e2fsck -fn {path} >/dev/null 2>&1 && dumpe2fs -h {path} 2>/dev/null").splitlines()
            fields = dict(line.split(":", 1) for line in head if ":" in line)
            inside = int(fields["Block count"]) * int(fields["Block size"])
            assert (item["size"], known[name]["size"], inside) == (mebibytes << 20,) * 3

    hv1.converges("storage_volume", volumes=each(size="8MiB", filesystem=inner))
    grown = hv1.works("storage_volume", volumes=each(size="32MiB", snapshots=["short"]))
    sizes(grown, 32)
    sizes(hv1.works("storage_volume", volumes=each(restore="short")), 32)
    same_again = hv1.works("storage_volume", volumes=each(size="32MiB", filesystem=inner))
    assert not same_again.changed
    hv1.works("storage_volume", volumes=each(snapshots=["short", "long"]))
    hv1.works("storage_volume", volumes=each(size="16MiB", shrink=True))
    cut = hv1.run(call("storage_volume", volumes=each(restore="long", size="16MiB")))[0]
    assert cut.errors("volumes") == dict.fromkeys(backends, "conflict")
    sizes(hv1.works("storage_volume", volumes=each(restore="long", size="16MiB", shrink=True)), 16)
    sizes(hv1.works("storage_volume", volumes=each(restore="long")), 32)
    sizes(hv1.works("storage_volume", volumes=each(restore="short", size="12MiB")), 12)
    assert not hv1.works("storage_volume", volumes=each(size="12MiB", filesystem=inner)).changed


def test_a_move_loses_nothing(hv1: Managed, checksum: str, made: list[str]) -> None:
    made += ["moved"]
    first, unasked = hv1.run(
        call("storage_volume", name="moved", backend="nas", image=IMAGE),
        call("storage_volume", name="moved", backend="filer"),
    )
    refused(unasked, "conflict")
    before = first.result["volume"]["path"]
    for backend in ("pool", "files", FULL, "local"):
        done = hv1.converges("storage_volume", name="moved", backend=backend, move=True)
        now = done.result["volume"]["path"]
        hv1.sh(f"cmp {IMAGE} {now}")
        assert hv1.sh(f"ls -A {before.rpartition('/')[0]} | grep moved || true") == ""
        before = now


def test_a_backend_whose_server_is_down_leaves_its_volumes_as_they_are(hv1: Managed, nas: Any, served: Any) -> None:
    nas.stop()
    answer, info, grown = hv1.run(
        call("storage_volume", volumes=[{"name": "hv1-data"}, {"name": "hv1-image"}], timeout=4),
        call("host_info", refresh=True, timeout=5),
        call("storage_volume", name="hv1-data", size="16MiB", timeout=4),
    )
    refused(grown, "unreachable")
    assert not answer.failed and not answer.changed, answer.result
    expected = {"hv1-data": "unreachable", "hv1-image": "ok"}
    assert {name: item["status"] for name, item in answer.items("volumes").items()} == expected
    assert info.items("volumes")["hv1-data"]["status"] == "unreachable"
