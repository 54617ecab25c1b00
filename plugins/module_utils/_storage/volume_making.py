# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a volume, where none was or from another backend: planned. Private to microvm.host.

Loaded when one is made.
"""

from __future__ import annotations

import functools
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import disks, store, volume_changes, volume_refusals
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_seen import Seen


def new(wanted: Volume, seen: Seen, backend: str, there: dict[str, t.Any]) -> Plan:
    """A volume that is not registered, and not on its backend; ``there`` is what is."""
    row = seen.backends[backend]
    if not row["enabled"]:
        text = "backend %s is not enabled and takes no new volumes" % backend
        raise HostError("refused", text, "enable it, or choose another", field=wanted.prefix + "backend")
    if there.get("label"):
        text = "the name %s is claimed on backend %s by %s, which has made no disk yet"
        raise HostError(
            "conflict",
            text % (wanted.name, backend, there["label"]["hostname"]),
            "wait for that host to end or to undo it, or choose another name",
            field=wanted.prefix + "name",
        )
    if wanted.size is None and wanted.image is None:
        text = "%ssize is required for a new volume without an image" % wanted.prefix
        raise HostError("invalid", text, field=wanted.prefix + "size")
    if wanted.restore:
        raise volume_refusals.no_snapshot(wanted)
    source, assumes = _source(wanted, seen)
    size = seen.whole(backend, wanted.size or (source.size if source else 0))
    if source is not None and size < source.size:
        raise HostError(
            "invalid",
            "%ssize: %d bytes are less than the image has (%d)" % (wanted.prefix, size, source.size),
            "give it that size or more",
            field=wanted.prefix + "size",
        )
    identity = str(uuid.uuid4())
    about = {"created": disks.now(), **({"image": wanted.image.asked} if wanted.image else {})}
    if source is not None and source.key:
        about["key"] = source.key
    making = store.Making(wanted.name, identity, size, source, wanted.filesystem, about)
    beside = seen.store(backend)
    beside.refuse_names(wanted.name, wanted.snapshots or (), wanted.prefix)
    plan = Plan(wanted.name, {}, {"backend": backend, "size": size}, seconds=wanted.timeout)
    plan.assumes += [assumes] if assumes else []
    if wanted.image:
        plan.after["image"] = wanted.image.asked
    if wanted.filesystem:
        plan.after["filesystem"] = wanted.filesystem["type"]
    plan.steps += beside.provision(making, wanted.timeout)
    for snapshot in wanted.snapshots or ():
        plan.steps += beside.snapshot(wanted.name, identity, snapshot, False, wanted.timeout)
    if wanted.snapshots is not None:
        plan.after["snapshots"] = sorted(wanted.snapshots)
    plan.commit = functools.partial(volume_changes.stored, wanted, {}, backend, size, identity)
    return plan


def _source(wanted: Volume, seen: Seen) -> tuple[store.Source | None, HostError | None]:
    """What a new volume is made of; and what is missing for that."""
    if wanted.image is None:
        return None, None
    field = wanted.prefix + "image"
    if wanted.image.volume:
        row = seen.rows.get(wanted.image.volume)
        if row is None:
            text = "no volume %s is registered on this host" % wanted.image.volume
            error = HostError("not_found", text, "make or adopt it first", field=field)
            return None if wanted.size is None else store.Source("", "raw", 0), error
        return seen.store(row["backend"]).source(row["name"], row["size"]), None
    found = seen.images[wanted.name]
    if "error" in found:
        error = HostError(found.get("kind", "unreachable"), found["error"], found.get("hint", ""), field=field)
        if error.kind != "not_found":
            raise error
        return None, error
    # One that lies on the backend as it has to be is there already.
    whole = found["beside"] and wanted.image.format == "raw" and not wanted.image.checksum
    key = "" if whole else wanted.image.checksum or found["fingerprint"]
    return store.Source(found["path"], wanted.image.format, found["size"], key, wanted.image.checksum), None


def moved(wanted: Volume, seen: Seen, row: registry.Row, backend: str) -> Plan:
    """One that shall be on another backend than it is."""
    if not wanted.move:
        raise HostError(
            "conflict",
            "volume %s is on backend %s, not on %s" % (wanted.name, row["backend"], backend),
            "storage_volume with move: true takes it there; or name the backend that it is on",
            field=wanted.prefix + "backend",
        )
    for each in (row["backend"], backend):
        volume_refusals.down(seen, each, "move volume %s" % wanted.name)
    there, target = seen.at(row["backend"], wanted.name), seen.at(backend, wanted.name)
    volume_refusals.gone(wanted.name, row, there)
    if "size" in target or target.get("label"):
        text = "backend %s has a volume %s already" % (backend, wanted.name)
        raise HostError("conflict", text, "remove that first", field=wanted.prefix + "backend")
    if there["snapshots"]:
        text = "volume %s has snapshots, which do not move: %s" % (wanted.name, ", ".join(there["snapshots"]))
        raise HostError("conflict", text, "remove them first: snapshots: []", field=wanted.prefix + "move")
    if wanted.restore:
        raise volume_refusals.no_snapshot(wanted)
    size = seen.whole(backend, wanted.size or there["size"])
    if size < there["size"]:
        text = "volume %s can't become smaller while it moves" % wanted.name
        raise HostError("conflict", text, "shrink it in a call of its own", field=wanted.prefix + "size")
    volume_refusals.held(wanted, there)
    identity = row["uuid"]
    steps, source = seen.store(row["backend"]).move_away(
        wanted.name, identity, there["size"], wanted.takeover, wanted.timeout
    )
    about = {key: there["label"][key] for key in ("created", "image") if key in there["label"]}
    making = store.Making(wanted.name, identity, size, source, wanted.filesystem, about)
    beside = seen.store(backend)
    beside.refuse_names(wanted.name, wanted.snapshots or (), wanted.prefix)
    before, after = {"backend": row["backend"], "size": row["size"]}, {"backend": backend, "size": size}
    plan = Plan(wanted.name, before, after, seconds=wanted.timeout)
    plan.steps += steps + beside.provision(making, wanted.timeout)
    for snapshot in wanted.snapshots or ():
        plan.steps += beside.snapshot(wanted.name, identity, snapshot, False, wanted.timeout)
    if wanted.snapshots:
        plan.before["snapshots"], plan.after["snapshots"] = [], sorted(wanted.snapshots)
    plan.commit = functools.partial(volume_changes.stored, wanted, row["config"], backend, size, identity)
    return plan
