# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file systems that can be mounted: what each must offer, and which there are. Private to microvm.host.

What is asked of one (``asked``) is a JSON-able dict kept in the registry; its ``kind`` says which file system it is.
"""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import mounts

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


def of(wanted: Asked) -> FileSystem:
    """The file system of an asked mount."""
    return KINDS[wanted["kind"]]()


def _nfs() -> FileSystem:
    from ansible_collections.microvm.host.plugins.module_utils._storage import nfs

    return nfs


KINDS: dict[str, t.Callable[[], FileSystem]] = {"nfs": _nfs}
"""Loaded when one is asked for: a host without SMB shares does not pay for them."""
