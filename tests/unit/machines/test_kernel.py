# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ELF image in kernels: of files made as the boot protocol says."""

from __future__ import annotations

import gzip
import lzma
import shutil
import struct
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import kernel

IMAGE = kernel.ELF + bytes(range(256)) * 40
SIZE = struct.pack("<I", len(IMAGE))


def made(path: Path, packed: bytes, protocol: int = 0x20F) -> str:
    """A bzImage of two sectors of set-up and what is packed."""
    head = bytearray(1536)
    head[0x1F1] = 2
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, protocol)
    struct.pack_into("<II", head, 0x248, 7, len(packed))
    path.write_bytes(bytes(head) + b"x" * 7 + packed)
    return str(path)


def by_program(program: str, *options: str) -> t.Callable[[bytes], bytes]:
    """Packed by a program of this machine."""

    def pack(data: bytes) -> bytes:
        if shutil.which(program) is None:
            pytest.skip(f"this machine has no {program}")
        done = subprocess.run([program, *options], input=data, stdout=subprocess.PIPE, check=True)
        return done.stdout + SIZE

    return pack


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        lambda data: lzma.compress(data) + SIZE,
        by_program("zstd", "-c"),
        by_program("lz4", "-l", "-c"),
    ],
    ids=["gzip", "xz", "zstd", "lz4"],
)
def test_unpacked(tmp_path: Path, pack: t.Callable[[bytes], bytes]) -> None:
    path = made(tmp_path / "vmlinuz", pack(IMAGE))
    assert kernel.unpacked(path) == IMAGE
    assert kernel.image(path, "/m").startswith("/m/vmlinux-")


def test_an_image_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(IMAGE)
    assert kernel.image(str(path), "/m") == str(path)


@pytest.mark.parametrize("text", [b"", b"text", b"#!/bin/sh\nexit 0\n" * 60, bytes(2048), IMAGE[4:] * 2])
def test_what_is_no_kernel(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(text)
    with pytest.raises(HostError, match="no kernel") as refused:
        kernel.image(str(path), "/m")
    assert refused.value.kind == "invalid"
    assert refused.value.message.endswith("with the bytes " + text[:16].hex(" ") if text else "it is empty")
    with pytest.raises(HostError, match="no kernel"):
        kernel.refuse_other(str(path))


@pytest.mark.parametrize(("at", "magic"), kernel.BEGINS)
def test_what_may_be_one_for_this_hypervisor_or_another(tmp_path: Path, at: int, magic: bytes) -> None:
    path = tmp_path / "Image"
    path.write_bytes(bytes(at) + magic + bytes(600))
    kernel.refuse_other(str(path))


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        (gzip.compress(IMAGE)[:200], "can't be unpacked"),
        (gzip.compress(b"no image"), "can't be unpacked"),
        (lzma.compress(IMAGE) + bytes(4), "in place of 0"),
        (b"\0" * 20, "not known"),
    ],
)
def test_what_is_damaged(tmp_path: Path, packed: bytes, text: str) -> None:
    path = made(tmp_path / "vmlinuz", packed)
    with pytest.raises(HostError, match=text) as refused:
        kernel.unpacked(path)
    assert refused.value.kind == "unsupported"


def test_an_old_one(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no kernel"):
        kernel.image(made(tmp_path / "vmlinuz", gzip.compress(IMAGE), 0x207), "/m")
