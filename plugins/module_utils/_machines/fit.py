# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this host has what a machine needs, and its kernel the drivers. Private to microvm.host."""

from __future__ import annotations

import os
import stat

from ansible_collections.microvm.host.plugins.module_utils._host import files, mounts, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import kernel, opening
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import (
    HUGE_PAGE,
    MIB,
    Config,
    disk_field,
)
from ansible_collections.microvm.host.plugins.module_utils._machines.hypervisor import Chosen
from ansible_collections.microvm.host.plugins.module_utils._shares import definition

VHOST_VSOCK = "/dev/vhost-vsock"
MEMORY = "/proc/meminfo"
HUGE_PAGES = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
INTERFACES = "/sys/class/net"
DRIVERS = {"virtiofs": "CONFIG_VIRTIO_FS", "9p": "CONFIG_NET_9P_VIRTIO"}


def configured(path: str) -> dict[str, str] | None:
    """The configuration beside a distribution's kernel (vmlinuz-VERSION, config-VERSION), None where there is none."""
    folder, name = os.path.split(path)
    stem, dash, version = name.partition("-")
    if not dash or stem not in ("vmlinuz", "vmlinux"):
        return None
    text = files.text_of(os.path.join(folder, "config-" + version))
    if text is None:
        return None
    return dict(line.split("=", 1) for line in text.splitlines() if line.startswith("CONFIG_") and "=" in line)


def _refuse_files(config: Config, prefix: str) -> None:
    """Refuse files that are not there, and a kernel or a disk that is none."""
    hints = {"metadata": "put it there; it is JSON"}
    wanted = [(option, config[option]) for option in ("kernel", "initrd", "metadata") if config[option]]
    wanted += [("credentials." + key, path) for key, path in config["credentials"].items()]
    for option, path in wanted:
        if not os.path.isfile(path):
            hint = hints.get(option, "put it there")
            if option in ("kernel", "initrd"):
                hint += "; microvm_images of the role microvm downloads it"
            raise HostError("not_found", "there is no file %s" % path, hint, field=prefix + option)
    try:
        kernel.refuse_other(config["kernel"])
    except HostError as error:
        raise error.in_field(prefix + "kernel") from None
    for index, disk in enumerate(config["disks"]):
        if not disk["volume"]:
            _refuse_disk(disk["path"], disk_field(config, index, prefix) + "path")


