# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource of the module virtiofs_share: one share of a machine. Private to microvm.host.

A share is a part of its machine's definition; to add or remove one is to change that. Items of one call that are of one
machine build on each other, in their order.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import journal
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import definition, machines, overlays, places, told
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import Config
from ansible_collections.microvm.host.plugins.module_utils._machines.seen import Seen as Machines
from ansible_collections.microvm.host.plugins.module_utils._machines.wanted import Wanted as Machine
from ansible_collections.microvm.host.plugins.module_utils._shares import definition as shares

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A validated item. ``share`` None: it shall not be there."""

    name: str
    state: str
    timeout: int
    prefix: str
    vm: str
    tag: str
    share: shares.Share | None


class Seen:
    """``machines`` are those of a call's shares, and become what earlier items of the call make of them. ``rows`` are
    the machines as they are.
    """

    def __init__(self, wanted: t.Sequence[Wanted]) -> None:
        self.machines = Machines(each.vm for each in wanted)
        self.rows = dict(self.machines.rows)
        self.unsettled = {row["name"] for row in journal.left_open() if row["resource"] == machines.Machines.name}

    def share(self, vm: str, tag: str) -> shares.Share | None:
        """A share as it is registered."""
        row = self.rows.get(vm)
        found = row["config"]["shares"] if row else []
        return next((share for share in found if share["tag"] == tag), None)


class Shares:
    """The shares of this host's machines, one at a time."""

    name = "machine_share"

    def __init__(self, tool: t.Callable[[], Tool]) -> None:
        self.machines = machines.Machines(tool)

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> Wanted:
        """See Resource."""
        for option in ("vm", "tag"):
            if item.get(option) is None:
                raise HostError("invalid", "%s%s is required" % (prefix, option), field=prefix + option)
        vm = definition.name_of(item["vm"], prefix + "vm")
        seconds = int(item["timeout"])
        if not 1 <= seconds <= 3600:
            names.refuse(prefix + "timeout", "%d is not within 1 to 3600 seconds" % seconds)
        share = None
        if item["state"] == "present":
            if item.get("source") is None:
                hint = "a directory of the host, or one below %s" % places.directory(vm)
                raise HostError("invalid", "%ssource is required" % prefix, hint, field=prefix + "source")
            share = shares.asked(item, prefix, places.directory(vm))
        tag = share["tag"] if share else names.name(item["tag"], prefix + "tag", shares.LONGEST_TAG["virtiofs"])
        return Wanted(vm + told.SEPARATOR + tag, item["state"], seconds, prefix, vm, tag, share)

    def together(self, wanted: t.Sequence[Wanted]) -> None:
        """See Resource."""

    def registered(self) -> list[str]:
        """See Resource. There is no purge: the option shares of the module microvm is the full list of a machine's."""
        return []

    def removal(self, name: str) -> Wanted:
        """See Resource."""
        vm, dummy, tag = name.partition(told.SEPARATOR)
        return Wanted(name, "absent", 60, "", vm, tag, None)

    def observe(self, wanted: t.Sequence[Wanted]) -> Seen:
        """See Resource."""
        return Seen(wanted)

    def plan(self, wanted: Wanted, seen: Seen) -> Plan:
        """See Resource."""
        from ansible_collections.microvm.host.plugins.module_utils._machines import made_steps

        row = seen.machines.rows.get(wanted.vm)
        if row is None:
            if wanted.share is None:
                return Plan(wanted.name, {}, {})
            text = "there is no machine %s" % wanted.vm
            raise HostError("not_found", text, "define it first: microvm.host.microvm", field=wanted.prefix + "vm")
        if wanted.vm in seen.unsettled:
            text = "a run that changed the machine %s did not end" % wanted.vm
            raise HostError("busy", text, "wait for it, or run microvm.host.microvm for that machine: it settles it")
        before = next((share for share in row["config"]["shares"] if share["tag"] == wanted.tag), None)
        config = self._changed(row["config"], wanted)
        definition.refuse_impossible(config, wanted.vm, wanted.prefix)
        try:
            overlays.refuse_unfounded(config["overlays"], config["shares"], "")
        except HostError as error:
            raise error.in_field(wanted.prefix + "tag") from None
        machine = Machine(wanted.vm, "present", wanted.timeout, wanted.prefix, config, prepares=False)
        plan = self.machines.plan(machine, seen.machines)
        seen.machines.rows[wanted.vm] = {**row, "config": config}
        for step in plan.steps:
            if isinstance(step, made_steps.WriteMachine):
                seen.machines.files[wanted.vm] = step.texts
        kept = ("units", "tool")
        return dataclasses.replace(
            plan,
            name=wanted.name,
            before=dict(before or {}, **{key: plan.before[key] for key in kept if key in plan.before}),
            after=dict(wanted.share or {}, **{key: plan.after[key] for key in kept if key in plan.after}),
            locks=("machine/" + wanted.vm,),
        )

    def _changed(self, config: Config, wanted: Wanted) -> Config:
        """The machine's definition with this share, in its place when it has one."""
        found = list(config["shares"])
        at = next((index for index, share in enumerate(found) if share["tag"] == wanted.tag), len(found))
        found[at : at + 1] = [wanted.share] if wanted.share else []
        return {**definition.DEFAULTS, **config, "shares": found}

    def without(self, failed: t.AbstractSet[str], seen: Seen) -> bool:
        """See Resource."""
        return False

    def report(self, wanted: Wanted, seen: Seen) -> dict[str, t.Any]:
        """See Resource."""
        found: dict[str, t.Any] = {"state": wanted.state, "vm": wanted.vm, "tag": wanted.tag}
        share = seen.share(wanted.vm, wanted.tag)
        row = seen.rows.get(wanted.vm)
        if row:
            found["restart_required"] = seen.machines.outdated(wanted.vm, row["config"])
        return dict(found, **told.share(wanted.vm, share)) if share else found

    def remarks(self, wanted: Wanted, seen: Seen) -> list[str]:
        """See Resource."""
        return []

    def kinds(self) -> Kinds:
        """See Resource."""
        return self.machines.kinds()
