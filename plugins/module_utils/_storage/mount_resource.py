# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource of the modules nfs_export_mount and smb_share. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
from ansible_collections.microvm.host.plugins.module_utils._core.resource import with_tool
from ansible_collections.microvm.host.plugins.module_utils._host import names, secret
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import mount, mount_report, observed
from ansible_collections.microvm.host.plugins.module_utils._storage.filesystems import FileSystem

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool

LIVE = {"mounted": True, "unmounted": False, "present": None}
"""What each state wants of the mount now; None: as it is."""


@dataclasses.dataclass(frozen=True)
class Mount:
    """A validated item."""

    name: str
    state: str
    timeout: int
    use: mount.Use | None
    secret_check: bool = False


class Mounts:
    """What of one file system is mounted on this host; ``name`` is what the registry calls one.

    ``tool`` gives the host tool, which mounts at boot what systemd could not.
    """

    def __init__(self, name: str, system: FileSystem, tool: t.Callable[[], Tool]) -> None:
        self.name = name
        self.system = system
        self.tool = tool
        self.hung: set[observed.Hung] = set()

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> Mount:
        """See Resource."""
        state, seconds = item["state"], names.seconds(item["timeout"], prefix + "timeout")
        asked, check = None, names.only_checked(item, prefix)
        by_name = state in ("absent", "unmounted") and item.get("name") is not None
        if not by_name or any(item.get(key) is not None for key in self.system.KEYS):
            read_only = item["read_only"] if given.get("read_only") is not None else None
            asked = self.system.asked(item, prefix, read_only)
        if item.get("name") is not None:
            name = names.name(item["name"], prefix + "name")
        if asked is None:
            return Mount(name, state, seconds, None, check)
        if item.get("name") is None:
            name = names.slug(self.system.source(asked))
        base = names.mount_path(item["mount_base"], prefix + "mount_base")
        path = names.mount_path(item["path"], prefix + "path") if item.get("path") is not None else ""
        given_secret = getattr(self.system, "given", None)
        use = mount.Use(
            user=self._user(name),
            asked=asked,
            mounted=LIVE.get(state),
            persistent=bool(item["persistent"]),
            path=path,
            base=base,
            prefix="",
            probe="read" if item["probe"] == "write" and self.system.parsed(asked).read_only else item["probe"],
            marker="",
            seconds=seconds,
            secret=secret.keep(given_secret(item, prefix)) if given_secret else "",
        )
        return Mount(name, state, seconds, use, check)

    def _user(self, name: str) -> str:
        return "%s:%s" % (self.name, name)

    def together(self, wanted: t.Sequence[Mount]) -> None:
        """See Resource."""
        places: dict[str, str] = {}
        for each in wanted:
            if each.use is None or each.state == "absent" or not each.use.path:
                continue
            if each.use.path in places:
                text = "%s and %s both have the path %s" % (places[each.use.path], each.name, each.use.path)
                raise HostError("invalid", text, "give each a path of its own", field="path")
            places[each.use.path] = each.name

    def registered(self) -> list[str]:
        """See Resource."""
        users = observed.Seen(lambda seen: [], 0).users
        return [user[len(self._user("")) :] for user in users if user.startswith(self._user(""))]

    def removal(self, name: str) -> Mount:
        """See Resource."""
        return Mount(name, "absent", 15, None)

    def observe(self, wanted: t.Sequence[Mount]) -> observed.Seen:
        """See Resource."""
        looked_at = [each for each in wanted if each.state not in ("absent", "unmounted")]
        users = {self._user(each.name) for each in looked_at}
        identities = {self.system.identity(each.use.asked) for each in looked_at if each.use is not None}

        def probed(seen: observed.Seen) -> list[str]:
            used = {use["mount"] for user, use in seen.users.items() if user in users}
            return [row["path"] for row in seen.rows.values() if row["identity"] in identities or row["id"] in used]

        return observed.Seen(probed, observed.look_seconds(each.timeout for each in wanted), self.hung)

    def plan(self, wanted: Mount, seen: observed.Seen) -> Plan:
        """See Resource."""
        user = self._user(wanted.name)
        if wanted.state == "absent":
            from ansible_collections.microvm.host.plugins.module_utils._storage import mount_changes

            return mount_changes.ended(wanted.name, user, seen, wanted.timeout)
        row = seen.of(user)
        use = mount.settled(wanted.use or self._registered(user, row, seen, wanted), seen)
        if wanted.secret_check:
            from ansible_collections.microvm.host.plugins.module_utils._storage import mount_password

            return mount_password.proven(wanted.name, use)
        shared = seen.by_identity(self.system.identity(use.asked))
        if not use.path and row is None and shared is None:
            use = dataclasses.replace(use, path=mount.default_path(use.base, use.asked))
        use = dataclasses.replace(use, seconds=wanted.timeout)
        plan = mount.planned(wanted.name, use, mount.present(use, seen))
        if use.persistent:
            with_tool(plan, seen.tool(self.tool))
        return plan

    def without(self, failed: t.AbstractSet[str], seen: observed.Seen) -> bool:
        """See Resource."""
        return False

    def report(self, wanted: Mount, seen: observed.Seen) -> dict[str, t.Any]:
        """See Resource."""
        row = seen.of(self._user(wanted.name))
        if row is None:
            found: dict[str, t.Any] = {"state": wanted.state, "status": "not_mounted", "persistent": False}
            if wanted.use is not None:
                found.update(self.system.described(wanted.use.asked))
                if wanted.state != "absent":
                    shared = seen.by_identity(self.system.identity(wanted.use.asked))
                    path = wanted.use.path or mount.default_path(wanted.use.base, wanted.use.asked)
                    found["path"] = shared["path"] if shared else path
            return found
        persistent = bool(seen.users[self._user(wanted.name)]["persistent"])
        return dict(mount_report.described(row, seen, persistent), state=wanted.state)

    def remarks(self, wanted: Mount, seen: observed.Seen) -> list[str]:
        """See Resource."""
        row = seen.of(self._user(wanted.name))
        return mount_report.remarks(row, seen) if row else []

    def kinds(self) -> Kinds:
        """See Resource."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import steps

        return {**steps.KINDS, **self.tool().KINDS}

    def _registered(self, user: str, row: dict[str, t.Any] | None, seen: observed.Seen, wanted: Mount) -> mount.Use:
        """What a mount that is called by its name alone has been asked for."""
        if row is None:
            text = "no %s %s is registered on this host" % (self.name, wanted.name)
            raise HostError("not_found", text, "give %s too" % " and ".join(self.system.KEYS), field="name")
        persistent = bool(seen.users[user]["persistent"])
        live = LIVE.get(wanted.state)
        return mount.Use(user, row["asked"], live, persistent, "", mount.BASE, "", "none", "", wanted.timeout)
