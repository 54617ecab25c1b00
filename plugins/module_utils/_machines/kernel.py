# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ELF image in a distribution's kernel, for hypervisors that take no bzImage. Private to microvm.host.

Where it is says the boot protocol (Documentation/arch/x86/boot.rst of Linux, 2.08 and later); how it is packed, its
first bytes. The last four bytes of what is packed are its length unpacked, but for gzip, where that is so by itself.
"""

from __future__ import annotations

import gzip
import lzma
import os
import struct
import zlib

from ansible_collections.microvm.host.plugins.module_utils._host import command, files, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

ELF = b"\x7fELF"
BEGINS = ((0x202, b"HdrS"), (0, ELF), (0, b"MZ"), (56, b"ARM\x64"), (0, b"\x1f\x8b"))
"""What a kernel has at which byte: a bzImage, a vmlinux, one for EFI, an Image of ARM, one that is packed."""
HEAD = 0x250
PROTOCOL = 0x208
PROGRAMS = {b"\x28\xb5\x2f\xfd": "zstd", b"\x02\x21\x4c\x18": "lz4"}
"""What is not in Python's library is unpacked by these programs."""
UNPACK_SECONDS = 60.0


def image(path: str, folder: str) -> str:
    """The ELF image of a kernel: the file itself, or where in ``folder`` what is in it shall be.

    Raises HostError ``unsupported`` for what is neither, ``invalid`` for what is no kernel at all.
    """
    head, about = _read(path)
    if head.startswith(ELF):
        return path
    _place(head, path)
    return os.path.join(folder, "vmlinux-%s" % names.hash8(path, str(about.st_size), str(about.st_mtime_ns)))


def refuse_other(path: str) -> None:
    """Raise HostError ``invalid`` for a file that is no kernel, by its first bytes."""
    _read(path)


def _read(path: str) -> tuple[bytes, os.stat_result]:
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
            about = os.fstat(file.fileno())
    except OSError as error:
        raise files.from_os(error, "reading the kernel %s" % path) from None
    if not any(head[at : at + len(magic)] == magic for at, magic in BEGINS):
        what = "it begins with the bytes %s" % head[:16].hex(" ") if head else "it is empty"
        raise HostError("invalid", "%s is no kernel: %s" % (path, what), "give a bzImage (vmlinuz) or an ELF vmlinux")
    return head, about


def _place(head: bytes, path: str) -> tuple[int, int]:
    """Begin and length of what is packed in a bzImage."""
    if len(head) < HEAD or head[0x202:0x206] != b"HdrS" or struct.unpack_from("<H", head, 0x206)[0] < PROTOCOL:
        hint = "give a bzImage of Linux 2.6.26 or later, or an ELF vmlinux"
        raise HostError("unsupported", "%s is no kernel that could be unpacked" % path, hint)
    offset, length = struct.unpack_from("<II", head, 0x248)
    return ((head[0x1F1] or 4) + 1) * 512 + offset, length


def unpacked(path: str) -> bytes:
    """The ELF image in a bzImage. Raises HostError ``unsupported``."""
    with open(path, "rb") as file:
        begin, length = _place(file.read(HEAD), path)
        file.seek(begin)
        data = file.read(length)
    size = struct.unpack("<I", data[-4:])[0] if len(data) == length > 4 else 0
    try:
        if data.startswith(b"\x1f\x8b"):
            found = gzip.decompress(data)
        elif data.startswith(b"\xfd7zXZ\0"):
            found = lzma.LZMADecompressor().decompress(data)
        else:
            found = _by_program(data[:-4], path)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise HostError("unsupported", "the kernel %s can't be unpacked: %s" % (path, error)) from None
    if len(found) != size or not found.startswith(ELF):
        text = "the kernel %s can't be unpacked: %d bytes in place of %d" % (path, len(found), size)
        raise HostError("unsupported", text, "is the file whole?")
    return found


def _by_program(data: bytes, path: str) -> bytes:
    program = PROGRAMS.get(data[:4])
    if program is None:
        raise HostError("unsupported", "the kernel %s is packed in a way that is not known" % path, "give a vmlinux")
    return command.filtered([program, "-dc"], data, UNPACK_SECONDS)
