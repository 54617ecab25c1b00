# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ONE mount as a resource with users: whether it is as it should be. Private to microvm.host.

A mount resource or a backend is a user of a mount; the mount is made for the first and goes with the last.
What is there is read by ``observed``; the steps are in ``mount_changes`` and ``mount_password``, which an unchanged
call does not load; ``mount_report`` has what is returned.
"""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, Record, Step
from ansible_collections.microvm.host.plugins.module_utils._host import files, mounts, names, secret
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import credentials, filesystems, units
from ansible_collections.microvm.host.plugins.module_utils._storage.observed import Seen

BASE = "/var/lib/microvm/mounts"
PER_MOUNT = frozenset({"ro", "rw", "nosuid", "nodev", "noexec", "noatime", "relatime", "strictatime", "nodiratime"})


@dataclasses.dataclass
class Part:
    """The mount's share of a plan."""

    before: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    after: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    steps: list[Step] = dataclasses.field(default_factory=list)
    row: registry.Row | None = None
    pending: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Use:
    """What one user wants of a mount. ``mounted`` None: as it is. ``path`` empty: chosen when it is made."""

    user: str
    asked: dict[str, t.Any]
    mounted: bool | None
    persistent: bool
    path: str
    base: str
    prefix: str
    probe: str
    marker: str
    seconds: float
    patient: bool = False
    """Of a mount that must go and is in use: True leaves it to a later run, False is an error."""
    secret: str = ""
    """The key of a password as the user gave it; "" keeps the one there is."""


def settled(use: Use, seen: Seen) -> Use:
    """A use with its credentials file, where somebody logs in: that of the mount there is, or a new one."""
    system = filesystems.guarded(use.asked)
    if system is None:
        return use
    identity = system.identity(use.asked)
    row = seen.of(use.user) or seen.by_identity(identity)
    others = [each["asked"].get("credentials") for each in seen.rows.values() if row is None or each["id"] != row["id"]]
    there = row["asked"].get("credentials") if row else ""
    file = there or credentials.file_for(use.user.replace("backend:", ""), identity, others)
    return dataclasses.replace(use, asked=system.placed(use.asked, file))


def present(use: Use, seen: Seen) -> Part:
    """The steps that give ``use`` its mount. Raises HostError ``conflict`` or ``in_use`` naming who is in the way."""
    row = seen.of(use.user)
    system = filesystems.of(use.asked)
    identity = system.identity(use.asked)
    shared = seen.by_identity(identity)
    if shared is not None and (row is None or shared["id"] != row["id"]):
        others = ", ".join(seen.users_of(shared, use.user))
        if row is not None:
            raise HostError("conflict", "%s is already the mount of %s" % (system.source(use.asked), others))
        if shared["asked"] != use.asked:
            hint = "use the same version and options, or remove the first"
            raise HostError(
                "conflict", "%s is mounted for %s with other options" % (system.source(use.asked), others), hint
            )
        if use.path and use.path != shared["path"]:
            hint = "leave path out to share that mount"
            text = "%s is mounted for %s on %s" % (system.source(use.asked), others, shared["path"])
            raise HostError("conflict", text, hint, field="path")
        row = shared
    elif row is not None and row["asked"] != use.asked:
        others = ", ".join(seen.users_of(row, use.user))
        if others:
            raise HostError(
                "conflict", "the mount %s is shared with %s" % (row["path"], others), "remove that use first"
            )
    if row is not None and use.path and use.path != row["path"]:
        hint = "remove it and add it again to move it"
        raise HostError("conflict", "the path %s was chosen when the mount was made" % row["path"], hint, field="path")
    if row is None:
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_changes

        part = mount_changes.new(use, seen)
    else:
        part = _existing(use, seen, row)
    _bring_password(use, seen, row, part)
    if not part.steps and _outdated(use, seen, row):
        part.steps.append(Record("register %s" % system.source(use.asked)))
    return part


def _outdated(use: Use, seen: Seen, row: registry.Row | None) -> bool:
    """Whether the registry says something else than the use."""
    own = seen.users.get(use.user)
    return row is None or own is None or bool(own["persistent"]) != use.persistent or row["asked"] != use.asked


def facets(asked: filesystems.Asked, path: str, persistent: bool) -> dict[str, t.Any]:
    """What a diff tells of a mount."""
    found = {key: value for key, value in asked.items() if key != "kind"}
    if path:
        found["path"] = path
    found["persistent"] = persistent
    return found


