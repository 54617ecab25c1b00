# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials files: the one place where passwords of shares rest. Private to microvm.host.

One file for a mount, in the form of mount.cifs(8): 0600 in a 0700 directory, whole or not there. What an intent has
replaced lies beside it, under a name with the intent's nonce, until that is committed or undone.
"""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import files, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

DIRECTORY = "/etc/microvm/credentials"
MODE, DIRECTORY_MODE = 0o600, 0o700


class Login(t.NamedTuple):
    """Who logs in, and the file with the password."""

    file: str
    username: str
    domain: str


def file_for(name: str, identity: str, taken: t.Container[str]) -> str:
    """The credentials file of a new mount that ``name`` makes; ``taken`` are those of other mounts."""
    path = os.path.join(DIRECTORY, name)
    return "%s-%s" % (path, names.hash8(identity)) if path in taken else path


def text_of(login: Login, password: str) -> str:
    """What the file says. mount.cifs takes a value up to the end of its line, spaces included."""
    lines = ["username=%s" % login.username, "password=%s" % password]
    return "\n".join(lines + (["domain=%s" % login.domain] if login.domain else []) + [""])


def password(login: Login) -> str:
    """The password at rest. Raises HostError ``auth`` when there is none."""
    for line in (files.text_of(login.file) or "").split("\n"):
        key, equals, value = line.partition("=")
        if key == "password" and equals:
            return value
    raise HostError("auth", "there is no password in %s" % login.file, "give the password", field="password")


def state(login: Login, given: str | None) -> str:
    """How the file is, for a diff: ``current``, ``missing``, ``another password``, or ``edited``.

    ``given`` None: whatever password it has.
    """
    text = files.text_of(login.file)
    if text is None:
        return "missing"
    try:
        rests = password(login)
    except HostError:
        return "edited"
    if given is not None and rests != given:
        return "another password"
    mode, folder = os.lstat(login.file), os.lstat(os.path.dirname(login.file))
    private = stat.S_ISREG(mode.st_mode) and stat.S_IMODE(mode.st_mode) == MODE and mode.st_uid == 0
    private = private and stat.S_IMODE(folder.st_mode) == DIRECTORY_MODE and folder.st_uid == 0
    return "current" if private and text == text_of(login, rests) else "edited"


def aside(path: str, nonce: str) -> str:
    """Where what an intent has replaced lies until it is committed."""
    folder, name = os.path.split(path)
    return os.path.join(folder, ".%s.%s.old" % (name, nonce))
