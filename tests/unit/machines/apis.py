# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hypervisors publish of their interfaces, as far as this collection uses it: names, types, what is required.

Read by hand from the descriptions that come with their sources, so that no test needs them:
Firecracker, src/firecracker/swagger/firecracker.yaml at 004d935399ba (1.17.0-dev);
Cloud Hypervisor, vmm/src/api/openapi/cloud-hypervisor.yaml at 00f68228812d (after v53.0).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """``kind``: a type, the values of an enumeration, the fields of an object, or a list with what each of it is."""

    kind: t.Any
    required: bool = False


Fields = dict[str, Field]
BUCKET: Fields = {
    "size": Field(int, True),
    "refill_time": Field(int, True),
    "one_time_burst": Field(int),
}
LIMITER: Fields = {"bandwidth": Field(BUCKET), "ops": Field(BUCKET)}

FIRECRACKER: Fields = {
    "boot-source": Field(
        {"kernel_image_path": Field(str, True), "initrd_path": Field(str), "boot_args": Field(str)}, True
    ),
    "machine-config": Field(
        {
            "vcpu_count": Field(range(1, 33), True),
            "mem_size_mib": Field(int, True),
            "huge_pages": Field(("None", "Transparent", "2M")),
        },
        True,
    ),
    "drives": Field(
        [
            {
                "drive_id": Field(str, True),
                "is_root_device": Field(bool, True),
                "path_on_host": Field(str),
                "is_read_only": Field(bool),
                "cache_type": Field(("Unsafe", "Writeback")),
                "io_engine": Field(("Sync", "Async")),
                "rate_limiter": Field(LIMITER),
            }
        ],
        True,
    ),
    "network-interfaces": Field(
        [
            {
                "iface_id": Field(str, True),
                "host_dev_name": Field(str, True),
                "guest_mac": Field(str),
                "rx_rate_limiter": Field(LIMITER),
                "tx_rate_limiter": Field(LIMITER),
            }
        ]
    ),
    "vsock": Field({"guest_cid": Field(int, True), "uds_path": Field(str, True)}),
    "balloon": Field({"amount_mib": Field(int, True), "deflate_on_oom": Field(bool, True)}),
    "entropy": Field({"rate_limiter": Field(LIMITER)}),
    "mmds-config": Field({"network_interfaces": Field([str], True), "version": Field(("V1", "V2"))}),
}
"""The configuration file: FullVmConfiguration. Its ``drives`` may be empty and not missing (1.12.1)."""

FIRECRACKER_CALLS: dict[tuple[str, str], Fields] = {
    ("GET", "/"): {},
    ("PATCH", "/vm"): {"state": Field(("Paused", "Resumed"), True)},
    ("PUT", "/actions"): {"action_type": Field(("FlushMetrics", "InstanceStart", "SendCtrlAltDel"), True)},
    ("PATCH", "/drives/disk0"): {"drive_id": Field(str, True), "path_on_host": Field(str)},
    ("PATCH", "/balloon"): {"amount_mib": Field(int, True)},
}
CLOUD_HYPERVISOR_CALLS: dict[tuple[str, str], Fields] = {
    ("GET", "/api/v1/vm.info"): {},
    ("PUT", "/api/v1/vm.pause"): {},
    ("PUT", "/api/v1/vm.resume"): {},
    ("PUT", "/api/v1/vm.power-button"): {},
    ("PUT", "/api/v1/vmm.shutdown"): {},
    ("PUT", "/api/v1/vm.resize-disk"): {"id": Field(str), "desired_size": Field(int)},
    ("PUT", "/api/v1/vm.resize"): {"desired_balloon": Field(int)},
}

SWITCH = ("on", "off")
CLOUD_RATES: Fields = {key: Field(int) for key in ("bw_size", "bw_refill_time", "ops_size", "ops_refill_time")}
"""The command line's names for the buckets of RateLimiterConfig."""
CLOUD_HYPERVISOR: dict[str, Fields] = {
    "--api-socket": {"path": Field(str, True)},
    "--cpus": {"boot": Field(int, True)},
    "--memory": {
        "size": Field("size", True),
        "shared": Field(SWITCH),
        "hugepages": Field(SWITCH),
        "hugepage_size": Field("size"),
    },
    "--serial": {"file": Field(str)},
    "--disk": {
        "path": Field(str, True),
        "id": Field(str),
        "readonly": Field(SWITCH),
        "direct": Field(SWITCH),
        "serial": Field(str),
        "image_type": Field(("raw", "qcow2", "vhd", "vhdx")),
        **CLOUD_RATES,
    },
    "--net": {"tap": Field(str), "mac": Field(str), "num_queues": Field(int), **CLOUD_RATES},
    "--fs": {"tag": Field(str, True), "socket": Field(str, True)},
    "--vsock": {"cid": Field(int, True), "socket": Field(str, True)},
    "--balloon": {"size": Field("size", True), "deflate_on_oom": Field(SWITCH)},
}
"""Options of the command line that are lists. Those of --disk, --net, --fs, --vsock, --balloon and --memory are fields
of DiskConfig and so on; ``boot`` is ``boot_vcpus``. ``size`` is a number with K, M, G or T behind it."""
CLOUD_HYPERVISOR_WORDS = ("--kernel", "--initramfs", "--cmdline", "--console")
"""Those whose value is one word or a text."""


def wrong(value: t.Any, kind: t.Any, where: str = "") -> list[str]:
    """What of a value is not as described; a value out of a command line may be a number in digits."""
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return [f"{where} is no object"]
        found = [f"{where}.{key} is unknown" for key in value if key not in kind]
        found += [f"{where}.{key} is missing" for key, field in kind.items() if field.required and key not in value]
        return found + [
            line for key in value if key in kind for line in wrong(value[key], kind[key].kind, f"{where}.{key}")
        ]
    if isinstance(kind, list):
        if not isinstance(value, list):
            return [f"{where} is no list"]
        return [line for index, each in enumerate(value) for line in wrong(each, kind[0], f"{where}[{index}]")]
    if kind == "size":
        right = isinstance(value, str) and value[:-1].isdigit() and value[-1] in "KMGT"
    elif isinstance(kind, type):
        right = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
    else:
        right = value in kind
    return [] if right else [f"{where} is {value!r}"]
