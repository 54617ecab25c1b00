# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of machines that are volumes: where they are, what makes, grows and deletes them. Private to microvm.host.

A machine's plan takes up the plans of its volumes: one intent, so that a start that fails leaves no disk behind.
"""

from __future__ import annotations

import dataclasses
import sqlite3
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import definition, places
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import Config
from ansible_collections.microvm.host.plugins.module_utils._storage import kinds, volume_refusals, volume_seen, volumes
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._storage import locked_step

Disk = dict[str, t.Any]


class Taking(t.NamedTuple):
    """``adopt`` and ``takeover`` of storage_volume, for all volumes of a machine."""

    adopt: bool = False
    takeover: bool = False


NONE = Taking()


class Running(t.NamedTuple):
    """A machine that runs and will go on: what runs it, and the disks it was started with; None if they are not known.

    The hypervisor counts these, whatever the definition says since.
    """

    kind: str
    disks: t.Sequence[Disk] | None


def of(config: Config) -> list[tuple[int, Disk]]:
    """The disks that are volumes, each with its number among all disks."""
    return [(index, disk) for index, disk in enumerate(config["disks"]) if disk["volume"]]


def written(config: Config) -> list[str]:
    """The volumes that a machine writes to, and so must hold the locks of."""
    return [disk["volume"] for dummy, disk in of(config) if not disk["read_only"]]


def placed(config: Config, seen: volume_seen.Seen) -> Config:
    """The definition with the path of each volume; empty of one whose backend is not there."""
    return {**config, "disks": [{**disk, "path": _path(disk, seen)} for disk in config["disks"]]}


def _path(disk: Disk, seen: volume_seen.Seen) -> str:
    if not disk["volume"]:
        return str(disk["path"])
    row = seen.rows.get(disk["volume"])
    backend = row["backend"] if row else disk["make"].get("backend") or seen.default
    if backend not in seen.backends:
        return ""
    beside = kinds.store_of(seen.backends[backend], seen.mounts)
    return beside.disk(disk["volume"]) if beside else ""


def to_look_at(config: Config, seen: volume_seen.Seen, starts: bool, seconds: int, prefix: str) -> list[Volume]:
    """The volumes whose backends must be looked at: those yet to be made, those that change, those about to be used."""
    found = []
    for index, disk in of(config):
        volume = definition.volume_of(disk, seconds, definition.disk_field(config, index, prefix))
        if starts or _changes(volume, seen):
            found.append(volume)
    return found


def _changes(volume: Volume, seen: volume_seen.Seen) -> bool:
    row = seen.rows.get(volume.name)
    if row is None or volume.backend not in (None, row["backend"]):
        return True
    return volume.size is not None and seen.whole(row["backend"], volume.size) != row["size"]


def prepare(
    plan: Plan,
    config: Config,
    prefix: str,
    seen: volume_seen.Seen,
    starts: bool,
    running: Running | None,
    taking: Taking,
) -> list[Plan]:
    """What makes the volumes of a machine as its definition says, into its plan; returns whose rows to commit.

    ``starts``: it is about to be started, and its volumes must be free. ``running``: it has its disks open now and will
    go on. ``taking``: what may be done about volumes of other hosts.
    """
    parts = []
    if running is None:
        seen.without(plan.name, places.holder(plan.name))
    for index, disk in of(config):
        field = definition.disk_field(config, index, prefix)
        volume = definition.volume_of(disk, int(plan.seconds), field)
        volume = dataclasses.replace(volume, adopt=taking.adopt, takeover=taking.takeover)
        row = seen.rows.get(volume.name)
        if row is None and volume.size is None and volume.image is None and not taking.adopt:
            text = "no volume %s is registered on this host" % volume.name
            hint = "make it with storage_volume; or give its size or its image here"
            plan.assumes.append(HostError("not_found", text, hint, field=field + "volume"))
            continue
        if row is None and taking.adopt and not plan.before:
            _refuse_new(volume, seen, field)
        if row is None or _changes(volume, seen):
            part = None
            if row is not None and running is not None and volume.backend in (None, row["backend"]):
                part = _grown(plan, volume, seen, running)
            part = part or _planned(volume, seen, field)
            plan.steps += part.steps
            if row is None and starts and part.steps and not part.assumes:
                from ansible_collections.microvm.host.plugins.module_utils._machines import live_steps

                made = t.cast("locked_step.VolumeStep", part.steps[0]).uuid
                plan.steps.append(
                    live_steps.RegisterVolume(volume.name, part.after["backend"], part.after["size"], made)
                )
            plan.assumes += part.assumes
            plan.warnings += part.warnings
            plan.locks += ("volume/" + volume.name,)
            if row is not None:
                plan.before.setdefault("volumes", {})[volume.name] = part.before.get("size")
            else:
                _tell_replaced(plan, index, seen)
            plan.after.setdefault("volumes", {})[volume.name] = part.after.get("size")
            parts.append(part)
        elif starts:
            volume_refusals.unusable(volume, seen)
    return parts


def _planned(volume: Volume, seen: volume_seen.Seen, field: str) -> Plan:
    """The plan of a volume. Errors name the options of a disk, which calls its name otherwise."""
    try:
        return volumes.Volumes().plan(volume, seen)
    except HostError as error:
        if error.field in (field + "name", field + "adopt"):
            error.field = field + "volume"
        raise


def _tell_replaced(plan: Plan, index: int, seen: volume_seen.Seen) -> None:
    """The volume that a disk of this number was until now, if any, in before: where after has the new one."""
    for disk in plan.before.get("disks", [])[index : index + 1]:
        if disk["volume"] in seen.rows:
            plan.before.setdefault("volumes", {})[disk["volume"]] = seen.rows[disk["volume"]]["size"]


def _refuse_new(volume: Volume, seen: volume_seen.Seen, field: str) -> None:
    """Refuse to make what a machine that moves here brings along: it would find an empty disk."""
    backend = seen.backend_of(volume) or ""
    there = {"size", "broken"}.intersection(seen.at(backend, volume.name))
    if seen.looks.get(backend, {}).get("status") == "ok" and not there:
        text = "there is no volume %s on backend %s to adopt" % (volume.name, backend)
        hint = "the backend has to be the same place on both hosts"
        if seen.backends[backend]["kind"] == "local_file":
            hint = "that backend is each host's own: move the volume to one that both hosts have first"
        raise HostError("not_found", text, hint, field=field + "volume")


def _grown(plan: Plan, volume: Volume, seen: volume_seen.Seen, running: Running) -> Plan | None:
    """A disk that grows under a machine that runs: the machine holds its lock, and its hypervisor tells the guest.

    None for a volume that the running machine does not have.
    """
    from ansible_collections.microvm.host.plugins.module_utils._machines import live_steps

    if running.disks is None:
        text = "the machine %s runs with another definition than this host has of it" % plan.name
        raise HostError("conflict", text, "restart it before its disks change", field=volume.prefix + "size")
    index = next((index for index, disk in enumerate(running.disks) if disk["volume"] == volume.name), -1)
    if index < 0:
        return None
    if running.disks[index]["read_only"]:
        text = "volume %s is read only for the machine %s, which runs" % (volume.name, plan.name)
        raise HostError("in_use", text, "stop the machine first", field=volume.prefix + "size")
    row = seen.rows[volume.name]
    size = seen.whole(row["backend"], volume.size or 0)
    if size < row["size"]:
        text = "volume %s has %d bytes, %d are asked for" % (volume.name, row["size"], size)
        raise HostError("conflict", text, "a disk is made smaller by storage_volume only", field=volume.prefix + "size")
    volume_refusals.down(seen, row["backend"], "grow volume %s" % volume.name)
    volume_refusals.gone(volume.name, row, seen.at(row["backend"], volume.name))
    volume_refusals.too_large(volume, seen, row["backend"], size)
    beside = seen.store(row["backend"])
    part = Plan(volume.name, {"size": row["size"]}, {"size": size})
    part.steps += beside.lengthen(volume.name, row["uuid"], (row["size"], size), plan.seconds)
    told = (plan.name, running.kind, "disk%d" % index, beside.disk(volume.name), size)
    part.steps.append(live_steps.TellGuest(*told))

    def commit(connection: sqlite3.Connection, known: Known) -> None:
        connection.execute("UPDATE volumes SET size = ? WHERE name = ?", (size, volume.name))

    part.commit = commit
    return part


def delete(plan: Plan, config: Config, seen: volume_seen.Seen) -> list[Plan]:
    """What deletes the volumes that a machine writes to, into its plan; returns whose rows to commit."""
    seen.without(plan.name, places.holder(plan.name))
    parts = []
    for name in written(config):
        if name in seen.rows:
            part = volumes.Volumes().plan(Volume(name, "absent", int(plan.seconds)), seen)
            plan.steps += part.steps
            plan.locks += ("volume/" + name,)
            plan.before.setdefault("volumes", {})[name] = part.before.get("size")
            parts.append(part)
    return parts
