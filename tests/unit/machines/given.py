# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions for the tests of machines."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._machines import definition, overlays
from ansible_collections.microvm.host.plugins.module_utils._machines.hypervisor import Chosen
from ansible_collections.microvm.host.plugins.module_utils._shares import definition as shares

KERNEL = "/boot/vmlinuz"
TCG = Chosen("qemu", "/usr/bin/qemu-system-x86_64", "tcg", "device")
KVM = TCG._replace(accelerator="kvm")


def filled(spec: dict[str, dict[str, t.Any]], given: dict[str, t.Any]) -> dict[str, t.Any]:
    """What AnsibleModule makes of the options of an item."""
    return {key: given.get(key, option.get("default")) for key, option in spec.items()}


def asked(name: str = "web1", **options: t.Any) -> definition.Config:
    """A validated definition of these options."""
    item = {"kernel": KERNEL, **options}
    if "root" in item:
        item["root"] = filled(definition.DISK, item["root"])
    for key, spec in (
        ("disks", definition.DISK),
        ("interfaces", definition.INTERFACE),
        ("overlays", overlays.SPEC),
        ("shares", shares.SPEC),
    ):
        if key in item:
            item[key] = [filled(spec, each) for each in item[key]]
    return definition.asked(item, name, "machines[0].")