def _refuse_disk(path: str, field: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            raise files.from_os(error, "looking at the disk %s" % path).in_field(field) from None
        hint = "make it, or mount what it is on; or give a volume in place of path"
        raise HostError("not_found", "there is no disk %s" % path, hint, field=field) from None
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        text = "%s is neither a file nor a block device" % path
        raise HostError("invalid", text, "give a raw image or a block device", field=field)


def _refuse_interfaces(config: Config, prefix: str) -> None:
    """Refuse a bridge or a link that the host has not."""
    for index, each in enumerate(config["interfaces"]):
        for option in ("bridge", "link"):
            name = each[option]
            if not name:
                continue
            field = "%sinterfaces[%d].%s" % (prefix, index, option)
            if not os.path.exists(os.path.join(INTERFACES, name)):
                text = "this host has no %s %s" % ("bridge" if option == "bridge" else "interface", name)
                kind = " type bridge" if option == "bridge" else ""
                hint = "make it first, this module does not; 'ip link show%s' lists those there are" % kind
                raise HostError("not_found", text, hint, field=field)
            if option == "bridge" and not os.path.isdir(os.path.join(INTERFACES, name, "bridge")):
                hint = "name a bridge, or use type: macvtap with link: %s" % name
                raise HostError("invalid", "%s is an interface, but no bridge" % name, hint, field=field)


def _refuse_sources(config: Config, prefix: str) -> None:
    """Refuse a source that is no directory, or on a file system that lacks what its share asks for."""
    table = mounts.table() if config["shares"] else []
    for index, share in enumerate(config["shares"]):
        field = "%sshares[%d]." % (prefix, index)
        if not share["create"] and not os.path.isdir(share["source"]):
            text = "there is no directory %s" % share["source"]
            raise HostError("not_found", text, "make it, or set create: true", field=field + "source")
        below = [mount for mount in table if names.under(share["source"], mount.path)]
        mount = max(below, key=lambda each: (len(each.path), table.index(each)))
        definition.refuse_file_system(share, mount.fstype, mount.options, field)


def _refuse_small(memory: int, prefix: str) -> None:
    """Refuse more memory than the host has in all. How much others use of it is not looked at."""
    sizes = dict(line.split(":", 1) for line in (files.text_of(MEMORY) or "").splitlines())
    there = sum(int(sizes[key].split()[0]) * 1024 for key in ("MemTotal", "SwapTotal") if key in sizes)
    if "MemTotal" in sizes and memory > there:
        figures = (memory // MIB, there // MIB)
        text = "the machine shall have %d MiB of memory, this host has %d MiB, swap included" % figures
        raise HostError("unsupported", text, "give it less, or run it on another host", field=prefix + "memory")


def _refuse_few(memory: int, prefix: str) -> None:
    """Refuse huge pages on a host that has fewer in all than the machine needs."""
    there = int(files.text_of(HUGE_PAGES) or 0)
    need = memory // HUGE_PAGE
    if there < need:
        text = "the machine needs %d huge pages of 2 MiB, this host has %d" % (need, there)
        hint = "sysctl vm.nr_hugepages=%d, and more for other machines" % need
        raise HostError("unsupported", text, hint, field=prefix + "hugepages")


def refuse_unfit(config: Config, chosen: Chosen, prefix: str) -> bool:
    """Refuse what is not there, and a kernel that has no driver for a share, no virtio at all, or is none.

    True when nothing speaks against it. Raises HostError ``not_found``, ``invalid`` or ``unsupported``.
    """
    _refuse_files(config, prefix)
    _refuse_interfaces(config, prefix)
    if config["vsock"] and chosen.kind == "qemu" and not os.path.exists(VHOST_VSOCK):
        hint = "modprobe vhost_vsock; Firecracker and Cloud Hypervisor do without"
        raise HostError("unsupported", "this host has no %s" % VHOST_VSOCK, hint, field=prefix + "vsock")
    if config["hugepages"]:
        _refuse_few(config["memory"], prefix)
    else:
        _refuse_small(config["memory"], prefix)
    _refuse_sources(config, prefix)
    settings = configured(config["kernel"])
    if settings is None:
        return True
    if chosen == chosen._replace(kind="qemu", bus="device") and "CONFIG_VIRTIO_MMIO" not in settings:
        text = "%s has no CONFIG_VIRTIO_MMIO: it would find no device" % config["kernel"]
        raise HostError("unsupported", text, "use another kernel", field=prefix + "kernel")
    if config["overlays"] and "CONFIG_OVERLAY_FS" not in settings:
        text = "%s has no CONFIG_OVERLAY_FS: it can't mount an overlay" % config["kernel"]
        raise HostError("unsupported", text, "use another kernel", field=prefix + "overlays")
    for index, share in enumerate(config["shares"]):
        driver = DRIVERS[share["proto"]]
        if driver not in settings:
            text = "%s has no %s: it can't mount the share %s" % (config["kernel"], driver, share["tag"])
            other = "9p" if share["proto"] == "virtiofs" else "virtiofs"
            hint = "use proto: %s, or another kernel" % other if DRIVERS[other] in settings else "use another kernel"
            raise HostError("unsupported", text, hint, field="%sshares[%d].proto" % (prefix, index))
    return True


def refuse_unfit_for(user: str, config: Config, chosen: Chosen, prefix: str) -> bool:
    """Refuse also what the machine's user may not open. The process has only that user's rights afterwards."""
    refuse_unfit(config, chosen, prefix)
    opening.become(user)
    if not chosen.kernel:  # else the hypervisor opens what is made of it
        opening.refuse_closed("kernel", config["kernel"], False, user, prefix + "kernel")
    if config["initrd"]:
        opening.refuse_closed("initrd", config["initrd"], False, user, prefix + "initrd")
    for index, disk in enumerate(config["disks"]):
        if not disk["volume"]:
            field = disk_field(config, index, prefix) + "path"
            opening.refuse_closed("disk", disk["path"], not disk["read_only"], user, field)
    return True
