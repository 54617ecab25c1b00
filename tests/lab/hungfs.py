# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts that never answer: FUSE file systems whose requests nobody reads. They look like a dead hard NFS mount.

Run as root on a host: `python3 hungfs.py start COUNT [DIRECTORY]` mounts DIRECTORY/0, DIRECTORY/1, ...
(default /mnt/hung) with source nas:/dead/N and type fuse.nfs4 and stays in the background;
`hungfs.py stop [DIRECTORY]` ends it. Callers hang in
`fuse_get_req` until SIGKILL, as on a dead hard NFS mount. Standard library only; Python 3.9 and later.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
from pathlib import Path

MNT_DETACH = 2


def mount_hung(path: Path, source: str) -> int:
    """Mount a file system that never answers; returns the descriptor that keeps it. OSError when mount(2) refuses."""
    device = os.open("/dev/fuse", os.O_RDWR)
    path.mkdir(parents=True, exist_ok=True)
    options = f"fd={device},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), os.fsencode(path), b"fuse.nfs4", 0, options.encode()):
        error = ctypes.get_errno()
        os.close(device)
        raise OSError(error, f"mount {path}: {os.strerror(error)}")
    return device


def start(count: int, directory: Path) -> None:
    """Mount `count` of them and leave a process behind that holds them; returns when all are mounted."""
    directory.mkdir(parents=True, exist_ok=True)
    ready, report = os.pipe()
    if os.fork():
        os.close(report)
        with os.fdopen(ready) as answer:
            text = answer.read()
        if text != "ready":
            raise SystemExit(text or "hungfs: the holder died")
        return
    os.setsid()
    os.close(ready)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    try:
        for number in range(count):
            mount_hung(directory / str(number), f"nas:/dead/{number}")
    except OSError as error:
        os.write(report, str(error).encode())
        os._exit(1)
    _pid_file(directory).write_text(str(os.getpid()))
    os.write(report, b"ready")
    os.close(report)
    signal.pause()


def stop(directory: Path) -> None:
    """Detach the mounts and end their holder."""
    libc = ctypes.CDLL(None, use_errno=True)
    for path in sorted(directory.iterdir(), key=lambda path: path.name):
        if path.name.isdigit():
            libc.umount2(os.fsencode(path), MNT_DETACH)
    os.kill(int(_pid_file(directory).read_text()), signal.SIGKILL)
    _pid_file(directory).unlink()


def _pid_file(directory: Path) -> Path:
    return directory / "hungfs.pid"


def main() -> None:
    """Command line."""
    if sys.argv[1:2] == ["start"] and len(sys.argv) in (3, 4):
        start(int(sys.argv[2]), Path(sys.argv[3] if len(sys.argv) > 3 else "/mnt/hung"))
    elif sys.argv[1:2] == ["stop"] and len(sys.argv) in (2, 3):
        stop(Path(sys.argv[2] if len(sys.argv) > 2 else "/mnt/hung"))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
