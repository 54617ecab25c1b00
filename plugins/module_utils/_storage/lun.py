# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind of backend iscsi_lvm: a volume group on a LUN. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan
from ansible_collections.microvm.host.plugins.module_utils._host import secret as secrets
from ansible_collections.microvm.host.plugins.module_utils._storage import iscsi_lvm, kinds, target
from ansible_collections.microvm.host.plugins.module_utils._storage.observed import Seen

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._storage.store import Store

BOOTS = True
LOOK_SECONDS = 5.0
ONCE = ("initialize", "takeover")
"""Options that are a permission, not configuration: what they allow is done once."""
_hung: set[str] = set()


def asked(item: dict[str, t.Any], prefix: str) -> dict[str, t.Any]:
    """See Kind."""
    once = {"initialize": item.get("initialize") or "", "takeover": iscsi_lvm.takeover(item, prefix)}
    return {**iscsi_lvm.asked(item, prefix), **once}


def secret(item: dict[str, t.Any], prefix: str) -> iscsi_lvm.Secrets:
    """See Kind."""
    return iscsi_lvm.secrets(item, prefix)


def identity(config: dict[str, t.Any]) -> str:
    """See Kind."""
    return iscsi_lvm.shown(config)


def looked_at(row: registry.Row, seen: Seen, leaving: bool) -> list[str]:
    """See Kind: no directory; LVM is asked about its LUN instead, when it leaves for the sake of its volumes."""
    if not leaving or seen.volumes.get(row["name"]):
        seen.beside.setdefault("luns asked for", set()).add("backend:" + row["name"])
    return []


def taken_by(row: registry.Row, seen: Seen) -> str:
    """See Kind: the owner of its group, when LVM was asked and it is another host."""
    look = observed(seen).looks["backend:" + row["name"]]
    group = look.found.group if look.found else None
    return group.system_id if group is not None and look.status == "standby" else ""


def observed(seen: Seen) -> iscsi_lvm.Observed:
    """What is there of all LUNs, looked up once for all backends."""
    if "luns" not in seen.beside:
        wanted = seen.beside.get("luns asked for", set())
        seen.beside["luns"] = iscsi_lvm.Observed(LOOK_SECONDS, wanted.__contains__, _hung)
    return t.cast("iscsi_lvm.Observed", seen.beside["luns"])


def _use(wanted: kinds.Backend, logged_in: bool) -> target.Use:
    config = wanted.config or {}
    return target.Use(
        name=wanted.name,
        user="backend:" + wanted.name,
        asked={key: value for key, value in config.items() if key not in ONCE},
        secrets=secrets.of(wanted.secret) or iscsi_lvm.Secrets(),
        initialize=bool(config["initialize"]),
        takeover=config["takeover"],
        logged_in=logged_in,
        seconds=wanted.timeout,
        prefix=wanted.prefix,
    )


def present(wanted: kinds.Backend, seen: Seen, row: registry.Row | None) -> Plan:
    """See Kind. One that is not in service is tried all the same when it is new: it must be known by its group."""
    use = _use(wanted, wanted.enabled)
    plan = target.present(use, observed(seen))
    if row is None and not wanted.enabled:
        plan.steps += target.tried(use, observed(seen))
    return plan


def proven(wanted: kinds.Backend, seen: Seen, row: registry.Row | None) -> Plan:
    """See Kind."""
    return target.proven(_use(wanted, True), observed(seen))


def absent(wanted: kinds.Backend, seen: Seen, row: registry.Row) -> Plan:
    """See Kind."""
    return target.absent(wanted.name, "backend:" + wanted.name, observed(seen), wanted.timeout)


def described(row: registry.Row, seen: Seen) -> dict[str, t.Any]:
    """See Kind."""
    luns = observed(seen)
    user = "backend:" + row["name"]
    return iscsi_lvm.described(luns.rows[user], luns.looks[user])


def remarks(row: registry.Row, seen: Seen) -> list[str]:
    """See Kind."""
    luns = observed(seen)
    user = "backend:" + row["name"]
    return iscsi_lvm.remarks(luns.rows[user]["asked"], luns.looks[user])


def store(row: registry.Row, seen: Seen) -> Store:
    """See Kind."""
    from ansible_collections.microvm.host.plugins.module_utils._storage.lvm_store import LvmStore

    luns, user = observed(seen), "backend:" + row["name"]
    return LvmStore(row, luns.rows[user], luns.looks[user])


def capabilities(config: dict[str, t.Any], known: Known) -> list[str]:
    """See Kind: those of LVM. One host at a time has the group, and only a pool shares blocks."""
    fast = ["fast_clone"] if config["layout"] == "thin" else []
    return ["clone_from_image", *fast, "snapshot", "resize", "external"]
