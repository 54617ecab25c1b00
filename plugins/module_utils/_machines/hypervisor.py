# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hypervisor runs a machine on this host, and with what. Private to microvm.host."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import command, names
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
OLDEST = {"qemu": (6, 0), "firecracker": (1, 8), "cloud_hypervisor": (53, 0)}
"""What the command lines are for: -M microvm with ACPI; ACPI in Firecracker; Cloud Hypervisor's description."""
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


def choose(config: Config, exists: t.Callable[[str], bool] = os.path.exists, prefix: str = "") -> Chosen:
    """The hypervisor for a definition. Raises HostError ``unsupported`` when this host has none that can,
    ``not_found`` for a binary that is not there."""
    kvm = exists(KVM)
    kinds = [config["hypervisor"]]
    if kinds == ["auto"]:
        able = set(PATHS).intersection(*(SHARING[share["proto"]] for share in config["shares"]))
        kinds = [kind for kind in PATHS if kind in able and (kvm or kind == "qemu")]
    found = [(kind, path) for kind in kinds for path in ([config["binary"]] if config["binary"] else PATHS[kind])]
    there = [(kind, path) for kind, path in found if exists(path)]
    if not there:
        if config["binary"]:
            hint = "give the path of the hypervisor on the host, or leave it out"
            raise HostError("not_found", "there is no file %s" % config["binary"], hint, field=prefix + "binary")
        if not command.reading_only():
            text = "there is no %s" % " or ".join(path for dummy, path in found)
            hint = "the role prepare_host installs QEMU" + ("" if "qemu" in kinds else "; install it, or use that")
            raise HostError("unsupported", text, hint, field=prefix + "hypervisor")
        there = found  # check mode: an earlier task of the play installs it
    kind, binary = there[0]
    accelerator = config["accelerator"]
    if kind != "qemu" and not kvm:
        text = "%s needs %s, which this host does not have" % (kind, KVM)
        raise HostError("unsupported", text, "use hypervisor: qemu", field=prefix + "hypervisor")
    if accelerator == "kvm" and not kvm:
        hint = "use accelerator: tcg (slow) or auto"
        raise HostError("unsupported", "this host has no %s" % KVM, hint, field=prefix + "accelerator")
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
        text = "%s does not tell its version: %s" % (kind, names.shown(text.strip()))
        raise HostError("unsupported", text, "binary and hypervisor must be of one kind")
    return int(found.group(1)), int(found.group(2))


def newer(chosen: Chosen, unit: str) -> bool:
    """Whether a binary came after the unit that starts it: when that was written, the binary was looked at."""
    return max(os.stat(chosen.binary).st_ctime, os.lstat(chosen.binary).st_ctime) >= os.stat(unit).st_mtime


def refuse_old(chosen: Chosen, field: str) -> None:
    """Run the binary with ``--version``. Raises HostError ``unsupported`` for one that is too old, or another."""
    text = command.run([chosen.binary, "--version"], VERSION_SECONDS, writes=False)
    try:
        version = parsed_version(chosen.kind, text)
    except HostError as error:
        raise error.in_field(field) from None
    if version < OLDEST[chosen.kind]:
        text = "%s is %d.%d, older than %d.%d" % (chosen.binary, *version, *OLDEST[chosen.kind])
        raise HostError("unsupported", text, "upgrade it", field)
