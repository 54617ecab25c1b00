# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource of the module storage_volume. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan, Record
from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import (
    kinds,
    volume_changes,
    volume_options,
    volume_refusals,
    volume_report,
    volume_seen,
)
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_seen import Seen

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds


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
        seconds, found = volume_seen.LOOK_SECONDS, []
        for index, looked in deadline.Sweep(stores, lambda each: each[1].looks([], True), seconds, large=True):
            made_from = volume_report.images(looked or {})
            found += ["%s:%s" % (stores[index][0], key) for key, users in made_from.items() if not users]
        return sorted(found)

    def removal(self, name: str) -> Volume:
        """See Resource."""
        return Volume(name, "absent", 60, backend=name.partition(":")[0])

    def observe(self, wanted: t.Sequence[Volume]) -> Seen:
        """See Resource."""
        return Seen(wanted, self.hung)

    def plan(self, wanted: Volume, seen: Seen) -> Plan:
        """See Resource."""
        found = self._plan(wanted, seen)
        volume_refusals.read_only(wanted, seen, found)
        return found

    def _plan(self, wanted: Volume, seen: Seen) -> Plan:
        row = seen.rows.get(wanted.name)
        if wanted.state == "absent":
            from ansible_collections.microvm.host.plugins.module_utils._storage import volume_removal

            return volume_removal.absent(wanted, seen, row)
        backend = seen.backend_of(wanted)
        if backend is None or backend not in seen.backends:
            return self._without_backend(wanted, backend)
        if row is not None and row["backend"] == backend:
            return volume_changes.existing(wanted, seen, row)
        there = seen.at(backend, wanted.name)
        if row is None:
            volume_refusals.down(seen, backend, "make or find volume %s" % wanted.name)
            volume_refusals.broken(there)
            if "size" in there:
                return volume_changes.adopted(wanted, seen, backend, there)
        from ansible_collections.microvm.host.plugins.module_utils._storage import volume_making

        if row is None:
            return volume_making.new(wanted, seen, backend, there)
        return volume_making.moved(wanted, seen, row, backend)

    def _without_backend(self, wanted: Volume, backend: str | None) -> Plan:
        """A backend that is not there: an earlier task of a play in check mode would have made it."""
        text = "no backend %s is registered on this host" % backend if backend else "this host has no default backend"
        after = {"backend": backend, **({"size": wanted.size} if wanted.size else {}), **volume_changes.asked(wanted)}
        return Plan(
            wanted.name,
            {},
            after,
            [Record("make volume %s" % wanted.name)],
            assumes=[HostError("not_found", text, "add it with storage_backend", field=wanted.prefix + "backend")],
        )

    def without(self, failed: t.AbstractSet[str], seen: Seen) -> bool:
        """See Resource."""
        return False

    def report(self, wanted: Volume, seen: Seen) -> dict[str, t.Any]:
        """See Resource."""
        row = seen.rows.get(wanted.name)
        if row is None:
            return {"state": wanted.state}
        beside = seen.store(row["backend"])
        return volume_report.described(row, beside, seen.looks[row["backend"]])

    def remarks(self, wanted: Volume, seen: Seen) -> list[str]:
        """See Resource."""
        row = seen.rows.get(wanted.name)
        if row is None:
            return []
        looked = seen.looks[row["backend"]]
        if looked["status"] == "ok":
            return []
        return ["backend %s %s" % (row["backend"], volume_report.wrong_with(looked))]

    def kinds(self) -> Kinds:
        """See Resource."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import volume_steps

        return volume_steps.KINDS
