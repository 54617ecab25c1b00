# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a machine and its shares are told of: in a diff, by their modules and by host_info. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._machines import definition, network, places

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core import registry
    from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan
    from ansible_collections.microvm.host.plugins.module_utils._machines.definition import Config
    from ansible_collections.microvm.host.plugins.module_utils._machines.seen import Seen
    from ansible_collections.microvm.host.plugins.module_utils._shares.definition import Share

SEPARATOR = ":"
"""Between machine and tag in the name of a share; neither can have one."""


def machine(row: registry.Row, seen: Seen) -> dict[str, t.Any]:
    """What is told of a registered machine, without its name."""
    name, config = row["name"], {**definition.DEFAULTS, **row["config"]}
    return {
        "status": seen.status(name),
        "hypervisor": row["kind"],
        "accelerator": row["accelerator"],
        "vcpus": config["vcpus"],
        "memory": config["memory"],
        "autostart": config["autostart"],
        "restart_required": seen.outdated(name, config),
        "unit": places.unit(name),
        "user": places.user(name),
        "directory": places.directory(name),
        "console": places.logs(name) + "/console.log",
        "disks": [disk["path"] for disk in config["disks"]],
        "volumes": [disk["volume"] for disk in config["disks"] if disk["volume"]],
        "taps": [tap for tap, dummy in network.taps(config, name)],
        "macs": [each["mac"] for each in config["interfaces"]],
        "shares": [{key: share[key] for key in ("tag", "proto", "source")} for share in config["shares"]],
    }


def share(vm: str, config: Share) -> dict[str, t.Any]:
    """What is told of a registered share, without machine and tag."""
    found = {key: config[key] for key in ("proto", "source", "mount_point", "read_only")}
    if config["proto"] == "virtiofs":
        found["unit"] = places.fs_unit(vm, config["tag"]) + ".socket"
        found["socket"] = places.share_socket(vm, config["tag"])
    return found


def facets(config: Config, kind: str, accelerator: str) -> dict[str, t.Any]:
    """A definition as diffs show it: what was resolved in place of ``auto``, and only what is set."""
    found = {key: value for key, value in config.items() if value not in ("", 0, [], {}) or key in ("autostart",)}
    return dict(found, hypervisor=kind, accelerator=accelerator)


def stopped(plan: Plan, known: Known) -> None:
    """Have the result say how a machine was stopped, when it was."""
    if "stopped" in known:
        plan.notes["stopped"] = known["stopped"]
