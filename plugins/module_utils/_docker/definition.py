# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user asked of a Docker volume: names and options, as text. Private to microvm.host.

Docker passes both on unchecked, path traversal and all; whatever is refused here is refused at Create.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import names, net, nfs
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

LONGEST_NAME = 200
SHORTEST_TIMEOUT, LONGEST_TIMEOUT, DEFAULT_TIMEOUT = 1, 110, 30
"""Seconds for a whole Mount. Docker gives up after 120, podman after 5 unless told otherwise."""
ON_REMOVE = ("retain", "archive", "delete")
VERSION = "4.1+"
FOLDER = "docker-volumes"
"""Below a backend's root: where the volumes are that name no subdir, apart from the disks of machines."""
ATIME = frozenset({"atime", "relatime", "noatime", "strictatime"})

KNOWN = (
    *("server", "path", "vers", "port", "options", "subdir", "mode", "uid", "gid", "read_only", "on_remove"),
    *("timeout", "backend"),
)
OWNED = ("server", "path", "vers", "port", "options")
"""What a backend decides for the volumes on it."""
OF_SUBDIR = ("mode", "uid", "gid")

Export = tuple[str, str, str, tuple[str, ...]]

_EDGE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_INNER = _EDGE | frozenset("._-")
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


@dataclasses.dataclass(frozen=True)
class Definition:
    """A validated volume. Of ``backend`` and (``server``, ``path``) one is set; ``options`` are canonical.

    ``subdir`` "": the export itself. ``mode``, ``uid``, ``gid`` are of a subdir that is made. ``timeout``: seconds.
    """

    name: str
    backend: str
    server: str
    path: str
    version: str
    options: tuple[str, ...]
    subdir: str
    mode: int
    uid: int
    gid: int
    read_only: bool
    on_remove: str
    timeout: int

    @classmethod
    def of_json(cls, found: dict[str, t.Any]) -> Definition:
        """The definition of which ``found`` is dataclasses.asdict, through JSON."""
        return cls(**dict(found, options=tuple(found["options"])))

    def differences(self, other: Definition) -> list[str]:
        """``option: other's value instead of ours``, for each that differs."""
        ours, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [
            "%s: %s instead of %s" % (key, _told(theirs[key]), _told(ours[key]))
            for key in ours
            if ours[key] != theirs[key]
        ]

    @property
    def warnings(self) -> list[str]:
        """What a careful reader of the options would say."""
        if any(option in self.options for option in ("soft", "softerr")):
            return ["soft: when the server does not answer in time, writes fail and data is lost"]
        return []


