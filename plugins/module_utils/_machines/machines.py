# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource of the module microvm. Private to microvm.host."""

from __future__ import annotations

import os
import sqlite3
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, ReloadUnits
from ansible_collections.microvm.host.plugins.module_utils._core.resource import with_tool
from ansible_collections.microvm.host.plugins.module_utils._host import names, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import (
    definition,
    disks,
    exclusive,
    places,
    told,
)
from ansible_collections.microvm.host.plugins.module_utils._machines.checks import Checks
from ansible_collections.microvm.host.plugins.module_utils._machines.seen import Seen, registered
from ansible_collections.microvm.host.plugins.module_utils._machines.wanted import Wanted
from ansible_collections.microvm.host.plugins.module_utils._storage import volumes

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool


class Machines:
    """The microVMs of this host. ``tool`` gives the host tool, which stops them."""

    name = "machine"

    def __init__(self, tool: t.Callable[[], Tool]) -> None:
        self.tool = tool
        self.hung: set[str] = set()
        self._checks = Checks()

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> Wanted:
        """See Resource."""
        if item.get("name") is None:
            raise HostError("invalid", "%sname is required" % prefix, field=prefix + "name")
        name = definition.name_of(item["name"], prefix + "name")
        seconds = int(item["timeout"])
        if not 1 <= seconds <= 3600:
            names.refuse(prefix + "timeout", "%d is not within 1 to 3600 seconds" % seconds)
        config = None
        if definition.given_of(given) and item["state"] != "absent":
            config = definition.asked(item, name, prefix)
        keeps = given.get("shares") is None
        delete = bool(item["delete_volumes"])
        if delete and item["state"] != "absent":
            names.refuse(prefix + "delete_volumes", "the volumes of a machine go with it", "give state: absent too")
        taking = disks.Taking(bool(item["adopt"]), bool(item["takeover"]))
        return Wanted(name, item["state"], seconds, prefix, config, keeps, item["restart"], delete, taking)

    def together(self, wanted: t.Sequence[Wanted]) -> None:
        """See Resource."""
        configs = {each.name: each.config for each in wanted if each.config is not None}
        for each in wanted:
            if each.config is not None:
                before = {name: config for name, config in configs.items() if name < each.name}
                exclusive.refuse(each.config, before, each.prefix)

    def registered(self) -> list[str]:
        """See Resource."""
        return sorted({*registered(), *places.left_behind()})  # of one whose first start failed there are logs

    def removal(self, name: str) -> Wanted:
        """See Resource."""
        return Wanted(name, "absent", 60, "", None)

    def observe(self, wanted: t.Sequence[Wanted]) -> Seen:
        """See Resource."""
        seen = Seen(each.name for each in wanted)
        seen.look_at([volume for each in wanted for volume in each.to_look_at(seen)], self.hung)
        return seen

    def plan(self, wanted: Wanted, seen: Seen) -> Plan:
        """See Resource."""
        if wanted.state == "absent":
            return self._absent(wanted, seen)
        from ansible_collections.microvm.host.plugins.module_utils._machines.making import Making

        plan = Making(wanted, seen).plan(self._checks)
        with_tool(plan, seen.tool(self.tool))
        return plan

    def _absent(self, wanted: Wanted, seen: Seen) -> Plan:
        from ansible_collections.microvm.host.plugins.module_utils._machines import live_steps, made_steps

        name, row = wanted.name, seen.rows.get(wanted.name)
        there, left = seen.files[name], places.left_by_starts(name)
        if row is None and not there and not left:
            return Plan(name, {}, {})
        config = {**definition.DEFAULTS, **(row["config"] if row else {})}
        before = dict(told.facets(config, row["kind"], row["accelerator"]), status=seen.status(name)) if row else {}
        plan = Plan(name, before, {}, seconds=wanted.timeout)
        if not row:
            plan.before["files"] = [*sorted(there), *left]
        if name in seen.active:
            kind = row["kind"] if row else "qemu"
            plan.steps.append(live_steps.StopMachine(name, kind, float(config["stop_timeout"]), False))
        autostarted = os.path.islink(places.autostart_link(name))
        nonce = uuid.uuid4().hex[:8]
        previous: dict[str, str | None] = dict(there)
        units = sorted(os.path.basename(path) for path in there if os.path.dirname(path) == systemd.DIRECTORY)
        plan.steps += [
            made_steps.WriteMachine(name, {}, previous, False, autostarted, nonce),
            ReloadUnits(),
            made_steps.RemoveMachine(name, units),
        ]
        parts = disks.delete(plan, config, seen.stored) if wanted.delete_volumes else []

        def commit(connection: sqlite3.Connection, known: Known) -> None:
            for part in parts:
                if part.commit is not None:
                    part.commit(connection, known)
            connection.execute("DELETE FROM machines WHERE name = ?", (name,))
            told.stopped(plan, known)

        plan.commit = commit
        return plan

    def without(self, failed: t.AbstractSet[str], seen: Seen) -> bool:
        """See Resource."""
        return False

    def report(self, wanted: Wanted, seen: Seen) -> dict[str, t.Any]:
        """See Resource."""
        found: dict[str, t.Any] = {"state": wanted.state, "status": seen.status(wanted.name)}
        row = seen.rows.get(wanted.name)
        return dict(found, **told.machine(row, seen)) if row else found

    def remarks(self, wanted: Wanted, seen: Seen) -> list[str]:
        """See Resource."""
        silent = wanted.state != "absent" and seen.status(wanted.name) == "unreachable"
        return ["it runs, but its hypervisor does not answer"] if silent else []

    def kinds(self) -> Kinds:
        """See Resource."""
        from ansible_collections.microvm.host.plugins.module_utils._machines import steps

        return {**volumes.Volumes().kinds(), **steps.KINDS, **self.tool().KINDS}
