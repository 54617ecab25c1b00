# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests for machines of tests: built on this machine, put on a lab's host."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.gates import packages
from tests.lab import Host
from tests.machines import linux

TOY = "/srv/guests/toy"
"""On a host: the guest of toy.S, which is ready at once and powers off when it is asked to."""
STUBBORN = "/srv/guests/stubborn"
"""The same, but it ignores the power button."""
DISK = "/srv/guests/disk.raw"
"""A disk that every machine may open."""
SOURCE = Path(__file__).with_name("toy.S")
SHARE = """\
echo "GUEST-READS $1 $(cat $1/hello)"
test -e $1/back && echo "GUEST-FINDS $1/back"
mount -o remount,rw $1
echo "from guest" > $1/back && echo "GUEST-WROTE $1" || echo "GUEST-REFUSED $1"
"""
"""What the Linux guest does in a directory that it shares, which is given: it reads a file and writes one back."""


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


def install_linux(host: Host) -> None:
    """Put the Linux guest on a host, beside the others: vmlinuz-guest, config-guest and initrd."""
    folder = Path(TOY).parent
    host.ssh(f"mkdir -p {folder}")
    for path in linux.guest().iterdir():
        host.put(path, str(folder / path.name))


def fill(directory: Path) -> None:
    """Make a directory to share: with a file to read and what the Linux guest shall do, writable for all."""
    directory.mkdir()
    directory.chmod(0o777)  # 9p has the rights of the machine's user
    (directory / "hello").write_text("hello from the host\n")
    (directory / "guest.sh").write_text(SHARE)


def install(host: Host) -> None:
    """Put the guests and a disk on a host."""
    host.ssh(f"mkdir -p {Path(TOY).parent} && truncate -s 8M {DISK} && chmod 0666 {DISK}")
    with tempfile.TemporaryDirectory() as folder:
        for path, flags in ((TOY, ()), (STUBBORN, ("-DSTUBBORN",))):
            built = Path(folder, Path(path).name)
            build(built, *flags)
            host.put(built, path)
