# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines as users write them, validated. Private to microvm.host.

Pure: nothing here looks at the host. What is refused because of the host is in ``hypervisor`` and ``kernel``.
"""

from __future__ import annotations

import json
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import overlays, places, rates
from ansible_collections.microvm.host.plugins.module_utils._shares import definition as shares
from ansible_collections.microvm.host.plugins.module_utils._storage import volume_options
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume

Config = dict[str, t.Any]
"""A validated definition, JSON-able; its keys are those of SPEC. Sizes are bytes. ``disks`` has the root disk too, as
the first, and ``root`` says whether there is one. The ``path`` of a disk that is a volume is empty until it is looked
up.
"""

HYPERVISORS = ("auto", "qemu", "firecracker", "cloud_hypervisor")
SHARING = {"virtiofs": ("qemu", "cloud_hypervisor"), "9p": ("qemu",)}
"""The hypervisors that have a protocol."""
MIB = 1 << 20
HUGE_PAGE = 2 * MIB
SLOTS = 24
"""virtio-mmio devices of QEMU's machine microvm with acpi=on: the 25th fails with "No 'virtio-bus' bus found"."""
LONGEST_SERIAL = 20
"""VIRTIO_BLK_ID_BYTES."""
OURS = frozenset(
    {"-M", "-machine", "-accel", "-daemonize", "-pidfile", "-S", "-incoming", "--api-sock", "--api-socket"}
)
"""Arguments that would change what the unit and the modules rely on."""

ON_ONE_LINE = "write it on one line, without tabs"
MAKING = ("backend", "size", "image", "checksum", "format")
"""Options of a disk that are those of storage_volume: they make a volume that is not there yet, and let it grow."""
NOTIFY = "systemd.set_credential=vmm.notify_socket:vsock-stream:2:%d"
"""Tells the guest's systemd to say at a vsock port of the host, whose address is 2, that it is ready."""
RATES: dict[str, dict[str, t.Any]] = {"bandwidth_limit": {"type": "raw"}, "iops_limit": {"type": "int"}}
DISK: dict[str, dict[str, t.Any]] = {
    "path": {"type": "path"},
    "volume": {"type": "str"},
    "backend": {"type": "str"},
    "size": {"type": "str"},
    "image": {"type": "str"},
    "checksum": {"type": "str"},
    "format": {"type": "str", "choices": ["raw", "qcow2"]},
    "serial": {"type": "str"},
    "read_only": {"type": "bool", "default": False},
    "cache": {"type": "str", "default": "writeback", "choices": ["writeback", "none"]},
    "io": {"type": "str", "default": "threads", "choices": ["threads", "native", "io_uring"]},
    **RATES,
}
INTERFACE: dict[str, dict[str, t.Any]] = {
    "type": {"type": "str", "default": "tap", "choices": ["tap", "macvtap", "user"]},
    "bridge": {"type": "str"},
    "link": {"type": "str"},
    "mode": {"type": "str", "choices": ["bridge", "vepa", "private", "passthru"]},
    "queues": {"type": "int", "default": 1},
    "mac": {"type": "str"},
    **RATES,
}
SPEC: dict[str, dict[str, t.Any]] = {
    "hypervisor": {"type": "str", "choices": list(HYPERVISORS)},
    "binary": {"type": "path"},
    "accelerator": {"type": "str", "choices": ["auto", "kvm", "tcg"]},
    "vcpus": {"type": "int"},
    "memory": {"type": "raw"},
    "hugepages": {"type": "bool"},
    "kernel": {"type": "path"},
    "initrd": {"type": "path"},
    "kernel_args": {"type": "str"},
    "root": {"type": "dict", "options": DISK},
    "disks": {"type": "list", "elements": "dict", "options": DISK},
    "interfaces": {"type": "list", "elements": "dict", "options": INTERFACE},
    "shares": {"type": "list", "elements": "dict", "options": shares.SPEC},
    "overlays": {"type": "list", "elements": "dict", "options": overlays.SPEC},
    "vsock": {"type": "int"},
    "balloon": {"type": "bool"},
    "balloon_target": {"type": "raw"},
    "credentials": {"type": "dict"},
    "metadata": {"type": "path"},
    "autostart": {"type": "bool"},
    "restart_policy": {"type": "str", "choices": ["no", "on-failure", "always"]},
    "stop_timeout": {"type": "int"},
    "wait_for": {"type": "str"},
    "notify": {"type": "bool"},
    "cpu_limit": {"type": "int"},
    "memory_limit": {"type": "raw"},
    "extra_args": {"type": "list", "elements": "str"},
}
"""The options that make a definition, without defaults: so that one that is given can be told from one that is not."""
DEFAULTS: Config = {
    "hypervisor": "auto",
    "binary": "",
    "accelerator": "auto",
    "vcpus": 1,
    "memory": 512 * MIB,
    "hugepages": False,
    "initrd": "",
    "kernel_args": "",
    "root": False,
    "disks": [],
    "interfaces": [],
    "shares": [],
    "overlays": [],
    "vsock": 0,
    "balloon": False,
    "balloon_target": 0,
    "credentials": {},
    "metadata": "",
    "autostart": True,
    "restart_policy": "on-failure",
    "stop_timeout": 60,
    "wait_for": "",
    "notify": False,
    "cpu_limit": 0,
    "memory_limit": 0,
    "extra_args": [],
}


