# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource of the module storage_backend. Private to microvm.host."""

from __future__ import annotations

import sqlite3
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, Record
from ansible_collections.microvm.host.plugins.module_utils._core.resource import with_tool
from ansible_collections.microvm.host.plugins.module_utils._host import names, secret
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import kinds, observed
from ansible_collections.microvm.host.plugins.module_utils._storage.kinds import Backend

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool


class Seen(observed.Seen):
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
        self.hung: set[observed.Hung] = set()

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> Backend:
        """See Resource."""
        if item.get("name") is None:
            raise HostError("invalid", "%sname is required" % prefix, field=prefix + "name")
        name = names.name(item["name"], prefix + "name")
        kind, state = item.get("kind"), item["state"]
        seconds = names.seconds(item["timeout"], prefix + "timeout")
        config, base, key, check = None, "", "", names.only_checked(item, prefix)
        if kind is None and state == "present":
            raise HostError(
                "invalid", "%skind is required" % prefix, "one of %s" % ", ".join(kinds.KINDS), prefix + "kind"
            )
        if kind is not None:
            kinds.refuse_foreign(item, kind, name, prefix)
            if state == "present":
                config = kinds.of(kind).asked(item, prefix)
                key = secret.keep(kinds.of(kind).secret(item, prefix))
                if item.get("mount_base") is not None:
                    base = names.mount_path(item["mount_base"], prefix + "mount_base")
        default = item.get("default")
        return Backend(
            name,
            state,
            seconds,
            prefix,
            kind,
            config,
            base,
            bool(item["enabled"]),
            default,
            key,
            check,
        )

    def together(self, wanted: t.Sequence[Backend]) -> None:
        """See Resource."""
        claims = [each for each in wanted if each.default and each.state == "present"]
        if len(claims) > 1:
            text = "%s and %s both want to be the default" % (claims[0].name, claims[1].name)
            raise HostError("invalid", text, "one backend is the default", field=claims[1].prefix + "default")
        identities: dict[str, str] = {}
        for each in wanted:
            if each.state != "present" or each.config is None or each.kind is None:
                continue
            identity = kinds.of(each.kind).identity(each.config)
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
        return Backend(name, "absent", 15, "", None, None, "", True, None)

    def observe(self, wanted: t.Sequence[Backend]) -> Seen:
        """See Resource."""

        def probed(seen: observed.Seen) -> list[str]:
            there = [(seen.backends[each.name], each.state) for each in wanted if each.name in seen.backends]
            return [
                path for row, state in there for path in kinds.of(row["kind"]).looked_at(row, seen, state == "absent")
            ]

        return Seen(probed, observed.look_seconds(each.timeout for each in wanted), self.hung)

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
        kind = kinds.of(str(wanted.kind))
        if wanted.secret_check:
            return kind.proven(wanted, seen, row)
        default = self._default(wanted, seen, row)
        plan = kind.present(wanted, seen, row)
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
        if kind.BOOTS and wanted.enabled:
            with_tool(plan, seen.tool(self.tool))
        return plan

    def _default(self, wanted: Backend, seen: Seen, row: registry.Row | None) -> bool:
        """Whether the backend is the default afterwards. Raises ``conflict`` when none would be left."""
        is_default = bool(row and row["is_default"])
        if wanted.name == self.stand_in:
            return True
        if wanted.default is None:
            goes = seen.default in self.removed and not set(seen.backends) - self.removed  # with all others there are
            if is_default or (seen.default is not None and not goes) or self.claimant is not None:
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

    def _absent(self, wanted: Backend, seen: Seen, row: registry.Row | None) -> Plan:
        if row is None:
            return Plan(wanted.name, {}, {})
        from ansible_collections.microvm.host.plugins.module_utils._storage import users

        volumes = seen.volumes.get(wanted.name, [])
        owner = kinds.of(row["kind"]).taken_by(row, seen) if volumes else ""
        if volumes and not owner:
            raise HostError(
                "in_use",
                "backend has %d live volume(s); delete or migrate them before removing the backend: %s"
                % (len(volumes), ", ".join(volumes[:10]) + (", ..." if len(volumes) > 10 else "")),
                "storage_volume with name: %s, state: absent deletes one, and only lets go of it with forget: true, or "
                "when another host has taken it; with move: true, backend: OTHER it goes there" % volumes[0],
            )
        mounted = seen.of("backend:" + wanted.name)
        others = seen.users_of(mounted, "backend:" + wanted.name) if mounted else []
        docker = [each for each in others if each.startswith("docker_volume ")]
        if docker:
            text = "backend %s is used by %s" % (wanted.name, ", ".join(docker))
            raise HostError("in_use", text, "remove it first: docker volume rm")
        with registry.reading() as connection:
            machines = users.below(connection, (mounted or row["config"]).get("path", ""))
        if machines:
            text = "backend %s has disks or shared directories of the machine %s" % (wanted.name, ", ".join(machines))
            raise HostError("in_use", text, "remove the machine first")
        left = set(seen.backends) - self.removed - {wanted.name}
        if row["is_default"] and left and self.claimant is None:
            raise HostError(
                "conflict",
                "backend %s is the default, and a host with backends has one" % wanted.name,
                "give another default: true first (one of %s)" % ", ".join(sorted(left)),
            )
        plan = kinds.of(row["kind"]).absent(wanted, seen, row)
        plan.before.update(kind=row["kind"], enabled=bool(row["enabled"]), default=bool(row["is_default"]))
        if volumes:
            self._forget_volumes(plan, volumes, seen, row, owner)
        plan.steps.append(Record("forget backend %s, its files stay" % wanted.name))
        inner = plan.commit

        def commit(connection: sqlite3.Connection, known: Known) -> None:
            for name in volumes:
                connection.execute("DELETE FROM volumes WHERE name = ? AND backend = ?", (name, wanted.name))
            connection.execute("DELETE FROM backends WHERE name = ?", (wanted.name,))
            if inner is not None:
                inner(connection, known)

        plan.commit = commit
        return plan

    def _forget_volumes(self, plan: Plan, names: list[str], seen: Seen, row: registry.Row, owner: str) -> None:
        """Volumes that went to another host with their backend; those in use on this host are refused (``in_use``)."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import (
            users,
            volume_refusals,
            volume_removal,
        )

        beside = kinds.store_of(row, seen)
        held = beside.holders(set(names)) if beside else {}
        with registry.reading() as connection:
            machines = users.of_volumes(connection)
        for name in names:
            volume_refusals.used(name, machines.get(name, ()), held.get(name, {}))
            plan.steps.append(volume_removal.forgotten(name, row["name"], owner))
        plan.before["volumes"] = names
        plan.locks += tuple("volume/" + name for name in names)

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
        row = seen.backends.get(wanted.name)
        return kinds.of(row["kind"]).remarks(row, seen) if row else []

    def kinds(self) -> Kinds:
        """See Resource."""
        from ansible_collections.microvm.host.plugins.module_utils._storage import group_steps, steps

        return {**steps.KINDS, **group_steps.KINDS, **self.tool().KINDS}


def described(row: registry.Row, seen: observed.Seen) -> dict[str, t.Any]:
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
    found.update(kinds.of(row["kind"]).described(row, seen))
    if not row["enabled"]:
        found["status"] = "disabled"
    return found


def _store(
    connection: sqlite3.Connection, wanted: Backend, row: registry.Row | None, default: bool, known: Known
) -> None:
    kind = kinds.of(str(wanted.kind))
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
        "capabilities": kind.capabilities(wanted.config or {}, known)
        if "capacity" in known
        else (row or {}).get("capabilities"),
        "enabled": int(wanted.enabled),
        "is_default": int(default),
    }
    registry.put(connection, "backends", values)
