# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a registered mount, as it is now. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._storage import filesystems

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._storage.observed import Seen


def status(row: registry.Row, seen: Seen) -> dict[str, t.Any]:
    """What a registered mount is now: status, negotiated version, capacity, probe time."""
    stack = seen.stack(row["path"])
    found: dict[str, t.Any] = {"path": row["path"], "status": "not_mounted", "version_negotiated": row["version"]}
    attached = row["attached"] or row["asked"]
    system = filesystems.of(attached)
    if not stack or not system.is_mount_of(stack[-1], attached, row["address"]):
        return found
    looked = seen.looks.get(row["path"], {})
    found["version_negotiated"] = system.negotiated(stack[-1]) or row["version"]
    found["status"] = looked.get("status", "ok")
    if found["status"] == "ok" and "ro" in stack[-1].flags + stack[-1].options:
        found["status"] = "read_only"
    if found["status"] not in ("ok", "read_only", "stale"):
        found["status"] = "unreachable"
    for key in ("capacity", "probe_seconds"):
        if key in looked:
            found[key] = looked[key]
    return found


def remarks(row: registry.Row, seen: Seen) -> list[str]:
    """What to warn of: a server that does not answer, or options of another mount that are in force for this one."""
    attached = row["attached"] or row["asked"]
    found = status(row, seen)["status"]
    if found == "not_mounted":
        return []
    told = []
    system = filesystems.of(attached)
    server = attached["server"] + (" (%s)" % row["address"] if row["address"] not in (None, attached["server"]) else "")
    if found == "unreachable":
        text = (
            "mounted, but unreachable: %s does not answer for %s; check the server and the network. What uses %s waits"
        )
        told.append((text + " until it answers again") % (server, system.place(attached), row["path"]))
    if found == "stale":
        text = "mounted, but stale: %s no longer knows %s; export it there again, or stop what uses %s"
        told.append((text + " and run this again") % (server, system.place(attached), row["path"]))
    return told + system.remarks(seen.stack(row["path"])[-1], attached)


def described(row: registry.Row, seen: Seen, persistent: bool) -> dict[str, t.Any]:
    """A returned mount, from its row and what was seen."""
    found = filesystems.of(row["asked"]).described(row["asked"])
    found.update(status(row, seen))
    found["state"] = "present" if found["status"] == "not_mounted" else "mounted"
    found["persistent"] = persistent
    if found["state"] == "mounted" and row["attached"] != row["asked"]:
        from ansible_collections.microvm.host.plugins.module_utils._host import holders

        found["pending_remount"] = holders.of_mount(row["path"])
    return found