def name_of(value: t.Any, field: str) -> str:
    """The name of a machine. Raises HostError ``invalid``."""
    name = names.name(value, field, places.LONGEST_NAME)
    if name in places.RESERVED:
        names.refuse(field, "%s is a directory of this collection" % name, "choose another name")
    return name


def given_of(given: t.Mapping[str, t.Any]) -> list[str]:
    """The options of a definition that the user wrote."""
    return [option for option in SPEC if given.get(option) is not None]


def asked(item: dict[str, t.Any], name: str, prefix: str) -> Config:
    """The definition that an item's options make. Raises HostError ``invalid`` naming the field."""
    config: Config = {key: default if item.get(key) is None else item[key] for key, default in DEFAULTS.items()}
    if item.get("kernel") is None:
        hint = "the path of a bzImage or vmlinux on the host"
        raise HostError("invalid", "%skernel is required for a definition" % prefix, hint, field=prefix + "kernel")
    for option in ("kernel", "initrd", "binary", "metadata"):
        if item.get(option) is not None:
            config[option] = names.absolute_path(item[option], prefix + option)
    _number(config["vcpus"], 1, 255, prefix + "vcpus")
    config["memory"] = _whole_mib(config["memory"], prefix + "memory", 32 * MIB)
    if config["hugepages"] and config["memory"] % HUGE_PAGE:
        names.refuse(prefix + "memory", "it is no whole number of huge pages, of 2 MiB each", "as in 512MiB")
    config["memory_limit"] = _whole_mib(config["memory_limit"], prefix + "memory_limit", 0)
    if 0 < config["memory_limit"] < config["memory"]:
        names.refuse(prefix + "memory_limit", "it is less than memory", "leave room for the hypervisor itself")
    _number(config["cpu_limit"], 0, 100 * 255, prefix + "cpu_limit")
    _number(config["stop_timeout"], 1, 3600, prefix + "stop_timeout")
    if config["vsock"] != 0:
        _number(config["vsock"], 3, 2**32 - 2, prefix + "vsock")
    elif config["notify"]:
        names.refuse(prefix + "notify", "the guest has no vsock to say it over", "give vsock too")
    if not config["kernel_args"].isprintable():
        names.refuse(prefix + "kernel_args", "it has a character that cannot be seen", ON_ONE_LINE)
    _balloon(config, prefix)
    if not config["wait_for"].isprintable():
        names.refuse(prefix + "wait_for", "it has a character that cannot be seen", ON_ONE_LINE)
    config["disks"] = [
        _disk(disk, "disk%d" % index, "%sdisks[%d]." % (prefix, index)) for index, disk in enumerate(config["disks"])
    ]
    if config["root"]:
        root = item["root"]
        named = root.get("path") is not None or root.get("volume") is not None
        config["disks"][:0] = [_disk(root if named else {**root, "volume": name + "-root"}, "root", prefix + "root.")]
        config["root"] = True
    fields = [disk_field(config, index, prefix) for index in range(len(config["disks"]))]
    for key in ("path", "volume", "serial"):
        _refuse_twice(config["disks"], key, fields)
    config["overlays"] = overlays.asked(config["overlays"], config["disks"], prefix)
    config["interfaces"] = [
        _interface(each, name, index, prefix, config["vcpus"]) for index, each in enumerate(config["interfaces"])
    ]
    each = range(len(config["interfaces"]))
    _refuse_twice(config["interfaces"], "mac", ["%sinterfaces[%d]." % (prefix, index) for index in each])
    directory = places.directory(name)
    config["shares"] = [
        shares.asked(share, "%sshares[%d]." % (prefix, index), directory)
        for index, share in enumerate(config["shares"])
    ]
    config["credentials"] = _credentials(config["credentials"], prefix + "credentials")
    for index, word in enumerate(config["extra_args"]):
        field = "%sextra_args[%d]" % (prefix, index)
        if not word.isprintable() or not word:
            names.refuse(field, "%s is not an argument" % names.shown(word), ON_ONE_LINE)
        if word.split("=")[0] in OURS:
            names.refuse(field, "%s is set by this collection" % names.shown(word), "leave it out")
    refuse_impossible(config, name, prefix)
    return config


