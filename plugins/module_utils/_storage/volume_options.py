# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a volume, checked one by one and against each other. Private to microvm.host.

Pure text: nothing here looks at the host. Every refusal is ``invalid`` and names the option.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._storage.image import SECTOR, Image

VOLUME = "volume:"
SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
OWNER = re.compile(r"(\d{1,9})(?::(\d{1,9}))?")


@dataclasses.dataclass(frozen=True)
class Volume:
    """A validated item. ``backend`` None: where it is, or the default. ``snapshots`` None: as they are."""

    name: str
    state: str
    timeout: int
    prefix: str = ""
    backend: str | None = None
    size: int | None = None
    image: Image | None = None
    filesystem: dict[str, t.Any] | None = None
    snapshots: tuple[str, ...] | None = None
    restore: str | None = None
    adopt: bool = False
    move: bool = False
    shrink: bool = False
    takeover: bool = False
    forget: bool = False


def validated(item: dict[str, t.Any], prefix: str) -> Volume:
    """An item of the option spec as a Volume. Raises HostError ``invalid``."""
    if item.get("name") is None:
        names.refuse(prefix + "name", "is required")
    image = _image(item, prefix)
    if item["forget"] and item["state"] != "absent":
        names.refuse(prefix + "forget", "is for state: absent", "leave it out")
    return Volume(
        name=names.name(item["name"], prefix + "name"),
        state=item["state"],
        timeout=names.seconds(item["timeout"], prefix + "timeout"),
        prefix=prefix,
        backend=_name(item, "backend", prefix),
        size=_size(item, prefix),
        image=image,
        filesystem=_filesystem(item, image is not None, prefix),
        snapshots=_snapshots(item, prefix),
        restore=_name(item, "restore", prefix),
        **{key: bool(item[key]) for key in ("adopt", "move", "shrink", "takeover", "forget")},
    )


def _name(item: dict[str, t.Any], option: str, prefix: str) -> str | None:
    return None if item.get(option) is None else names.name(item[option], prefix + option)


def _size(item: dict[str, t.Any], prefix: str) -> int | None:
    if item.get("size") is None:
        return None
    size = names.size(item["size"], prefix + "size", SECTOR)
    if size % SECTOR:
        names.refuse(prefix + "size", "%d is no multiple of %d bytes" % (size, SECTOR), "disks have whole sectors")
    return size


def _image(item: dict[str, t.Any], prefix: str) -> Image | None:
    asked = item.get("image")
    if asked is None:
        for option in ("checksum", "format"):
            if item.get(option) is not None:
                names.refuse(prefix + option, "is an option of an image", "give image too, or leave it out")
        return None
    path, volume = "", ""
    if not asked:
        names.refuse(prefix + "image", "is empty", "leave it out for an empty disk")
    if asked.startswith(VOLUME):
        volume = names.name(asked[len(VOLUME) :], prefix + "image")
        for option in ("checksum", "format"):
            if item.get(option) is not None:
                names.refuse(prefix + option, "is an option of an image file", "leave it out for a volume")
    elif asked.startswith("/"):
        path = names.absolute_path(asked, prefix + "image")
        if path == "/":
            names.refuse(prefix + "image", "%s is no file" % names.shown(asked), "name the image")
    else:
        path = names.absolute_path("/" + asked, prefix + "image")[1:]
    checksum = item.get("checksum") or ""
    if checksum:
        matched = SHA256.fullmatch(checksum)
        if not matched:
            names.refuse(prefix + "checksum", "%s is no SHA-256" % names.shown(checksum), "write sha256: and 64 digits")
        checksum = matched[1].lower()
    return Image(asked, path, volume, item.get("format") or "raw", checksum)


def _filesystem(item: dict[str, t.Any], cloned: bool, prefix: str) -> dict[str, t.Any] | None:
    asked = item.get("filesystem")
    if asked is None:
        return None
    from ansible_collections.microvm.host.plugins.module_utils._host import diskfs

    field = prefix + "filesystem."
    kind = asked["type"]
    found: dict[str, t.Any] = {"type": kind}
    for option in ("label", "owner", "directories"):
        if cloned and asked.get(option):
            names.refuse(field + option, "is for a new file system, and the image has one", "leave it out")
    if asked.get("label"):
        label = asked["label"]
        longest = diskfs.LONGEST_LABEL[kind]
        if not label.isprintable() or "/" in label or label.startswith("-") or len(label.encode()) > longest:
            text = "%s is no label: at most %d bytes, no '/', no '-' in front" % (names.shown(label), longest)
            names.refuse(field + "label", text)
        found["label"] = label
    if asked.get("owner"):
        matched = OWNER.fullmatch(asked["owner"])
        if not matched:
            names.refuse(field + "owner", "%s is not UID or UID:GID" % names.shown(asked["owner"]), "write 1000:1000")
        found["owner"] = [int(matched[1]), int(matched[2] or matched[1])]
    if asked.get("directories"):
        each = enumerate(asked["directories"])
        found["directories"] = [_inner(str(name), "%sdirectories[%d]" % (field, index)) for index, name in each]
    return found


def _inner(path: str, field: str) -> str:
    """A path below the top of a file system."""
    if not path:
        names.refuse(field, "is empty", "name a directory")
    return names.absolute_path("/" + path, field)[1:]


def _snapshots(item: dict[str, t.Any], prefix: str) -> tuple[str, ...] | None:
    if item.get("snapshots") is None:
        return None
    found: list[str] = []
    for index, name in enumerate(item["snapshots"]):
        field = "%ssnapshots[%d]" % (prefix, index)
        name = names.name(name, field)
        if name in found:
            names.refuse(field, "%s is listed twice" % name)
        found.append(name)
    return tuple(found)
