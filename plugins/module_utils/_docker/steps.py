# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that put the volume driver into service and take it out. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import os

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, ReloadUnits, Step
from ansible_collections.microvm.host.plugins.module_utils._docker import units
from ansible_collections.microvm.host.plugins.module_utils._host import command, files

START_SECONDS = 30.0
STOP_SECONDS = 150.0
"""A driver that is told to stop first ends what it is asked for."""


@dataclasses.dataclass(frozen=True)
class WriteDriver(Step):
    """Write the units ``texts`` and remove the others; ``previous`` are the texts there were, null for none."""

    texts: dict[str, str]
    previous: dict[str, str | None]
    nonce: str

    def describe(self) -> str:
        return "write the units of Docker's volume driver"

    def apply(self, known: Known) -> None:
        for unit in units.ALL:
            _put(unit, self.texts.get(unit), self.nonce)

    def undo(self, known: Known) -> None:
        for unit, text in self.previous.items():
            files.forget(units.path_of(unit), self.nonce)
            _put(unit, text, self.nonce)


@dataclasses.dataclass(frozen=True)
class StartDriver(Step):
    """Have the socket listen, and a running driver be the one of now."""

    prime: bool

    def describe(self) -> str:
        return "start Docker's volume driver"

    def finish(self, known: Known) -> None:
        command.run(["systemctl", "try-restart", units.SERVICE], STOP_SECONDS, writes=True)
        command.run(["systemctl", "start", units.SOCKET], START_SECONDS, writes=True)
        if self.prime:
            command.run(["systemctl", "start", "--no-block", units.PRIME], START_SECONDS, writes=True)


@dataclasses.dataclass(frozen=True)
class RemoveDriver(Step):
    """Stop the driver, after what it was asked for, and remove its units."""

    def describe(self) -> str:
        return "stop and remove Docker's volume driver"

    def finish(self, known: Known) -> None:
        there = [unit for unit in units.ALL if os.path.exists(units.path_of(unit))]
        if there:
            command.run(["systemctl", "stop", *there], STOP_SECONDS, writes=True)
        for unit in units.ALL:
            _put(unit, None, "")
        files.remove(units.VERSION_FILE)
        files.remove_empty(units.BASE)


def _put(unit: str, text: str | None, nonce: str) -> None:
    """Have a unit and its link, or for None neither."""
    path, link = units.path_of(unit), units.link_of(unit)
    if text is None:
        if link:
            files.erase(link)
            if unit == units.PRIME:  # nobody else makes that directory
                files.remove_empty(os.path.dirname(link))
        files.erase(path)
        return
    files.write(path, text.encode(), 0o644, nonce)
    if link:
        files.link(path, link)


KINDS: dict[str, type[Step]] = {kind.__name__: kind for kind in (WriteDriver, StartDriver, RemoveDriver, ReloadUnits)}
