# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of a machine. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._machines import disks
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import Config

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._machines.seen import Seen
    from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume

RUNNING = ("started", "restarted", "paused")
"""The states in which a machine runs afterwards."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A validated item. ``config`` None: the definition there is. ``keeps_shares``: those stay that the machine has.

    ``prepares``: its volumes are made and grown too.
    """

    name: str
    state: str
    timeout: int
    prefix: str
    config: Config | None
    keeps_shares: bool = False
    restart: str = "never"
    delete_volumes: bool = False
    taking: disks.Taking = disks.NONE
    prepares: bool = True

    def restarts(self, seen: Seen, config: Config) -> bool:
        """Whether the machine runs, and is stopped and started."""
        if self.name not in seen.active:
            return False
        if self.restart == "if_needed" and self.state != "stopped":
            placed = disks.placed(config, seen.stored) if disks.of(config) else config
            return self.state == "restarted" or seen.outdated(self.name, placed)
        return self.state == "restarted"

    def starts(self, seen: Seen, config: Config) -> bool:
        """Whether the machine is started, also again."""
        return self.restarts(seen, config) or (self.name not in seen.active and self.state in RUNNING)

    def to_look_at(self, seen: Seen) -> list[Volume]:
        """The volumes whose backends must be looked at to plan this."""
        row = seen.rows.get(self.name)
        config = self.config or (row["config"] if row else None)
        if config is None or not disks.of(config) or (self.state == "absent" and not self.delete_volumes):
            return []
        whole = self.delete_volumes or self.starts(seen, config)
        return disks.to_look_at(config, seen.stored, whole, self.timeout, self.prefix)
