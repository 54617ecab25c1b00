# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource of the module iscsi_lvm. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
from ansible_collections.microvm.host.plugins.module_utils._core.resource import with_tool
from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import iscsi_lvm, observed, target

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds
    from ansible_collections.microvm.host.plugins.module_utils._core.plan import Step
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool


@dataclasses.dataclass(frozen=True)
class Target:
    """A validated item. ``use`` None: it is called by its name alone. ``check``: only prove the secret."""

    name: str
    state: str
    timeout: int
    use: target.Use | None
    check: bool


class Targets:
    """LUNs with volume groups on this host. ``tool`` gives the host tool, which logs in at boot."""

    name = "target"

    def __init__(self, tool: t.Callable[[], Tool]) -> None:
        self.tool = tool
        self.hung: set[str] = set()
        self._planned: tuple[str, str, list[Step]] | None = None

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> Target:
        """See Resource."""
        state, seconds = item["state"], names.seconds(item["timeout"], prefix + "timeout")
        name = names.name(item["name"], prefix + "name") if item.get("name") is not None else ""
        check = names.only_checked(item, prefix)
        if state == "absent" or (state == "logged_out" and item.get("iqn") is None):
            if not name and item.get("iqn") is None:
                raise HostError("invalid", "%sname is required" % prefix, "or iqn and lun", prefix + "name")
            return Target(name or _named(item), state, seconds, None, check)
        wanted = iscsi_lvm.asked(item, prefix)
        name = name or _named(item)
        use = target.Use(
            name=name,
            user="target:" + name,
            asked=wanted,
            secrets=iscsi_lvm.secrets(item, prefix),
            initialize=item.get("initialize") is not None,
            takeover=iscsi_lvm.takeover(item, prefix),
            logged_in=state == "present",
            seconds=seconds,
            prefix=prefix,
        )
        return Target(name, state, seconds, use, check)

    def together(self, wanted: t.Sequence[Target]) -> None:
        """See Resource."""
        refuse_contradictions([each.use for each in wanted if each.use is not None])

    def registered(self) -> list[str]:
        """See Resource."""
        with registry.reading() as connection:
            users = [row["user"] for row in registry.rows(connection, "SELECT user FROM targets ORDER BY user")]
        return [user[7:] for user in users if user.startswith("target:")]

    def removal(self, name: str) -> Target:
        """See Resource."""
        return Target(name, "absent", 30, None, False)

    def observe(self, wanted: t.Sequence[Target]) -> iscsi_lvm.Observed:
        """See Resource."""
        users = {"target:" + each.name for each in wanted}
        seconds = observed.look_seconds(each.timeout for each in wanted)
        self._planned = None  # what a dead run installed may be gone now
        return iscsi_lvm.Observed(seconds, users.__contains__, self.hung)

    def plan(self, wanted: Target, seen: iscsi_lvm.Observed) -> Plan:
        """See Resource."""
        user = "target:" + wanted.name
        if wanted.state == "absent":
            return target.absent(wanted.name, user, seen, wanted.timeout)
        use = wanted.use or _registered(wanted, seen)
        plan = target.proven(use, seen) if wanted.check else target.present(use, seen)
        if use.logged_in and not wanted.check:
            if self._planned is None:
                self._planned = self.tool().planned()
            with_tool(plan, self._planned)
        return plan

    def report(self, wanted: Target, seen: iscsi_lvm.Observed) -> dict[str, t.Any]:
        """See Resource."""
        user = "target:" + wanted.name
        row = seen.rows.get(user)
        found: dict[str, t.Any] = {"state": wanted.state, "status": "logged_out"}
        if row is not None:
            found.update(iscsi_lvm.described(row, seen.looks[user]))
        elif wanted.use is not None:
            found.update(target.facets(wanted.use.asked, False))
            del found["logged_in"]
        return found

    def without(self, failed: t.AbstractSet[str], seen: iscsi_lvm.Observed) -> bool:
        """See Resource."""
        return False

    def remarks(self, wanted: Target, seen: iscsi_lvm.Observed) -> list[str]:
        """See Resource."""
        row = seen.rows.get("target:" + wanted.name)
        return iscsi_lvm.remarks(row["asked"], seen.looks[row["user"]]) if row else []

    def kinds(self) -> Kinds:
        """See Resource."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import group_steps, steps

        return {**steps.KINDS, **group_steps.KINDS, **self.tool().KINDS}


def _named(item: dict[str, t.Any]) -> str:
    """The name of a target that was given none."""
    return names.slug("%s-%s" % (item["iqn"], item.get("lun") or 0))


def _registered(wanted: Target, seen: iscsi_lvm.Observed) -> target.Use:
    user = "target:" + wanted.name
    row = seen.rows.get(user)
    if row is None:
        text = "no target %s is registered on this host" % wanted.name
        raise HostError("not_found", text, "give portal, iqn and vg too", field="name")
    return target.Use(wanted.name, user, row["asked"], iscsi_lvm.Secrets(), False, "", False, wanted.timeout)


def refuse_contradictions(wanted: t.Sequence[target.Use]) -> None:
    """Raise ``invalid`` for items of one call that are the same LUN, or log in to one target in two ways."""
    luns: dict[str, str] = {}
    logins: dict[str, target.Use] = {}
    for each in wanted:
        identity = iscsi_lvm.identity(each.asked)
        if identity in luns:
            text = "%s and %s are the same LUN, %s" % (luns[identity], each.name, iscsi_lvm.shown(each.asked))
            raise HostError("invalid", text, "name each LUN once", field=each.prefix + "lun")
        luns[identity] = each.name
        first = logins.setdefault(each.asked["iqn"], each)
        for key in ("portals", "initiator_name", "username", "mutual_username"):
            if first.asked[key] != each.asked[key]:
                text = "%s and %s are LUNs of one target with different %s" % (first.name, each.name, key)
                raise HostError("invalid", text, "they share one session: give both the same", field=each.prefix + key)
        if first.secrets != each.secrets:
            text = "%s and %s are LUNs of one target with different passwords" % (first.name, each.name)
            hint = "they share one session: give both the same"
            raise HostError("invalid", text, hint, field=each.prefix + "password")