def refuse_impossible(config: Config, name: str, prefix: str) -> None:
    """Refuse what no host could run: by the hypervisor that is asked for, and by the shares together."""
    kind = config["hypervisor"]
    shares.refuse_duplicates(config["shares"], prefix)
    for index, share in enumerate(config["shares"]):
        field = "%sshares[%d]." % (prefix, index)
        able = SHARING[share["proto"]]
        if kind not in ("auto", *able):
            text = "%s has no %s" % (kind, share["proto"])
            names.refuse(field + "proto", text, "%s can" % " and ".join(able))
        path = places.share_socket(name, share["tag"])
        if len(path.encode()) > places.LONGEST_SOCKET:
            text = "the socket %s would be longer than %d bytes" % (path, places.LONGEST_SOCKET)
            names.refuse(field + "tag", text, "use a shorter tag")
    if config["metadata"]:
        _refuse_metadata(config, kind, prefix)
    if kind in ("firecracker", "cloud_hypervisor"):
        _refuse_of_qemu(config, kind, prefix)
        return
    for index, each in enumerate(config["interfaces"]):
        limit = next((key for key in RATES if each.get(key)), None)
        if limit:
            hint = "give hypervisor: firecracker or cloud_hypervisor; or limit the tap with tc(8)"
            names.refuse("%sinterfaces[%d].%s" % (prefix, index, limit), "QEMU limits disks only", hint)
    if config["memory"] == 2048 * MIB:
        hint = "use 2047MiB or 2049MiB"
        names.refuse(prefix + "memory", "QEMU's machine microvm hangs with exactly 2048 MiB", hint)
    devices = slots(config)
    if devices > SLOTS:
        text = "the machine would have %d devices, it has room for %d" % (devices, SLOTS)
        names.refuse(prefix + "disks", text, "use fewer disks, interfaces and shares")


def _refuse_metadata(config: Config, kind: str, prefix: str) -> None:
    """Where nothing serves metadata, or no interface that it could be asked through."""
    if kind != "firecracker":
        hint = "give hypervisor: firecracker; or credentials, which QEMU has"
        names.refuse(prefix + "metadata", "only Firecracker has a metadata service", hint)
    if not config["interfaces"]:
        names.refuse(prefix + "metadata", "the guest has no interface to ask for it", "give it one")
    if ":" in config["metadata"]:
        text = "%s has a colon" % names.shown(config["metadata"])
        names.refuse(prefix + "metadata", text, "systemd separates name and path by one")


def _refuse_of_qemu(config: Config, kind: str, prefix: str) -> None:
    """What only QEMU can do."""
    if config["accelerator"] == "tcg":
        names.refuse(prefix + "accelerator", "%s has no emulation, it needs KVM" % kind, "use hypervisor: qemu")
    for index, each in enumerate(config["interfaces"]):
        if each["type"] == "user":
            field = "%sinterfaces[%d].type" % (prefix, index)
            names.refuse(field, "%s has no user network" % kind, "use a tap, or hypervisor: qemu")
        if each["type"] == "macvtap" and kind == "firecracker":
            field = "%sinterfaces[%d].type" % (prefix, index)
            names.refuse(field, "firecracker has no macvtap", "use a tap, or another hypervisor")
        if each["queues"] > 1 and kind == "firecracker":
            field = "%sinterfaces[%d].queues" % (prefix, index)
            names.refuse(field, "firecracker has one", "leave it out, or use another hypervisor")
    if config["credentials"]:
        names.refuse(prefix + "credentials", "they are passed by QEMU's fw_cfg", "use hypervisor: qemu")
    if kind != "firecracker":
        return
    _number(config["vcpus"], 1, 32, prefix + "vcpus")
    for index, disk in enumerate(config["disks"]):
        if disk["cache"] != "writeback" or disk["io"] == "native":
            field = disk_field(config, index, prefix) + ("io" if disk["io"] == "native" else "cache")
            names.refuse(field, "firecracker reads and writes through the page cache only", "leave it out")


