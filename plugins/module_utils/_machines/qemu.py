# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU: the command line of a definition. Private to microvm.host.

The machine is microvm, its devices virtio-mmio; where QEMU is built without it (Red Hat), q35 and PCI. A guest finds
virtio-mmio devices through ACPI: no kernel of a distribution reads them from its command line.
"""

from __future__ import annotations

from ansible_collections.microvm.host.plugins.module_utils._machines import network, places, rates
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import MIB, Config, guest_args
from ansible_collections.microvm.host.plugins.module_utils._machines.hypervisor import Chosen
from ansible_collections.microvm.host.plugins.module_utils._shares import nine_p

EMULATED = ("no_timer_check", "tsc_early_khz=1000000")
"""What a guest needs to be told without KVM: it can't measure its clock, the machine has no timer to compare with."""


def command_line(config: Config, name: str, chosen: Chosen) -> list[str]:
    """The words that start the machine in the foreground, its console and control on sockets."""
    tcg = chosen.accelerator == "tcg"
    memory = "%dM" % (config["memory"] // MIB)
    machine = "microvm,acpi=on,rtc=on" if chosen.bus == "device" else "q35,usb=off"
    virtiofs = any(share["proto"] == "virtiofs" for share in config["shares"])
    words = [chosen.binary, "-name", name, "-nodefaults", "-no-user-config", "-display", "none"]
    words += ["-M", machine + (",memory-backend=mem" if virtiofs or config["hugepages"] else "")]
    words += ["-accel", "tcg,thread=multi" if tcg else "kvm", "-cpu", "max" if tcg else "host"]
    words += ["-smp", "%d" % config["vcpus"], "-m", memory]
    words += ["-kernel", config["kernel"]]
    words += ["-initrd", config["initrd"]] if config["initrd"] else []
    words += ["-append", kernel_args(config, tcg)]
    words += _sockets(name)
    if chosen.bus == "device":
        words += ["-global", "virtio-mmio.force-legacy=false"]  # the C virtiofsd refuses legacy devices
    if virtiofs or config["hugepages"]:
        share = "on" if virtiofs else "off"  # virtiofsd reads and writes the guest's memory
        huge = ",hugetlb=on,hugetlbsize=2M" if config["hugepages"] else ""
        words += ["-object", "memory-backend-memfd,id=mem,size=%s,share=%s%s" % (memory, share, huge)]
    words += ["-device", "virtio-rng-" + chosen.bus]
    words += _disks(config, chosen.bus) + _interfaces(config, name, chosen.bus) + _shares(config, name, chosen.bus)
    if config["vsock"]:
        words += ["-device", "vhost-vsock-%s,guest-cid=%d" % (chosen.bus, config["vsock"])]
    if config["balloon"]:
        words += ["-device", "virtio-balloon-%s,deflate-on-oom=on" % chosen.bus]
    for key in config["credentials"]:
        file = places.credential(name, key)
        words += ["-fw_cfg", "name=opt/io.systemd.credentials/%s,file=%s" % (key, file)]
    return [*words, *config["extra_args"]]


def kernel_args(config: Config, tcg: bool) -> str:
    """The guest kernel's command line."""
    return " ".join(["console=ttyS0", *(EMULATED if tcg else ()), *guest_args(config)])


def _sockets(name: str) -> list[str]:
    words = []
    for identity, path in (("control", places.control_socket(name)), ("stop", places.stop_socket(name))):
        words += ["-chardev", "socket,id=%s,path=%s,server=on,wait=off" % (identity, path)]
        words += ["-mon", "chardev=%s,mode=control" % identity]
    console = "socket,id=console,path=%s,server=on,wait=off" % places.console_socket(name)
    console += ",logfile=%s/console.log,logappend=on" % places.logs(name)
    return [*words, "-chardev", console, "-serial", "chardev:console"]


def _disks(config: Config, bus: str) -> list[str]:
    words = []
    for index, disk in enumerate(config["disks"]):
        drive = "id=disk%d,file=%s,format=raw,if=none" % (index, _value(disk["path"]))
        drive += ",cache=%s,aio=%s" % (disk["cache"], disk["io"])
        drive += rates.throttling(disk)
        drive += ",read-only=on" if disk["read_only"] else ",discard=unmap"
        words += ["-drive", drive, "-device", "virtio-blk-%s,drive=disk%d,serial=%s" % (bus, index, disk["serial"])]
    return words


def _interfaces(config: Config, name: str, bus: str) -> list[str]:
    words = []
    for index, each in enumerate(config["interfaces"]):
        net = "user,id=net%d" % index
        if each["type"] == "macvtap":
            net = "tap,id=net%d,fd=%d" % (index, network.opened(config, name)[places.tap(name, index)])
        if each["type"] == "tap":
            net = "tap,id=net%d,ifname=%s,script=no,downscript=no" % (index, places.tap(name, index))
        device = "virtio-net-%s,netdev=net%d,mac=%s" % (bus, index, each["mac"])
        queues = each.get("queues", 1)
        if queues > 1:
            net += ",queues=%d" % queues
            # An interrupt for each queue of each direction, one for control, one for the configuration.
            device += ",mq=on" + (",vectors=%d" % (2 * queues + 2) if bus == "pci" else "")
        words += ["-netdev", net, "-device", device]
    return words


def _shares(config: Config, name: str, bus: str) -> list[str]:
    words = []
    for index, share in enumerate(config["shares"]):
        if share["proto"] == "9p":
            words += nine_p.arguments(share, index, bus)
        else:
            path = places.share_socket(name, share["tag"])
            words += ["-chardev", "socket,id=fs%d,path=%s" % (index, path)]
            words += ["-device", "vhost-user-fs-%s,chardev=fs%d,tag=%s" % (bus, index, share["tag"])]
    return words


def _value(text: str) -> str:
    """A value in a list of QEMU's options: a comma is written twice."""
    return text.replace(",", ",,")
