# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a volume, as it is now; and of the images beside it. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._storage import probe, standby, store

DOWN = {
    "unreachable": "does not answer",
    "not_mounted": "is not mounted",
    "stale": "is stale",
    "logged_out": "is not logged in to",
    "foreign": "is not the disk that was registered",
    "unsupported": "is of a kind that takes no volumes",
}
PASSED_ON = ("not_mounted", "stale", "logged_out", "standby", "foreign", "unknown", "disabled")
"""Statuses of a backend that its volumes have too; all others make them unreachable."""


def described(row: registry.Row, beside: store.Store, looked: store.Look) -> dict[str, t.Any]:
    """A returned volume, from its row and what was seen of its backend."""
    there = looked.get("volumes", {}).get(row["name"], {})
    found: dict[str, t.Any] = {
        "state": "present",
        "backend": row["backend"],
        "size": there.get("size", row["size"]),
        "path": beside.disk(row["name"]),
        "uuid": row["uuid"],
        "status": looked["status"],
    }
    if looked["status"] == "ok":
        found["status"] = _status(row, there)
        found.update({"allocated_bytes": there["allocated_bytes"]} if "allocated_bytes" in there else {})
        found.update({"snapshots": sorted(there["snapshots"])} if "snapshots" in there else {})
        if there.get("holder"):
            held = there["holder"]
            found["lock"] = {key: held[key] for key in ("hostname", "holder", "since")}
    elif looked["status"] not in PASSED_ON:
        found["status"] = "unreachable"
    if row["config"].get("image"):
        found["image"] = row["config"]["image"]
    if row["config"].get("filesystem"):
        found["filesystem"] = row["config"]["filesystem"]["type"]
    return found


def _status(row: registry.Row, there: dict[str, t.Any]) -> str:
    if "size" not in there:
        return "missing"
    label = there.get("label")
    if not label or label["uuid"] != row["uuid"] or label["owner"] != probe.host_mark():
        return "taken"
    return "ok"


def images(looked: store.Look) -> dict[str, list[str]]:
    """The images that a backend keeps, by key, and the volumes of all hosts that were made from each."""
    found: dict[str, list[str]] = {key: [] for key in looked.get("images", {})}
    for name, there in sorted(looked.get("volumes", {}).items()):
        key = (there["label"] or {}).get("key")
        if key in found:
            found[key].append(name)
    return found


def wrong_with(looked: store.Look) -> str:
    """What is wrong with a backend that is not ok."""
    if looked["status"] == "standby":
        return standby.told(looked["owner"])
    return DOWN.get(looked["status"], "can't be read (%s)" % looked["status"])
