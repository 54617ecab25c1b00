# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a volume that is there: planned. Private to microvm.host."""

from __future__ import annotations

import functools
import sqlite3
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, Record
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import volume_refusals
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_seen import Seen


def asked(wanted: Volume) -> dict[str, t.Any]:
    """What a volume that is not registered yet will be, beside its backend and size: for ``after`` of its plan."""
    return {**told(made_of(wanted)), "snapshots": sorted(wanted.snapshots or ())}


def made_of(wanted: Volume) -> dict[str, t.Any]:
    """What the registry keeps of a volume as its ``config``: ``image`` and ``filesystem``, when there are any."""
    image = {"image": wanted.image.asked} if wanted.image else {}
    return {**image, **({"filesystem": wanted.filesystem} if wanted.filesystem else {})}


def told(config: dict[str, t.Any]) -> dict[str, t.Any]:
    """The config of a volume as ``before`` and ``after`` of a plan have it."""
    return {key: config[key] for key in ("image", "filesystem") if config.get(key)}


def adopted(wanted: Volume, seen: Seen, backend: str, there: dict[str, t.Any]) -> Plan:
    """One that is on its backend, and not this host's yet."""
    label = there["label"]
    if not wanted.adopt:
        whose = "it is that of %s" % label["hostname"] if label else "it carries no label"
        moved = "if it was moved there, take it out of this host's inventory; " if label else ""
        raise HostError(
            "conflict",
            "backend %s has a volume %s already: %s" % (backend, wanted.name, whose),
            moved + "adopt: true makes it this host's; or choose another name",
            field=wanted.prefix + "name",
        )
    volume_refusals.disabled(wanted, seen, backend)
    beside = seen.store(backend)
    config = made_of(wanted)
    after = {"backend": backend, "size": there["size"], **told(config)}
    plan = Plan(wanted.name, {}, after, seconds=wanted.timeout)
    new = label["uuid"] if label else str(uuid.uuid4())
    plan.steps += beside.adopt(wanted.name, label, new, wanted.takeover, wanted.timeout)
    volume_refusals.held(wanted, there)
    inner = wanted.filesystem["type"] if wanted.filesystem else None
    _changes(wanted, seen, backend, new, there["size"], inner, plan)
    plan.commit = functools.partial(stored, wanted.name, config, backend, plan.after["size"], new)
    return plan


def existing(wanted: Volume, seen: Seen, row: registry.Row) -> Plan:
    """One that is registered, and stays where it is."""
    backend = row["backend"]
    there = seen.at(backend, wanted.name)
    plan = Plan(wanted.name, {"backend": backend}, {"backend": backend}, seconds=wanted.timeout)
    config = row["config"]
    made_from = config.get("image") or (there.get("label") or {}).get("image")
    if wanted.image and made_from and made_from != wanted.image.asked:
        plan.warnings.append("it was made from %s and stays as it is; the image is for new volumes" % made_from)
    before = volume_refusals.other_filesystem(wanted, row)
    if seen.looks[backend]["status"] != "ok":
        smaller = wanted.shrink and wanted.size is not None and wanted.size < row["size"]
        if (wanted.size or 0) > row["size"] or smaller or wanted.restore or wanted.snapshots:
            volume_refusals.down(seen, backend, "change volume %s" % wanted.name)
        return plan
    volume_refusals.gone(wanted.name, row, there)
    inner = wanted.filesystem["type"] if wanted.filesystem else before
    _changes(wanted, seen, backend, row["uuid"], row["size"], inner, plan)
    if plan.steps:
        volume_refusals.held(wanted, there)
    if wanted.image and not made_from:
        plan.warnings.append("it was not known what it was made from; it stays as it is, the image is for new volumes")
        config = _learned(plan, config, "image", wanted.image.asked, "is of %s" % wanted.image.asked)
    if wanted.filesystem and not before:
        config = _learned(plan, config, "filesystem", wanted.filesystem, "holds %s" % wanted.filesystem["type"])
    plan.commit = functools.partial(stored, wanted.name, config, backend, plan.after["size"], row["uuid"])
    return plan


def _learned(plan: Plan, config: dict[str, t.Any], key: str, value: t.Any, how: str) -> dict[str, t.Any]:
    """The config of a volume with what was not known of it until it was named; the registry keeps that."""
    plan.before[key], plan.after[key] = None, value
    plan.steps.append(Record("know that volume %s %s" % (plan.name, how)))
    return {**config, key: value}


def _changes(
    wanted: Volume,
    seen: Seen,
    backend: str,
    identity: str,
    known: int,
    inner: str | None,
    plan: Plan,
) -> None:
    """Snapshots, restore and size of a volume that is there.

    ``known`` is its size in the registry, ``inner`` the file system that it is.
    """
    takeover, seconds = wanted.takeover, wanted.timeout
    there, beside = seen.at(backend, wanted.name), seen.store(backend)
    beside.refuse_names(wanted.name, wanted.snapshots or (), wanted.prefix)
    kept = set(there["snapshots"])
    declared = kept if wanted.snapshots is None else set(wanted.snapshots)
    for snapshot in sorted(declared - kept):
        plan.steps += beside.snapshot(wanted.name, identity, snapshot, takeover, seconds)
    if wanted.restore and wanted.restore not in kept:
        raise volume_refusals.no_snapshot(wanted, kept)
    least = there["snapshots"][wanted.restore] if wanted.restore else there["size"]
    size = max(least, there["size"]) if wanted.size is None else seen.whole(backend, wanted.size)
    if size < least and not wanted.shrink:
        what = "the snapshot %s of volume" % wanted.restore if wanted.restore else "volume"
        raise HostError(
            "conflict",
            "%s %s has %d bytes, %d are asked for" % (what, wanted.name, least, size),
            "a disk is made smaller only with shrink: true; what does not fit is lost",
            field=wanted.prefix + "size",
        )
    volume_refusals.too_large(wanted, seen, backend, size)
    if wanted.restore:
        plan.steps += beside.restore(wanted.name, identity, wanted.restore, size, inner, takeover, seconds)
        plan.before["content"], plan.after["content"] = "as it is", "snapshot %s" % wanted.restore
    elif size != there["size"] or size != known:
        plan.steps += beside.resize(wanted.name, identity, (there["size"], size), inner, takeover, seconds)
    for snapshot in sorted(kept - declared):
        plan.steps += beside.delete_snapshot(wanted.name, identity, snapshot, takeover, seconds)
    if plan.before:
        plan.before.update(size=known, snapshots=sorted(kept))
    plan.after.update(size=size, snapshots=sorted(declared))


def stored(
    name: str,
    config: dict[str, t.Any],
    backend: str,
    size: int,
    identity: str,
    connection: sqlite3.Connection,
    known: Known,
) -> None:
    """The commit of a plan: the row of its volume."""
    row = {"name": name, "backend": backend, "size": size, "uuid": identity, "config": config}
    registry.put(connection, "volumes", row)