def _existing(use: Use, seen: Seen, row: registry.Row) -> Part:
    """What makes the registered mount ``row`` as the use wants it; without steps when it is."""
    own = seen.users.get(use.user)
    part = Part(row=row)
    part.before = facets(row["asked"], row["path"], bool(own and own["persistent"])) if own else {}
    part.after = facets(use.asked, row["path"], use.persistent)
    boots = use.persistent or any(
        each["persistent"] for user, each in seen.users.items() if each["mount"] == row["id"] and user != use.user
    )
    _bring_unit(use, row, part, boots)
    if use.mounted:
        _bring_live(use, seen, row, part)
    elif use.mounted is False:
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_changes

        mount_changes.take_down(use, seen, row, part, boots)
    if use.marker and (own is None or row["asked"] != use.asked):
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_changes

        mount_changes.try_first(use, seen, row, part)
    return part


def _bring_unit(use: Use, row: registry.Row, part: Part, boots: bool) -> None:
    """The steps after which systemd mounts it at boot, or no longer does."""
    path = row["path"]
    unit = files.text_of(units.unit_file(path))
    as_asked = unit is None
    if boots:
        as_asked = unit == units.unit_text(use.asked, path) and os.path.islink(units.unit_link(path))
    if not as_asked:
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_changes

        mount_changes.bring_unit(use, row, part, boots, unit)


def _bring_live(use: Use, seen: Seen, row: registry.Row, part: Part) -> None:
    """The steps from what is on the path to what is asked."""
    found, flags_only = _difference(use, row, seen.stack(row["path"]), seen.looks.get(row["path"], {}))
    if part.before:
        part.before["mounted"] = found or "yes"
    part.after["mounted"] = "yes"
    if found or row["attached"] != use.asked:
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_changes

        mount_changes.mend(use, seen, row, part, found, flags_only)


def _bring_password(use: Use, seen: Seen, row: registry.Row | None, part: Part) -> None:
    """The steps that put a password in its place, where somebody logs in or did. Blank keeps the one there is."""
    from_file = row["asked"].get("credentials") if row else ""
    system = filesystems.guarded(use.asked)
    login = system.login(use.asked) if system else None
    found = credentials.state(login, secret.of(use.secret)) if login else "current"
    if found != "current" or (from_file and (login is None or login.file != from_file)):
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_password

        mount_password.bring(use, seen, row, part, found)


def _difference(use: Use, row: registry.Row, stack: list[mounts.Mount], looked: dict[str, t.Any]) -> tuple[str, bool]:
    """How the live mount differs from the registered one, in words, and whether per-mount flags would mend it."""
    if not stack:
        return "no", False
    top = stack[-1]
    attached = row["attached"] or row["asked"]
    system = filesystems.of(attached)
    if len(stack) > 1:
        return "%d mounts stacked" % len(stack), False
    if not system.is_mount_of(top, attached, row["address"]):
        return "other source %s" % top.source, False
    if looked.get("status") == "stale":
        return "stale", False
    now = system.shown(top, attached)
    then = row["shown"] or {}
    drifted = sorted(key for key in {**now, **then} if now.get(key, "-") != then.get(key, "-"))
    if drifted:
        return "options drifted: %s" % ", ".join(drifted), set(drifted) <= PER_MOUNT and row["attached"] == use.asked
    if row["attached"] != use.asked:
        return "", system.only_flags_differ(attached, use.asked, top)
    return "", False


def planned(name: str, use: Use, part: Part) -> Plan:
    """The plan of a use: its part, what it stores, what check mode may do, its locks."""

    def commit(connection: sqlite3.Connection, known: Known) -> None:
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_changes

        mount_changes.store(connection, use, part, known)

    plan = Plan(
        name,
        part.before,
        part.after,
        part.steps,
        commit=commit,
        locks=locks_of(part, use),
        seconds=use.seconds,
        warnings=part.warnings,
    )
    if part.steps:
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_changes

        plan.contact = mount_changes.contact(use, part.steps)
    if part.pending:
        plan.notes["pending_remount"] = part.pending
    return plan


def locks_of(part: Part, use: Use | None) -> tuple[str, ...]:
    """The lock of the mount itself, which a backend and a mount resource may share."""
    identities = {filesystems.of(use.asked).identity(use.asked)} if use else set()
    if part.row is not None:
        identities.add(part.row["identity"])
    return tuple("export/" + names.hash8(identity) for identity in sorted(identities))


def default_path(base: str, asked: dict[str, t.Any]) -> str:
    """The path of a mount that no backend owns: slug and hash of its source."""
    text = filesystems.of(asked).source(asked)
    return os.path.join(base, "%s-%s" % (names.slug(text, 50), names.hash8(text)))
