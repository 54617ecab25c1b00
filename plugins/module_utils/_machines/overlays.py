# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writable overlays: a share that the guest sees as if it could write to it, what it writes is on a disk of its own.

The guest's systemd mounts both, by words on the kernel's command line. Private to microvm.host.
"""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import names

TYPE = "ext4"
DIRECTORIES = ("upper", "work")
"""On the disk, as overlayfs wants them: two directories of one file system."""
PLACE = "/run/overlays"
"""Where the guest mounts the disks."""
SPEC: dict[str, dict[str, t.Any]] = {
    "lower": {"type": "str", "required": True},
    "upper": {"type": "str", "required": True},
    "mount_point": {"type": "str", "required": True},
    "reset": {"type": "str", "default": "never", "choices": ["never", "on_start"]},
}
"""The options of one overlay."""
Overlay = dict[str, t.Any]
Named = t.Sequence[dict[str, t.Any]]


def asked(items: t.Sequence[Overlay], disks: Named, prefix: str) -> list[Overlay]:
    """The overlays of a machine with these disks, which get what they need. Raises HostError ``invalid``."""
    found: list[Overlay] = []
    for index, item in enumerate(items):
        field = "%soverlays[%d]." % (prefix, index)
        disk = next((each for each in disks if each["serial"] == item["upper"]), None)
        if disk is None:
            hint = "give the serial of one of its disks; a share can't be it: overlayfs needs a local file system"
            names.refuse(field + "upper", "the machine has no disk %s" % names.shown(item["upper"]), hint)
        if disk["read_only"]:
            names.refuse(field + "upper", "the disk %s is read-only" % item["upper"], "it is what is written to")
        if item["reset"] != "never" and not disk["volume"]:
            names.refuse(field + "reset", "the disk %s is no volume" % item["upper"], "only what is ours is emptied")
        if any(each["upper"] == item["upper"] for each in found):
            names.refuse(field + "upper", "%s is that of another overlay too" % item["upper"], "each has its own")
        path = names.absolute_path(item["mount_point"], field + "mount_point")
        if path == "/" or set(path) & set(" \"':,\\"):
            text = "%s can't stand on the kernel's command line" % names.shown(path)
            names.refuse(field + "mount_point", text, "no blank, quote, colon, comma or backslash, and not the root")
        if disk["make"].get("size") and not disk["make"].get("image"):
            disk["make"]["filesystem"] = {"type": TYPE, "directories": list(DIRECTORIES)}
        found.append({**item, "mount_point": path})
    return found


def refuse_unfounded(overlays: t.Sequence[Overlay], shares: Named, prefix: str) -> None:
    """Refuse a lower that is no mounted share of the machine, and a mount point twice. Raises HostError ``invalid``."""
    taken = {share["mount_point"]: "the share %s" % share["tag"] for share in shares if share["mount_point"]}
    for index, overlay in enumerate(overlays):
        field = "%soverlays[%d]." % (prefix, index)
        lower = next((share for share in shares if share["tag"] == overlay["lower"]), None)
        if lower is None or not lower["mount_point"]:
            text = "%s is no share that the machine mounts" % names.shown(overlay["lower"])
            names.refuse(field + "lower", text, "give the tag of a share with a mount_point")
        if overlay["mount_point"] in taken:
            text = "%s is that of %s too" % (overlay["mount_point"], taken[overlay["mount_point"]])
            names.refuse(field + "mount_point", text, "give each its own")
        taken[overlay["mount_point"]] = "overlays[%d]" % index


def kernel_arguments(overlays: t.Sequence[Overlay], shares: Named) -> list[str]:
    """What has the guest's systemd mount disks and overlays, after the shares: systemd-fstab-generator(8)."""
    points = {share["tag"]: share["mount_point"] for share in shares}
    found = []
    for overlay in overlays:
        top = "%s/%s" % (PLACE, overlay["upper"])
        found.append("systemd.mount-extra=/dev/disk/by-id/virtio-%s:%s:%s:rw" % (overlay["upper"], top, TYPE))
        lower = points[overlay["lower"]]
        upper, work = ("%s/%s" % (top, name) for name in DIRECTORIES)
        options = ["lowerdir=" + lower, "upperdir=" + upper, "workdir=" + work]
        options += ["x-systemd.requires-mounts-for=" + path for path in (lower, top)]
        found.append("systemd.mount-extra=overlay:%s:overlay:%s" % (overlay["mount_point"], ",".join(options)))
    return found


def emptied(overlays: t.Sequence[Overlay], disks: Named) -> list[str]:
    """The paths of the disks that are emptied when the machine starts."""
    serials = {overlay["upper"] for overlay in overlays if overlay["reset"] == "on_start"}
    return [disk["path"] for disk in disks if disk["serial"] in serials]