def disk_field(config: Config, index: int, prefix: str) -> str:
    """How the user wrote the disk of that number, for errors."""
    if config["root"] and index == 0:
        return prefix + "root."
    return "%sdisks[%d]." % (prefix, index - bool(config["root"]))


def slots(config: Config) -> int:
    """The virtio devices of a machine; the random number generator is always there."""
    return (
        1
        + len(config["disks"])
        + len(config["interfaces"])
        + len(config["shares"])
        + bool(config["vsock"])
        + bool(config["balloon"])
    )


def ballooned_mib(config: Config) -> int:
    """How much of its memory a guest shall leave to the host."""
    return (config["memory"] - config["balloon_target"]) // MIB if config["balloon_target"] else 0


def guest_args(config: Config) -> list[str]:
    """Words for the guest kernel's command line; what the user wrote is last, so that it wins."""
    written = config["kernel_args"].split()
    root = []
    if config["root"] and not any(word.startswith("root=") for word in written):
        root = ["root=/dev/vda", "ro" if config["disks"][0]["read_only"] else "rw"]
    mounted = shares.kernel_arguments(config["shares"])
    notify = [NOTIFY % places.notify_port(config["vsock"])] if config["notify"] else []
    return [*root, *notify, *mounted, *overlays.kernel_arguments(config["overlays"], config["shares"]), *written]


def digest(config: Config) -> str:
    """Eight hex digits of what a machine is started with: what may change while it runs is left out."""
    live = ("autostart", "restart_policy", "stop_timeout", "cpu_limit", "memory_limit", "balloon_target", "wait_for")
    found = {key: value for key, value in config.items() if key not in live}
    found["disks"] = [{**disk, "make": None} for disk in config["disks"]]
    found["shares"] = [{**share, "create": None} for share in config["shares"]]
    return names.hash8(json.dumps(found, sort_keys=True))


def _number(value: int, least: int, most: int, field: str) -> None:
    if not least <= value <= most:
        names.refuse(field, "%d is not within %d to %d" % (value, least, most), "choose one of these, or leave it out")


def _whole_mib(value: t.Any, field: str, least: int) -> int:
    if value == 0 and least == 0:
        return 0
    size = names.size(int(value) if isinstance(value, str) and value.isdigit() else value, field, max(least, MIB))
    if size % MIB:
        names.refuse(field, "%s is not a whole number of MiB" % names.shown(value), "as in 512MiB")
    return size


def _balloon(config: Config, prefix: str) -> None:
    config["balloon_target"] = _whole_mib(config["balloon_target"], prefix + "balloon_target", 0)
    if config["balloon_target"] and not config["balloon"]:
        names.refuse(prefix + "balloon_target", "the machine has no balloon", "give balloon: true")
    if config["balloon_target"] > config["memory"]:
        names.refuse(prefix + "balloon_target", "it is more than memory", "a balloon takes memory, it adds none")


def _disk(disk: dict[str, t.Any], usual: str, field: str) -> dict[str, t.Any]:
    """``usual`` is the serial number it has unless another is given."""
    serial = usual if disk.get("serial") is None else names.name(disk["serial"], field + "serial", LONGEST_SERIAL)
    if disk["io"] == "native" and disk["cache"] != "none":
        names.refuse(field + "io", "native needs cache: none", "the kernel's asynchronous I/O bypasses the page cache")
    found = {
        "path": "",
        "volume": "",
        "make": {},
        "serial": serial,
        "read_only": bool(disk["read_only"]),
        "cache": disk["cache"],
        "io": disk["io"],
        **rates.asked(disk, field),
    }
    if (disk.get("path") is None) == (disk.get("volume") is None):
        names.refuse(field + "path", "a disk has a path, or else a volume", "give one of the two")
    if disk.get("path") is not None:
        foreign = next((option for option in MAKING if disk.get(option) is not None), None)
        if foreign:
            names.refuse(field + foreign, "is an option of a volume", "give volume in place of path, or leave it out")
        return dict(found, path=names.absolute_path(disk["path"], field + "path"))
    volume = names.name(disk["volume"], field + "volume")
    make = {option: disk[option] for option in MAKING if disk.get(option) is not None}
    size = volume_options.validated(_as_volume(volume, make, 60), field).size
    return dict(found, volume=volume, make={**make, "size": size} if size else make)


