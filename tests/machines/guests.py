# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests for machines of tests: built on this machine, put on a lab's host."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.gates import packages
from tests.lab import Host

TOY = "/srv/guests/toy"
"""On a host: the guest of toy.S, which is ready at once and powers off when it is asked to."""
STUBBORN = "/srv/guests/stubborn"
"""The same, but it ignores the power button."""
DISK = "/srv/guests/disk.raw"
"""A disk that every machine may open."""
SOURCE = Path(__file__).with_name("toy.S")


def build(target: Path, *flags: str) -> None:
    """Assemble the toy guest. subprocess.CalledProcessError when that fails."""
    packages.require({"gcc": "gcc", "ld": "binutils"})
    with tempfile.TemporaryDirectory() as folder:
        built = str(Path(folder, "toy.o"))
        subprocess.run(["gcc", "-m32", *flags, "-c", str(SOURCE), "-o", built], check=True)
        # The note must lie within the guest's memory too.
        place = ["-Ttext=0x100000", "--section-start=.note.pvh=0x102000", "-e", "_start", "--no-warn-rwx-segments"]
        subprocess.run(
            ["ld", "-m", "elf_i386", "-nostdlib", "-static", "-N", *place, built, "-o", str(target)], check=True
        )


def install(host: Host) -> None:
    """Put the guests and a disk on a host."""
    host.ssh(f"mkdir -p {Path(TOY).parent} && truncate -s 8M {DISK} && chmod 0666 {DISK}")
    with tempfile.TemporaryDirectory() as folder:
        for path, flags in ((TOY, ()), (STUBBORN, ("-DSTUBBORN",))):
            built = Path(folder, Path(path).name)
            build(built, *flags)
            host.put(built, path)
