# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is of mounts: the registry's rows, mountinfo, and a look at each. Private to microvm.host."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, mounts
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import probe

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.plan import Step
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool

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
        self.beside: dict[str, t.Any] = {}
        """What kinds of backends that are no mounts keep here for this look."""
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
        backed = {row["config"]["path"] for row in self.backends.values() if "path" in row["config"]}
        wanted = [path for path in probed(self) if path in tops or path in backed]
        self.looks: dict[str, dict[str, t.Any]] = {path: {"status": "unreachable"} for path in wanted}
        paths = [path for path in wanted if (path, tops.get(path)) not in hung]
        for index, answer in deadline.Sweep(paths, look, seconds):
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
