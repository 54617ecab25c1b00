# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that make machines, start and stop them. Private to microvm.host."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import grp
import json
import os
import pwd
import shutil
import stat
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Record, ReloadUnits, Step
from ansible_collections.microvm.host.plugins.module_utils._host import command, deadline, files, names, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import control, kernel, places, stop, unit

ORDER_SECONDS = 30.0
"""For systemctl, which only gives an order, and for programs that change users."""
SOURCE_SECONDS = 15.0
POLL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class MakeUser(Step):
    """Make the user ``user``, which is not there; and its group, which the machines share."""

    user: str

    def describe(self) -> str:
        return "make the user %s" % self.user

    def apply(self, known: Known) -> None:
        with contextlib.suppress(KeyError):
            pwd.getpwnam(self.user)
            return
        try:
            grp.getgrnam(names.GROUP)
        except KeyError:
            make_group()
        words = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--gid", names.GROUP]
        words += ["--shell", "/usr/sbin/nologin", "--comment", "microvm.host", self.user]
        command.run(words, ORDER_SECONDS, writes=True)

    def undo(self, known: Known) -> None:
        remove_user(self.user)


def make_group() -> None:
    """Make the machines' group, with the number it has on all hosts unless that is taken here."""
    for words in (["--gid", "%d" % names.GID], ["--system"]):
        # groupadd(8): 4, the number is taken; 9, there is one: another item of another call was faster
        command.run(["groupadd", *words, names.GROUP], ORDER_SECONDS, writes=True, ok=(0, 4, 9))
        with contextlib.suppress(KeyError):
            grp.getgrnam(names.GROUP)
            return


def remove_user(user: str) -> None:
    """Remove a user that ``MakeUser`` made; one that somebody else has is left."""
    try:
        if pwd.getpwnam(user).pw_gecos != "microvm.host":
            return
    except KeyError:
        return
    command.run(["userdel", user], ORDER_SECONDS, writes=True, ok=(0, 6))


@dataclasses.dataclass(frozen=True)
class MakeSource(Step):
    """Make the directory of a share, which is missing, with an owner, a group (names or numbers) and a mode (octal)."""

    path: str
    owner: str
    group: str
    mode: str

    def describe(self) -> str:
        return "make the directory %s" % self.path

    def apply(self, known: Known) -> deadline.Child:
        return deadline.Child(lambda send: self._make(), SOURCE_SECONDS, "making %s" % self.path)

    def _make(self) -> Known:
        made = files.make_directories(self.path)
        try:
            shutil.chown(self.path, _id(self.owner), _id(self.group))
            os.chmod(self.path, int(self.mode, 8))
        except (LookupError, OSError) as error:
            for folder in reversed(made):
                files.remove_empty(folder)
            if isinstance(error, OSError):
                raise files.from_os(error, "making the directory %s" % self.path) from None
            raise HostError(
                "not_found", "%s: %s" % (self.path, error), "name a user and a group of this host"
            ) from None
        return {"made:" + self.path: made}

    def undo(self, known: Known) -> None:
        made = known.get("made:" + self.path, [self.path])
        deadline.call(
            lambda: [files.remove_empty(path) for path in reversed(made)], SOURCE_SECONDS, "removing it again"
        )


def _id(name: str) -> t.Any:
    return int(name) if name.isdigit() else name


@dataclasses.dataclass(frozen=True)
class ExtractKernel(Step):
    """Write the ELF image in the kernel ``source`` to ``target``, which is not there; others beside it go."""

    source: str
    target: str
    nonce: str

    def describe(self) -> str:
        return "extract the image in the kernel %s" % self.source

    def apply(self, known: Known) -> deadline.Child:
        return deadline.Child(lambda send: self._extract(), kernel.UNPACK_SECONDS, "unpacking %s" % self.source)

    def _extract(self) -> Known:
        files.make_directories(os.path.dirname(self.target))
        files.write(self.target, kernel.unpacked(self.source), 0o644, self.nonce)
        return {}

    def finish(self, known: Known) -> None:
        for path in glob.glob(glob.escape(os.path.dirname(self.target)) + "/vmlinux-*"):
            if path != self.target:
                files.remove(path)

    def undo(self, known: Known) -> None:
        files.forget(self.target, self.nonce)
        files.remove(self.target)
        files.remove_empty(os.path.dirname(self.target))
        files.remove_empty(places.BASE)


