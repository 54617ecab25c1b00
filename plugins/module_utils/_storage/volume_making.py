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
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan, Record
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import disks, store, volume_changes, volume_refusals
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_seen import Seen


def new(wanted: Volume, seen: Seen, backend: str, there: dict[str, t.Any]) -> Plan:
    """A volume that is not registered, and not on its backend; ``there`` is what is."""
    volume_refusals.disabled(wanted, seen, backend)
    if there.get("label"):
        text = "the name %s is claimed on backend %s by %s, which has made no disk yet"
        raise HostError(
            "conflict",
            text % (wanted.name, backend, there["label"]["hostname"]),
            "wait for that host to end or to undo it, or choose another name",
            field=wanted.prefix + "name",
        )
    if wanted.size is None and wanted.image is None:
        if wanted.adopt:
            text = "backend %s has no volume %s to adopt" % (backend, wanted.name)
            hint = "host_info with refresh: true lists what there is (orphans); is it on another backend?"
            raise HostError("not_found", text, hint, field=wanted.prefix + "adopt")
        text = "%ssize is required for a new volume without an image" % wanted.prefix
        raise HostError("invalid", text, "give its size; or an image, which has one", field=wanted.prefix + "size")
    if wanted.restore:
        raise volume_refusals.no_snapshot(wanted)
    source, assumes = _source(wanted, seen)
    if assumes and wanted.size is None:
        after = {"backend": backend, **volume_changes.asked(wanted)}
        step = Record("make volume %s on %s" % (wanted.name, backend))
        return Plan(wanted.name, {}, after, [step], seconds=wanted.timeout, assumes=[assumes])
    size = seen.whole(backend, wanted.size or (source.size if source else 0))
    if source is not None and size < source.size:
        raise HostError(
            "invalid",
            "%ssize: %d bytes are less than the image has (%d)" % (wanted.prefix, size, source.size),
            "give it that size or more",
            field=wanted.prefix + "size",
        )
    volume_refusals.too_large(wanted, seen, backend, size)
    identity = str(uuid.uuid4())
    about = {"created": disks.now(), **({"image": wanted.image.asked} if wanted.image else {})}
    if source is not None and source.key:
        about["key"] = source.key
    making = store.Making(wanted.name, identity, size, source, wanted.filesystem, about)
    beside = seen.store(backend)
    beside.refuse_names(wanted.name, wanted.snapshots or (), wanted.prefix)
    after = {"backend": backend, "size": size, **volume_changes.asked(wanted)}
    plan = Plan(wanted.name, {}, after, seconds=wanted.timeout)
    plan.assumes += [assumes] if assumes else []
    if wanted.adopt:
        plan.warnings.append("backend %s had nothing of that name to adopt: it is a new disk" % backend)
    plan.steps += beside.provision(making, wanted.timeout)
    for snapshot in wanted.snapshots or ():
        plan.steps += beside.snapshot(wanted.name, identity, snapshot, False, wanted.timeout)
    config = volume_changes.made_of(wanted)
    plan.commit = functools.partial(volume_changes.stored, wanted.name, config, backend, size, identity)
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
        field = wanted.prefix + found.get("option", "image")
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
    volume_refusals.other_filesystem(wanted, row)
    volume_refusals.disabled(wanted, seen, backend)
    for each in (row["backend"], backend):
        volume_refusals.down(seen, each, "move volume %s" % wanted.name)
    there, target = seen.at(row["backend"], wanted.name), seen.at(backend, wanted.name)
    volume_refusals.gone(wanted.name, row, there)
    if "size" in target or target.get("label"):
        text = "backend %s has a volume %s already" % (backend, wanted.name)
        hint = "delete or rename that one, or choose another backend; host_info tells whose it is (orphans)"
        raise HostError("conflict", text, hint, field=wanted.prefix + "backend")
    kept, declared = set(there["snapshots"]), set(wanted.snapshots or ())
    if wanted.restore:
        if wanted.restore not in kept:
            raise volume_refusals.no_snapshot(wanted, kept)
        text = "volume %s is not restored while it moves" % wanted.name
        raise HostError("conflict", text, "restore it in a call of its own, before", field=wanted.prefix + "restore")
    lost = kept if wanted.snapshots is None else kept & declared
    if lost:
        text = "volume %s has snapshots, which do not move: %s" % (wanted.name, ", ".join(sorted(lost)))
        raise HostError("conflict", text, "snapshots: [] deletes them", field=wanted.prefix + "move")
    size = seen.whole(backend, wanted.size or there["size"])
    if size < there["size"]:
        text = "volume %s has %d bytes and can't become smaller while it moves" % (wanted.name, there["size"])
        hint = "leave size out or give that one; shrink it in a call of its own"
        raise HostError("conflict", text, hint, field=wanted.prefix + "size")
    volume_refusals.too_large(wanted, seen, backend, size)
    volume_refusals.held(wanted, there)
    identity = row["uuid"]
    old, common = seen.store(row["backend"]), (wanted.takeover, wanted.timeout)
    away, source = old.move_away(wanted.name, identity, there["size"], *common)
    steps = [step for each in sorted(kept) for step in old.delete_snapshot(wanted.name, identity, each, *common)]
    about = {key: there["label"][key] for key in ("created", "image") if key in there["label"]}
    inner = wanted.filesystem or row["config"].get("filesystem")
    grown = inner if size > there["size"] else wanted.filesystem
    making = store.Making(wanted.name, identity, size, source, grown, about)
    beside = seen.store(backend)
    beside.refuse_names(wanted.name, wanted.snapshots or (), wanted.prefix)
    before = {"backend": row["backend"], "size": row["size"], "snapshots": sorted(kept)}
    after = {"backend": backend, "size": size, "snapshots": sorted(declared)}
    plan = Plan(wanted.name, before, after, seconds=wanted.timeout)
    plan.steps += steps + away + beside.provision(making, wanted.timeout)
    for snapshot in wanted.snapshots or ():
        plan.steps += beside.snapshot(wanted.name, identity, snapshot, False, wanted.timeout)
    config = {**({"filesystem": inner} if inner else {}), **row["config"]}
    plan.commit = functools.partial(volume_changes.stored, wanted.name, config, backend, size, identity)
    return plan
