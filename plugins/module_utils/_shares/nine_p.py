# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""9p shares: served by QEMU itself, with the rights of the machine's user. Private to microvm.host."""

from __future__ import annotations

from ansible_collections.microvm.host.plugins.module_utils._shares.definition import Share


def arguments(share: Share, index: int, bus: str) -> list[str]:
    """What QEMU needs for a share; ``bus`` is ``device`` (virtio-mmio) or ``pci``."""
    source = share["source"].replace(",", ",,")
    model = {"mapped": "mapped-xattr"}.get(share["security_model"], share["security_model"])
    # multidevs: files of two file systems below the source may have one inode number.
    device = "local,id=fs%d,path=%s,security_model=%s,readonly=%s,multidevs=remap" % (
        index,
        source,
        model,
        "on" if share["read_only"] else "off",
    )
    return ["-fsdev", device, "-device", "virtio-9p-%s,fsdev=fs%d,mount_tag=%s" % (bus, index, share["tag"])]
