# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of volumes need on the host: backends, images, a disk in use, a program that fails."""

from __future__ import annotations

from collections.abc import Iterator

from tests.contract.controller import Controller, Result, Task
from tests.lab import Host

TOOL = "/usr/local/libexec/microvm/microvm-tool"
IMAGE = "/srv/images/debian.raw"
MAKE_IMAGE = f"""
mkdir -p /srv/images
truncate -s 64M {IMAGE}
mkfs.ext4 -q -F {IMAGE}
"""
BACKENDS = {
    "backends": [
        {"name": "local", "kind": "local_file", "default": True},
        {"name": "nfs-prod", "kind": "nfs", "server": "nas1", "export": "/export/rw"},
    ]
}
BROKEN = "#!/bin/sh\necho no room >&2\nexit 1\n"
"""In place of mkfs.ext4."""


def prepare(controller: Controller, host: Host) -> None:
    """An image, and the backends that the examples name."""
    host.ssh(MAKE_IMAGE)
    controller.run(Task("storage_backend", BACKENDS))


def other_results(controller: Controller, host: Host) -> Iterator[Result]:
    """What the examples do not show: check mode without a backend, a volume in use, a program that fails."""
    task = "storage_volume"
    (assumed,) = controller.run(Task(task, {"name": "kept", "size": "1MiB"}, check=True))
    assert assumed["volume"]["assumes"] == ["this host has no default backend"]
    (refused,) = controller.run(Task(task, {"name": "kept", "size": "1MiB"}))
    assert refused["error"]["kind"] == "not_found"
    controller.run(Task("storage_backend", BACKENDS))
    (made,) = controller.run(Task(task, {"name": "kept", "size": "1MiB"}))
    hold = f"{TOOL} lock --volume kept --holder 'machine web1' -- sleep 300"
    pid = host.ssh(f"{hold} >/run/held 2>&1 </dev/null & echo $!").stdout.strip()
    host.ssh("until grep -q locked /run/held; do sleep 0.1; done")
    held, in_use = controller.run(Task(task, {"name": "kept"}), Task(task, {"name": "kept", "state": "absent"}))
    assert held["volume"]["lock"]["holder"] == "machine web1"
    assert in_use["error"]["kind"] == "in_use" and "machine web1" in in_use["msg"]
    host.ssh(f"kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done")
    (invalid,) = controller.run(Task(task, {"name": "new", "size": "1000"}))
    assert invalid["error"]["field"] == "size"
    host.ssh("cat > /usr/local/sbin/mkfs.ext4; chmod +x /usr/local/sbin/mkfs.ext4", stdin=BROKEN)
    try:
        (failed,) = controller.run(Task(task, {"name": "new", "size": "4MiB", "filesystem": {"type": "ext4"}}))
    finally:
        host.ssh("rm /usr/local/sbin/mkfs.ext4")
    assert failed["error"]["stderr"] == "no room"
    yield from (assumed, refused, made, held, in_use, invalid, failed)