@dataclasses.dataclass(frozen=True)
class WriteMachine(Step):
    """Have the files ``texts`` and no others; ``previous``: what there was of both, null for nothing."""

    name: str
    texts: dict[str, str]
    previous: dict[str, str | None]
    autostart: bool
    autostarted: bool
    nonce: str

    def describe(self) -> str:
        return "%s the units of the machine %s" % ("write" if self.texts else "remove", self.name)

    def apply(self, known: Known) -> None:
        for path, text in self.previous.items():
            if files.text_of(path) != text:
                raise HostError("busy", "%s was changed since it was looked at" % path, "run it again")
        for path in self.previous:
            _put(path, self.texts.get(path), self.nonce)
        _link(self.name, self.autostart)

    def finish(self, known: Known) -> None:
        """The sockets of shares that are no more; a daemon behind one serves the running machine to its end."""
        gone = [os.path.basename(path) for path, text in self.previous.items() if text and path not in self.texts]
        sockets = [name for name in gone if name.endswith(".socket")]
        if sockets and self.texts:
            command.run(["systemctl", "stop", *sockets], ORDER_SECONDS, True, (0, 5))

    def undo(self, known: Known) -> None:
        for path, text in self.previous.items():
            files.forget(path, self.nonce)
            if files.text_of(path) == self.texts.get(path):  # else it was not written, or by somebody else since
                _put(path, text, self.nonce)
        _link(self.name, self.autostarted)
        files.remove_empty(places.directory(self.name))
        files.remove_empty(places.BASE)
        systemd.reload_units()


def _put(path: str, text: str | None, nonce: str) -> None:
    if text is None:
        files.remove(path)
        return
    files.make_directories(os.path.dirname(path))
    files.write(path, text.encode(), 0o755 if os.path.basename(path) == "run" else 0o644, nonce)


def _link(name: str, there: bool) -> None:
    """Have systemd start the machine at boot, or not."""
    link = places.autostart_link(name)
    if there:
        files.link(places.unit_file(places.unit(name)), link)
    else:
        files.remove(link)


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
        limit = self.seconds + stop.QUIT_SECONDS + unit.GIVE_UP + ORDER_SECONDS
        return deadline.Child(lambda send: self._stop(), limit, "stopping the machine %s" % self.name)

    def _stop(self) -> Known:
        how = stop.gracefully(self.kind, places.control_socket(self.name), self.seconds)
        limit = self.seconds + unit.GIVE_UP + ORDER_SECONDS
        # 5: it has no locks to hold
        units = [places.unit(self.name), places.lock_unit(self.name)]
        command.run(["systemctl", "stop", *units], limit, True, (0, 5))
        return {"stopped": "killed" if how == "left" else how}

    def undo(self, known: Known) -> None:
        if self.again:
            command.run(["systemctl", "start", "--no-block", places.unit(self.name)], ORDER_SECONDS, writes=True)


