# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource of the module storage_volume. Private to microvm.host."""

from __future__ import annotations

import functools
import sqlite3
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, Record
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, lease
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import (
    image,
    kinds,
    observed,
    probe,
    standby,
    store,
    users,
    volume_options,
)
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds

LOOK_SECONDS = 15.0
"""How long a backend may take to tell of its volumes; an item's timeout, when that is shorter."""
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


class Seen:
    """The registered volumes and backends, and what a look at each backend and image in question gave."""

    def __init__(self, wanted: t.Sequence[Volume], hung: set[str]) -> None:
        with registry.reading() as connection:
            self.rows = {row["name"]: row for row in registry.rows(connection, "SELECT * FROM volumes")}
            self.users = users.of_volumes(connection)
        self.mounts = observed.Seen(lambda seen: [], 0)
        self.backends = self.mounts.backends
        self.default = next((name for name, row in self.backends.items() if row["is_default"]), None)
        self.looks: dict[str, store.Look] = {}
        self.images: dict[str, dict[str, t.Any]] = {}
        seconds = min([LOOK_SECONDS, *(float(each.timeout) for each in wanted)])
        asked: dict[str, list[str]] = {}
        for each in wanted:
            for backend in sorted({self.backend_of(each) or "", self.rows.get(each.name, {}).get("backend", "")}):
                if backend in self.backends:
                    asked.setdefault(backend, []).append(each.name)
        self._look(asked, hung, seconds)
        self._look_at_images([each for each in wanted if each.state == "present"], seconds)

    def _look(self, asked: dict[str, list[str]], hung: set[str], seconds: float) -> None:
        self.looks = {backend: {"status": "unreachable"} for backend in asked}
        todo = []
        for backend, owned in asked.items():
            beside = kinds.store_of(self.backends[backend], self.mounts)
            if beside is None:
                self.looks[backend] = {"status": "unsupported"}
            elif backend not in hung:
                todo.append((backend, beside, owned))

        def look(each: tuple[str, store.Store, list[str]]) -> store.Look:
            return each[1].looks(each[2], everything=False)

        for index, answer in deadline.Sweep(todo, look, seconds, large=True):
            if answer is None:
                hung.add(todo[index][0])
            else:
                self.looks[todo[index][0]] = answer

    def _look_at_images(self, wanted: t.Sequence[Volume], seconds: float) -> None:
        """Images of volumes that are yet to be made."""
        todo = []
        for each in wanted:
            backend = self.backend_of(each)
            if each.name in self.rows or each.image is None or each.image.volume:
                continue
            if backend is None or backend not in self.backends:
                continue
            if self.looks[backend]["status"] == "ok" and "size" not in self.at(backend, each.name):
                beside = self.store(backend)
                try:
                    path = each.image.path if each.image.path.startswith("/") else beside.inside(each.image.path)
                except HostError as error:
                    self.images[each.name] = {"error": error.message, "kind": error.kind, "hint": error.hint}
                    continue
                todo.append((each.name, path, each.image.format, beside.disk(each.name)))
        for index, answer in deadline.Sweep(todo, image.look, seconds):
            self.images[todo[index][0]] = answer or {"error": "%s does not answer" % todo[index][1]}

    def backend_of(self, wanted: Volume) -> str | None:
        """The name of the backend that a volume shall be on."""
        row = self.rows.get(wanted.name)
        return wanted.backend or (row["backend"] if row else self.default)

    def store(self, backend: str) -> store.Store:
        """Where the volumes of a registered backend are. Raises ``unsupported`` when its kind takes none."""
        found = kinds.store_of(self.backends[backend], self.mounts)
        if found is None:
            raise HostError("unsupported", "backend %s %s" % (backend, DOWN["unsupported"]), "choose another backend")
        return found

    def whole(self, backend: str, size: int) -> int:
        """The least size that a disk on the backend can have and hold ``size`` bytes."""
        grain = self.looks.get(backend, {}).get("grain", 1)
        return int(-(-size // grain) * grain)

    def at(self, backend: str, name: str) -> dict[str, t.Any]:
        """What a look found of one volume; empty when there was no look."""
        found: dict[str, t.Any] = self.looks.get(backend, {}).get("volumes", {}).get(name, {})
        return found

    def without(self, machine: str, holder: str) -> None:
        """Leave out that a machine has volumes, and holds them under this name: it goes, or was stopped by then."""
        for each in self.users.values():
            each.discard(machine)
        for looked in self.looks.values():
            for there in looked.get("volumes", {}).values():
                held = there.get("holder") or {}
                if (held.get("holder"), held.get("host")) == (holder, probe.host_mark()):
                    there["holder"] = {}


class Volumes:
    """The volumes of this host."""

    name = "volume"

    def __init__(self) -> None:
        self.hung: set[str] = set()

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> Volume:
        """See Resource."""
        return volume_options.validated(item, prefix)

    def together(self, wanted: t.Sequence[Volume]) -> None:
        """See Resource."""

    def registered(self) -> list[str]:
        """Purged are no volumes but images that no volume was made from; their names are BACKEND:KEY."""
        seen = Seen([], self.hung)
        every = [(name, kinds.store_of(seen.backends[name], seen.mounts)) for name in sorted(seen.backends)]
        stores = [(name, beside) for name, beside in every if beside is not None]
        found = []
        for index, looked in deadline.Sweep(
            stores, lambda each: each[1].looks([], everything=True), LOOK_SECONDS, large=True
        ):
            found += ["%s:%s" % (stores[index][0], key) for key, users in images(looked or {}).items() if not users]
        return sorted(found)

    def removal(self, name: str) -> Volume:
        """See Resource."""
        return Volume(name, "absent", 60, backend=name.partition(":")[0])

    def observe(self, wanted: t.Sequence[Volume]) -> Seen:
        """See Resource."""
        return Seen(wanted, self.hung)

    def plan(self, wanted: Volume, seen: Seen) -> Plan:
        """See Resource."""
        row = seen.rows.get(wanted.name)
        if wanted.state == "absent":
            return self._absent(wanted, seen, row)
        backend = seen.backend_of(wanted)
        if backend is None or backend not in seen.backends:
            return self._without_backend(wanted, backend)
        if row is None:
            there = seen.at(backend, wanted.name)
            _refuse_down(seen, backend, "make or find volume %s" % wanted.name)
            _refuse_broken(there)
            if "size" in there:
                return self._adopted(wanted, seen, backend, there)
            return self._new(wanted, seen, backend, there)
        if row["backend"] != backend:
            return self._moved(wanted, seen, row, backend)
        return self._existing(wanted, seen, row)

    def _without_backend(self, wanted: Volume, backend: str | None) -> Plan:
        """A backend that is not there: an earlier task of a play in check mode would have made it."""
        text = "no backend %s is registered on this host" % backend if backend else "this host has no default backend"
        after = {"backend": backend, **({"size": wanted.size} if wanted.size else {})}
        return Plan(
            wanted.name,
            {},
            after,
            [Record("make volume %s" % wanted.name)],
            assumes=[HostError("not_found", text, "add it with storage_backend", field=wanted.prefix + "backend")],
        )

    def _new(self, wanted: Volume, seen: Seen, backend: str, there: dict[str, t.Any]) -> Plan:
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
            raise _no_snapshot(wanted)
        source, assumes = self._source(wanted, seen)
        size = seen.whole(backend, wanted.size or (source.size if source else 0))
        if source is not None and size < source.size:
            raise HostError(
                "invalid",
                "%ssize: %d bytes are less than the image has (%d)" % (wanted.prefix, size, source.size),
                "give it that size or more",
                field=wanted.prefix + "size",
            )
        identity = str(uuid.uuid4())
        about = {"created": _now(), **({"image": wanted.image.asked} if wanted.image else {})}
        if source is not None and source.key:
            about["key"] = source.key
        making = store.Making(wanted.name, identity, size, source, wanted.filesystem, about)
        beside = seen.store(backend)
        beside.refuse_names(wanted.name, wanted.snapshots or (), wanted.prefix)
        plan = self._plan(wanted, {}, {"backend": backend, "size": size})
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
        plan.commit = functools.partial(_store, wanted, {}, backend, size, identity)
        return plan

    def _source(self, wanted: Volume, seen: Seen) -> tuple[store.Source | None, HostError | None]:
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

    def _adopted(self, wanted: Volume, seen: Seen, backend: str, there: dict[str, t.Any]) -> Plan:
        label = there["label"]
        if not wanted.adopt:
            whose = "it is that of %s" % label["hostname"] if label else "it carries no label"
            raise HostError(
                "conflict",
                "backend %s has a volume %s already: %s" % (backend, wanted.name, whose),
                "adopt: true makes it this host's; or choose another name",
                field=wanted.prefix + "name",
            )
        beside = seen.store(backend)
        plan = self._plan(wanted, {}, {"backend": backend, "size": there["size"]})
        new = label["uuid"] if label else str(uuid.uuid4())
        plan.steps += beside.adopt(wanted.name, label, new, wanted.takeover, wanted.timeout)
        _refuse_held(wanted, there)
        inner = wanted.filesystem["type"] if wanted.filesystem else None
        self._changes(wanted, seen, backend, new, there["size"], inner, plan)
        plan.commit = functools.partial(_store, wanted, {}, backend, plan.after["size"], new)
        return plan

    def _existing(self, wanted: Volume, seen: Seen, row: registry.Row) -> Plan:
        backend = row["backend"]
        there = seen.at(backend, wanted.name)
        plan = self._plan(wanted, {"backend": backend}, {"backend": backend})
        config = row["config"]
        if wanted.image and config.get("image") not in (None, wanted.image.asked):
            text = "it was made from %s and stays as it is; the image is for new volumes" % config["image"]
            plan.warnings.append(text)
        before = (config.get("filesystem") or {}).get("type")
        if wanted.filesystem and before and wanted.filesystem["type"] != before:
            text = "volume %s was made with %s" % (wanted.name, before)
            raise HostError("conflict", text, "a file system is not replaced", field=wanted.prefix + "filesystem")
        if seen.looks[backend]["status"] != "ok":
            if (wanted.size or 0) > row["size"] or wanted.shrink or wanted.restore:
                _refuse_down(seen, backend, "change volume %s" % wanted.name)
            return plan
        _refuse_gone(wanted.name, row, there)
        inner = wanted.filesystem["type"] if wanted.filesystem else before
        self._changes(wanted, seen, backend, row["uuid"], row["size"], inner, plan)
        if plan.steps:
            _refuse_held(wanted, there)
        if wanted.filesystem and not before:
            plan.before["filesystem"], plan.after["filesystem"] = None, wanted.filesystem["type"]
            plan.steps.append(Record("know that volume %s holds %s" % (wanted.name, wanted.filesystem["type"])))
        plan.commit = functools.partial(_store, wanted, config, backend, plan.after["size"], row["uuid"])
        return plan

    def _changes(
        self,
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
        kept, declared = (
            set(there["snapshots"]),
            set(there["snapshots"] if wanted.snapshots is None else wanted.snapshots),
        )
        size = there["size"] if wanted.size is None else seen.whole(backend, wanted.size)
        for snapshot in sorted(declared - kept):
            plan.steps += beside.snapshot(wanted.name, identity, snapshot, takeover, seconds)
        if wanted.restore:
            if wanted.restore not in kept:
                raise _no_snapshot(wanted)
            plan.steps += beside.restore(wanted.name, identity, wanted.restore, size, takeover, seconds)
            plan.before["content"], plan.after["content"] = "as it is", "snapshot %s" % wanted.restore
        if size < there["size"] and not wanted.shrink:
            raise HostError(
                "conflict",
                "volume %s has %d bytes, %d are asked for" % (wanted.name, there["size"], size),
                "a disk is made smaller only with shrink: true; what does not fit is lost",
                field=wanted.prefix + "size",
            )
        if size != there["size"] or size != known:
            plan.steps += beside.resize(wanted.name, identity, (there["size"], size), inner, takeover, seconds)
        for snapshot in sorted(kept - declared):
            plan.steps += beside.delete_snapshot(wanted.name, identity, snapshot, takeover, seconds)
        if plan.before:
            plan.before.update(size=known, snapshots=sorted(kept))
        plan.after.update(size=size, snapshots=sorted(declared))

    def _moved(self, wanted: Volume, seen: Seen, row: registry.Row, backend: str) -> Plan:
        if not wanted.move:
            raise HostError(
                "conflict",
                "volume %s is on backend %s, not on %s" % (wanted.name, row["backend"], backend),
                "move: true takes it there",
                field=wanted.prefix + "backend",
            )
        for each in (row["backend"], backend):
            _refuse_down(seen, each, "move volume %s" % wanted.name)
        there, target = seen.at(row["backend"], wanted.name), seen.at(backend, wanted.name)
        _refuse_gone(wanted.name, row, there)
        if "size" in target or target.get("label"):
            text = "backend %s has a volume %s already" % (backend, wanted.name)
            raise HostError("conflict", text, "remove that first", field=wanted.prefix + "backend")
        if there["snapshots"]:
            text = "volume %s has snapshots, which do not move: %s" % (wanted.name, ", ".join(there["snapshots"]))
            raise HostError("conflict", text, "remove them first: snapshots: []", field=wanted.prefix + "move")
        if wanted.restore:
            raise _no_snapshot(wanted)
        size = seen.whole(backend, wanted.size or there["size"])
        if size < there["size"]:
            text = "volume %s can't become smaller while it moves" % wanted.name
            raise HostError("conflict", text, "shrink it in a call of its own", field=wanted.prefix + "size")
        _refuse_held(wanted, there)
        identity = row["uuid"]
        steps, source = seen.store(row["backend"]).move_away(
            wanted.name, identity, there["size"], wanted.takeover, wanted.timeout
        )
        about = {key: there["label"][key] for key in ("created", "image") if key in there["label"]}
        making = store.Making(wanted.name, identity, size, source, wanted.filesystem, about)
        beside = seen.store(backend)
        beside.refuse_names(wanted.name, wanted.snapshots or (), wanted.prefix)
        plan = self._plan(wanted, {"backend": row["backend"], "size": row["size"]}, {"backend": backend, "size": size})
        plan.steps += steps + beside.provision(making, wanted.timeout)
        for snapshot in wanted.snapshots or ():
            plan.steps += beside.snapshot(wanted.name, identity, snapshot, False, wanted.timeout)
        if wanted.snapshots:
            plan.before["snapshots"], plan.after["snapshots"] = [], sorted(wanted.snapshots)
        plan.commit = functools.partial(_store, wanted, row["config"], backend, size, identity)
        return plan

    def _absent(self, wanted: Volume, seen: Seen, row: registry.Row | None) -> Plan:
        if row is None:
            return self._plan(wanted, {}, {}) if wanted.forget else self._absent_here(wanted, seen)
        refuse_used(wanted.name, seen.users.get(wanted.name, ()), {})
        backend = row["backend"]
        owner = seen.looks[backend].get("owner", "")
        if not (owner or wanted.forget):
            _refuse_down(seen, backend, "delete volume %s" % wanted.name, "; if it is gone for good, forget: true")
        there = seen.at(backend, wanted.name)
        plan = self._plan(wanted, {"backend": backend, "size": row["size"]}, {})
        if wanted.forget:
            _refuse_held(wanted, there)
            plan.steps.append(Record("forget volume %s, its data stays on backend %s" % (wanted.name, backend)))
        elif owner:
            _refuse_held(wanted, there)
            plan.steps.append(forgotten(wanted.name, backend, owner))
        elif _is_anothers(row, there):
            # What is there is not ours to delete; without this nobody could forget a volume that went elsewhere.
            whose = there["label"]["hostname"]
            plan.steps.append(Record("forget volume %s, which is that of %s now" % (wanted.name, whose)))
        elif "size" in there or there.get("label"):
            _refuse_broken(there)
            _refuse_other(wanted.name, row, there)
            _refuse_held(wanted, there)
            plan.before["snapshots"] = there["snapshots"]
            plan.steps += seen.store(backend).delete(wanted.name, row["uuid"], wanted.takeover, wanted.timeout)
        else:
            plan.steps.append(Record("forget volume %s, which is gone" % wanted.name))
        plan.commit = functools.partial(_forget, wanted.name)
        return plan

    def _absent_here(self, wanted: Volume, seen: Seen) -> Plan:
        """Not registered; but a volume of that name on the backend that is asked for may be somebody's."""
        backend, dummy, image_key = wanted.name.partition(":")
        if image_key:
            plan = self._plan(wanted, {"backend": backend, "image": image_key}, {})
            plan.steps += seen.store(backend).prune(image_key, wanted.timeout)
            return plan
        there = seen.at(wanted.backend, wanted.name) if wanted.backend else {}
        if "size" in there:
            whose = "that of %s" % there["label"]["hostname"] if there.get("label") else "not made by this collection"
            raise HostError(
                "conflict",
                "volume %s on backend %s is not registered on this host: it is %s"
                % (wanted.name, wanted.backend, whose),
                "adopt it first to delete it here",
                field=wanted.prefix + "name",
            )
        return self._plan(wanted, {}, {})

    def _plan(self, wanted: Volume, before: dict[str, t.Any], after: dict[str, t.Any]) -> Plan:
        return Plan(wanted.name, before, after, seconds=wanted.timeout)

    def without(self, failed: t.AbstractSet[str], seen: Seen) -> bool:
        """See Resource."""
        return False

    def report(self, wanted: Volume, seen: Seen) -> dict[str, t.Any]:
        """See Resource."""
        row = seen.rows.get(wanted.name)
        if row is None:
            return {"state": wanted.state}
        beside = seen.store(row["backend"])
        return described(row, beside, seen.looks[row["backend"]])

    def remarks(self, wanted: Volume, seen: Seen) -> list[str]:
        """See Resource."""
        row = seen.rows.get(wanted.name)
        if row is None:
            return []
        looked = seen.looks[row["backend"]]
        return [] if looked["status"] == "ok" else ["backend %s %s" % (row["backend"], _how(looked))]

    def kinds(self) -> Kinds:
        """See Resource."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import volume_steps

        return volume_steps.KINDS


def forgotten(name: str, backend: str, owner: str) -> Record:
    """The step of a volume whose backend went to another host, ``owner``: nothing there is this host's to delete."""
    return Record("forget volume %s: backend %s %s now, its data stays" % (name, backend, standby.told(owner)))


def refuse_used(name: str, machines: t.Collection[str], holder: dict[str, t.Any], more: str = "") -> None:
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


def refuse_unusable(wanted: Volume, seen: Seen) -> None:
    """Raise HostError unless a registered volume that was looked at is there, this host's, and held by nobody."""
    row = seen.rows[wanted.name]
    _refuse_down(seen, row["backend"], "use volume %s" % wanted.name)
    there = seen.at(row["backend"], wanted.name)
    _refuse_gone(wanted.name, row, there)
    _refuse_held(wanted, there)


def images(looked: store.Look) -> dict[str, list[str]]:
    """The images that a backend keeps, by key, and the volumes of all hosts that were made from each."""
    found: dict[str, list[str]] = {key: [] for key in looked.get("images", {})}
    for name, there in sorted(looked.get("volumes", {}).items()):
        key = (there["label"] or {}).get("key")
        if key in found:
            found[key].append(name)
    return found


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
        found.update({key: there[key] for key in ("allocated_bytes", "snapshots") if key in there})
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


def _how(looked: store.Look) -> str:
    """What is wrong with a backend that is not ok."""
    if looked["status"] == "standby":
        return standby.told(looked["owner"])
    return DOWN.get(looked["status"], "can't be read (%s)" % looked["status"])


def _refuse_down(seen: Seen, backend: str, doing: str, otherwise: str = "") -> None:
    looked = seen.looks[backend]
    status = looked["status"]
    if status == "ok":
        return
    kind = {"standby": "in_use", "foreign": "conflict"}.get(status, "unreachable")
    kind = status if status in ("stale", "refused", "unsupported") else kind
    hint = standby.hint(looked["owner"]) if status == "standby" else "see to the backend: storage_backend"
    raise HostError(kind, "can't %s: backend %s %s" % (doing, backend, _how(looked)), hint + otherwise)


def _refuse_broken(there: dict[str, t.Any]) -> None:
    if "broken" in there:
        raise HostError("conflict", there["broken"], "restore it from a backup, or move it out of the way")


def _refuse_gone(name: str, row: registry.Row, there: dict[str, t.Any]) -> None:
    _refuse_broken(there)
    if "size" not in there:
        raise HostError(
            "not_found",
            "the disk of volume %s is gone from backend %s" % (name, row["backend"]),
            "restore it from a backup; or remove the volume (state: absent) and make it anew",
        )
    _refuse_other(name, row, there)


def _is_anothers(row: registry.Row, there: dict[str, t.Any]) -> bool:
    """Whether another host took over a volume."""
    label = there.get("label") or {"uuid": ""}
    return bool(label["uuid"] == row["uuid"] and label["owner"] != probe.host_mark())


def _refuse_other(name: str, row: registry.Row, there: dict[str, t.Any]) -> None:
    label = there["label"]
    if label is None or label["uuid"] != row["uuid"]:
        text = "what is there as volume %s on backend %s is another one" % (name, row["backend"])
        raise HostError("conflict", text, "look at its label; was the backend restored from a backup?")
    if label["owner"] != probe.host_mark():
        text = "volume %s on backend %s was taken over by %s" % (name, row["backend"], label["hostname"])
        raise HostError("conflict", text, "adopt: true there and here in turn moves it between hosts")


def _refuse_held(wanted: Volume, there: dict[str, t.Any]) -> None:
    if not wanted.takeover:
        refuse_used(wanted.name, (), there.get("holder", {}), "; takeover: true if its host is dead for certain")


def _no_snapshot(wanted: Volume) -> HostError:
    text = "volume %s has no snapshot %s" % (wanted.name, wanted.restore)
    return HostError("not_found", text, "host_info lists them", field=wanted.prefix + "restore")


def _now() -> str:
    from ansible_collections.microvm.host.plugins.module_utils._storage.disks import now

    return now()


def _store(
    wanted: Volume,
    config: dict[str, t.Any],
    backend: str,
    size: int,
    identity: str,
    connection: sqlite3.Connection,
    known: Known,
) -> None:
    values = dict(config)
    if wanted.image and "image" not in values and not values.get("adopted"):
        values["image"] = wanted.image.asked
    if wanted.filesystem:
        values.setdefault("filesystem", wanted.filesystem)
    row = {"name": wanted.name, "backend": backend, "size": size, "uuid": identity, "config": values}
    registry.put(connection, "volumes", row)


def _forget(name: str, connection: sqlite3.Connection, known: Known) -> None:
    connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
