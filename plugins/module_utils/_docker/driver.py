# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource of the module docker_volume_driver. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import os
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan, ReloadUnits
from ansible_collections.microvm.host.plugins.module_utils._core.resource import with_tool
from ansible_collections.microvm.host.plugins.module_utils._docker import units
from ansible_collections.microvm.host.plugins.module_utils._host import command, files, names, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool

NAME = "nfsd"
LOOK_SECONDS = 15.0


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A validated item."""

    name: str
    state: str
    timeout: int
    scope: str
    prime: bool


class Seen:
    """Units and links there are, what runs, how many volumes there are."""

    def __init__(self, tool: t.Callable[[], Tool]) -> None:
        self.tool = tool
        self.texts = {unit: files.text_of(units.path_of(unit)) for unit in units.ALL}
        self.linked = {unit: os.path.islink(units.link_of(unit)) for unit in units.ALL if units.link_of(unit)}
        self.listening, self.running = _states() if self.texts[units.SOCKET] is not None else (False, False)
        self.version = files.text_of(units.VERSION_FILE) if self.running else None
        with registry.reading() as connection:
            rows = registry.rows(connection, "SELECT name FROM docker_volumes ORDER BY name")
        self.volumes = [row["name"] for row in rows]

    def installed(self) -> dict[str, str]:
        """The units there are."""
        return {unit: text for unit, text in self.texts.items() if text is not None}


class Driver:
    """Docker's volume driver on this host. ``tool`` gives the host tool, of which it is a sub-command."""

    name = "docker"

    def __init__(self, tool: t.Callable[[], Tool]) -> None:
        self.tool = tool

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> Wanted:
        """See Resource."""
        seconds = int(item["timeout"])
        if not 1 <= seconds <= 3600:
            text = "%stimeout: %d is not within 1 to 3600 seconds" % (prefix, seconds)
            raise HostError("invalid", text, field=prefix + "timeout")
        if item["name"] != NAME:
            text = "%s is not the name of the driver" % names.shown(item["name"])
            names.refuse(prefix + "name", text, "there is one, %s" % NAME)
        return Wanted(NAME, item["state"], seconds, item["scope"], bool(item["prime"]))

    def together(self, wanted: t.Sequence[Wanted]) -> None:
        """See Resource."""

    def registered(self) -> list[str]:
        """See Resource."""
        return [NAME] if files.text_of(units.path_of(units.SOCKET)) is not None else []

    def removal(self, name: str) -> Wanted:
        """See Resource."""
        return Wanted(name, "absent", 15, "local", False)

    def observe(self, wanted: t.Sequence[Wanted]) -> Seen:
        """See Resource."""
        return Seen(self.tool)

    def plan(self, wanted: Wanted, seen: Seen) -> Plan:
        """See Resource."""
        return self._absent(wanted, seen) if wanted.state == "absent" else self._present(wanted, seen)

    def _present(self, wanted: Wanted, seen: Seen) -> Plan:
        from ansible_collections.microvm.host.plugins.module_utils._docker import steps

        if not systemd.running():
            raise HostError("unsupported", "systemd does not run on this host", "the driver is a service with a socket")
        texts = units.texts(wanted.scope, wanted.prime)
        there = seen.installed()
        plan = Plan(wanted.name, {}, {"scope": wanted.scope, "prime": wanted.prime}, seconds=wanted.timeout)
        if there:
            plan.before = {"scope": _scope(there), "prime": units.PRIME in there}
        linked = all(seen.linked[unit] for unit in texts if unit in seen.linked)
        if there != texts or not linked:
            plan.steps += [steps.WriteDriver(texts, seen.texts, uuid.uuid4().hex[:8]), ReloadUnits()]
            if plan.before == plan.after:
                plan.before["units"], plan.after["units"] = "edited", "written"
        planned = self.tool().planned()
        outdated = seen.running and seen.version != planned[1].rpartition("-")[2]
        if plan.before:
            plan.before["listening"], plan.after["listening"] = seen.listening, True
            if outdated:
                plan.before["running"], plan.after["running"] = seen.version, planned[1].rpartition("-")[2]
        if plan.steps or outdated or not seen.listening:
            plan.steps.append(steps.StartDriver(wanted.prime))
        with_tool(plan, planned)
        return plan

    def _absent(self, wanted: Wanted, seen: Seen) -> Plan:
        from ansible_collections.microvm.host.plugins.module_utils._docker import steps

        there = seen.installed()
        if not there:
            return Plan(wanted.name, {}, {})
        if seen.volumes:
            some = ", ".join(seen.volumes[:10]) + (", ..." if len(seen.volumes) > 10 else "")
            text = "the driver has %d volume(s): %s" % (len(seen.volumes), some)
            raise HostError("in_use", text, "remove them first: docker volume rm; what is on the servers stays")
        before = {"scope": _scope(there), "prime": units.PRIME in there, "listening": seen.listening}
        return Plan(wanted.name, before, {}, [steps.RemoveDriver(), ReloadUnits()], seconds=wanted.timeout)

    def without(self, failed: t.AbstractSet[str], seen: Seen) -> bool:
        """See Resource."""
        return False

    def report(self, wanted: Wanted, seen: Seen) -> dict[str, t.Any]:
        """See Resource."""
        there = seen.installed()
        found: dict[str, t.Any] = {"state": wanted.state, "status": "listening" if seen.listening else "stopped"}
        if there:
            found.update(scope=_scope(there), prime=units.PRIME in there)
        else:
            found["status"] = "absent"
        return dict(found, socket=units.ADDRESS, volumes=len(seen.volumes))

    def remarks(self, wanted: Wanted, seen: Seen) -> list[str]:
        """See Resource."""
        return []

    def kinds(self) -> Kinds:
        """See Resource."""
        from ansible_collections.microvm.host.plugins.module_utils._docker import steps

        return {**steps.KINDS, **self.tool().KINDS}


def _scope(there: dict[str, str]) -> str:
    return "global" if "--scope=global" in there.get(units.SERVICE, "") else "local"


def _states() -> tuple[bool, bool]:
    """Whether the socket listens and whether the service runs."""
    asked = ["systemctl", "show", "--property=ActiveState", units.SOCKET, units.SERVICE]
    text = command.run(asked, LOOK_SECONDS, writes=False)
    socket, service = (block.strip() == "ActiveState=active" for block in text.strip().split("\n\n"))
    return socket, service
