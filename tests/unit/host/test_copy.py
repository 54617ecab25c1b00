# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of real files: equal, as sparse as the source, refused where they would not be."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pathlib
import random
import stat
import struct
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import command, copy
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

MIB = 1 << 20
F_OFD_SETLK = 37


class Pair(t.NamedTuple):
    """An image and an empty file, open."""

    source: int
    target: int


def image(path: pathlib.Path, size: int, seed: int, pieces: int = 40) -> pathlib.Path:
    """A sparse file with random extents, some at its very ends."""
    chance = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        places = [chance.randrange(size) for dummy in range(pieces)]
        for place in [0, size - 100, *places]:
            file.seek(place // 512 * 512)
            file.write(chance.randbytes(min(chance.randrange(1, 30000), size - file.tell())))
    return path


@pytest.fixture
def pair(tmp_path: pathlib.Path) -> t.Iterator[Pair]:
    """A sparse image of a size that is no multiple of a block, and where it shall go."""
    source = os.open(image(tmp_path / "image", 40 * MIB + 777, seed=1), os.O_RDWR)
    target = os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    yield Pair(source, target)
    os.close(source)
    os.close(target)


def content(descriptor: int) -> str:
    return hashlib.sha256(os.pread(descriptor, os.fstat(descriptor).st_size, 0)).hexdigest()


def assert_copied(pair: Pair) -> None:
    """Equal, and as sparse."""
    assert content(pair.target) == content(pair.source)
    assert copy.allocated(pair.target) <= copy.allocated(pair.source) * 1.01


def test_a_copy_is_equal_and_sparse_and_tells_how_far_it_is(pair: Pair) -> None:
    told: list[tuple[int, int]] = []
    how = copy.contents(pair.source, pair.target, lambda done, total: told.append((done, total)))
    assert how in ("reflink", "copy_file_range", "read and write")
    assert_copied(pair)
    copy.refuse_different(pair.source, pair.target, "copy")
    assert told[-1] == (40 * MIB + 777, 40 * MIB + 777)
    assert [done for done, dummy in told] == sorted(done for done, dummy in told)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EOPNOTSUPP])
