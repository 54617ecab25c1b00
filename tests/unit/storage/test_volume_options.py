# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a volume may be asked to be, and which option is named when it may not."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import volume_options

BASE: dict[str, t.Any] = {
    "name": "web1",
    "state": "present",
    "timeout": 60,
    "adopt": False,
    "forget": False,
    "move": False,
    "shrink": False,
    "takeover": False,
}
DIGITS = "0123456789abcdef" * 4


def validated(**options: t.Any) -> volume_options.Volume:
    return volume_options.validated({**BASE, **options}, "volumes[3].")


@pytest.mark.parametrize(
    ("size", "expected"), [("4GiB", 4 << 30), ("4G", 4 << 30), ("1048576", 1 << 20), (512, 512), (None, None)]
)
def test_sizes(size: t.Any, expected: int | None) -> None:
    assert validated(size=size).size == expected


@pytest.mark.parametrize(
    ("image", "path", "volume"),
    [("/srv/a.raw", "/srv/a.raw", ""), ("images/a.raw", "images/a.raw", ""), ("volume:other", "", "other")],
)
def test_images(image: str, path: str, volume: str) -> None:
    found = validated(image=image).image
    assert found is not None
    assert (found.path, found.volume, found.format, found.checksum) == (path, volume, "raw", "")


@pytest.mark.parametrize("checksum", [DIGITS, "sha256:" + DIGITS, "sha256:" + DIGITS.upper()])
def test_checksums_are_one_spelling(checksum: str) -> None:
    found = validated(image="/a", checksum=checksum).image
    assert found is not None and found.checksum == DIGITS


def test_a_file_system() -> None:
    asked = {"type": "ext4", "label": "data", "owner": "1000", "directories": ["a/b", "c"]}
    expected = {"type": "ext4", "label": "data", "owner": [1000, 1000], "directories": ["a/b", "c"]}
    assert validated(size="1G", filesystem=asked).filesystem == expected
    assert validated(image="/a", filesystem={"type": "xfs"}).filesystem == {"type": "xfs"}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"name": None}, "name"),
        ({"forget": True}, "forget"),
        ({"name": "a@b"}, "name"),
        ({"name": "../x"}, "name"),
        ({"backend": "A"}, "backend"),
        ({"size": "4GB"}, "size"),
        ({"size": "0"}, "size"),
        ({"size": "-1"}, "size"),
        ({"size": "1000"}, "size"),
        ({"image": "../../etc/shadow"}, "image"),
        ({"image": "a//b"}, "image"),
        ({"image": "volume:"}, "image"),
        ({"image": "volume:../x"}, "image"),
        ({"image": ""}, "image"),
        ({"image": "//"}, "image"),
        ({"image": "/a", "checksum": "md5:" + DIGITS}, "checksum"),
        ({"image": "/a", "checksum": DIGITS[1:]}, "checksum"),
        ({"checksum": DIGITS}, "checksum"),
        ({"format": "qcow2"}, "format"),
        ({"image": "volume:a", "format": "qcow2"}, "format"),
        ({"image": "volume:a", "checksum": DIGITS}, "checksum"),
        ({"filesystem": {"type": "ext4", "label": "x" * 17}}, "filesystem.label"),
        ({"filesystem": {"type": "xfs", "label": "x" * 13}}, "filesystem.label"),
        ({"filesystem": {"type": "ext4", "label": "-F"}}, "filesystem.label"),
        ({"filesystem": {"type": "ext4", "label": "a\nb"}}, "filesystem.label"),
        ({"filesystem": {"type": "ext4", "owner": "root"}}, "filesystem.owner"),
        ({"filesystem": {"type": "ext4", "directories": ["a", "../b"]}}, "filesystem.directories[1]"),
        ({"filesystem": {"type": "ext4", "directories": ["/a"]}}, "filesystem.directories[0]"),
        ({"filesystem": {"type": "ext4", "directories": [""]}}, "filesystem.directories[0]"),
        ({"image": "/a", "filesystem": {"type": "ext4", "label": "x"}}, "filesystem.label"),
        ({"snapshots": ["a", "A"]}, "snapshots[1]"),
        ({"snapshots": ["a", "a"]}, "snapshots[1]"),
        ({"restore": "a/b"}, "restore"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 3601}, "timeout"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(options: dict[str, t.Any], field: str) -> None:
    with pytest.raises(HostError) as refused:
        validated(**options)
    assert refused.value.kind == "invalid"
    assert refused.value.field == "volumes[3]." + field
