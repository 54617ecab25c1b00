# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hypervisor runs a machine on this host, and with what. Private to microvm.host."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import command
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import SHARING, Config

KVM = "/dev/kvm"
VERSION_SECONDS = 15.0
PATHS = {
    "qemu": ("/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"),
    "cloud_hypervisor": ("/usr/bin/cloud-hypervisor", "/usr/local/bin/cloud-hypervisor"),
    "firecracker": ("/usr/bin/firecracker", "/usr/local/bin/firecracker"),
}
"""Where distributions, and those who install by hand, put them; in the order in which ``auto`` looks."""
OLDEST = {"qemu": (6, 0), "firecracker": (1, 8), "cloud_hypervisor": (39, 0)}
"""What the command lines are for: -M microvm with ACPI; ACPI in Firecracker; bzImage in Cloud Hypervisor."""
SAYS = {"qemu": r"version (\d+)\.(\d+)", "firecracker": r"v(\d+)\.(\d+)", "cloud_hypervisor": r"v(\d+)\.(\d+)"}


class Chosen(t.NamedTuple):
    """``kind`` is never ``auto``, ``accelerator`` is ``kvm`` or ``tcg``. ``bus``: how QEMU's devices are attached,
    ``device`` (virtio-mmio of the machine microvm) or ``pci`` (q35, where QEMU is built without microvm). ``kernel``:
    the ELF image out of the definition's kernel, where the hypervisor needs one; else empty. ``jailer``: Firecracker's,
    empty where there is none."""

    kind: str
    binary: str
    accelerator: str
    bus: str
    kernel: str = ""
    jailer: str = ""


def choose(config: Config, exists: t.Callable[[str], bool] = os.path.exists) -> Chosen:
    """The hypervisor for a definition. Raises HostError ``unsupported`` when this host has none that can."""
    kvm = exists(KVM)
    kinds = [config["hypervisor"]]
    if kinds == ["auto"]:
        able = set(PATHS).intersection(*(SHARING[share["proto"]] for share in config["shares"]))
        kinds = [kind for kind in PATHS if kind in able and (kvm or kind == "qemu")]
    found = [(kind, path) for kind in kinds for path in ([config["binary"]] if config["binary"] else PATHS[kind])]
    there = [(kind, path) for kind, path in found if exists(path)]
    if not there:
        if not command.reading_only() or config["binary"]:
            missing = " or ".join(path for dummy, path in found)
            raise HostError("unsupported", "there is no %s" % missing, "the role prepare_host installs QEMU")
        there = found  # check mode: an earlier task of the play installs it
    kind, binary = there[0]
    accelerator = config["accelerator"]
    if kind != "qemu" and not kvm:
        raise HostError(
            "unsupported", "%s needs %s, which this host does not have" % (kind, KVM), "use hypervisor: qemu"
        )
    if accelerator == "kvm" and not kvm:
        raise HostError("unsupported", "this host has no %s" % KVM, "use accelerator: tcg (slow) or auto")
    if accelerator == "auto":
        accelerator = "kvm" if kvm else "tcg"
    bus = "pci" if kind == "qemu" and os.path.basename(binary) == "qemu-kvm" else "device"
    if bus == "pci" and any(share["proto"] == "9p" for share in config["shares"]):
        raise HostError("unsupported", "%s is built without 9p" % binary, "use proto: virtiofs")
    jailer = os.path.join(os.path.dirname(binary), "jailer") if kind == "firecracker" else ""
    return Chosen(kind, binary, accelerator, bus, jailer=jailer if jailer and exists(jailer) else "")


def parsed_version(kind: str, text: str) -> tuple[int, int]:
    """Major and minor version out of what ``--version`` prints. Raises HostError ``unsupported``."""
    found = re.search(SAYS[kind], text)
    if found is None:
        raise HostError("unsupported", "%s does not tell its version: %s" % (kind, text.strip()[:80]))
    return int(found.group(1)), int(found.group(2))


def refuse_old(chosen: Chosen) -> None:
    """Run the binary with ``--version``. Raises HostError ``unsupported`` for one that is too old."""
    text = command.run([chosen.binary, "--version"], VERSION_SECONDS, writes=False)
    version = parsed_version(chosen.kind, text)
    if version < OLDEST[chosen.kind]:
        need = "%d.%d" % OLDEST[chosen.kind]
        raise HostError("unsupported", "%s is %d.%d, older than %s" % (chosen.binary, *version, need), "upgrade it")