def volume_of(disk: dict[str, t.Any], seconds: int, field: str) -> Volume:
    """What the volume of a disk shall be, as storage_volume would be asked for it."""
    return volume_options.validated(_as_volume(disk["volume"], disk["make"], seconds), field)


def _as_volume(name: str, make: dict[str, t.Any], seconds: int) -> dict[str, t.Any]:
    """The options of storage_volume."""
    empty: dict[str, t.Any] = dict.fromkeys((*MAKING, "filesystem", "snapshots", "restore"))
    acts = dict.fromkeys(("adopt", "move", "shrink", "takeover", "forget"), False)
    return {**empty, **acts, **make, "name": name, "state": "present", "timeout": seconds}


def _interface(each: dict[str, t.Any], name: str, index: int, prefix: str, vcpus: int) -> dict[str, t.Any]:
    """As it is kept. More queues than processors are of no use to a guest."""
    field = "%sinterfaces[%d]." % (prefix, index)
    found = {"type": each["type"], "bridge": _device(each, "bridge", field), "link": _device(each, "link", field)}
    if found["bridge"] and each["type"] != "tap":
        names.refuse(field + "bridge", "only a tap is a port of a bridge", "leave it out, or use type: tap")
    for option in ("link", "mode"):
        if each.get(option) and each["type"] != "macvtap":
            names.refuse(field + option, "only a macvtap has one", "leave it out, or use type: macvtap")
    if each["type"] == "macvtap":
        if not found["link"]:
            names.refuse(field + "link", "is required for a macvtap", "an interface of the host, as eth0")
        found["mode"] = each.get("mode") or "bridge"
    found["queues"] = each["queues"]
    _number(found["queues"], 1, vcpus, field + "queues")
    if found["queues"] > 1 and each["type"] != "tap":
        names.refuse(field + "queues", "only a tap has several", "leave it out, or use type: tap")
    mac = places.mac(name, index) if each.get("mac") is None else _mac(each["mac"], field + "mac")
    return dict(found, mac=mac, **rates.asked(each, field))


def _device(each: dict[str, t.Any], option: str, field: str) -> str:
    """The name of an interface of the host, "" for none."""
    name: str = each.get(option) or ""
    plain = name.replace("-", "").replace(".", "").replace("_", "")
    if name and (len(name) > 15 or not name.isascii() or not plain.isalnum()):
        hint = "it has letters, digits, '-', '.' and '_', at most 15: 'ip link' lists those of the host"
        names.refuse(field + option, "%s is not the name of an interface" % names.shown(name), hint)
    return name


def _mac(value: str, field: str) -> str:
    parts = value.lower().split(":")
    if len(parts) != 6 or not all(len(part) == 2 and set(part) <= set("0123456789abcdef") for part in parts):
        names.refuse(field, "%s is not a MAC address" % names.shown(value), "as in 02:00:00:12:34:56")
    if int(parts[0], 16) & 1:
        names.refuse(field, "%s is a group address" % names.shown(value), "the lowest bit of the first byte must be 0")
    return ":".join(parts)


def _credentials(value: dict[str, t.Any], field: str) -> dict[str, str]:
    found = {}
    for key, path in value.items():
        if (
            not isinstance(key, str)
            or not 0 < len(key) <= 31
            or not key.replace(".", "").replace("-", "").replace("_", "").isalnum()
        ):
            hint = "it has letters, digits, '.', '-' and '_', at most 31"
            names.refuse(field, "%s is not the name of a credential" % names.shown(key), hint)
        where = "%s.%s" % (field, key)
        found[key] = names.absolute_path(path, where)
        if ":" in path:
            names.refuse(where, "%s has a colon" % names.shown(path), "systemd separates name and path by one")
    return found


def _refuse_twice(items: t.Sequence[dict[str, t.Any]], key: str, fields: t.Sequence[str]) -> None:
    """Refuse a value that two items have; ``fields``: how the user wrote each."""
    seen: dict[str, str] = {}
    for item, field in zip(items, fields):
        if item[key] in seen:
            text = "%s is that of %s too" % (item[key], seen[item[key]] + key)
            names.refuse(field + key, text, "give each its own %s" % key)
        if item[key]:
            seen[item[key]] = field
