# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps to a mount as it should be, and the rows they leave. Private to microvm.host.

Loaded when there is something to do.
"""

from __future__ import annotations

import os
import sqlite3
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, Record, ReloadUnits, Step
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, files, holders
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import filesystems, mount, units
from ansible_collections.microvm.host.plugins.module_utils._storage.mount import Part, Use

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._storage.observed import Seen

REMOTE = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "virtiofs")
"""How the types of file systems begin whose server may be dead."""


def new(use: Use, seen: Seen) -> Part:
    """The part of a mount that is not registered yet."""
    part = Part(after=mount.facets(use.asked, use.path, use.persistent))
    if use.path:
        refuse_taken(use.path, seen)
    if use.mounted:
        part.after["mounted"] = "yes"
        part.steps.append(attach(use, seen, use.path))
        part.warnings += hidden(use.path, seen, use.seconds) if use.path else []
    elif use.marker:
        part.after["mounted"] = "no"
        part.steps.append(attach(use, seen, use.path, place=False))
    if use.persistent:
        boot(part, use, use.path, None)
    return part


def bring_unit(use: Use, row: registry.Row, part: Part, boots: bool, unit: str | None) -> None:
    """The steps to the unit there shall be, or to none, from the text there is."""
    path = row["path"]
    if not boots:
        part.steps += remove_unit(path, unit or "")
        return
    boot(part, use, path, unit)
    if part.before and unit is None:
        part.before["persistent"] = False
    elif part.before and row["asked"] == use.asked:
        part.before["unit"], part.after["unit"] = "edited", "written"


def mend(use: Use, seen: Seen, row: registry.Row, part: Part, found: str, flags_only: bool) -> None:
    """The steps of a mount that is not as asked: ``found`` says how, ``flags_only`` whether its own flags would do."""
    path = row["path"]
    stack = seen.stack(path)
    if flags_only and stack:
        from ansible_collections.microvm.host.plugins.module_utils._storage import steps

        before = [flag for flag in stack[-1].flags if flag in mount.PER_MOUNT]
        wanted = list(filesystems.of(use.asked).parsed(use.asked).flags)
        part.steps.append(steps.SetFlags(use.asked, path, wanted, before, use.seconds))
        return
    who = holders.of_mount(path) if stack else []
    attaching = attach(use, seen, path, place=not who, replaces=bool(stack))
    if not who:
        part.steps.append(attaching)
        part.warnings += [] if stack else hidden(path, seen, use.seconds)
        return
    part.pending = who
    part.after["mounted"] = part.before.get("mounted", "no")
    part.warnings.append(
        "%s is mounted otherwise than asked (%s) and in use by %s: it is put right by the first run that finds it idle"
        % (path, found or "older options", ", ".join(who))
    )
    if row["asked"] != use.asked:
        part.steps.insert(0, attaching)


def take_down(use: Use, seen: Seen, row: registry.Row, part: Part, boots: bool) -> None:
    """The step that unmounts it. Raises ``in_use``; a patient use leaves one that is in use to a later run."""
    path = row["path"]
    stack = seen.stack(path)
    if part.before:
        part.before["mounted"] = "yes" if stack else "no"
    part.after["mounted"] = "no"
    others = seen.users_of(row, use.user) if stack else []
    if others and not use.patient:
        raise HostError("in_use", "%s is used by %s" % (path, ", ".join(others)), "remove that first")
    part.pending = holders.of_mount(path) if stack and use.patient and not others else []
    if others:
        part.after["mounted"] = part.before.get("mounted", "yes")
    elif part.pending:
        part.after["mounted"] = part.before.get("mounted", "yes")
        text = "%s is in use by %s: it is unmounted by the first run that finds it idle"
        part.warnings.append(text % (path, ", ".join(part.pending)))
    elif stack:
        part.steps.append(detach(path, not boots, use.seconds))


def try_first(use: Use, seen: Seen, row: registry.Row, part: Part) -> None:
    """A backend is tried before it counts, unless a step does so anyway."""
    if not goes_out(part.steps):
        part.steps.insert(0, attach(use, seen, row["path"], place=False))


def attach(use: Use, seen: Seen, path: str, place: bool = True, replaces: bool = False) -> Step:
    """The step that tries the mount, and with ``place`` puts it on ``path`` (empty: chosen then)."""
    from ansible_collections.microvm.host.plugins.module_utils._storage import steps

    return steps.AttachMount(
        asked=use.asked,
        path=path,
        base=use.base,
        prefix=use.prefix,
        replaces=replaces,
        place=place,
        probe=use.probe,
        marker=use.marker,
        seconds=use.seconds,
        # What is exchanged may hang, and is there.
        makes=missing(path or use.base, seen, use.seconds) if place and not replaces else [],
        secret=use.secret,
    )


def goes_out(steps: t.Sequence[Step], placing: bool = False) -> bool:
    """True when one of the steps needs the server; ``placing``: when one puts a mount in place."""
    if not steps:
        return False
    from ansible_collections.microvm.host.plugins.module_utils._storage.credential_steps import Prove
    from ansible_collections.microvm.host.plugins.module_utils._storage.steps import AttachMount

    if placing:
        return any(isinstance(step, AttachMount) and step.place for step in steps)
    return any(isinstance(step, (AttachMount, Prove)) for step in steps)


def detach(path: str, forget: bool, seconds: float) -> Step:
    """The step that unmounts it; ``forget``: its directory goes too."""
    from ansible_collections.microvm.host.plugins.module_utils._storage import steps

    return steps.DetachMount(path, forget, seconds)


def boot(part: Part, use: Use, path: str, previous: str | None) -> None:
    """Have systemd mount it at boot, and say so when the host lacks the program that does."""
    from ansible_collections.microvm.host.plugins.module_utils._storage import steps

    part.steps += [steps.WriteUnit(use.asked, path, previous, uuid.uuid4().hex[:8]), ReloadUnits()]
    program, packages = filesystems.of(use.asked).PROGRAM
    if not os.path.exists(program):
        text = "%s is missing, so systemd can't mount it at boot: install %s (role prepare_host)"
        part.warnings.append(text % (program, packages))


def remove_unit(path: str, previous: str) -> list[Step]:
    """The steps after which systemd does not know it."""
    from ansible_collections.microvm.host.plugins.module_utils._storage import steps

    return [steps.RemoveUnit(path, previous, uuid.uuid4().hex[:8]), ReloadUnits()]


def ended(name: str, user: str, seen: Seen, seconds: float) -> Plan:
    """The plan that ends a use."""
    part = absent(user, seen, seconds)
    return Plan(
        name,
        part.before,
        part.after,
        part.steps,
        commit=lambda connection, known: forget(connection, user),
        locks=mount.locks_of(part, None),
        seconds=seconds,
    )


def absent(user: str, seen: Seen, seconds: float) -> Part:
    """The steps that end a use; the mount goes with its last user."""
    row = seen.of(user)
    if row is None:
        return Part()
    own = seen.users[user]
    part = Part(row=row, before=mount.facets(row["asked"], row["path"], bool(own["persistent"])))
    others = seen.users_of(row, user)
    if others:
        part.steps.append(Record("leave %s to %s" % (row["path"], ", ".join(others))))
        return part
    part.before["mounted"] = "yes" if seen.stack(row["path"]) else "no"
    unit = files.text_of(units.unit_file(row["path"]))
    if unit is not None:
        part.steps += remove_unit(row["path"], unit)
    part.steps.append(detach(row["path"], True, seconds))
    if row["asked"].get("credentials"):
        from ansible_collections.microvm.host.plugins.module_utils._storage import mount_password

        part.steps.append(mount_password.removal(row["asked"]["credentials"]))
    return part


def store(connection: sqlite3.Connection, use: Use, part: Part, known: Known) -> None:
    """Write the rows of a mount and its user, as they are after the steps."""
    row = part.row or {"attached": None, "shown": None, "version": None, "address": None, "path": use.path}
    live = {}
    if "shown" in known:
        live = {"attached": use.asked, "shown": known["shown"]}
        live.update({key: known[key] for key in ("version", "address") if key in known})
    elif known.get("renewed") is False:  # it lives on with the old password: another mount than asked
        live = {"attached": dict(row["attached"] or use.asked, outdated_password=True)}
    values = {
        "identity": filesystems.of(use.asked).identity(use.asked),
        "path": known.get("path", row["path"]),
        "asked": use.asked,
        **{key: live.get(key, row[key]) for key in ("attached", "shown", "version", "address")},
    }
    if part.row is not None:
        values = {"id": part.row["id"], **values}
    else:
        values = {"path": values.pop("path"), **values}
    registry.put(connection, "mounts", values)
    found = registry.rows(connection, "SELECT id FROM mounts WHERE path = ?", values["path"])
    registry.put(
        connection, "mount_users", {"user": use.user, "mount": found[0]["id"], "persistent": int(use.persistent)}
    )


def forget(connection: sqlite3.Connection, user: str) -> None:
    """Remove a user's row, and the mount's with the last one."""
    connection.execute("DELETE FROM mount_users WHERE user = ?", (user,))
    connection.execute("DELETE FROM mounts WHERE id NOT IN (SELECT mount FROM mount_users)")


def contact(use: Use, steps: t.Sequence[Step]) -> t.Callable[[], t.Any] | None:
    """What check mode does of it, when one of the steps needs the server: find it and open a connection."""
    if not goes_out(steps):
        return None

    def connect() -> dict[str, t.Any]:
        filesystems.of(use.asked).reach(use.asked, use.seconds * 0.9)
        return {}

    return connect


def missing(path: str, seen: Seen, seconds: float) -> list[str]:
    """The directories that do not exist yet, ``path`` included, outermost first.

    Below somebody's network mount, which may hang, a child looks. Raises HostError ``timeout``.
    """
    return _looked_at(path, _missing, seen, seconds)


def hidden(path: str, seen: Seen, seconds: float) -> list[str]:
    """A warning when a mount on ``path`` would hide what is there. Raises HostError ``timeout`` as ``missing`` does."""
    found = _looked_at(path, _some_names, seen, seconds)
    if not found:
        return []
    text = "%s is not empty: the mount hides what is in that directory (%s) until it is unmounted"
    return [text % (path, ", ".join(found))]


def _looked_at(path: str, look: t.Callable[[str], list[str]], seen: Seen, seconds: float) -> list[str]:
    if any(stack[-1].fstype.startswith(REMOTE) for at, stack in seen.stacks.items() if path.startswith(at + "/")):
        return t.cast("list[str]", deadline.call(lambda: look(path), seconds, "looking at %s" % path))
    return look(path)


def _some_names(path: str) -> list[str]:
    try:
        found = sorted(os.listdir(path))
    except OSError:
        return []  # missing, or no directory: the step says so
    return found[:3] + ["..."] * (len(found) > 3)


def _missing(path: str) -> list[str]:
    found = []
    while not os.path.lexists(path):
        found.append(path)
        path = os.path.dirname(path)
    return found[::-1]


def refuse_taken(path: str, seen: Seen) -> None:
    """Raise ``conflict`` when something is mounted on ``path`` already, or fstab speaks of it."""
    stack = seen.stack(path)
    if stack:
        raise HostError(
            "conflict",
            "%s is a mount point already, of %s (%s)" % (path, stack[-1].source, stack[-1].fstype),
            "choose another path, or unmount it",
            field="path",
        )
    for number, line in enumerate((files.text_of("/etc/fstab") or "").splitlines(), 1):
        fields = line.split("#", 1)[0].split()
        if len(fields) > 1 and fields[1].rstrip("/") == path:
            text = "/etc/fstab line %d mounts on %s too" % (number, path)
            raise HostError("conflict", text, "remove that line, or choose another path", field="path")
