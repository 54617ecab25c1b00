# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LVM on one device at a time: no command sees another disk of the host. Private to microvm.host.

Every call has ``--devices``; who we are (lvmsystemid(7)) is set by ``--config``, so the host's own LVM commands and
its boot have no access to our groups. Commands that change something are never killed: LVM's own locks make the next
one wait for them. A device that does not answer hangs its reader: call all of this in a child.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import command, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.names import refuse, shown

LONGEST_GROUP = 60
"""Characters: device-mapper takes 127 for group and volume together, with each hyphen doubled."""
LONGEST_ID = 128
"""Characters of a system ID (lvmsystemid(7)), which has those of a name."""
LONGEST_MAPPED = 127
"""Characters of a device-mapper name: group, hyphen, volume."""
LONGEST_TAG = 1024
FIRST = ("snapshot", "pvmove")
RESERVED = (
    *("_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_imeta", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage"),
    *("_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig"),
)
"""What the name of a volume may not begin with, or contain (lvm(8), reserved names)."""
OURS = "microvm."
"""What our tags begin with."""
READ_SECONDS = 15.0
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+_.-")
_TAG = _NAME | frozenset("/=!:#")
_ESCAPED = re.compile(rb"&([0-9a-f]{2})")
_REPORT = ["--foreign", "--reportformat", "json", "--units", "b", "--nosuffix"]
_NO_ROOM = ("insufficient free space", "reached threshold")
"""What LVM says of a group without extents, and of a thin pool without blocks (2.03)."""
_QUIET = {"LVM_SUPPRESS_FD_WARNINGS": "1"}
"""The lock that it keeps open is no mistake (lvm(8))."""
_PLAIN = len("LVM-") + 2 * 32
"""Length of a volume's device-mapper UUID: those of group and volume; what it is a part of has a suffix."""
_UUID = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclasses.dataclass(frozen=True)
class Volume:
    """A logical volume; percentages are of a thin pool or thin volume that is active, else None.

    ``pool``: the thin pool that it is in, or "". ``writable`` is known of an active one only. ``skipped``: it is not
    activated with its group.
    """

    name: str
    uuid: str
    bytes: int
    layout: str
    active: bool
    open: bool
    data_percent: float | None
    metadata_percent: float | None
    pool: str = ""
    tags: tuple[str, ...] = ()
    writable: bool = True
    skipped: bool = False


@dataclasses.dataclass(frozen=True)
class Group:
    """The volume group on a device; sizes in bytes. ``devices``: how many it has in all, missing ones included."""

    name: str
    uuid: str
    system_id: str
    bytes: int
    free: int
    extent: int
    autoactivation: bool
    devices: int
    volumes: tuple[Volume, ...]

    @property
    def closed(self) -> bool:
        """Whether nothing of it is active here, and something should be."""
        return any(not each.skipped for each in self.volumes) and not any(each.active for each in self.volumes)

    @property
    def opened(self) -> list[str]:
        """Names of the volumes in use. A pool is not one: since its first volume it is open to LVM itself."""
        return [each.name for each in self.volumes if each.open and "pool" not in each.layout]

    def volume(self, name: str) -> Volume | None:
        """The volume of that name."""
        return next((each for each in self.volumes if each.name == name), None)


@dataclasses.dataclass(frozen=True)
class Found:
    """What LVM sees on a device: ``pv`` is the physical volume's UUID, "" for none."""

    pv: str
    group: Group | None


def name(value: object, field: str, longest: int = LONGEST_GROUP) -> str:
    """A name of a group or volume (lvm(8), valid names). Raises ``invalid``."""
    fine = isinstance(value, str) and 0 < len(value) <= longest and _NAME.issuperset(value)
    if isinstance(value, str) and fine and not value.startswith("-") and value not in (".", ".."):
        return value
    hint = "letters, digits, '+', '_', '.' and '-', not first a '-', at most %d characters" % longest
    refuse(field, "%s is not an LVM name" % shown(value), hint)


def volume_name(wanted: str, group: str, field: str, spare: int = 0) -> str:
    """The name of a logical volume that has characters of our names and '+'. Raises ``invalid``.

    ``spare``: how much longer a name that is made of it may become.
    """
    bad = [word for word in RESERVED if word in wanted] + [word for word in FIRST if wanted.startswith(word)]
    if bad:
        refuse(field, "LVM keeps names with %s for itself" % bad[0], "choose another name")
    length = sum(len(each.replace("-", "--")) for each in (group, wanted)) + 1 + spare
    if length > LONGEST_MAPPED:
        text = "%s and the group %s are together too long a name by %d characters" % (
            shown(wanted),
            group,
            length - LONGEST_MAPPED,
        )
        refuse(field, text, "device-mapper takes %d, a hyphen counts twice" % LONGEST_MAPPED)
    return wanted


def tag(key: str, value: str) -> str:
    """A tag of a volume. What LVM does not take in a tag is written as & and two hexadecimal digits a byte."""
    safe = "".join(chr(byte) if chr(byte) in _TAG else "&%02x" % byte for byte in value.encode())
    return "%s%s=%s" % (OURS, key, safe)


def tagged(tags: t.Iterable[str]) -> dict[str, str]:
    """What our tags say; others are left out."""
    found = {}
    for each in tags:
        key, equals, value = each.partition("=")
        if equals and key.startswith(OURS):
            plain = _ESCAPED.sub(lambda matched: bytes.fromhex(matched[1].decode()), value.encode())
            found[key[len(OURS) :]] = plain.decode(errors="replace")
    return found


def system_id() -> str:
    """Who this host is to LVM: its name now, for people, and a hash of its machine ID, which stays."""
    with open("/etc/machine-id", encoding="ascii") as file:
        return "%s.%s" % (names.slug(os.uname().nodename, 40), names.hash8(file.read().strip()))


def is_own(system_id_found: str, own: str) -> bool:
    """Whether a group belongs to this host, perhaps since it had another name."""
    return system_id_found.rpartition(".")[2] == own.rpartition(".")[2]


def new_uuid() -> str:
    """A UUID in LVM's form, so that what this run makes can be told from all else after a kill."""
    return "-".join("".join(secrets.choice(_UUID) for dummy in range(size)) for size in (6, 4, 4, 4, 4, 4, 6))


def require() -> None:
    """Raise ``unsupported`` on a host without LVM."""
    if command.find("lvm") is None:
        raise HostError("unsupported", "lvm is not installed", "install lvm2; the role prepare_host does")


def report(device: str, seconds: float = READ_SECONDS) -> str:
    """LVM's report of a device, for ``parsed``: whoever owns what is there. Raises as command.run."""
    return command.run(["lvm", "fullreport", "--devices", device, *_REPORT], seconds, writes=False)


def look(device: str, seconds: float = READ_SECONDS) -> Found:
    """What is on a device. Raises as command.run."""
    return parsed(report(device, seconds), device)


def parsed(text: str, device: str) -> Found:
    """What a JSON report of ``lvm fullreport`` (2.03) says."""
    try:
        reports = json.loads(text)["report"]
        with_device = [each for each in reports if any(pv["pv_name"] == device for pv in each.get("pv", ()))]
        if not with_device:
            return Found("", None)
        (report,) = with_device
        (pv,) = [each for each in report["pv"] if each["pv_name"] == device]
        groups = report.get("vg", ())
        return Found(pv["pv_uuid"], _group(groups[0], report.get("lv", ())) if groups else None)
    except (KeyError, ValueError, TypeError) as error:
        raise HostError("internal", "LVM's report of %s can't be read: %r" % (device, error)) from None


def _group(found: dict[str, t.Any], volumes: t.Iterable[dict[str, t.Any]]) -> Group:
    return Group(
        name=found["vg_name"],
        uuid=found["vg_uuid"],
        system_id=found["vg_systemid"],
        bytes=int(found["vg_size"]),
        free=int(found["vg_free"]),
        extent=int(found["vg_extent_size"]),
        autoactivation=found["vg_autoactivation"] == "enabled",
        devices=int(found["pv_count"]),
        volumes=tuple(
            Volume(
                name=each["lv_name"],
                uuid=each["lv_uuid"],
                bytes=int(each["lv_size"]),
                layout=each["lv_layout"],
                active=each["lv_active"] == "active",
                open=each["lv_device_open"] == "open",
                data_percent=_percent(each["data_percent"]),
                metadata_percent=_percent(each["metadata_percent"]),
                pool=each["pool_lv"].strip("[]"),
                tags=tuple(filter(None, each["lv_tags"].split(","))),
                writable=each["lv_permissions"] == "writeable",
                skipped=bool(each["lv_skip_activation"]),
            )
            for each in volumes
        ),
    )


def _percent(text: str) -> float | None:
    return float(text) if text else None


class Mapped(t.NamedTuple):
    """A device of the device-mapper. ``plain``: a volume of its own; not part of a pool, a snapshot or such."""

    name: str
    plain: bool
    open: bool


def mapped(uuids: t.Collection[str]) -> list[Mapped]:
    """The devices with these device-mapper UUIDs, by name; nothing is read from a disk. Raises as command.run."""
    columns = ["--columns", "--noheadings", "--separator", "|", "-o", "uuid,name,open"]
    text = command.run(["dmsetup", "info", *columns], READ_SECONDS, writes=False)
    lines = [line.strip().split("|") for line in text.splitlines()]
    found = [(fields[1], fields[0], fields[2] != "0") for fields in lines if fields[0] in uuids]
    return [Mapped(name, len(uuid) == _PLAIN, is_open) for name, uuid, is_open in sorted(found)]


def unmap(name: str, seconds: float) -> None:
    """Take away a device of the device-mapper that nobody has open; its disk is not written to. Raises as command.run.

    For volumes of a group that is another host's now: what that host has removed since LVM knows no more.
    """
    command.run(["dmsetup", "remove", name], seconds, writes=True)


def change(
    device: str,
    own: str,
    words: t.Sequence[str],
    seconds: float,
    formerly: str = "",
    alive: t.Callable[[], None] = lambda: None,
    keeps: t.Sequence[int] = (),
) -> None:
    """Run a command that changes what is on ``device``, as the host ``own``; it is never killed.

    ``formerly``: also act for a host that is gone. ``alive``, ``keeps``: see command.run_to_its_end. Raises HostError:
    ``timeout`` with its process, ``full`` when the group or its thin pool has no room, ``refused``.
    """
    extra = 'extra_system_ids=["%s"]' % formerly if formerly else ""
    config = 'global{system_id_source="lvmlocal"}local{system_id="%s" %s}activation{monitoring=0}' % (own, extra)
    verb, *rest = words
    argv = ["lvm", verb, "--devices", device, "--config", config, *rest]
    try:
        command.run_to_its_end(argv, seconds, alive, keeps, env=_QUIET)
    except HostError as error:
        for line in (error.stderr or "").splitlines():
            if any(words in line.lower() for words in _NO_ROOM):
                hint = "remove volumes, extend the thin pool or the group, or choose another backend"
                raise HostError("full", "LVM has no room: %s" % line.strip(), hint) from None
        raise
