# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of backends: what each must offer, and which there are. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._storage import observed, store


@dataclasses.dataclass(frozen=True)
class Backend:
    """A validated item; ``config`` is what its kind made of its options. ``default`` None: as it is.

    ``base``: below which directory its mount is made, "" for the usual one.
    """

    name: str
    state: str
    timeout: int
    prefix: str
    kind: str | None
    config: dict[str, t.Any] | None
    base: str
    enabled: bool
    default: bool | None
    secret: str = ""
    """The key of what the user gave as secret; "" keeps the one there is."""
    secret_check: bool = False
    """Only try the secret."""


class Kind(t.Protocol):
    """One kind of backend. ``row`` is a backend's row of the registry; methods raise HostError and change nothing."""

    @property
    def BOOTS(self) -> bool:
        """Whether the host tool has something to do for it at boot."""

    def asked(self, item: dict[str, t.Any], prefix: str) -> dict[str, t.Any]:
        """The configuration of validated options, as the registry keeps it. Raises ``invalid`` naming the option."""

    def secret(self, item: dict[str, t.Any], prefix: str) -> t.Any:
        """What the user gave as secret; None: nothing. Raises ``invalid`` without showing it."""

    def identity(self, config: dict[str, t.Any]) -> str:
        """What makes it one place: a call may name it once."""

    def looked_at(self, row: registry.Row, seen: observed.Seen, leaving: bool) -> list[str]:
        """The directories of a registered backend that shall be looked at; ``leaving``: it shall be removed."""

    def present(self, wanted: Backend, seen: observed.Seen, row: registry.Row | None) -> Plan:
        """What brings it there; what all backends have in common is added to it."""

    def proven(self, wanted: Backend, seen: observed.Seen, row: registry.Row | None) -> Plan:
        """What tries the secret and changes nothing."""

    def absent(self, wanted: Backend, seen: observed.Seen, row: registry.Row) -> Plan:
        """What takes it away, data excepted."""

    def taken_by(self, row: registry.Row, seen: observed.Seen) -> str:
        """Who has taken the place, with all volumes on it, from this host; "" for nobody, or nobody knows."""

    def described(self, row: registry.Row, seen: observed.Seen) -> dict[str, t.Any]:
        """Its part of a returned backend, ``status`` included."""

    def remarks(self, row: registry.Row, seen: observed.Seen) -> list[str]:
        """What to warn of a registered backend."""

    def store(self, row: registry.Row, seen: observed.Seen) -> store.Store | None:
        """Where its volumes are; None for a kind that takes none in this version."""

    def capabilities(self, config: dict[str, t.Any], known: Known) -> list[str]:
        """What it showed it can do when it was tried (``known``)."""


def of(name: str) -> Kind:
    """The kind of that name."""
    return KINDS[name].load()


def store_of(row: registry.Row, seen: observed.Seen) -> store.Store | None:
    """Where the volumes of a registered backend are, as its kind says."""
    return of(row["kind"]).store(row, seen)


def refuse_foreign(item: dict[str, t.Any], kind: str, name: str, prefix: str) -> None:
    """Raise ``invalid`` for an option that only other kinds have."""
    allowed = KINDS[kind].options
    for other, entry in KINDS.items():
        for option in entry.options:
            if option not in allowed and item.get(option) is not None:
                message = "%s%s is an option of %s, and %s is %s" % (prefix, option, other, name, kind)
                raise HostError("invalid", message, "leave it out", field=prefix + option)


def capable(known: Known, external: bool) -> list[str]:
    """The capabilities of a directory that was tried; ``external``: it is not on this host."""
    found = {
        "clone_from_image": "locks" in known,
        "fast_clone": bool(known.get("fast_clone")),
        "snapshot": "locks" in known,
        "resize": "locks" in known,
        "external": external,
        "multi_host": external and bool(known.get("locks")),
    }
    return [name for name, holds in found.items() if holds]


def refuse_swapped(row: registry.Row, looked: dict[str, t.Any], path: str) -> None:
    """Raise ``conflict`` when ``path`` no longer carries the marker of a registered backend."""
    if looked.get("status") == "ok" and row["identity"] == "marker" and looked.get("uuid") != row["uuid"]:
        raise HostError(
            "conflict",
            "%s no longer carries the marker of backend %s (found %s, expected %s)"
            % (path, row["name"], looked.get("uuid") or "none", row["uuid"]),
            "another file system is there, or it was emptied: put the right one back, or remove the backend",
        )


def _local_file() -> Kind:
    from ansible_collections.microvm.host.plugins.module_utils._storage import local_file

    return local_file


def _nfs() -> Kind:
    from ansible_collections.microvm.host.plugins.module_utils._storage import mounted, nfs

    return mounted.OnMount(nfs)


def _smb() -> Kind:
    from ansible_collections.microvm.host.plugins.module_utils._storage import mounted, smb

    return mounted.OnMount(smb)


def _iscsi_lvm() -> Kind:
    from ansible_collections.microvm.host.plugins.module_utils._storage import lun

    return lun


class Entry(t.NamedTuple):
    """The options of a kind beside those of every backend, and what loads its code."""

    options: tuple[str, ...]
    load: t.Callable[[], Kind]


KINDS = {
    "local_file": Entry(("path",), _local_file),
    "nfs": Entry(("server", "export", "version", "options", "read_only", "mount_base"), _nfs),
    "smb": Entry(
        (
            *("server", "share", "subdir", "username", "password", "domain", "version", "options", "read_only"),
            *("mount_base", "uid", "gid", "file_mode", "dir_mode", "seal", "sign", "secret_check"),
        ),
        _smb,
    ),
    "iscsi_lvm": Entry(
        (
            *("portal", "portals", "iqn", "lun", "initiator_name", "username", "password", "mutual_username"),
            *("mutual_password", "vg", "initialize", "layout", "thin_pool", "access", "saferemove", "takeover"),
            "secret_check",
        ),
        _iscsi_lvm,
    ),
}
