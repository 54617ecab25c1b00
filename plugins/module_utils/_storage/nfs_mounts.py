# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource of the module nfs_export_mount. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
from ansible_collections.microvm.host.plugins.module_utils._core.resource import with_tool
from ansible_collections.microvm.host.plugins.module_utils._host import holders, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import mount, nfs

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


def timeout_of(item: dict[str, t.Any], prefix: str) -> int:
    """The seconds an item may take. Raises ``invalid``."""
    seconds = int(item["timeout"])
    if not 1 <= seconds <= 3600:
        raise HostError(
            "invalid", "%stimeout: %d is not within 1 to 3600 seconds" % (prefix, seconds), field=prefix + "timeout"
        )
    return seconds


class NfsMounts:
    """Exports mounted on this host. ``tool`` gives the host tool, which mounts at boot what systemd could not."""

    name = "mount"

    def __init__(self, tool: t.Callable[[], Tool]) -> None:
        self.tool = tool
        self.hung: set[mount.Hung] = set()

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> Mount:
        """See Resource."""
        state, seconds = item["state"], timeout_of(item, prefix)
        asked = None
        by_name = state in ("absent", "unmounted") and item.get("name") is not None
        if not by_name or item.get("server") is not None or item.get("export") is not None:
            read_only = item["read_only"] if given.get("read_only") is not None else None
            asked = nfs.asked(item, prefix, read_only)
        if item.get("name") is not None:
            name = names.name(item["name"], prefix + "name")
        if asked is None:
            return Mount(name, state, seconds, None)
        if item.get("name") is None:
            name = names.slug(nfs.source(asked))
        base = names.mount_path(item["mount_base"], prefix + "mount_base")
        path = names.mount_path(item["path"], prefix + "path") if item.get("path") is not None else ""
        use = mount.Use(
            user="mount:" + name,
            asked=asked,
            mounted=LIVE.get(state),
            persistent=bool(item["persistent"]),
            path=path,
            base=base,
            prefix="",
            probe="read" if item["probe"] == "write" and nfs.parsed(asked).read_only else item["probe"],
            marker="",
            seconds=seconds,
        )
        return Mount(name, state, seconds, use)

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
        return [user[6:] for user in mount.Seen(lambda seen: [], 0).users if user.startswith("mount:")]

    def removal(self, name: str) -> Mount:
        """See Resource."""
        return Mount(name, "absent", 15, None)

    def observe(self, wanted: t.Sequence[Mount]) -> mount.Seen:
        """See Resource."""
        looked_at = [each for each in wanted if each.state not in ("absent", "unmounted")]
        users = {"mount:" + each.name for each in looked_at}
        identities = {nfs.identity(each.use.asked) for each in looked_at if each.use is not None}

        def probed(seen: mount.Seen) -> list[str]:
            used = {use["mount"] for user, use in seen.users.items() if user in users}
            return [row["path"] for row in seen.rows.values() if row["identity"] in identities or row["id"] in used]

        return mount.Seen(probed, mount.look_seconds(each.timeout for each in wanted), self.hung)

    def plan(self, wanted: Mount, seen: mount.Seen) -> Plan:
        """See Resource."""
        user = "mount:" + wanted.name
        if wanted.state == "absent":
            part = mount.absent(user, seen, wanted.timeout)
            return Plan(
                wanted.name,
                part.before,
                part.after,
                part.steps,
                commit=lambda connection, known: mount.forget(connection, user),
                locks=locks_of(part, None),
                seconds=wanted.timeout,
            )
        row = seen.of(user)
        use = wanted.use or _registered(user, row, seen, wanted)
        shared = seen.by_identity(nfs.identity(use.asked))
        if not use.path and row is None and shared is None:
            use = dataclasses.replace(use, path=mount.default_path(use.base, use.asked))
        use = dataclasses.replace(use, seconds=wanted.timeout)
        part = mount.present(use, seen)
        plan = Plan(
            wanted.name,
            part.before,
            part.after,
            part.steps,
            commit=lambda connection, known: mount.store(connection, use, part, known),
            contact=functools.partial(contact, use) if goes_out(part) else None,
            locks=locks_of(part, use),
            seconds=wanted.timeout,
            warnings=part.warnings,
        )
        if part.pending:
            plan.notes["pending_remount"] = part.pending
        if use.persistent:
            with_tool(plan, seen.tool(self.tool))
        return plan

    def without(self, failed: t.AbstractSet[str], seen: mount.Seen) -> bool:
        """See Resource."""
        return False

    def report(self, wanted: Mount, seen: mount.Seen) -> dict[str, t.Any]:
        """See Resource."""
        row = seen.of("mount:" + wanted.name)
        if row is None:
            found: dict[str, t.Any] = {"state": wanted.state, "status": "not_mounted", "persistent": False}
            if wanted.use is not None:
                found.update(described(wanted.use.asked))
                if wanted.state != "absent":
                    shared = seen.by_identity(nfs.identity(wanted.use.asked))
                    path = wanted.use.path or mount.default_path(wanted.use.base, wanted.use.asked)
                    found["path"] = shared["path"] if shared else path
            return found
        persistent = bool(seen.users["mount:" + wanted.name]["persistent"])
        return dict(described_row(row, seen, persistent), state=wanted.state)

    def remarks(self, wanted: Mount, seen: mount.Seen) -> list[str]:
        """See Resource."""
        row = seen.of("mount:" + wanted.name)
        return mount.remarks(row, seen) if row else []

    def kinds(self) -> Kinds:
        """See Resource."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import steps

        return {**steps.KINDS, **self.tool().KINDS}


def _registered(user: str, row: dict[str, t.Any] | None, seen: mount.Seen, wanted: Mount) -> mount.Use:
    """What a mount that is called by its name alone has been asked for."""
    if row is None:
        text = "no mount %s is registered on this host" % wanted.name
        raise HostError("not_found", text, "give server and export too", field="name")
    persistent = bool(seen.users[user]["persistent"])
    live = LIVE.get(wanted.state)
    return mount.Use(user, row["asked"], live, persistent, "", mount.BASE, "", "none", "", wanted.timeout)


def described(asked: dict[str, t.Any]) -> dict[str, t.Any]:
    """The configuration part of a returned mount."""
    return {
        "source": nfs.source(asked),
        "server": asked["server"],
        "export": asked["export"],
        "version": asked["version"],
        "options": asked["options"],
        "read_only": nfs.parsed(asked).read_only,
    }


def described_row(row: dict[str, t.Any], seen: mount.Seen, persistent: bool) -> dict[str, t.Any]:
    """A returned mount, from its row and what was seen."""
    found = described(row["asked"])
    found.update(mount.status(row, seen))
    found["state"] = "present" if found["status"] == "not_mounted" else "mounted"
    found["persistent"] = persistent
    if found["state"] == "mounted" and row["attached"] != row["asked"]:
        found["pending_remount"] = holders.of_mount(row["path"])
    return found


def goes_out(part: mount.Part) -> bool:
    """True when the plan needs the server."""
    if not part.steps:
        return False
    from ansible_collections.microvm.host.plugins.module_utils._storage import steps

    return any(isinstance(step, steps.AttachMount) for step in part.steps)


def contact(use: mount.Use) -> dict[str, t.Any]:
    """What check mode does of it: find the server and open a connection."""
    nfs.reach(use.asked, use.seconds * 0.9)
    return {}


def locks_of(part: mount.Part, use: mount.Use | None) -> tuple[str, ...]:
    """The lock of the mount itself, which a backend and a mount resource may share."""
    identities = {nfs.identity(use.asked)} if use else set()
    if part.row is not None:
        identities.add(part.row["identity"])
    return tuple("export/" + names.hash8(identity) for identity in sorted(identities))