@dataclasses.dataclass(frozen=True)
class StartMachine(Step):
    """Start a machine that does not run and wait until its processors do.

    ``disks``: path, whether to write, whether it is a volume. ``reload``: its units are new to systemd. ``wait_for``:
    what its console must show, or empty.
    """

    name: str
    kind: str
    seconds: float
    disks: list[list[t.Any]]
    reload: bool
    wait_for: str

    def describe(self) -> str:
        return "start the machine %s" % self.name

    def apply(self, known: Known) -> deadline.Child:
        if self.reload:
            systemd.reload_units()
        return deadline.Child(lambda send: self._start(), self.seconds, "starting the machine %s" % self.name)

    def _start(self) -> Known:
        until = time.monotonic() + self.seconds - control.ANSWER_SECONDS - 1
        for path, writable, ours in self.disks:
            if ours:
                give(path)
            try_disk(path, writable, places.user(self.name))
        console = places.logs(self.name) + "/console.log"
        said = os.path.getsize(console) if os.path.exists(console) else 0
        service = places.unit(self.name)
        command.run(["systemctl", "reset-failed", service], ORDER_SECONDS, True, (0, 1))
        begun = "%.3f" % time.time()
        command.run(["systemctl", "start", service], self.seconds, True, (0, 1))  # 1: the journal knows better why
        while True:
            state = _value(service, "ActiveState")
            if state != "active":
                raise failed_start(self.name, begun)
            try:
                if control.connect(self.kind, places.control_socket(self.name)).state() != "starting":
                    break
            except HostError:  # it does not listen yet, or waits for a share's daemon
                if time.monotonic() >= until:
                    raise failed_start(self.name, begun) from None
            time.sleep(POLL_SECONDS)  # a hypervisor tells nobody that it is ready: it is asked
        while self.wait_for and not _says(console, said, self.wait_for):
            if time.monotonic() >= until or _value(service, "ActiveState") != "active":
                text = "the machine %s runs, but its console did not say %r" % (self.name, self.wait_for)
                raise HostError("timeout", text, "%s shows what it said; a longer timeout may help" % console)
            time.sleep(POLL_SECONDS)  # nobody tells of what is written to a file
        return {"started": True}

    def undo(self, known: Known) -> None:
        """What this step started goes; nobody in it has worked yet."""
        if not os.path.exists(places.unit_file(places.unit(self.name))):
            return
        command.run(["systemctl", "kill", "--signal=KILL", places.unit(self.name)], ORDER_SECONDS, True, (0, 1, 5))
        units = [places.unit(self.name), places.lock_unit(self.name)]
        command.run(["systemctl", "stop", *units], ORDER_SECONDS, True, (0, 1, 5))
        command.run(["systemctl", "reset-failed", places.unit(self.name)], ORDER_SECONDS, True, (0, 1, 5))


def _says(console: str, begin: int, text: str) -> bool:
    """Whether a console said something behind ``begin``."""
    try:
        with open(console, "rb") as file:
            file.seek(begin)
            return text.encode() in file.read()
    except FileNotFoundError:
        return False


def give(path: str) -> None:
    """Let the machines' group have a volume.

    A file was made before there was such a group; a device belongs to root again whenever udev makes it.
    """

    def work() -> bool:
        group = grp.getgrnam(names.GROUP).gr_gid
        found = os.stat(path)
        if found.st_gid != group and (stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)):
            with contextlib.suppress(PermissionError):  # a server that does not let root: trying the disk tells
                os.chown(path, -1, group)
        return True

    with contextlib.suppress(FileNotFoundError):  # so does that
        deadline.call(work, ORDER_SECONDS, "opening the disk %s" % path)


def _value(service: str, key: str) -> str:
    return command.run(["systemctl", "show", "--value", "--property=" + key, service], ORDER_SECONDS, False).strip()


def failed_start(name: str, since: str) -> HostError:
    """Why a machine does not run: what its hypervisor said, out of the journal."""
    words = ["journalctl", "--unit", places.unit(name), "--unit", places.fs_unit(name, "*")]
    words += ["--unit", places.lock_unit(name), "--since", "@" + since, "--output=cat", "--lines=40"]
    lines = command.run([*words, "--no-pager", "--quiet"], ORDER_SECONDS, writes=False).splitlines()
    refused = [line for line in lines if line.startswith('{"event": "not locked"')]
    if refused:
        event = json.loads(refused[-1])
        return HostError.unpacked({**event["error"], "message": event["message"]})
    systemds = ('{"event": ', "microvm@", "microvm-fs@", "microvm-lock@", "Starting ", "Started ", "Stopp")
    said = [line for line in lines if line.strip() and not line.startswith(systemds)]
    text = "the machine %s does not start: %s" % (name, "; ".join(said[-3:]) or "its hypervisor ended at once")
    hint = "journalctl -u %s has all of it" % places.unit(name)
    return HostError("refused", text, hint, stderr="\n".join(said[-20:]))


