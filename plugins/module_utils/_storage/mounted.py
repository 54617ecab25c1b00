# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of backends that are files on a mounted file system. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan
from ansible_collections.microvm.host.plugins.module_utils._storage import kinds, mount, mount_report, observed
from ansible_collections.microvm.host.plugins.module_utils._storage.filesystems import FileSystem

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._storage.store import Store


class OnMount:
    """Backends of one kind of file system, each on a mount that the backend is a user of."""

    BOOTS = True

    def __init__(self, system: FileSystem) -> None:
        self.system = system

    def asked(self, item: dict[str, t.Any], prefix: str) -> dict[str, t.Any]:
        """See Kind."""
        return self.system.asked(item, prefix, item.get("read_only"))

    def secret(self, item: dict[str, t.Any], prefix: str) -> t.Any:
        """See Kind."""
        given = getattr(self.system, "given", None)
        return given(item, prefix) if given else None

    def identity(self, config: dict[str, t.Any]) -> str:
        """See Kind."""
        return self.system.identity(config)

    def looked_at(self, row: registry.Row, seen: observed.Seen, leaving: bool) -> list[str]:
        """See Kind."""
        found = None if leaving else seen.of("backend:" + row["name"])
        return [found["path"]] if found else []

    def taken_by(self, row: registry.Row, seen: observed.Seen) -> str:
        """See Kind: hosts share it, and take its volumes one by one."""
        return ""

    def present(self, wanted: kinds.Backend, seen: observed.Seen, row: registry.Row | None) -> Plan:
        """See Kind."""
        use = self._use(wanted, seen, row)
        current = seen.of(use.user)
        moves = current is not None and self.identity(current["asked"]) != self.identity(use.asked)
        if moves and not seen.volumes.get(wanted.name):
            use = dataclasses.replace(use, marker="any")
        if row is not None and current is not None:
            kinds.refuse_swapped(row, seen.looks.get(current["path"], {}), current["path"])
        part = mount.present(use, seen)
        part.before.pop("persistent", None)
        part.after.pop("persistent", None)
        return mount.planned(wanted.name, use, part)

    def proven(self, wanted: kinds.Backend, seen: observed.Seen, row: registry.Row | None) -> Plan:
        """See Kind."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_password

        return mount_password.proven(wanted.name, self._use(wanted, seen, row))

    def _use(self, wanted: kinds.Backend, seen: observed.Seen, row: registry.Row | None) -> mount.Use:
        config = wanted.config or {}
        use = mount.Use(
            user="backend:" + wanted.name,
            asked=config,
            mounted=wanted.enabled,
            persistent=wanted.enabled,
            patient=True,
            path="",
            base=wanted.base or mount.BASE,
            prefix=wanted.name,
            probe="read" if self.system.parsed(config).read_only else "write",
            marker=row["uuid"] if row else "any",
            seconds=wanted.timeout,
            secret=wanted.secret,
        )
        return mount.settled(use, seen)

    def absent(self, wanted: kinds.Backend, seen: observed.Seen, row: registry.Row) -> Plan:
        """See Kind."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_changes

        plan = mount_changes.ended(wanted.name, "backend:" + wanted.name, seen, wanted.timeout)
        plan.before.pop("persistent", None)
        return plan

    def described(self, row: registry.Row, seen: observed.Seen) -> dict[str, t.Any]:
        """See Kind."""
        used = seen.of("backend:" + row["name"])
        if used is None:
            return {}
        found = mount_report.described(used, seen, True)
        return {key: value for key, value in found.items() if key not in ("persistent", "state")}

    def remarks(self, row: registry.Row, seen: observed.Seen) -> list[str]:
        """See Kind."""
        used = seen.of("backend:" + row["name"])
        return mount_report.remarks(used, seen) if used else []

    def store(self, row: registry.Row, seen: observed.Seen) -> Store:
        """See Kind."""
        from ansible_collections.microvm.host.plugins.module_utils._storage.file_store import (
            FileStore,
        )  # only volumes need it

        used = seen.of("backend:" + row["name"])
        return FileStore(row, used["path"] if used else "")

    def capabilities(self, config: dict[str, t.Any], known: Known) -> list[str]:
        """See Kind."""
        return kinds.capable(known, external=True)
