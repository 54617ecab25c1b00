# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ONE mount as a resource with users: what is there, and the steps to what should be. Private to microvm.host.

A mount resource or a backend is a user of a mount; the mount is made for the first and goes with the last.
"""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import time
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Record, ReloadUnits, Step
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, files, holders, mounts, names
from ansible_collections.microvm.host.plugins.module_utils._host import nfs as parser
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import nfs, probe, units

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool

BASE = "/var/lib/microvm/mounts"
PROGRAM = "/usr/sbin/mount.nfs"
"""What systemd mounts NFS with; this collection needs no program for it."""
PER_MOUNT = frozenset({"ro", "rw", "nosuid", "nodev", "noexec", "noatime", "relatime", "strictatime", "nodiratime"})

REMOTE = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "virtiofs")
"""How the types of file systems begin whose server may be dead."""

LOOK_SECONDS = 5.0
"""How long all looks of a call may take together: who does not answer by then is told as unreachable, no more."""

Hung = tuple[str, t.Optional[int]]
"""A mount that did not answer: its path, and its id in mountinfo (another mount there has another)."""


def look_seconds(timeouts: t.Iterable[int]) -> float:
    """How long the looks of a call may take whose items have these timeouts, s: most of them is for the changes."""
    return min(LOOK_SECONDS, max(timeouts, default=1) / 2)


class Seen:
    """The registry's mounts and users, mountinfo, and what a look at each mount gave (by path).

    ``probed`` says of which paths. Mounts in ``hung`` are not looked at again; those that do not answer are added.
    """

    def __init__(self, probed: t.Callable[[Seen], list[str]], seconds: float, hung: set[Hung] | None = None) -> None:
        self._tool: tuple[str, str, list[Step]] | None = None
        with registry.reading() as connection:
            self.rows = {row["id"]: row for row in registry.rows(connection, "SELECT * FROM mounts")}
            users = registry.rows(connection, "SELECT * FROM mount_users ORDER BY rowid")
            self.backends = {row["name"]: row for row in registry.rows(connection, "SELECT * FROM backends")}
            self.volumes: dict[str, list[str]] = {}
            for row in registry.rows(connection, "SELECT backend, name FROM volumes ORDER BY name"):
                self.volumes.setdefault(row["backend"], []).append(row["name"])
        self.users = {row["user"]: row for row in users}
        self.identities = {row["identity"]: row for row in self.rows.values()}
        self.stacks: dict[str, list[mounts.Mount]] = {}
        for mount in mounts.table():
            self.stacks.setdefault(mount.path, []).append(mount)
        hung = set() if hung is None else hung
        tops = {path: stack[-1].id for path, stack in self.stacks.items()}
        backed = {row["config"]["path"] for row in self.backends.values() if row["kind"] == "local_file"}
        wanted = [path for path in probed(self) if path in tops or path in backed]
        self.looks: dict[str, dict[str, t.Any]] = {path: {"status": "unreachable"} for path in wanted}
        paths = [path for path in wanted if (path, tops.get(path)) not in hung]
        for index, answer in deadline.sweep(paths, look, seconds):
            if answer is None:
                hung.add((paths[index], tops.get(paths[index])))
            else:
                self.looks[paths[index]] = answer

    def tool(self, tool: t.Callable[[], Tool]) -> tuple[str, str, list[Step]]:
        """What ``planned`` of the host tool says; looked up once, for all items."""
        if self._tool is None:
            self._tool = tool().planned()
        return self._tool

    def of(self, user: str) -> registry.Row | None:
        """The mount that ``user`` uses."""
        row = self.users.get(user)
        return self.rows[row["mount"]] if row else None

    def users_of(self, row: registry.Row, but: str) -> list[str]:
        """The other users of a mount, as a person would name them."""
        return [
            user.replace(":", " ", 1) for user, use in self.users.items() if use["mount"] == row["id"] and user != but
        ]

    def by_identity(self, identity: str) -> registry.Row | None:
        """The registered mount of an identity."""
        return self.identities.get(identity)

    def stack(self, path: str) -> list[mounts.Mount]:
        """The mounts on a path, the visible one last."""
        return self.stacks.get(path, [])


def look(path: str) -> dict[str, t.Any]:
    """Capacity and status of a mount point; may hang, so it runs in a child. ``uuid`` when it carries a marker."""
    begun = time.monotonic()
    try:
        root = os.open(path, probe.PLACE)
        try:
            found: dict[str, t.Any] = {"status": "ok", "capacity": probe.capacity(root)}
            found["uuid"] = probe.read_marker(root, path)
        finally:
            os.close(root)
    except (FileNotFoundError, NotADirectoryError):
        return {"status": "not_found"}
    except OSError as error:
        return {"status": probe.explained(error, path).kind if error.errno else "unreachable"}
    except HostError as error:
        return {"status": error.kind}
    found["probe_seconds"] = round(time.monotonic() - begun, 4)
    return found


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


def present(use: Use, seen: Seen) -> Part:
    """The steps that give ``use`` its mount. Raises HostError ``conflict`` or ``in_use`` naming who is in the way."""
    row = seen.of(use.user)
    identity = nfs.identity(use.asked)
    shared = seen.by_identity(identity)
    if shared is not None and (row is None or shared["id"] != row["id"]):
        others = ", ".join(seen.users_of(shared, use.user))
        if row is not None:
            raise HostError("conflict", "%s is already the mount of %s" % (nfs.source(use.asked), others))
        if shared["asked"] != use.asked:
            hint = "use the same version and options, or remove the first"
            raise HostError(
                "conflict", "%s is mounted for %s with other options" % (nfs.source(use.asked), others), hint
            )
        if use.path and use.path != shared["path"]:
            hint = "leave path out to share that mount"
            text = "%s is mounted for %s on %s" % (nfs.source(use.asked), others, shared["path"])
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
        return _new(use, seen)
    return _existing(use, seen, row)


def _facets(asked: dict[str, t.Any], path: str, persistent: bool) -> dict[str, t.Any]:
    found = {key: asked[key] for key in ("server", "export", "version", "options")}
    if path:
        found["path"] = path
    found["persistent"] = persistent
    return found


def _new(use: Use, seen: Seen) -> Part:
    part = Part(after=_facets(use.asked, use.path, use.persistent))
    if use.path:
        refuse_taken(use.path, seen)
    if use.mounted:
        part.after["mounted"] = "yes"
        part.steps.append(_attach(use, seen, use.path))
        part.warnings += hidden(use.path, seen, use.seconds) if use.path else []
    elif use.marker:
        part.after["mounted"] = "no"
        part.steps.append(_attach(use, seen, use.path, place=False))
    if use.persistent:
        _boot(part, use, use.path, None)
    if not part.steps:
        part.steps.append(Record("register %s" % nfs.source(use.asked)))
    return part


def _existing(use: Use, seen: Seen, row: registry.Row) -> Part:
    path = row["path"]
    own = seen.users.get(use.user)
    part = Part(row=row)
    part.before = _facets(row["asked"], path, bool(own and own["persistent"])) if own else {}
    part.after = _facets(use.asked, path, use.persistent)
    unit = files.text_of(units.unit_file(path))
    boots = use.persistent or any(
        each["persistent"] for user, each in seen.users.items() if each["mount"] == row["id"] and user != use.user
    )
    if boots and (unit != units.unit_text(use.asked, path) or not os.path.islink(units.unit_link(path))):
        _boot(part, use, path, unit)
        if part.before and unit is None:
            part.before["persistent"] = False
        elif part.before and row["asked"] == use.asked:
            part.before["unit"], part.after["unit"] = "edited", "written"
    elif not boots and unit is not None:
        part.steps += _remove_unit(path, unit)
    if use.mounted:
        _bring_live(use, seen, row, part)
    elif use.mounted is False:
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
            part.steps.append(_detach(path, not boots, use.seconds))
    if use.marker and (own is None or row["asked"] != use.asked) and not _goes_out(part.steps):
        part.steps.insert(0, _attach(use, seen, path, place=False))  # a backend is tried before it counts
    if not part.steps and (own is None or bool(own["persistent"]) != use.persistent or row["asked"] != use.asked):
        part.steps.append(Record("register %s" % nfs.source(use.asked)))
    return part


def _bring_live(use: Use, seen: Seen, row: registry.Row, part: Part) -> None:
    """The steps from what is on the path to what is asked."""
    path = row["path"]
    stack = seen.stack(path)
    found, flags_only = _difference(use, row, stack, seen.looks.get(path, {}))
    if part.before:
        part.before["mounted"] = found or "yes"
    part.after["mounted"] = "yes"
    if not found and row["attached"] == use.asked:
        return
    wanted = nfs.parsed(use.asked)
    if flags_only and stack:
        from ansible_collections.microvm.host.plugins.module_utils._storage import steps

        before = [flag for flag in stack[-1].flags if flag in PER_MOUNT]
        part.steps.append(steps.SetFlags(use.asked, path, list(wanted.flags), before, use.seconds))
        return
    who = holders.of_mount(path) if stack else []
    attach = _attach(use, seen, path, place=not who, replaces=bool(stack))
    if not who:
        part.steps.append(attach)
        part.warnings += [] if stack else hidden(path, seen, use.seconds)
        return
    part.pending = who
    part.after["mounted"] = part.before.get("mounted", "no")
    part.warnings.append(
        "%s is mounted otherwise than asked (%s) and in use by %s: it is put right by the first run that finds it idle"
        % (path, found or "older options", ", ".join(who))
    )
    if row["asked"] != use.asked:
        part.steps.insert(0, attach)


def _attach(use: Use, seen: Seen, path: str, place: bool = True, replaces: bool = False) -> Step:
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
    )


def _goes_out(steps: t.Sequence[Step]) -> bool:
    from ansible_collections.microvm.host.plugins.module_utils._storage.steps import AttachMount

    return any(isinstance(step, AttachMount) for step in steps)


def _detach(path: str, forget: bool, seconds: float) -> Step:
    from ansible_collections.microvm.host.plugins.module_utils._storage import steps

    return steps.DetachMount(path, forget, seconds)


def _boot(part: Part, use: Use, path: str, previous: str | None) -> None:
    """Have systemd mount it at boot, and say so when the host lacks the program that does."""
    from ansible_collections.microvm.host.plugins.module_utils._storage import steps

    part.steps += [steps.WriteUnit(use.asked, path, previous, uuid.uuid4().hex[:8]), ReloadUnits()]
    if not os.path.exists(PROGRAM):
        text = "%s is missing, so systemd can't mount it at boot: install nfs-common or nfs-utils (role prepare_host)"
        part.warnings.append(text % PROGRAM)


def _remove_unit(path: str, previous: str) -> list[Step]:
    from ansible_collections.microvm.host.plugins.module_utils._storage import steps

    return [steps.RemoveUnit(path, previous, uuid.uuid4().hex[:8]), ReloadUnits()]


def _difference(use: Use, row: registry.Row, stack: list[mounts.Mount], looked: dict[str, t.Any]) -> tuple[str, bool]:
    """How the live mount differs from the registered one, in words, and whether per-mount flags would mend it."""
    if not stack:
        return "no", False
    top = stack[-1]
    attached = row["attached"] or row["asked"]
    if len(stack) > 1:
        return "%d mounts stacked" % len(stack), False
    if not nfs.is_mount_of(top, attached, row["address"]):
        return "other source %s" % top.source, False
    if looked.get("status") == "stale":
        return "stale", False
    now = nfs.shown(top, attached)
    then = row["shown"] or {}
    drifted = sorted(key for key in {**now, **then} if now.get(key, "-") != then.get(key, "-"))
    if drifted:
        return "options drifted: %s" % ", ".join(drifted), set(drifted) <= PER_MOUNT and row["attached"] == use.asked
    if row["attached"] != use.asked:
        return "", _only_flags_differ(attached, use.asked, top)
    return "", False


def _only_flags_differ(one: dict[str, t.Any], two: dict[str, t.Any], top: mounts.Mount) -> bool:
    same = all(one[key] == two[key] for key in ("server", "export"))
    first, second = nfs.parsed(one), nfs.parsed(two)
    speaks = parser.negotiated_version(top.options) in parser.versions(two["version"])
    return same and speaks and first.superblock == second.superblock


def absent(user: str, seen: Seen, seconds: float) -> Part:
    """The steps that end a use; the mount goes with its last user."""
    row = seen.of(user)
    if row is None:
        return Part()
    own = seen.users[user]
    part = Part(row=row, before=_facets(row["asked"], row["path"], bool(own["persistent"])))
    others = seen.users_of(row, user)
    if others:
        part.steps.append(Record("leave %s to %s" % (row["path"], ", ".join(others))))
        return part
    part.before["mounted"] = "yes" if seen.stack(row["path"]) else "no"
    unit = files.text_of(units.unit_file(row["path"]))
    if unit is not None:
        part.steps += _remove_unit(row["path"], unit)
    part.steps.append(_detach(row["path"], True, seconds))
    return part


def store(connection: sqlite3.Connection, use: Use, part: Part, known: Known) -> None:
    """Write the rows of a mount and its user, as they are after the steps."""
    row = part.row or {"attached": None, "shown": None, "version": None, "address": None, "path": use.path}
    live = {}
    if "shown" in known:
        live = {"attached": use.asked, "shown": known["shown"]}
        live.update({key: known[key] for key in ("version", "address") if key in known})
    values = {
        "identity": nfs.identity(use.asked),
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


def status(row: registry.Row, seen: Seen) -> dict[str, t.Any]:
    """What a registered mount is now: status, negotiated version, capacity, probe time."""
    stack = seen.stack(row["path"])
    found: dict[str, t.Any] = {"path": row["path"], "status": "not_mounted", "version_negotiated": row["version"]}
    attached = row["attached"] or row["asked"]
    if not stack or not nfs.is_mount_of(stack[-1], attached, row["address"]):
        return found
    looked = seen.looks.get(row["path"], {})
    found["version_negotiated"] = parser.negotiated_version(stack[-1].options) or row["version"]
    found["status"] = looked.get("status", "ok")
    if found["status"] == "ok" and "ro" in stack[-1].flags + stack[-1].options:
        found["status"] = "read_only"
    if found["status"] not in ("ok", "read_only", "stale"):
        found["status"] = "unreachable"
    for key in ("capacity", "probe_seconds"):
        if key in looked:
            found[key] = looked[key]
    return found


def remarks(row: registry.Row, seen: Seen) -> list[str]:
    """What to warn of: a server that does not answer, or options of another mount that are in force for this one."""
    attached = row["attached"] or row["asked"]
    found = status(row, seen)["status"]
    if found == "not_mounted":
        return []
    told = []
    server = attached["server"] + (" (%s)" % row["address"] if row["address"] not in (None, attached["server"]) else "")
    if found == "unreachable":
        text = (
            "mounted, but unreachable: %s does not answer for %s; check the server and the network. What uses %s waits"
        )
        told.append((text + " until it answers again") % (server, attached["export"], row["path"]))
    if found == "stale":
        text = "mounted, but stale: %s no longer knows the export %s; export it there again, or stop what uses %s"
        told.append((text + " and run this again") % (server, attached["export"], row["path"]))
    asked, used = nfs.connections(seen.stack(row["path"])[-1], attached)
    if asked not in (None, used):
        text = "nconnect=%s is in force, not %s: mounts of %s by one version share connections, the first decides"
        told.append(text % (used, asked, server))
    return told


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


def default_path(base: str, asked: dict[str, t.Any]) -> str:
    """The path of a mount that no backend owns: slug and hash of its source."""
    text = nfs.source(asked)
    return os.path.join(base, "%s-%s" % (names.slug(text, 50), names.hash8(text)))