def try_disk(path: str, writable: bool, user: str) -> None:
    """Open a disk as the machine's user will, in a process of its own. Raises HostError naming disk and user."""
    entry = pwd.getpwnam(user)

    def work() -> bool:
        os.setgroups([entry.pw_gid])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        try:
            os.close(os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC))
        except FileNotFoundError:
            hint = "make it, or its backend is not mounted"
            raise HostError("not_found", "there is no disk %s" % path, hint) from None
        except PermissionError:
            verb = "write to" if writable else "read"
            text = "the user %s may not %s the disk %s" % (user, verb, path)
            hint = "give it to the group %s with mode 0660, and let that group into its directory" % names.GROUP
            raise HostError("refused", text, hint) from None
        except OSError as error:
            raise files.from_os(error, "opening the disk %s" % path) from None
        return True

    deadline.call(work, ORDER_SECONDS, "opening the disk %s" % path)


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
class GrowDisk(Step):
    """A disk of a running machine has ``size`` bytes from now on, and its guest knows. ``file``: it is a file.

    Not taken back by an undo: the guest may use it already. The registry then still has the size before, and the next
    run goes on.
    """

    name: str
    kind: str
    disk: str
    path: str
    size: int
    file: bool

    def describe(self) -> str:
        return "grow %s of the running machine %s to %d bytes" % (self.disk, self.name, self.size)

    def apply(self, known: Known) -> deadline.Child:
        return deadline.Child(lambda send: self._grow(), ORDER_SECONDS, "growing %s" % self.path)

    def _grow(self) -> Known:
        try:
            if self.file and os.stat(self.path).st_size < self.size:
                os.truncate(self.path, self.size)
        except OSError as error:
            raise files.from_os(error, "growing %s" % self.path) from None
        control.connect(self.kind, places.control_socket(self.name)).grow_disk(self.disk, self.path, self.size)
        return {}


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


@dataclasses.dataclass(frozen=True)
class RemoveMachine(Step):
    """What is left when the units of a stopped machine are gone: helpers that run, sockets, taps, log and user.

    Its disks and the sources of its shares stay, those below its own directory too.
    """

    name: str
    units: list[str]

    def describe(self) -> str:
        return "remove the user %s, its sockets and its log" % places.user(self.name)

    def finish(self, known: Known) -> None:
        command.run(["systemctl", "stop", *self.units], stop.QUIT_SECONDS + ORDER_SECONDS, True, (0, 5))
        command.run(["systemctl", "reset-failed", *self.units], ORDER_SECONDS, True, (0, 1))
        for path in glob.glob("/sys/class/net/%s*" % places.tap(self.name, 0)[:-1]):
            command.run(["ip", "link", "delete", os.path.basename(path)], ORDER_SECONDS, writes=True)
        for folder in (places.runtime(self.name), places.logs(self.name)):
            if os.path.isdir(folder) and not os.path.islink(folder):
                shutil.rmtree(folder)
        for path in glob.glob(glob.escape(places.directory(self.name)) + "/vmlinux-*"):
            files.remove(path)
        files.remove_empty(places.directory(self.name))
        files.remove_empty(places.BASE)
        remove_user(places.user(self.name))


KINDS: dict[str, type[Step]] = {
    kind.__name__: kind
    for kind in (
        MakeUser,
        MakeSource,
        ExtractKernel,
        WriteMachine,
        StopMachine,
        StartMachine,
        PauseMachine,
        RegisterVolume,
        GrowDisk,
        SetBalloon,
        RemoveMachine,
        Record,
        ReloadUnits,
    )
}
