# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firecracker: configuration file and command line of a definition. Private to microvm.host.

Keys are those of its API description (src/firecracker/swagger/firecracker.yaml), as of version 1.8.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import systemd
from ansible_collections.microvm.host.plugins.module_utils._machines import places, rates
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import (
    MIB,
    Config,
    ballooned_mib,
    digest,
    guest_args,
)
from ansible_collections.microvm.host.plugins.module_utils._machines.hypervisor import Chosen

METADATA = "metadata"
"""The credential of the unit that is the file of the metadata service: so the machine's user need not read it."""
BASE_ARGS = "console=ttyS0 reboot=k panic=1 i8042.noaux i8042.nomux i8042.dumbkbd"
"""Its defaults but ``nomodule``, which distributions' kernels can't live with; by ``reboot=k`` a guest ends it."""


def config_file(config: Config, name: str) -> str:
    """Where the configuration is; its name changes with what it says."""
    return os.path.join(places.directory(name), "firecracker-%s.json" % digest(config))


def log_file(name: str) -> str:
    """Where its own log is; without one it writes that into the guest's console. It must be there when it starts."""
    return places.logs(name) + "/firecracker.log"


def configuration(config: Config, name: str, kernel: str = "") -> dict[str, t.Any]:
    """The content of the configuration file. ``kernel``: the ELF image, when the definition's is none itself."""
    boot: dict[str, t.Any] = {"kernel_image_path": kernel or config["kernel"]}
    if config["initrd"]:
        boot["initrd_path"] = config["initrd"]
    boot["boot_args"] = " ".join([BASE_ARGS, *guest_args(config)])
    machine = {"vcpu_count": config["vcpus"], "mem_size_mib": config["memory"] // MIB}
    if config["hugepages"]:
        machine["huge_pages"] = "2M"
    found: dict[str, t.Any] = {
        "boot-source": boot,
        "machine-config": machine,
        "drives": [_drive(index, disk) for index, disk in enumerate(config["disks"])],
        "network-interfaces": [
            _interface(places.tap(name, index), index, each) for index, each in enumerate(config["interfaces"])
        ],
        "entropy": {},
    }
    if config["vsock"]:
        found["vsock"] = {"guest_cid": config["vsock"], "uds_path": places.vsock_socket(name)}
    if config["metadata"]:
        every = [each["iface_id"] for each in found["network-interfaces"]]
        found["mmds-config"] = {"version": "V2", "network_interfaces": every}
    if config["balloon"]:
        found["balloon"] = {"amount_mib": ballooned_mib(config), "deflate_on_oom": True}
    return found


def _interface(tap: str, index: int, each: dict[str, t.Any]) -> dict[str, t.Any]:
    found = {"iface_id": "net%d" % index, "host_dev_name": tap, "guest_mac": each["mac"]}
    limiter = rates.limiter(each)
    return dict(found, rx_rate_limiter=limiter, tx_rate_limiter=limiter) if limiter else found


def _drive(index: int, disk: dict[str, t.Any]) -> dict[str, t.Any]:
    limiter = rates.limiter(disk)
    return {
        **({"rate_limiter": limiter} if limiter else {}),
        "drive_id": "disk%d" % index,
        "path_on_host": disk["path"],
        "is_root_device": False,  # true would put root=/dev/vda on the kernel's command line
        "is_read_only": disk["read_only"],
        "cache_type": "Writeback",  # its default drops the guest's flushes
        "io_engine": "Async" if disk["io"] == "io_uring" else "Sync",
    }


def command_line(config: Config, name: str, chosen: Chosen) -> list[str]:
    """The words that start the machine in the foreground; the console is standard output."""
    identity = ["--id", name.replace(".", "-").replace("_", "-")]
    words = _jailed(config, name, chosen, identity) if chosen.jailer else [chosen.binary, *identity]
    words += ["--log-path", log_file(name), "--api-sock", places.control_socket(name)]
    words += ["--config-file", config_file(config, name)]
    if config["metadata"]:
        words += ["--metadata", places.credential(name, METADATA)]
    return [*words, *config["extra_args"]]


def _jailed(config: Config, name: str, chosen: Chosen, identity: list[str]) -> list[str]:
    """The words before Firecracker's own: it finds all that it needs at the paths that they have outside."""
    words = [systemd.TOOL, "vm-jail", "--user", places.user(name), "--base", places.jail(name), *identity]
    words += ["--jailer", chosen.jailer, "--write", places.runtime(name), "--write", log_file(name)]
    for path in (chosen.kernel or config["kernel"], config["initrd"], config_file(config, name)):
        words += ["--read", path] if path else []
    for disk in config["disks"]:
        words += ["--read" if disk["read_only"] else "--write", disk["path"]]
    words += ["--copy", places.credential(name, METADATA)] if config["metadata"] else []
    return [*words, "--", chosen.binary]