def _told(value: t.Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(value) or "none"
    return names.shown(value)


def name(value: object) -> str:
    """A volume name as Docker's own drivers take it: letters, digits, ``.``, ``_``, ``-``. Raises ``invalid``."""
    if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value[0] in _EDGE and _INNER.issuperset(value):
        return value
    names.refuse(
        "Name",
        "%s is not a volume name" % names.shown(value),
        "use letters, digits, '.', '_' and '-', first a letter or digit, at most %d characters" % LONGEST_NAME,
    )


def parse(volume: object, opts: object) -> Definition:
    """The volume that Create asks for. Raises HostError ``invalid`` naming the option at fault."""
    named = name(volume)
    given = _texts(opts)
    backend = given.get("backend", "")
    if backend:
        names.name(backend, "backend")
        for key in OWNED:
            if key in given:
                names.refuse(key, "the backend decides it", "leave out backend, or leave out %s" % key)
    export: Export = ("", "", "", ()) if backend else _export(given)
    server, path, version, options = export
    subdir = _subdir(given["subdir"]) if "subdir" in given else "%s/%s" % (FOLDER, named) if backend else ""
    for key in OF_SUBDIR:
        if key in given and not subdir:
            names.refuse(key, "it is that of a subdir that is made, and there is none", "give subdir too")
    on_remove = given.get("on_remove", "retain")
    if on_remove not in ON_REMOVE:
        names.refuse("on_remove", "%s is not one of %s" % (names.shown(on_remove), ", ".join(ON_REMOVE)))
    if on_remove != "retain" and not subdir:
        names.refuse("on_remove", "%s is only for a volume with a subdir" % on_remove, "an export is never deleted")
    read_only = _bool(given.get("read_only", "false"), "read_only") or "ro" in options
    if read_only and on_remove != "retain":
        names.refuse("on_remove", "%s would change a read-only volume" % on_remove, "leave out read_only or on_remove")
    return Definition(
        name=named,
        backend=backend,
        server=server,
        path=path,
        version=version,
        options=options,
        subdir=subdir,
        mode=_mode(given.get("mode", "0755")),
        uid=_number(given.get("uid", "0"), "uid", 0, 2**32 - 2),
        gid=_number(given.get("gid", "0"), "gid", 0, 2**32 - 2),
        read_only=read_only,
        on_remove=on_remove,
        timeout=_number(given.get("timeout", str(DEFAULT_TIMEOUT)), "timeout", SHORTEST_TIMEOUT, LONGEST_TIMEOUT),
    )


def _texts(opts: object) -> dict[str, str]:
    """The options as a dict of texts; null and nothing are the same, and so are a name without a value and none."""
    if opts is None:
        return {}
    if not isinstance(opts, dict):
        names.refuse("Opts", "%s is not an object" % names.shown(opts))
    for key, value in opts.items():
        if key not in KNOWN:
            near = difflib.get_close_matches(key, KNOWN, 1)
            hint = "did you mean %s?" % near[0] if near else "the options are %s" % ", ".join(KNOWN)
            names.refuse(names.shown(key), "there is no such option", hint)
        if not isinstance(value, str):
            names.refuse(key, "%s is not text" % names.shown(value))
    return {key: value for key, value in opts.items() if value != ""}


def _export(given: dict[str, str]) -> Export:
    """Server, path, version and canonical options of a volume without a backend."""
    for key in ("server", "path"):
        if key not in given:
            hint = "docker volume create -d nfsd --opt server=nas --opt path=/exports/data NAME"
            raise HostError("invalid", "%s is required" % key, hint, field=key)
    server = net.server(given["server"], "server")
    path = names.export_path(given["path"], "path")
    version = given.get("vers", VERSION)
    if version not in (*nfs.VERSIONS, VERSION) or version == "default":
        names.refuse("vers", "%s is not one of 3, 4, 4.0, 4.1, 4.2" % names.shown(version))
    asked = [option for option in given.get("options", "").split(",") if option]
    if "port" in given:
        asked.append("port=%d" % _number(given["port"], "port", 1, 65535))
    if not {"exec", "noexec"} & set(asked):
        asked.append("exec")
    if not ATIME & set(asked):
        asked.append("noatime")
    try:
        read_only = True if _bool(given.get("read_only", "false"), "read_only") else None
        options = nfs.parse(asked, "options", version, read_only)
        nfs.source(server, path)
    except HostError as error:
        if error.field == "export":
            error.field = "path"
        raise
    if version == "3" and not options.local_locks:
        hint = "add nolock to options: locks are then seen by this host alone. Or use NFS 4"
        names.refuse("vers", "locks of NFS 3 need a program that this driver does not start (rpc.statd)", hint)
    return server, path, version, tuple(options.canonical())


def _subdir(value: str) -> str:
    """A relative path of plain components."""
    if value.startswith("/"):
        names.refuse("subdir", "%s is not relative" % names.shown(value), "it is below the export: leave out the '/'")
    return names.absolute_path("/" + value, "subdir")[1:]


def _bool(value: str, field: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() not in _FALSE:
        names.refuse(field, "%s is neither true nor false" % names.shown(value))
    return False


def _number(value: str, field: str, least: int, most: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 10 and least <= int(value) <= most):
        names.refuse(field, "%s is not a whole number from %d to %d" % (names.shown(value), least, most))
    return int(value)


def _mode(value: str) -> int:
    if not (value.isascii() and 0 < len(value) <= 5 and set(value) <= set("01234567") and int(value, 8) <= 0o7777):
        names.refuse("mode", "%s is not the mode of a directory" % names.shown(value), "as in chmod: 0750")
    return int(value, 8)
