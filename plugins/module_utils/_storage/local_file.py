# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kind of backend local_file: a directory of this host. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan
from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import kinds, observed

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._storage.store import Store

BOOTS = False
PATH = "/var/lib/microvm/volumes"


def asked(item: dict[str, t.Any], prefix: str) -> dict[str, t.Any]:
    """See Kind."""
    path = PATH if item.get("path") is None else item["path"]
    return {"path": names.mount_path(path, prefix + "path", "volumes in %s would lie among files of the system")}


def secret(item: dict[str, t.Any], prefix: str) -> t.Any:
    """See Kind."""
    return None


def proven(wanted: kinds.Backend, seen: observed.Seen, row: registry.Row | None) -> Plan:
    """See Kind."""
    raise HostError("invalid", "a directory has no secret to check", field=wanted.prefix + "secret_check")


def identity(config: dict[str, t.Any]) -> str:
    """See Kind."""
    return str(config["path"])


def looked_at(row: registry.Row, seen: observed.Seen, leaving: bool) -> list[str]:
    """See Kind: one that is not removed after all is told as it is."""
    return [row["config"]["path"]]


def taken_by(row: registry.Row, seen: observed.Seen) -> str:
    """See Kind: no other host has it."""
    return ""


def present(wanted: kinds.Backend, seen: observed.Seen, row: registry.Row | None) -> Plan:
    """See Kind. Raises ``conflict`` for another path: the directory is the identity of a local backend."""
    config = wanted.config or {}
    path = config["path"]
    plan = Plan(wanted.name, {}, {"path": path}, locks=("directory/" + names.hash8(path),), seconds=wanted.timeout)
    there = False
    if row is not None:
        _refuse_change(row["config"], config, wanted.prefix)
        plan.before["path"] = path
        looked = seen.looks.get(path, {})
        there = looked.get("status") != "not_found"
        plan.before["directory"], plan.after["directory"] = there, True
        kinds.refuse_swapped(row, looked, path)
    if not there:
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_changes, steps

        marker = row["uuid"] if row is not None and seen.volumes.get(wanted.name) else "any"
        missing = mount_changes.missing(path, seen, wanted.timeout)
        plan.steps.append(steps.OpenDirectory(path, missing, marker, wanted.timeout))
    return plan


def absent(wanted: kinds.Backend, seen: observed.Seen, row: registry.Row) -> Plan:
    """See Kind."""
    return Plan(wanted.name, {"path": row["config"]["path"]}, {}, seconds=wanted.timeout)


def described(row: registry.Row, seen: observed.Seen) -> dict[str, t.Any]:
    """See Kind."""
    path = row["config"]["path"]
    looked = seen.looks.get(path, {"status": "not_mounted"})
    found = {key: looked[key] for key in ("status", "capacity", "probe_seconds") if key in looked}
    if found["status"] != "ok":
        found["status"] = "not_mounted" if found["status"] in ("not_found", "not_mounted") else "unreachable"
    return dict(found, path=path)


def remarks(row: registry.Row, seen: observed.Seen) -> list[str]:
    """See Kind."""
    if described(row, seen)["status"] == "unreachable":
        return ["%s does not answer: check what is mounted there" % row["config"]["path"]]
    return []


def store(row: registry.Row, seen: observed.Seen) -> Store:
    """See Kind."""
    from ansible_collections.microvm.host.plugins.module_utils._storage.file_store import (
        FileStore,
    )  # only volumes need it

    return FileStore(row, row["config"]["path"])


def capabilities(config: dict[str, t.Any], known: Known) -> list[str]:
    """See Kind."""
    return kinds.capable(known, external=False)


def _refuse_change(before: dict[str, t.Any], after: dict[str, t.Any], prefix: str) -> None:
    if before["path"] != after["path"]:
        raise HostError(
            "conflict",
            "the path of a local_file backend can't change (it is %s)" % before["path"],
            "add a backend under another name and move the volumes",
            field=prefix + "path",
        )