def test_where_the_kernel_does_not_copy_it_is_read_and_written(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*dummy: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.setattr(copy, "shared", lambda source, target: False)
    assert copy.contents(pair.source, pair.target, lambda done, total: None) == "read and write"
    assert_copied(pair)


def test_holes_that_the_file_system_does_not_tell_of_stay_holes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS before 4.2 says that all is data."""
    monkeypatch.setattr(copy, "shared", lambda source, target: False)
    monkeypatch.setattr(copy, "extents", lambda descriptor, size: iter([(0, size)]))
    assert copy.contents(pair.source, pair.target, lambda done, total: None) == "read and write"
    assert_copied(pair)


@pytest.mark.parametrize("seed", range(8))
def test_extents_are_where_the_data_is(tmp_path: pathlib.Path, seed: int) -> None:
    path = image(tmp_path / "image", 3 * MIB + seed * 511, seed, pieces=seed)
    with path.open("rb") as file:
        size = path.stat().st_size
        found = list(copy.extents(file.fileno(), size))
        assert found == sorted(found) and all(begin < end <= size for begin, end in found)
        data = path.read_bytes()
        for begin, end in reversed(found):
            data = data[:begin] + data[end:]
        assert not data.strip(b"\0"), "data outside of all extents"


@pytest.mark.parametrize("size", [0, 1, 4096, 5 * MIB])
def test_an_empty_image_is_copied_too(tmp_path: pathlib.Path, size: int) -> None:
    with (tmp_path / "image").open("w+b") as source, (tmp_path / "copy").open("w+b") as target:
        source.truncate(size)
        copy.contents(source.fileno(), target.fileno(), lambda done, total: None)
        assert os.fstat(target.fileno()).st_size == size
        assert copy.allocated(target.fileno()) == 0


def test_what_does_not_fit_is_refused_before_it_is_begun(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstatvfs(pair.target)

    class Full:
        f_frsize = real.f_frsize
        f_bavail = 1

    monkeypatch.setattr(copy, "shared", lambda source, target: False)
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: Full())
    with pytest.raises(HostError) as refused:
        copy.contents(pair.source, pair.target, lambda done, total: None)
    assert refused.value.kind == "full"
    assert os.fstat(pair.target).st_size == 0


@pytest.mark.parametrize(("free", "fits"), [(64 * MIB, True), (15 * MIB, True), (14 * MIB, False)])
def test_a_block_device_is_read_to_see_whether_its_data_fit(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, free: int, fits: bool
) -> None:
    monkeypatch.setattr(copy, "shared", lambda source, target: False)
    monkeypatch.setattr(copy, "extents", lambda descriptor, size, at=0: iter([(at, size)]))
    monkeypatch.setattr(stat, "S_ISREG", lambda mode: False)
    monkeypatch.setattr(copy, "allocated", lambda descriptor: 0)
    with (tmp_path / "device").open("w+b") as source, (tmp_path / "copy").open("w+b") as target:
        source.write(random.Random(1).randbytes(15 * MIB))
        source.truncate(64 * MIB)
        target.truncate(64 * MIB)
        if fits:
            copy.contents(source.fileno(), target.fileno(), lambda done, total: None, free)
            copy.refuse_different(source.fileno(), target.fileno(), "copy")
        else:
            with pytest.raises(HostError) as refused:
                copy.contents(source.fileno(), target.fileno(), lambda done, total: None, free)
            assert refused.value.kind == "full"
            assert os.fstat(target.fileno()).st_blocks == 0


def test_a_source_that_becomes_shorter_is_an_error_not_an_endless_loop(pair: Pair) -> None:
    with pytest.raises(OSError, match="shorter") as error:
        copy._copied(pair.source, pair.target, [(0, 64 * MIB)], lambda done, total: None, inside=False, zeroed=True)
    assert error.value.errno == errno.EIO


@pytest.mark.parametrize("place", [0, 40 * MIB + 776], ids=["first byte", "last byte"])
def test_a_copy_that_differs_is_found(pair: Pair, place: int) -> None:
    copy.contents(pair.source, pair.target, lambda done, total: None)
    (byte,) = os.pread(pair.source, 1, place)
    os.pwrite(pair.target, bytes([byte ^ 255]), place)
    with pytest.raises(HostError, match="differs at byte"):
        copy.refuse_different(pair.source, pair.target, "copy")


def test_a_copy_that_is_too_short_is_found(pair: Pair) -> None:
    copy.contents(pair.source, pair.target, lambda done, total: None)
    os.ftruncate(pair.target, MIB)
    with pytest.raises(HostError, match="1048576 of 41943817 bytes"):
        copy.refuse_different(pair.source, pair.target, "copy")


def test_the_checksum_is_that_of_the_whole_file(pair: Pair) -> None:
    assert copy.sha256(pair.source, lambda done, total: None) == content(pair.source)


def test_an_image_that_qemu_writes_to_is_in_use(pair: Pair) -> None:
    copy.refuse_written(pair.source, "image")
    other = os.open("/proc/self/fd/%d" % pair.source, os.O_RDONLY)  # its own open file description, as QEMU's is
    fcntl.fcntl(other, F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, copy.QEMU_WRITES, 1, 0))
    with pytest.raises(HostError) as refused:
        copy.refuse_written(pair.source, "image")
    assert refused.value.kind == "in_use"
    os.close(other)
    copy.refuse_written(pair.source, "image")


def test_qcow2_is_known_by_its_first_bytes(pair: Pair) -> None:
    assert not copy.is_qcow2(pair.source)
    os.pwrite(pair.source, b"QFI\xfb\0\0\0\3", 0)
    assert copy.is_qcow2(pair.source)


def test_without_qemu_img_the_package_is_named(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find", lambda program: None)
    with pytest.raises(HostError) as refused:
        copy.convert("/image.qcow2", pair.target, lambda done, total: None)
    assert refused.value.kind == "unsupported"
    assert "qemu-utils" in refused.value.hint


def program(folder: pathlib.Path, text: str) -> str:
    """A program in place of qemu-img, which units must not need: what it says was recorded from version 10.0."""
    path = folder / "qemu-img"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


INFO = """[ "$1" = info ] && { printf '{"virtual-size": 8192, "actual-size": 200704, "format": "qcow2"}'; exit; }
[ "$1" = measure ] && { printf '{"required": 393216, "fully-allocated": 393216}'; exit; }
"""


def test_conversion_tells_how_far_it_is(pair: Pair, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = r"printf '    (0.00/100%%)\r    (50.00/100%%)\r    (100.00/100%%)\r    (100.00/100%%)\n'"
    fake = program(tmp_path, INFO + says)
    monkeypatch.setattr(command, "find", lambda name: fake)
    told: list[int] = []
    copy.convert("/image.qcow2", pair.target, lambda done, total: told.append(done))
    assert told == [0, 4096, 8192, 8192]
    assert os.fstat(pair.target).st_size == 8192


def test_the_data_in_an_image_must_fit_however_it_is_compressed(
    pair: Pair, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = program(tmp_path, INFO)
    monkeypatch.setattr(command, "find", lambda name: fake)
    with pytest.raises(HostError, match="8192 bytes are needed, 8191 are free") as refused:
        copy.convert("/image.qcow2", pair.target, lambda done, total: None, 8191)
    assert refused.value.kind == "full"
    assert os.fstat(pair.target).st_size == 0


@pytest.mark.parametrize(("said", "kind"), [("error while writing: No space left on device", "full"), ("x", "refused")])
def test_what_qemu_img_says_is_passed_on(
    pair: Pair, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, said: str, kind: str
) -> None:
    fake = program(tmp_path, INFO + "echo 'qemu-img: %s' >&2; exit 1\n" % said)
    monkeypatch.setattr(command, "find", lambda name: fake)
    with pytest.raises(HostError, match=said) as failed:
        copy.convert("/image.qcow2", pair.target, lambda done, total: None)
    assert failed.value.kind == kind


@pytest.mark.parametrize(
    "more",
    [
        '"backing-filename": "/etc/shadow"',
        '"format-specific": {"type": "qcow2", "data": {"data-file": "/etc/shadow"}}',
    ],
)
def test_an_image_that_refers_to_other_files_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    fake = program(tmp_path, 'printf \'{"virtual-size": 8192, "actual-size": 1, %s}\'\n' % more)
    monkeypatch.setattr(command, "find", lambda name: fake)
    with pytest.raises(HostError, match="/etc/shadow") as refused:
        copy.qcow2_size("/image.qcow2")
    assert refused.value.kind == "invalid"
