# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file systems that can be mounted: what each must offer, and which there are. Private to microvm.host.

What is asked of one (``asked``) is a JSON-able dict kept in the registry; its ``kind`` says which file system it is.
"""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import mounts
from ansible_collections.microvm.host.plugins.module_utils._storage import credentials

Asked = dict[str, t.Any]


class Options(t.Protocol):
    """Parsed mount options; ``flags`` are those of the mount, ``superblock`` those of the file system."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Per-mount flags, by the names of mountinfo."""

    @property
    def superblock(self) -> tuple[tuple[str, str | None], ...]:
        """Options of the file system."""

    @property
    def read_only(self) -> bool:
        """Whether it is mounted read-only."""


class FileSystem(t.Protocol):
    """Pure text, but for ``reach`` and ``detached``, which block: call those in a child. All raise HostError."""

    @property
    def PROGRAM(self) -> tuple[str, str]:
        """What systemd mounts it with, and the packages that have it; this collection needs no program for it."""

    @property
    def KEYS(self) -> tuple[str, ...]:
        """The options without which none is asked for."""

    def asked(self, item: dict[str, t.Any], prefix: str, read_only: bool | None) -> Asked:
        """The asked mount of validated options. Raises ``invalid`` naming the option."""

    def described(self, wanted: Asked) -> dict[str, t.Any]:
        """The configuration part of a returned mount: ``source``, ``read_only`` and the options as asked."""

    def parsed(self, wanted: Asked) -> Options:
        """The options of an asked mount."""

    def source(self, wanted: Asked) -> str:
        """The source as mountinfo shows it."""

    def place(self, wanted: Asked) -> str:
        """What it is on the server, in words: "the export /tank"."""

    def alone(self, wanted: Asked, read_only: bool) -> Asked:
        """The same mount as a process makes it that starts no program; ``read_only`` or as it is.

        Raises ``unsupported`` when that needs one.
        """

    def below(self, wanted: Asked, subdir: str) -> Asked:
        """The mount of a directory in it."""

    def identity(self, wanted: Asked) -> str:
        """What makes it one mount: two asked mounts of one identity are mounted once."""

    def is_mount_of(self, mount: mounts.Mount, wanted: Asked, address: str | None) -> bool:
        """True when a mountinfo line shows this source, by whatever options.

        ``address``: the one of the server when it was mounted.
        """

    def same_export(self, mount: mounts.Mount, wanted: Asked) -> bool:
        """True when a mountinfo line shows such a source, of whatever server."""

    def shown(self, mount: mounts.Mount, wanted: Asked) -> dict[str, t.Any]:
        """The options as the kernel shows them, those left out that may change by themselves."""

    def negotiated(self, mount: mounts.Mount) -> str:
        """The protocol version in use; empty when the mount shows none."""

    def only_flags_differ(self, one: Asked, two: Asked, top: mounts.Mount) -> bool:
        """Whether per-mount flags make the live mount ``top`` of ``one`` the mount of ``two``."""

    def remarks(self, mount: mounts.Mount, wanted: Asked) -> list[str]:
        """What to warn of a live mount that is as asked and does otherwise."""

    def reach(self, wanted: Asked, seconds: float) -> t.Any:
        """Find the server and open a connection."""

    def detached(self, wanted: Asked, seconds: float) -> tuple[int, dict[str, t.Any]]:
        """Mount it where nobody sees it: the root's descriptor, and ``version`` and ``address`` that did it."""

    def shares_locks(self, wanted: Asked, version: str) -> bool:
        """Whether locks taken on such a mount are seen by other hosts."""

    def unit_text(self, wanted: Asked, path: str) -> str:
        """The systemd unit that mounts it at boot."""


class Guarded(FileSystem, t.Protocol):
    """A file system with a password, which rests in the credentials file of the mount."""

    def given(self, item: dict[str, t.Any], prefix: str) -> str | None:
        """The password of validated options, None to keep the one there is. Raises ``invalid`` without showing it."""

    def login(self, wanted: Asked) -> credentials.Login | None:
        """Who logs in and where the password is; None for a guest."""

    def placed(self, wanted: Asked, file: str) -> Asked:
        """The asked mount with its credentials file, chosen when the mount is first made."""

    def detached(self, wanted: Asked, seconds: float, password: str | None = None) -> tuple[int, dict[str, t.Any]]:
        """As that of every file system. ``password`` None: the one at rest."""

    def prove(self, wanted: Asked, seconds: float, password: str | None = None) -> None:
        """Log in by a connection of its own. In a child."""

    def can_renew(self) -> bool:
        """Whether this kernel takes a new password for a live mount."""

    def renew(self, wanted: Asked, path: str, address: str, password: str) -> None:
        """Give a live mount another password for its next login. Raises KernelRefused. In a child."""


def of(wanted: Asked) -> FileSystem:
    """The file system of an asked mount."""
    return KINDS[wanted["kind"]]()


def guarded(wanted: Asked) -> Guarded | None:
    """The file system of an asked mount that logs in; None where nobody does."""
    if wanted["kind"] not in GUARDED:
        return None
    found = GUARDED[wanted["kind"]]()
    return found if found.login(wanted) else None


def detached(wanted: Asked, seconds: float, password: str | None = None) -> tuple[int, dict[str, t.Any]]:
    """As that of the file system; ``password`` None: the one at rest, where there is one."""
    system = guarded(wanted)
    return system.detached(wanted, seconds, password) if system else of(wanted).detached(wanted, seconds)


def _nfs() -> FileSystem:
    from ansible_collections.microvm.host.plugins.module_utils._storage import nfs

    return nfs


def _smb() -> Guarded:
    from ansible_collections.microvm.host.plugins.module_utils._storage import smb

    return smb


GUARDED: dict[str, t.Callable[[], Guarded]] = {"smb": _smb}
KINDS: dict[str, t.Callable[[], FileSystem]] = {"nfs": _nfs, **GUARDED}
"""Loaded when one is asked for: a host without SMB shares does not pay for them."""
