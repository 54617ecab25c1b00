# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why something is not done to a volume. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan, Record
from ansible_collections.microvm.host.plugins.module_utils._host import lease
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import probe, standby, volume_report
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._storage.volume_seen import Seen


def used(name: str, machines: t.Collection[str], holder: dict[str, t.Any], more: str = "") -> None:
    """Raise ``in_use`` for a volume that machines have as a disk, or somebody holds (a lease record).

    ``more``: what to do beside stopping what uses it.
    """
    if machines:
        text = "volume %s is a disk of the machine %s" % (name, ", ".join(sorted(machines)))
        hint = "remove the machine first, or both at once: microvm with state: absent, delete_volumes: true"
        raise HostError("in_use", text, hint)
    if holder:
        text = "volume %s is in use by %s" % (name, lease.describe(holder))
        raise HostError("in_use", text, "stop what uses it" + more)


def unusable(wanted: Volume, seen: Seen) -> None:
    """Raise HostError unless a registered volume that was looked at is there, this host's, and held by nobody."""
    row = seen.rows[wanted.name]
    if not seen.backends[row["backend"]]["enabled"]:
        text = "backend %s of volume %s is not enabled" % (row["backend"], wanted.name)
        raise HostError("refused", text, "enable it: storage_backend")
    down(seen, row["backend"], "use volume %s" % wanted.name)
    there = seen.at(row["backend"], wanted.name)
    gone(wanted.name, row, there)
    held(wanted, there)


def down(seen: Seen, backend: str, doing: str, otherwise: str = "") -> None:
    """Raise HostError unless a backend is ok, by its status; ``otherwise`` is added to what to do."""
    looked = seen.looks[backend]
    status = looked["status"]
    if status == "ok":
        return
    kind = {"standby": "in_use", "foreign": "conflict"}.get(status, "unreachable")
    kind = status if status in ("stale", "refused", "unsupported") else kind
    hint = standby.hint(looked["owner"]) if status == "standby" else "see to the backend: storage_backend"
    text = "can't %s: backend %s %s" % (doing, backend, volume_report.wrong_with(looked))
    raise HostError(kind, text, hint + otherwise)


def broken(there: dict[str, t.Any]) -> None:
    """Raise ``conflict`` for a volume whose label can't be read."""
    if "broken" in there:
        raise HostError("conflict", there["broken"], "restore it from a backup, or move it out of the way")


def gone(name: str, row: registry.Row, there: dict[str, t.Any]) -> None:
    """Raise ``not_found`` for a registered volume without a disk, and as ``other``."""
    broken(there)
    if "size" not in there:
        raise HostError(
            "not_found",
            "the disk of volume %s is gone from backend %s" % (name, row["backend"]),
            "restore it from a backup; or remove the volume (state: absent) and make it anew",
        )
    other(name, row, there)


def other(name: str, row: registry.Row, there: dict[str, t.Any]) -> None:
    """Raise ``conflict`` when what is there is not the registered volume, or is another host's now."""
    label = there["label"]
    if label is None or label["uuid"] != row["uuid"]:
        text = "what is there as volume %s on backend %s is another one" % (name, row["backend"])
        raise HostError("conflict", text, "look at its label; was the backend restored from a backup?")
    if label["owner"] != probe.host_mark():
        text = "volume %s on backend %s was taken over by %s" % (name, row["backend"], label["hostname"])
        hint = "to have it back, forget it here first: microvm with state: absent for a machine that has it, then"
        hint += " storage_volume with state: absent, forget: true; after that adopt: true"
        raise HostError("conflict", text, hint)


def held(wanted: Volume, there: dict[str, t.Any]) -> None:
    """Raise ``in_use`` when somebody holds the volume, unless that shall be taken over."""
    holder = there.get("holder", {})
    if not wanted.takeover:
        here = holder.get("host") == probe.host_mark()
        used(wanted.name, (), holder, "" if here else "; takeover: true if its host is dead for certain")


def no_snapshot(wanted: Volume, kept: t.Iterable[str] = ()) -> HostError:
    """The error of a snapshot to restore that is not there; ``kept`` are."""
    text = "volume %s has no snapshot %s" % (wanted.name, wanted.restore)
    found = ", ".join(sorted(kept))
    hint = "it has %s" % found if found else "it has none; leave restore out"
    return HostError("not_found", text, hint, field=wanted.prefix + "restore")


def too_large(wanted: Volume, seen: Seen, backend: str, size: int) -> None:
    """Raise ``invalid`` for a size that no disk on the backend can have, whatever is free there."""
    largest = seen.looks[backend].get("largest")
    if largest is not None and size > largest:
        text = "%d bytes are more than a disk on backend %s can have (%d)" % (size, backend, largest)
        raise HostError("invalid", text, "ask for less, or choose another backend", field=wanted.prefix + "size")


def other_filesystem(wanted: Volume, row: registry.Row) -> str | None:
    """The type of the file system that a volume was made with, None for none. Raises ``conflict`` for another one."""
    known: str | None = (row["config"].get("filesystem") or {}).get("type")
    if wanted.filesystem and known and wanted.filesystem["type"] != known:
        text = "volume %s was made with %s" % (wanted.name, known)
        raise HostError("conflict", text, "a file system is not replaced", field=wanted.prefix + "filesystem")
    return known


def disabled(wanted: Volume, seen: Seen, backend: str) -> None:
    """Raise ``refused`` for a volume that a backend would get, and shall not."""
    if not seen.backends[backend]["enabled"]:
        text = "backend %s is not enabled and takes no new volumes" % backend
        raise HostError("refused", text, "enable it, or choose another", field=wanted.prefix + "backend")


def read_only(wanted: Volume, seen: Seen, plan: Plan) -> None:
    """Raise ``refused`` for a plan that changes more than the registry where nothing can be written."""
    if all(isinstance(step, Record) for step in plan.steps):
        return
    for backend in {plan.before.get("backend"), plan.after.get("backend")} - {None}:
        if seen.looks.get(t.cast("str", backend), {}).get("read_only"):
            text = "backend %s is read only: volume %s can't be made or changed there" % (backend, wanted.name)
            hint = "choose another backend, or let this host write to that one: storage_backend"
            raise HostError("refused", text, hint, field=wanted.prefix + "backend")
