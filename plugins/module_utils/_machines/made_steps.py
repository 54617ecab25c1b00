# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that make what a machine is on disk, and remove it. Private to microvm.host."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import grp
import os
import pwd
import shutil
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host import command, deadline, files, names, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import by_hand, jail, kernel, places, stop, unit

SOURCE_SECONDS = 15.0


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
        command.run(words, unit.ORDER_SECONDS, writes=True)

    def undo(self, known: Known) -> None:
        remove_user(self.user)


def make_group() -> None:
    """Make the machines' group, with the number it has on all hosts unless that is taken here."""
    for words in (["--gid", "%d" % names.GID], ["--system"]):
        # groupadd(8): 4, the number is taken; 9, there is one: another item of another call was faster
        command.run(["groupadd", *words, names.GROUP], unit.ORDER_SECONDS, writes=True, ok=(0, 4, 9))
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
    command.run(["userdel", user], unit.ORDER_SECONDS, writes=True, ok=(0, 6))


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
            for folder in {self.path, *map(os.path.dirname, made)}:
                files.sync_directory(folder)
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
            command.run(["systemctl", "stop", *sockets], unit.ORDER_SECONDS, True, (0, 5))

    def undo(self, known: Known) -> None:
        for path, text in self.previous.items():
            files.forget(path, self.nonce)
            if files.text_of(path) == self.texts.get(path):  # else it was not written, or by somebody else since
                _put(path, text, self.nonce)
        _link(self.name, self.autostarted)
        if not any(self.previous.values()):
            shutil.rmtree(places.runtime(self.name), ignore_errors=True)  # sockets that nobody listens on
        files.remove_empty(places.directory(self.name))
        files.remove_empty(places.BASE)
        systemd.reload_units()


def _put(path: str, text: str | None, nonce: str) -> None:
    if text is None:
        files.erase(path)
        return
    files.make_directories(os.path.dirname(path))
    files.write(path, text.encode(), 0o755 if os.path.basename(path) in by_hand.SCRIPTS else 0o644, nonce)


def _link(name: str, there: bool) -> None:
    """Have systemd start the machine at boot, or not."""
    link = places.autostart_link(name)
    if there:
        files.link(places.unit_file(places.unit(name)), link)
    else:
        files.erase(link)


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
        if self.units:
            command.run(["systemctl", "stop", *self.units], stop.QUIT_SECONDS + unit.ORDER_SECONDS, True, (0, 5))
        if systemd.running():
            command.run(["systemctl", "reset-failed", *places.units(self.name)], unit.ORDER_SECONDS, True, (0, 1))
        for path in glob.glob("/sys/class/net/%s*" % places.tap(self.name, 0)[:-1]):
            command.run(["ip", "link", "delete", os.path.basename(path)], unit.ORDER_SECONDS, writes=True)
        jail.clear(places.jail(self.name))
        for folder in places.left_by_starts(self.name):
            shutil.rmtree(folder)
        for path in glob.glob(glob.escape(places.directory(self.name)) + "/vmlinux-*"):
            files.remove(path)
        files.remove_empty(places.directory(self.name))
        files.remove_empty(places.BASE)
        remove_user(places.user(self.name))
