# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this host has what a machine needs, and its kernel the drivers. Private to microvm.host."""

from __future__ import annotations

import os

from ansible_collections.microvm.host.plugins.module_utils._host import files, mounts, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import HUGE_PAGE, Config
from ansible_collections.microvm.host.plugins.module_utils._machines.hypervisor import Chosen
from ansible_collections.microvm.host.plugins.module_utils._shares import definition

VHOST_VSOCK = "/dev/vhost-vsock"
HUGE_PAGES = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
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
    """Refuse huge pages on a host that has fewer in all than the machine needs."""
    there = int(files.text_of(HUGE_PAGES) or 0)
    need = memory // HUGE_PAGE
    if there < need:
        text = "the machine needs %d huge pages of 2 MiB, this host has %d" % (need, there)
        hint = "sysctl vm.nr_hugepages=%d, and more for other machines" % need
        raise HostError("unsupported", text, hint, field=prefix + "hugepages")


def refuse_unfit(config: Config, chosen: Chosen, prefix: str) -> bool:
    """Refuse a kernel that has no driver for a share, no virtio at all, or is nothing the hypervisor can start.

    True when nothing speaks against it. Raises HostError ``not_found`` or ``unsupported``.
    """
    for option in ("kernel", "initrd"):
        if config[option] and not os.path.isfile(config[option]):
            hint = "put it there; microvm_images of the role microvm downloads it"
            raise HostError("not_found", "there is no file %s" % config[option], hint, field=prefix + option)
    if config["metadata"] and not os.path.isfile(config["metadata"]):
        text = "there is no file %s" % config["metadata"]
        raise HostError("not_found", text, "put it there; it is JSON", field=prefix + "metadata")
    if config["vsock"] and chosen.kind == "qemu" and not os.path.exists(VHOST_VSOCK):
        hint = "modprobe vhost_vsock; Firecracker and Cloud Hypervisor do without"
        raise HostError("unsupported", "this host has no %s" % VHOST_VSOCK, hint, field=prefix + "vsock")
    if config["hugepages"]:
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
