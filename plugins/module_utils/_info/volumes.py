# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_info tells of volumes: those of this host, what lies beside them, and copies under way.

Private to microvm.host.
"""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._storage import kinds, observed, volume_report
from ansible_collections.microvm.host.plugins.module_utils._storage.store import Look, Store

Told = list[dict[str, t.Any]]


def gather(seen: observed.Seen, seconds: float, refresh: bool) -> dict[str, Told]:
    """``volumes``, ``images`` and ``orphans``. Backends are looked at that answered ``seen``, within ``seconds``."""
    with registry.reading() as connection:
        rows = registry.rows(connection, "SELECT * FROM volumes ORDER BY name")
    every = {name: kinds.store_of(row, seen) for name, row in seen.backends.items()}
    stores = {name: store for name, store in every.items() if store is not None}
    looks: dict[str, Look] = {name: _known(seen.backends[name], seen, refresh) for name in stores}
    todo = [name for name, look in looks.items() if look["status"] == "ok"]

    def look(name: str) -> Look:
        return stores[name].looks([row["name"] for row in rows if row["backend"] == name], everything=True)

    for index, answer in deadline.Sweep(todo, look, seconds, large=True):
        looks[todo[index]] = answer or {"status": "unreachable"}
    return {
        "volumes": [
            dict(volume_report.described(row, stores[row["backend"]], looks[row["backend"]]), name=row["name"])
            for row in rows
        ],
        "images": [image for name in sorted(looks) for image in _images(name, looks[name])],
        "orphans": [orphan for name in sorted(looks) for orphan in _orphans(stores[name], looks[name], rows)],
    }


def jobs(intents: t.Sequence[registry.Row]) -> Told:
    """Copies under way, by what they have reported."""
    return [
        {"resource": row["resource"], "name": row["name"], "pid": row["pid"], **row["known"]["progress"]}
        for row in intents
        if "progress" in row["known"]
    ]


def _known(row: registry.Row, seen: observed.Seen, refresh: bool) -> Look:
    """The status that a backend was seen to have; without ``refresh`` no mount was looked at, which has no capacity."""
    found = kinds.of(row["kind"]).described(row, seen)
    status = found.get("status", "not_mounted")
    if status not in ("ok", "read_only"):
        return {"status": status}
    looked_at = refresh or "external" not in row["capabilities"] or "capacity" in found
    return {"status": "ok" if looked_at else "unknown"}


def _images(backend: str, look: Look) -> Told:
    return [
        {"backend": backend, "key": key, "size": look["images"][key], "volumes": users}
        for key, users in volume_report.images(look).items()
    ]


def _orphans(store: Store, look: Look, rows: t.Sequence[registry.Row]) -> Told:
    """Disks on a backend that this host does not know; other hosts may."""
    own = {row["name"] for row in rows if row["backend"] == store.backend}
    found = []
    for name, there in sorted(look.get("volumes", {}).items()):
        if name not in own and "size" in there:
            owner = there["label"]["hostname"] if there["label"] else ""
            each = {"backend": store.backend, "name": name, "path": store.disk(name), "size": there["size"]}
            found.append({**each, "owner": owner})
    return found
