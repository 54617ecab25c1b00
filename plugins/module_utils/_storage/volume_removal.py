# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What removes a volume, or forgets it: planned. Private to microvm.host.

Loaded when one goes.
"""

from __future__ import annotations

import functools
import sqlite3
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, Record
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import (
    probe,
    standby,
    volume_changes,
    volume_refusals,
)
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_seen import Seen


def absent(wanted: Volume, seen: Seen, row: registry.Row | None) -> Plan:
    """A volume that shall not be; ``row`` is its own, if it is registered."""
    if row is None:
        return Plan(wanted.name, {}, {}, seconds=wanted.timeout) if wanted.forget else _absent_here(wanted, seen)
    volume_refusals.used(wanted.name, seen.users.get(wanted.name, ()), {})
    backend = row["backend"]
    owner = seen.looks[backend].get("owner", "")
    if not (owner or wanted.forget):
        volume_refusals.down(seen, backend, "delete volume %s" % wanted.name, "; if it is gone for good, forget: true")
    there = seen.at(backend, wanted.name)
    before = {"backend": backend, "size": row["size"], **volume_changes.told(row["config"])}
    plan = Plan(wanted.name, before, {}, seconds=wanted.timeout)
    if _is_anothers(row, there):
        # What is there is not ours to delete; without this nobody could forget a volume that went elsewhere.
        whose = there["label"]["hostname"]
        plan.steps.append(Record("forget volume %s, which is that of %s now" % (wanted.name, whose)))
    elif wanted.forget:
        volume_refusals.held(wanted, there)
        plan.steps.append(Record("forget volume %s, its data stays on backend %s" % (wanted.name, backend)))
    elif owner:
        volume_refusals.held(wanted, there)
        plan.steps.append(forgotten(wanted.name, backend, owner))
    elif "size" in there or there.get("label"):
        volume_refusals.broken(there)
        volume_refusals.other(wanted.name, row, there)
        volume_refusals.held(wanted, there)
        plan.before["snapshots"] = sorted(there["snapshots"])
        plan.steps += seen.store(backend).delete(wanted.name, row["uuid"], wanted.takeover, wanted.timeout)
    else:
        plan.steps.append(Record("forget volume %s, which is gone" % wanted.name))
    plan.commit = functools.partial(_forget, wanted.name)
    return plan


def _absent_here(wanted: Volume, seen: Seen) -> Plan:
    """Not registered; but a volume of that name on the backend that is asked for may be somebody's."""
    backend, dummy, image_key = wanted.name.partition(":")
    if image_key:
        plan = Plan(wanted.name, {"backend": backend, "image": image_key}, {}, seconds=wanted.timeout)
        plan.steps += seen.store(backend).prune(image_key, wanted.timeout)
        return plan
    there = seen.at(wanted.backend, wanted.name) if wanted.backend else {}
    if "size" in there:
        whose = "that of %s" % there["label"]["hostname"] if there.get("label") else "not made by this collection"
        raise HostError(
            "conflict",
            "volume %s on backend %s is not registered on this host: it is %s" % (wanted.name, wanted.backend, whose),
            "adopt it first to delete it here",
            field=wanted.prefix + "name",
        )
    return Plan(wanted.name, {}, {}, seconds=wanted.timeout)


def _is_anothers(row: registry.Row, there: dict[str, t.Any]) -> bool:
    """Whether another host took over a volume."""
    label = there.get("label") or {"uuid": ""}
    return bool(label["uuid"] == row["uuid"] and label["owner"] != probe.host_mark())


def forgotten(name: str, backend: str, owner: str) -> Record:
    """The step of a volume whose backend went to another host, ``owner``: nothing there is this host's to delete."""
    return Record("forget volume %s: backend %s %s now, its data stays" % (name, backend, standby.told(owner)))


def _forget(name: str, connection: sqlite3.Connection, known: Known) -> None:
    connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
