# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that write, replace and remove passwords. Private to microvm.host.

The journal keeps steps, so none has a password in it: ``secret`` is a key into this process's memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, files, mounts, secret
from ansible_collections.microvm.host.plugins.module_utils._storage import credentials, filesystems


@dataclasses.dataclass(frozen=True)
class WriteCredentials(Step):
    """Put a password at rest; what was there stays beside it until the commit. ``makes``: directories that it makes."""

    file: str
    username: str
    domain: str
    secret: str
    replaces: bool
    makes: list[str]
    nonce: str

    def describe(self) -> str:
        return "%s %s" % ("replace" if self.replaces else "write", self.file)

    def apply(self, known: Known) -> None:
        folder = os.path.dirname(self.file)
        files.make_directories(os.path.dirname(folder))
        files.make_directories(folder, credentials.DIRECTORY_MODE)
        os.chmod(folder, credentials.DIRECTORY_MODE)
        login = credentials.Login(self.file, self.username, self.domain)
        password = secret.of(self.secret) if self.secret else credentials.password(login)
        if self.replaces:
            os.link(self.file, credentials.aside(self.file, self.nonce), follow_symlinks=False)
            files.sync_directory(folder)
        text = credentials.text_of(login, password)
        files.write(self.file, text.encode("utf-8", "surrogateescape"), credentials.MODE, self.nonce)

    def undo(self, known: Known) -> None:
        with contextlib.suppress(FileNotFoundError):
            files.forget(self.file, self.nonce)
            if not self.replaces:
                files.erase(self.file)
            else:
                _put_back(self.file, self.nonce)
        for folder in reversed(self.makes):
            files.remove_empty(folder)

    def finish(self, known: Known) -> None:
        files.erase(credentials.aside(self.file, self.nonce))


@dataclasses.dataclass(frozen=True)
class RemoveCredentials(Step):
    """Take a password away; it lies aside until the commit."""

    file: str
    nonce: str

    def describe(self) -> str:
        return "remove %s" % self.file

    def apply(self, known: Known) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.file, credentials.aside(self.file, self.nonce))

    def undo(self, known: Known) -> None:
        _put_back(self.file, self.nonce)

    def finish(self, known: Known) -> None:
        files.erase(credentials.aside(self.file, self.nonce))
        if files.remove_empty(os.path.dirname(self.file)):
            files.remove_empty(os.path.dirname(os.path.dirname(self.file)))


def _put_back(file: str, nonce: str) -> None:
    """Undo: what lies aside goes back to its place; nothing there, nothing was done yet."""
    old = credentials.aside(file, nonce)
    if not os.path.lexists(old):
        return
    if os.path.lexists(file) and os.path.samestat(os.lstat(old), os.lstat(file)):
        os.unlink(old)  # rename(2) of two names of one file does nothing
    else:
        os.rename(old, file)
    files.sync_directory(os.path.dirname(file))


@dataclasses.dataclass(frozen=True)
class Prove(Step):
    """Log in with a password, by a connection of its own, and log out."""

    asked: dict[str, t.Any]
    secret: str
    seconds: float

    def describe(self) -> str:
        return "log in to %s" % filesystems.of(self.asked).source(self.asked)

    def apply(self, known: Known) -> deadline.Child:
        source = filesystems.of(self.asked).source(self.asked)
        return deadline.Child(lambda send: self._prove(), self.seconds, "logging in to %s" % source)

    def _prove(self) -> Known:
        system = filesystems.guarded(self.asked)
        if system is not None:
            system.prove(self.asked, self.seconds, secret.of(self.secret))
        return {}


@dataclasses.dataclass(frozen=True)
class RenewSecret(Step):
    """Give a live mount the password for its next login; its session goes on.

    There is nothing to undo: the kernel keeps the password it has beside the new one, which was proven before.
    """

    asked: dict[str, t.Any]
    path: str
    address: str
    secret: str
    seconds: float

    def describe(self) -> str:
        return "give the live mount on %s the new password" % self.path

    def apply(self, known: Known) -> deadline.Child:
        return deadline.Child(lambda send: self._renew(), self.seconds, "changing the password of %s" % self.path)

    def _renew(self) -> Known:
        system = filesystems.guarded(self.asked)
        try:
            if system is not None:
                system.renew(self.asked, self.path, self.address, secret.of(self.secret))
        except mounts.KernelRefused:
            return {"renewed": False}  # the mount goes on with the old password; it is told as pending
        return {"renewed": True}


KINDS: dict[str, type[Step]] = {
    kind.__name__: kind for kind in (WriteCredentials, RemoveCredentials, Prove, RenewSecret)
}
