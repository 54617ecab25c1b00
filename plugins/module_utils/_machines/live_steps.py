# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that stop a machine, and change one that runs. Private to microvm.host."""

from __future__ import annotations

import contextlib
import dataclasses

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host import command, deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import control, places, stop, unit


@dataclasses.dataclass(frozen=True)
class StopMachine(Step):
    """Stop a running machine. ``again``: it is stopped to be started anew, so an undo starts what there was."""

    name: str
    kind: str
    seconds: float
    again: bool

    def describe(self) -> str:
        return "stop the machine %s" % self.name

    def apply(self, known: Known) -> deadline.Child:
        limit = self.seconds + stop.QUIT_SECONDS + unit.GIVE_UP + unit.ORDER_SECONDS
        return deadline.Child(lambda send: self._stop(), limit, "stopping the machine %s" % self.name)

    def _stop(self) -> Known:
        how = stop.gracefully(self.kind, places.control_socket(self.name), self.seconds)
        limit = self.seconds + unit.GIVE_UP + unit.ORDER_SECONDS
        # 5: it has no locks to hold
        units = [places.unit(self.name), places.lock_unit(self.name)]
        command.run(["systemctl", "stop", *units], limit, True, (0, 5))
        return {"stopped": "killed" if how == "left" else how}

    def undo(self, known: Known) -> None:
        if self.again:
            command.run(["systemctl", "start", "--no-block", places.unit(self.name)], unit.ORDER_SECONDS, writes=True)


@dataclasses.dataclass(frozen=True)
class PauseMachine(Step):
    """Stop the processors of a running machine, or let them go on (``pause`` false)."""

    name: str
    kind: str
    pause: bool

    def describe(self) -> str:
        return "%s the machine %s" % ("pause" if self.pause else "resume", self.name)

    def apply(self, known: Known) -> None:
        self._order(self.pause)

    def undo(self, known: Known) -> None:
        with contextlib.suppress(HostError):  # it may have gone since: then there is nothing to let go on
            self._order(not self.pause)

    def _order(self, pause: bool) -> None:
        hypervisor = control.connect(self.kind, places.control_socket(self.name))
        if (hypervisor.state() == "paused") != pause:
            (hypervisor.pause if pause else hypervisor.resume)()


@dataclasses.dataclass(frozen=True)
class RegisterVolume(Step):
    """Have a volume that was just made in the registry before its machine starts: who locks it looks there."""

    name: str
    backend: str
    size: int
    uuid: str

    def describe(self) -> str:
        return "register volume %s" % self.name

    def apply(self, known: Known) -> None:
        with registry.writing() as connection:
            registry.put(connection, "volumes", {**dataclasses.asdict(self), "config": {}})

    def undo(self, known: Known) -> None:
        with registry.writing() as connection:
            connection.execute("DELETE FROM volumes WHERE name = ? AND uuid = ?", (self.name, self.uuid))


@dataclasses.dataclass(frozen=True)
class TellGuest(Step):
    """A disk of a running machine has ``size`` bytes from now on, and its guest knows. There is no way back."""

    name: str
    kind: str
    disk: str
    path: str
    size: int

    def describe(self) -> str:
        return "tell the machine %s that its %s has %d bytes" % (self.name, self.disk, self.size)

    def apply(self, known: Known) -> None:
        control.connect(self.kind, places.control_socket(self.name)).grow_disk(self.disk, self.path, self.size)


@dataclasses.dataclass(frozen=True)
class SetBalloon(Step):
    """Have the guest of a running machine do with ``target`` bytes of its ``memory``; ``before``: with what it did."""

    name: str
    kind: str
    memory: int
    target: int
    before: int

    def describe(self) -> str:
        return "have the machine %s do with %d MiB" % (self.name, self.target >> 20)

    def apply(self, known: Known) -> None:
        self._order(self.target)

    def undo(self, known: Known) -> None:
        with contextlib.suppress(HostError):  # it may have gone since
            self._order(self.before)

    def _order(self, target: int) -> None:
        control.connect(self.kind, places.control_socket(self.name)).balloon(self.memory, target)
