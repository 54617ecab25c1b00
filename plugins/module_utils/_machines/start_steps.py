# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The step that starts a machine, and tells why one does not run. Private to microvm.host."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import grp
import json
import os
import re
import stat
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host import command, deadline, names, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import control, opening, places, unit

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._machines import ready

POLL_SECONDS = 0.02
ASK_SECONDS = 0.5
"""How often systemd is asked meanwhile whether the machine is still there: that takes as long as a start."""
NOISE = r'\{"event": |microvm[a-z-]*@\S+: |Starting |Started |Failed to start |Stopp|'
"""How the lines of a journal begin that are systemd's or the host tool's; beside them a tap that was gone already."""


@dataclasses.dataclass(frozen=True)
class StartMachine(Step):
    """Start a machine that does not run and wait until its processors do.

    ``disks``: path of each volume, whether to write. ``reload``: its units are new to systemd. ``wait_for``:
    what its console must show, or empty. ``notify``: the vsock address of a guest that says when it is ready, or 0.
    """

    name: str
    kind: str
    seconds: float
    disks: list[list[t.Any]]
    reload: bool
    wait_for: str
    notify: int

    def describe(self) -> str:
        return "start the machine %s" % self.name

    def apply(self, known: Known) -> deadline.Child:
        if self.reload:
            systemd.reload_units()
        return deadline.Child(lambda send: self._start(), self.seconds, "starting the machine %s" % self.name)

    def _start(self) -> Known:
        if not self.notify:
            return self._run(None)
        from ansible_collections.microvm.host.plugins.module_utils._machines import ready

        with ready.Listener(self.kind, self.name, self.notify) as guest:
            return self._run(guest)

    def _run(self, guest: ready.Listener | None) -> Known:
        until = time.monotonic() + max(self.seconds - control.ANSWER_SECONDS - 1, self.seconds / 2)
        if self.disks:
            try_disks(self.disks, places.user(self.name))
        console = places.logs(self.name) + "/console.log"
        said = os.path.getsize(console) if os.path.exists(console) else 0
        service = places.unit(self.name)
        begun = "%.3f" % time.time()
        try:
            command.run(["systemctl", "start", service], self.seconds, True)
        except HostError as error:
            raise failed_start(self.name, begun) if error.rc == 1 else error from None  # the journal knows better why
        self._wait(until, self._runs, lambda runs: failed_start(self.name, begun, runs))
        if self.wait_for:
            lacks = "its console did not say %r" % self.wait_for
            self._wait(until, lambda: _says(console, said, self.wait_for), functools.partial(self._late, lacks))
        if guest is not None:
            lacks = "its guest did not say over vsock that it is ready"
            self._wait(until, functools.partial(guest.hears, POLL_SECONDS), functools.partial(self._late, lacks))
        return {"started": True}

    def _wait(self, until: float, done: t.Callable[[], bool], error: t.Callable[[bool], HostError]) -> None:
        """Until something is ``done``, of which nobody tells.

        Raises ``error`` when it is too late, or the machine is gone; that is told whether it still runs.
        """
        ask = min(until, time.monotonic() + ASK_SECONDS)
        while not done():
            if time.monotonic() >= ask:
                runs = _value(places.unit(self.name), "ActiveState") == "active"
                if not runs or time.monotonic() >= until:
                    raise error(runs)
                ask = min(until, time.monotonic() + ASK_SECONDS)
            time.sleep(POLL_SECONDS)

    def _runs(self) -> bool:
        """Whether its hypervisor says so. It does not listen at first, or waits for a share's daemon."""
        try:
            return control.connect(self.kind, places.control_socket(self.name)).state() != "starting"
        except HostError:
            return False

    def _late(self, lacks: str, runs: bool) -> HostError:
        """``timeout`` when it is too late, ``refused`` when the machine is gone."""
        hint = "%s/console.log shows what it said" % places.logs(self.name)
        if not runs:
            return HostError("refused", "the machine %s was started, but ended: %s" % (self.name, lacks), hint)
        text = "the machine %s was started, but %s within %g s" % (self.name, lacks, self.seconds)
        return HostError("timeout", text, hint + "; a longer timeout may help")

    def undo(self, known: Known) -> None:
        """What this step started goes; nobody in it has worked yet."""
        if not os.path.exists(places.unit_file(places.unit(self.name))):
            return
        command.run(["systemctl", "kill", "--signal=KILL", places.unit(self.name)], unit.ORDER_SECONDS, True, (0, 1, 5))
        units = [places.unit(self.name), places.lock_unit(self.name)]
        command.run(["systemctl", "stop", *units], unit.ORDER_SECONDS, True, (0, 1, 5))
        command.run(["systemctl", "reset-failed", *places.units(self.name)], unit.ORDER_SECONDS, True, (0, 1, 5))


def _says(console: str, begin: int, text: str) -> bool:
    """Whether a console said something behind ``begin``."""
    try:
        with open(console, "rb") as file:
            file.seek(begin)
            return text.encode() in file.read()
    except FileNotFoundError:
        return False


def _give(path: str) -> None:
    """Let the machines' group have a volume.

    A file was made before there was such a group; a device belongs to root again whenever udev makes it.
    """

    group = grp.getgrnam(names.GROUP).gr_gid
    with contextlib.suppress(FileNotFoundError, PermissionError):  # a server may not let root: opening the disk tells
        found = os.stat(path)
        if found.st_gid != group and (stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)):
            os.chown(path, -1, group)


def _value(service: str, key: str) -> str:
    return command.run(
        ["systemctl", "show", "--value", "--property=" + key, service], unit.ORDER_SECONDS, False
    ).strip()


def failed_start(name: str, since: str, runs: bool = False) -> HostError:
    """Why a machine does not run, or ``runs`` and does not answer: what its services said, out of the journal."""
    words = ["journalctl", "--unit", places.unit(name), "--unit", places.fs_unit(name, "*")]
    words += ["--unit", places.lock_unit(name), "--unit", places.net_unit(name)]
    words += ["--since", "@" + since, "--output=cat", "--lines=40"]
    lines = command.run([*words, "--no-pager", "--quiet"], unit.ORDER_SECONDS, writes=False).splitlines()
    refused = [line for line in lines if line.startswith('{"event": "not locked"')]
    if refused:
        event = json.loads(refused[-1])
        return HostError.unpacked({**event["error"], "message": event["message"]})
    noise = re.compile(NOISE + re.escape('Cannot find device "%s' % places.tap(name, 0)[:-1]))
    said = [line for line in lines if line.strip() and not noise.match(line)]
    hint = "journalctl -u %s has all of it" % places.unit(name)
    stderr = "\n".join(said[-20:])
    if runs:
        text = "the machine %s was started, but its hypervisor does not answer yet" % name
        text = "; ".join([text, *said[-3:]])
        return HostError("timeout", text, hint + "; a longer timeout may help", stderr=stderr)
    text = "the machine %s does not start: %s" % (name, "; ".join(said[-3:]) or "its hypervisor ended at once")
    return HostError("refused", text, hint, stderr=stderr)


def try_disks(disks: t.Sequence[t.Sequence[t.Any]], user: str) -> None:
    """Open volumes (path, whether to write) as the machine's user will. Raises as ``refuse_closed``."""

    def work() -> bool:
        for path, dummy in disks:
            _give(path)
        opening.become(user)
        for path, writable in disks:
            opening.refuse_closed("disk", path, writable, user)
        return True

    deadline.call(work, unit.ORDER_SECONDS, "opening the disks %s" % ", ".join([path for path, dummy in disks]))
