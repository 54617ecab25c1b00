# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host: copies equal their image and are as sparse, file systems grow, snapshots come back, moves lose nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from extensions.molecule.calls import call
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
dd if=/srv/random of={IMAGE} bs=1M seek=45 conv=notrunc status=none
qemu-img convert -O qcow2 {IMAGE} /srv/image.qcow2
sha256sum {IMAGE} | cut -d' ' -f1
"""
BACKENDS = ("nas", "filer", "files", "local")


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


def path_of(host: Managed, name: str) -> str:
    """Where a volume is."""
    (answer,) = host.run(call("storage_volume", name=name))
    assert not answer.failed and not answer.changed, answer.result
    return str(answer.result["volume"]["path"])


def blocks(host: Managed, path: str) -> int:
    """Bytes that a file takes."""
    return int(host.sh(f"stat -c %b {path}")) * 512


def test_clones_are_equal_and_as_sparse(hv1: Managed, checksum: str, made: list[str]) -> None:
    wanted: list[dict[str, Any]] = []
    for backend in BACKENDS:
        for number, how in enumerate(({}, {"checksum": checksum}, {"image": "/srv/image.qcow2", "format": "qcow2"})):
            wanted.append({"name": f"{backend}-{number}", "backend": backend, "image": IMAGE, **how})
    made += [each["name"] for each in wanted]
    done = hv1.converges("storage_volume", volumes=wanted)
    source = blocks(hv1, IMAGE)
    for item in done.result["volumes"]:
        hv1.sh(f"cmp {IMAGE} {item['path']}")
        assert blocks(hv1, item["path"]) <= source * 1.01, item
    kept = hv1.works("host_info", refresh=True).result["images"]
    users = {name for image in kept for name in image["volumes"]}
    assert users == {item["name"] for item in done.result["volumes"]} - {"local-0"}, "that one lies beside its image"
    for backend in BACKENDS:
        there = [image["key"] for image in kept if image["backend"] == backend]
        assert len(there) == (2 if backend == "local" else 3) and checksum in there, "one of each image"


def test_images_that_nobody_needs_are_listed_and_pruned(hv1: Managed, checksum: str, made: list[str]) -> None:
    made += ["needing"]
    hv1.converges("storage_volume", name="needing", backend="nas", image=IMAGE)
    hv1.works("storage_volume", name="spare", backend="files", image=IMAGE)
    hv1.works("storage_volume", name="spare", state="absent")
    kept = hv1.works("host_info", refresh=True).result["images"]
    unused = {f"{image['backend']}:{image['key']}" for image in kept if not image["volumes"]}
    used = {f"{image['backend']}:{image['key']}" for image in kept if image["volumes"]}
    assert any(name.startswith("files:") for name in unused) and used
    done = hv1.converges("storage_volume", volumes=[], prune_images=True)
    assert {item["name"] for item in done.result["volumes"]} == unused
    kept = hv1.works("host_info", refresh=True).result["images"]
    assert {f"{image['backend']}:{image['key']}" for image in kept} == used


def test_a_long_copy_tells_how_far_it_is(hv1: Managed, nas: NfsServer, served: Any, made: list[str]) -> None:
    made += ["long"]
    hv1.sh("head -c 256M /dev/urandom > /srv/long.raw")
    running = hv1.start(call("storage_volume", name="long", backend="nas", image="/srv/long.raw", timeout=120))
    known = "import sqlite3; c = sqlite3.connect('file:/var/lib/microvm/registry.db?mode=ro', uri=True); "
    known += "print(*c.execute('SELECT known FROM journal'))"
    wait_until(lambda: "percent" in hv1.sh(f'python3 -c "{known}"', check=False), 60, "a report of the copy")
    nas.pause()  # so that it is under way as long as it takes to look
    try:
        (job,) = hv1.works("host_info").result["jobs"]
    finally:
        nas.resume()
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


def test_the_file_system_grows_and_shrinks_with_the_disk(hv1: Managed, checksum: str, made: list[str]) -> None:
    made += ["grown"]
    inner = {"type": "ext4"}
    hv1.converges("storage_volume", name="grown", image="volume:hv1-image", size="32MiB", filesystem=inner)
    for size, more in (("64MiB", {}), ("24MiB", {"shrink": True})):
        done = hv1.converges("storage_volume", name="grown", size=size, **more)
        path = done.result["volume"]["path"]
        hv1.sh(f"e2fsck -fn {path}")
        fields = dict(
            line.split(":", 1) for line in hv1.sh(f"dumpe2fs -h {path} 2>/dev/null").splitlines() if ":" in line
        )
        assert int(fields["Block count"]) * int(fields["Block size"]) == int(size[:2]) << 20
    hv1.fails("storage_volume", "conflict", name="grown", size="16MiB")


@pytest.mark.parametrize(("kind", "first", "then"), [("ext4", 16, 32), ("xfs", 320, 512), ("btrfs", 128, 256)])
def test_a_new_file_system_has_what_was_asked_for_and_grows(
    hv1: Managed, made: list[str], kind: str, first: int, then: int
) -> None:
    made += ["furnished"]
    inner = {"type": kind, "label": "data", "owner": "7:8", "directories": ["a/b"]}
    hv1.converges("storage_volume", name="furnished", backend="local", size=f"{first}MiB", filesystem=inner)
    done = hv1.converges("storage_volume", name="furnished", backend="local", size=f"{then}MiB")
    look = "blkid -o value -s LABEL {0}; mount -o loop,ro {0} /mnt && stat -c %u:%g /mnt /mnt/a /mnt/a/b; "
    look += "df -B1M --output=size /mnt | tail -1; umount /mnt"
    label, *owners, size = hv1.sh(look.format(done.result["volume"]["path"])).split()
    assert (label, owners) == ("data", ["7:8"] * 3)
    assert int(size) > (first + then) / 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_snapshot_comes_back(hv1: Managed, checksum: str, made: list[str], backend: str) -> None:
    made += ["snapped"]
    base = {"name": "snapped", "backend": backend}
    hv1.converges("storage_volume", **base, image=IMAGE, snapshots=["one"])
    path = path_of(hv1, "snapped")
    hv1.sh(f"dd if=/dev/urandom of={path} bs=1M count=2 seek=3 conv=notrunc,fsync status=none")
    hv1.sh(f"cp --sparse=always {path} /srv/two")
    hv1.converges("storage_volume", **base, snapshots=["one", "two"])
    first, second = hv1.run(*[call("storage_volume", **base, restore="one")] * 2)
    assert (first.changed, second.changed) == (True, True), "a restore is an act"
    hv1.sh(f"cmp {IMAGE} {path}")
    hv1.works("storage_volume", **base, restore="two", snapshots=["two"])
    hv1.sh(f"cmp /srv/two {path}")
    hv1.fails("storage_volume", "not_found", **base, restore="one")


def test_a_move_loses_nothing(hv1: Managed, checksum: str, made: list[str]) -> None:
    made += ["moved"]
    hv1.converges("storage_volume", name="moved", backend="nas", image=IMAGE)
    before = path_of(hv1, "moved")
    for backend in ("filer", "files", "local", "nas"):
        hv1.fails("storage_volume", "conflict", name="moved", backend=backend)
        done = hv1.converges("storage_volume", name="moved", backend=backend, move=True)
        now = done.result["volume"]["path"]
        hv1.sh(f"cmp {IMAGE} {now}")
        assert hv1.sh(f"ls -A {before.rpartition('/')[0]} | grep moved || true") == ""
        before = now


def test_a_backend_whose_server_is_down_leaves_its_volumes_as_they_are(hv1: Managed, nas: Any, served: Any) -> None:
    nas.stop()
    answer, info = hv1.run(
        call("storage_volume", volumes=[{"name": "hv1-data"}, {"name": "hv1-image"}], timeout=4),
        call("host_info", refresh=True, timeout=5),
    )
    assert not answer.failed and not answer.changed, answer.result
    assert {name: item["status"] for name, item in answer.items("volumes").items()} == {
        "hv1-data": "unreachable",
        "hv1-image": "ok",
    }
    assert info.items("volumes")["hv1-data"]["status"] == "unreachable"
    hv1.fails("storage_volume", "unreachable", name="hv1-data", size="16MiB", timeout=4)
