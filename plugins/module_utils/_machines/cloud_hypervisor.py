# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud Hypervisor: the command line of a definition. Private to microvm.host.

Options are those of version 53 (its own --help): image_type of disks, one option for each device. Never run by this
project's tests: no binary was at hand.
"""

from __future__ import annotations

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import network, places, rates
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import (
    MIB,
    Config,
    ballooned_mib,
    guest_args,
)
from ansible_collections.microvm.host.plugins.module_utils._machines.hypervisor import Chosen


def command_line(config: Config, name: str, chosen: Chosen) -> list[str]:
    """The words that start the machine in the foreground."""
    words = [chosen.binary, "--api-socket", "path=" + places.control_socket(name)]
    words += ["--cpus", "boot=%d" % config["vcpus"]]
    # virtiofsd reads and writes the guest's memory
    memory = "size=%dM" % (config["memory"] // MIB) + (",shared=on" if config["shares"] else "")
    words += ["--memory", memory + (",hugepages=on,hugepage_size=2M" if config["hugepages"] else "")]
    words += ["--kernel", config["kernel"]]
    words += ["--initramfs", config["initrd"]] if config["initrd"] else []
    words += ["--cmdline", " ".join(["console=ttyS0", *guest_args(config)])]
    words += ["--console", "off", "--serial", "file=%s/console.log" % places.logs(name)]
    for index, disk in enumerate(config["disks"]):
        text = "id=disk%d,path=%s,readonly=%s" % (index, _value(disk["path"]), "on" if disk["read_only"] else "off")
        text += ",direct=on" if disk["cache"] == "none" else ""
        words += ["--disk", "%s,image_type=raw,serial=%s%s" % (text, disk["serial"], rates.options(disk))]
    for index, each in enumerate(config["interfaces"]):
        tap = places.tap(name, index)
        opened = network.opened(config, name)
        net = "fd=[%d]" % opened[tap] if tap in opened else "tap=" + tap
        net += ",num_queues=%d" % (2 * each["queues"]) if each.get("queues", 1) > 1 else ""
        words += ["--net", "%s,mac=%s%s" % (net, each["mac"], rates.options(each))]
    for share in config["shares"]:
        words += ["--fs", "tag=%s,socket=%s" % (share["tag"], places.share_socket(name, share["tag"]))]
    if config["vsock"]:
        words += ["--vsock", "cid=%d,socket=%s" % (config["vsock"], places.vsock_socket(name))]
    if config["balloon"]:
        words += ["--balloon", "size=%dM,deflate_on_oom=on" % ballooned_mib(config)]
    return [*words, *config["extra_args"]]


def _value(text: str) -> str:
    """A path as a value in a list of options. Raises HostError ``unsupported`` for one that would end there."""
    if "," in text or '"' in text or "[" in text:
        raise HostError("unsupported", "cloud_hypervisor can't take the path %s" % text, "use one without a comma")
    return text
