# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource of the module storage_backend. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import functools
import sqlite3
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, Record
from ansible_collections.microvm.host.plugins.module_utils._core.resource import with_tool
from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import local_file, mount, nfs, nfs_mounts

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool

OPTIONS = {
    "local_file": ("path",),
    "nfs": ("server", "export", "version", "options", "read_only", "mount_base"),
}
"""The options of each kind; those of another kind are refused."""


@dataclasses.dataclass(frozen=True)
class Backend:
    """A validated item. ``default`` None: as it is. ``given`` are the options the user wrote."""

    name: str
    state: str
    timeout: int
    prefix: str
    kind: str | None
    config: dict[str, t.Any] | None
    base: str
    enabled: bool
    default: bool | None
    claimed: bool = False
    """True when another item of the call becomes the default."""


class Seen(mount.Seen):
    """What the mounts see, and which backend is the default."""

    @property
    def default(self) -> str | None:
        """The name of the default backend."""
        return next((name for name, row in self.backends.items() if row["is_default"]), None)


class Backends:
    """The storage backends of this host. ``tool`` gives the host tool, which checks and mounts them at boot."""

    name = "backend"

    def __init__(self, tool: t.Callable[[], Tool]) -> None:
        self.tool = tool
        self.claimant: str | None = None
        self.removed: set[str] = set()
        self.able: list[str] = []
        self.stand_in: str | None = None
        self.failed: list[str] = []
        self.hung: set[mount.Hung] = set()

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> Backend:
        """See Resource."""
        if item.get("name") is None:
            raise HostError("invalid", "%sname is required" % prefix, field=prefix + "name")
        name = names.name(item["name"], prefix + "name")
        kind, state = item.get("kind"), item["state"]
        seconds = nfs_mounts.timeout_of(item, prefix)
        config, base = None, mount.BASE
        if kind is None and state == "present":
            raise HostError("invalid", "%skind is required" % prefix, "one of %s" % ", ".join(OPTIONS), prefix + "kind")
        if kind is not None:
            allowed = OPTIONS[kind]
            for other, options in OPTIONS.items():
                for option in options:
                    if option not in allowed and item.get(option) is not None:
                        message = "%s%s is an option of %s, and %s is %s" % (prefix, option, other, name, kind)
                        raise HostError("invalid", message, "leave it out", field=prefix + option)
            if state == "present":
                if kind == "nfs":
                    config = nfs.asked(item, prefix, item.get("read_only"))
                    if item.get("mount_base") is not None:
                        base = names.mount_path(item["mount_base"], prefix + "mount_base")
                else:
                    config = local_file.asked(item, prefix)
        default = item.get("default")
        return Backend(name, state, seconds, prefix, kind, config, base, bool(item["enabled"]), default)

    def together(self, wanted: t.Sequence[Backend]) -> None:
        """See Resource."""
        claims = [each for each in wanted if each.default and each.state == "present"]
        if len(claims) > 1:
            text = "%s and %s both want to be the default" % (claims[0].name, claims[1].name)
            raise HostError("invalid", text, "one backend is the default", field=claims[1].prefix + "default")
        identities: dict[str, str] = {}
        for each in wanted:
            if each.state != "present" or each.config is None:
                continue
            identity = each.config["path"] if each.kind == "local_file" else nfs.identity(each.config)
            if identity in identities:
                text = "%s and %s are the same place, %s" % (identities[identity], each.name, identity)
                raise HostError("invalid", text, "name each place once", field=each.prefix + "name")
            identities[identity] = each.name
        self.claimant = claims[0].name if claims else None
        self.removed = {each.name for each in wanted if each.state == "absent"}
        self.able = [each.name for each in wanted if each.state == "present" and each.enabled]
        self.first = next((each.name for each in wanted if each.state == "present" and each.default is None), None)

    def registered(self) -> list[str]:
        """See Resource."""
        with registry.reading() as connection:
            found = [row["name"] for row in registry.rows(connection, "SELECT name FROM backends ORDER BY name")]
        return found

    def removal(self, name: str) -> Backend:
        """See Resource."""
        self.removed.add(name)
        return Backend(name, "absent", 15, "", None, None, mount.BASE, True, None)

    def observe(self, wanted: t.Sequence[Backend]) -> Seen:
        """See Resource."""
        looked_at = [each for each in wanted if each.state != "absent"]
        users = {"backend:" + each.name for each in looked_at}

        def probed(seen: mount.Seen) -> list[str]:
            used = {use["mount"] for user, use in seen.users.items() if user in users}
            found = [seen.backends[each.name] for each in looked_at if each.name in seen.backends]
            local = [row["config"]["path"] for row in found if row["kind"] == "local_file"]
            return local + [row["path"] for row in seen.rows.values() if row["id"] in used]

        return Seen(probed, mount.look_seconds(each.timeout for each in wanted), self.hung)

    def plan(self, wanted: Backend, seen: Seen) -> Plan:
        """See Resource."""
        row = seen.backends.get(wanted.name)
        if wanted.state == "absent":
            return self._absent(wanted, seen, row)
        if row is not None and row["kind"] != wanted.kind:
            raise HostError(
                "conflict",
                "the kind of backend %s can't change from %s to %s" % (wanted.name, row["kind"], wanted.kind),
                "remove it and add it again, or use another name",
                field=wanted.prefix + "kind",
            )
        default = self._default(wanted, seen, row)
        plan = (self._present_nfs if wanted.kind == "nfs" else self._present_local)(wanted, seen, row)
        facets = {"kind": wanted.kind, "enabled": wanted.enabled, "default": default}
        if row is not None:
            plan.before.update(kind=row["kind"], enabled=bool(row["enabled"]), default=bool(row["is_default"]))
        else:
            plan.before = {}
        plan.after.update(facets)
        if default and not (row and row["is_default"]):
            before = seen.default if seen.default not in self.removed else None
            instead = ", in place of %s" % before if before else ""
            plan.steps.append(Record("make %s the default%s" % (wanted.name, instead)))
        if row is not None and not plan.steps and plan.diff():
            plan.steps.append(Record("update backend %s" % wanted.name))
        if wanted.name == self.stand_in:
            plan.warnings.append(self._why_default())
        if default and not wanted.enabled:
            plan.warnings.append("it is the default backend and not enabled: volumes without a backend are refused")
        inner = plan.commit

        def commit(connection: sqlite3.Connection, known: Known) -> None:
            if default:
                connection.execute("UPDATE backends SET is_default = 0 WHERE name != ?", (wanted.name,))
            _store(connection, wanted, row, default, known)
            if inner is not None:
                inner(connection, known)

        plan.commit = commit
        if wanted.kind == "nfs" and wanted.enabled:
            with_tool(plan, seen.tool(self.tool))
        return plan

    def _default(self, wanted: Backend, seen: Seen, row: registry.Row | None) -> bool:
        """Whether the backend is the default afterwards. Raises ``conflict`` when none would be left."""
        is_default = bool(row and row["is_default"])
        if wanted.name == self.stand_in:
            return True
        if wanted.default is None:
            if is_default or seen.default is not None or self.claimant is not None:
                return is_default
            return wanted.name == self.first  # a host with backends has a default one: the first
        if not wanted.default and is_default and self.claimant in (None, wanted.name):
            raise HostError(
                "conflict",
                "backend %s is the only default" % wanted.name,
                "make another backend the default instead: that clears this one",
                field=wanted.prefix + "default",
            )
        if not wanted.default and is_default:
            return True  # the other item's commit clears it, in the transaction that sets its own
        return wanted.default

    def _present_nfs(self, wanted: Backend, seen: Seen, row: registry.Row | None) -> Plan:
        config = wanted.config or {}
        read_only = nfs.parsed(config).read_only
        use = mount.Use(
            user="backend:" + wanted.name,
            asked=config,
            mounted=wanted.enabled,
            persistent=wanted.enabled,
            patient=True,
            path="",
            base=wanted.base,
            prefix=wanted.name,
            probe="read" if read_only else "write",
            marker=row["uuid"] if row else "any",
            seconds=wanted.timeout,
        )
        current = seen.of(use.user)
        moves = current is not None and nfs.identity(current["asked"]) != nfs.identity(use.asked)
        if moves and not seen.volumes.get(wanted.name):
            use = dataclasses.replace(use, marker="any")
        if row is not None and current is not None:
            _refuse_swapped(row, seen.looks.get(current["path"], {}), current["path"])
        part = mount.present(use, seen)
        part.before.pop("persistent", None)
        part.after.pop("persistent", None)
        plan = Plan(
            wanted.name,
            part.before,
            part.after,
            part.steps,
            commit=lambda connection, known: mount.store(connection, use, part, known),
            contact=functools.partial(nfs_mounts.contact, use) if nfs_mounts.goes_out(part) else None,
            locks=nfs_mounts.locks_of(part, use),
            seconds=wanted.timeout,
            warnings=part.warnings,
        )
        if part.pending:
            plan.notes["pending_remount"] = part.pending
        return plan

    def _present_local(self, wanted: Backend, seen: Seen, row: registry.Row | None) -> Plan:
        config = wanted.config or {}
        path = config["path"]
        plan = Plan(wanted.name, {}, {"path": path}, locks=("directory/" + names.hash8(path),), seconds=wanted.timeout)
        if row is not None:
            local_file.refuse_change(row["config"], config, wanted.prefix)
            plan.before["path"] = path
            looked = seen.looks.get(path, {})
            there = looked.get("status") != "not_found"
            plan.before["directory"], plan.after["directory"] = there, True
            _refuse_swapped(row, looked, path)
        if row is None or not there:
            from ansible_collections.microvm.host.plugins.module_utils._storage import steps

            marker = row["uuid"] if row is not None and seen.volumes.get(wanted.name) else "any"
            plan.steps.append(
                steps.OpenDirectory(path, mount.missing(path, seen, wanted.timeout), marker, wanted.timeout)
            )
        return plan

    def _absent(self, wanted: Backend, seen: Seen, row: registry.Row | None) -> Plan:
        if row is None:
            return Plan(wanted.name, {}, {})
        volumes = seen.volumes.get(wanted.name, [])
        if volumes:
            raise HostError(
                "in_use",
                "backend has %d live volume(s); delete or migrate them before removing the backend: %s"
                % (len(volumes), ", ".join(volumes[:10]) + (", ..." if len(volumes) > 10 else "")),
            )
        mounted = seen.of("backend:" + wanted.name)
        users = seen.users_of(mounted, "backend:" + wanted.name) if mounted else []
        docker = [each for each in users if each.startswith("docker_volume ")]
        if docker:
            text = "backend %s is used by %s" % (wanted.name, ", ".join(docker))
            raise HostError("in_use", text, "remove it first: docker volume rm")
        left = set(seen.backends) - self.removed - {wanted.name}
        if row["is_default"] and left and self.claimant is None:
            raise HostError(
                "conflict",
                "backend %s is the default" % wanted.name,
                "make another backend the default first (one of %s)" % ", ".join(sorted(left)),
            )
        user = "backend:" + wanted.name
        part = mount.absent(user, seen, wanted.timeout)
        before = dict(part.before, kind=row["kind"], enabled=bool(row["enabled"]), default=bool(row["is_default"]))
        before.pop("persistent", None)
        if row["kind"] == "local_file":
            before["path"] = row["config"]["path"]

        def commit(connection: sqlite3.Connection, known: Known) -> None:
            connection.execute("DELETE FROM backends WHERE name = ?", (wanted.name,))
            mount.forget(connection, user)

        return Plan(
            wanted.name,
            before,
            {},
            part.steps + [Record("forget backend %s, its files stay" % wanted.name)],
            commit=commit,
            locks=nfs_mounts.locks_of(part, None),
            seconds=wanted.timeout,
        )

    def without(self, failed: t.AbstractSet[str], seen: Seen) -> bool:
        """A host with backends has a default one: of those that did not fail the first, when no other is left."""
        if seen.default is None or seen.default in self.removed - failed:
            self.stand_in = next((name for name in self.able if name not in failed), None)
            self.failed = sorted(failed)
        return self.stand_in is not None

    def _why_default(self) -> str:
        if self.claimant in self.failed:
            return "it is the default, because %s failed; the next run that can makes %s the default" % (
                self.claimant,
                self.claimant,
            )
        return "it is the default, because %s failed" % ", ".join(self.failed)

    def report(self, wanted: Backend, seen: Seen) -> dict[str, t.Any]:
        """See Resource."""
        row = seen.backends.get(wanted.name)
        if row is None:
            return {"state": wanted.state, **({"kind": wanted.kind} if wanted.kind else {})}
        return described(row, seen)

    def remarks(self, wanted: Backend, seen: Seen) -> list[str]:
        """See Resource."""
        row = seen.of("backend:" + wanted.name)
        if row is not None:
            return mount.remarks(row, seen)
        local = seen.backends.get(wanted.name)
        if local is not None and described(local, seen)["status"] == "unreachable":
            return ["%s does not answer: check what is mounted there" % local["config"]["path"]]
        return []

    def kinds(self) -> Kinds:
        """See Resource."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import steps

        return {**steps.KINDS, **self.tool().KINDS}


def described(row: registry.Row, seen: mount.Seen) -> dict[str, t.Any]:
    """A returned backend, from its row and what was seen."""
    found: dict[str, t.Any] = {
        "state": "present",
        "kind": row["kind"],
        "enabled": bool(row["enabled"]),
        "default": bool(row["is_default"]),
        "uuid": row["uuid"],
        "identity": row["identity"],
        "capabilities": row["capabilities"],
        "volumes": len(seen.volumes.get(row["name"], [])),
    }
    if row["kind"] == "nfs":
        used = seen.of("backend:" + row["name"])
        if used is not None:
            found.update(nfs_mounts.described_row(used, seen, True))
            found.pop("persistent")
            found["state"] = "present"
    else:
        path = row["config"]["path"]
        looked = seen.looks.get(path, {"status": "not_mounted"})
        found.update({key: looked[key] for key in ("status", "capacity", "probe_seconds") if key in looked}, path=path)
        if found["status"] != "ok":
            found["status"] = "not_mounted" if found["status"] in ("not_found", "not_mounted") else "unreachable"
    if not row["enabled"]:
        found["status"] = "disabled"
    return found


def _refuse_swapped(row: registry.Row, looked: dict[str, t.Any], path: str) -> None:
    if looked.get("status") == "ok" and row["identity"] == "marker" and looked.get("uuid") != row["uuid"]:
        raise HostError(
            "conflict",
            "%s no longer carries the marker of backend %s (found %s, expected %s)"
            % (path, row["name"], looked.get("uuid") or "none", row["uuid"]),
            "another file system is there, or it was emptied: put the right one back, or remove the backend",
        )


def _store(
    connection: sqlite3.Connection, wanted: Backend, row: registry.Row | None, default: bool, known: Known
) -> None:
    uuid = known.get("uuid") or (row or {}).get("uuid")
    taken = registry.rows(connection, "SELECT name FROM backends WHERE uuid = ? AND name != ?", uuid, wanted.name)
    if taken:
        raise HostError(
            "conflict",
            "this place is already backend %s (it carries the same marker)" % taken[0]["name"],
            "use that backend, or remove it first",
        )
    values = {
        "name": wanted.name,
        "kind": wanted.kind,
        "config": wanted.config,
        "uuid": uuid,
        "identity": known.get("identity") or (row or {}).get("identity"),
        "capabilities": _capabilities(wanted, known) if "capacity" in known else (row or {}).get("capabilities"),
        "enabled": int(wanted.enabled),
        "is_default": int(default),
    }
    registry.put(connection, "backends", values)


def _capabilities(wanted: Backend, known: Known) -> list[str]:
    """What the backend showed it can do when it was tried."""
    found = {
        "clone_from_image": "locks" in known,
        "fast_clone": bool(known.get("fast_clone")),
        "snapshot": "locks" in known,
        "resize": "locks" in known,
        "external": wanted.kind != "local_file",
        "multi_host": wanted.kind != "local_file" and bool(known.get("locks")),
    }
    return [name for name, holds in found.items() if holds]
