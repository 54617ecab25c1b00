# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the volume driver keeps: volumes in the registry, references below /run. Private to microvm.host.

A reference is a container's, and none outlives a boot: they are kept where a boot forgets them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._docker import definition
from ansible_collections.microvm.host.plugins.module_utils._host import files
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

RUN = "/run/microvm/docker-volumes"
NONCE = "new"
"""The one writer is the daemon: what it left half written, it writes anew."""


@dataclasses.dataclass
class Reference:
    """Mounts that were asked for under one ID and not ended yet; ``since``: the last one, seconds of the epoch."""

    count: int
    since: float


@dataclasses.dataclass
class Volume:
    """A volume. ``error``: what the last operation failed with, "" when it did not.

    ``asked``, ``version``, ``address``: the last mount that was made. ``refused``: how the options of a second Create
    of that name differed; Docker itself drops such options without a word. ``mounting``: right now.
    """

    wanted: definition.Definition
    opts: dict[str, str]
    created: str
    references: dict[str, Reference] = dataclasses.field(default_factory=dict)
    asked: dict[str, t.Any] | None = None
    version: str | None = None
    address: str | None = None
    error: str = ""
    refused: list[str] = dataclasses.field(default_factory=list)
    mounting: bool = False

    @property
    def name(self) -> str:
        """Its name."""
        return self.wanted.name

    def running(self) -> dict[str, t.Any]:
        """What is kept until the next boot, JSON-able."""
        return {
            "references": {key: dataclasses.astuple(each) for key, each in self.references.items()},
            **{key: getattr(self, key) for key in RUNNING},
        }


RUNNING = ("asked", "version", "address", "error", "refused")


def user_of(volume: str) -> str:
    """The name of a volume among the users of a backend's mount."""
    return "docker_volume:" + volume


def load() -> dict[str, Volume]:
    """All volumes of this host, by name; without references after a boot. Raises HostError."""
    with registry.reading() as connection:
        rows = registry.rows(connection, "SELECT * FROM docker_volumes ORDER BY name")
    found = {}
    for row in rows:
        volume = Volume(definition.parse(row["name"], row["opts"]), row["opts"], row["created"])
        text = files.text_of(_file(volume.name))
        kept = json.loads(text) if text else {}
        volume.references = {key: Reference(*each) for key, each in kept.pop("references", {}).items()}
        for key in RUNNING:
            setattr(volume, key, kept.get(key, getattr(volume, key)))
        found[volume.name] = volume
    return found


def save(volume: Volume) -> None:
    """Keep references and the outcome of the last operation until the next boot. Raises HostError."""
    files.make_directories(RUN, 0o700)
    files.write(_file(volume.name), json.dumps(volume.running()).encode(), 0o600, NONCE)


def add(volume: Volume) -> None:
    """Keep a new volume for good; one on a backend becomes a user of its mount. Raises HostError."""
    wanted = volume.wanted
    row = {
        "name": volume.name,
        "backend": wanted.backend or None,
        "opts": volume.opts,
        "created": volume.created,
    }
    with registry.writing() as connection:
        if wanted.backend:
            mount = _mount_of(connection, wanted.backend, serving=True)
            user = {"user": user_of(volume.name), "mount": mount["id"], "persistent": 0}
            registry.put(connection, "mount_users", user)
        registry.put(connection, "docker_volumes", row)


def drop(name: str) -> None:
    """Forget a volume. Raises HostError."""
    with registry.writing() as connection:
        connection.execute("DELETE FROM mount_users WHERE user = ?", (user_of(name),))
        connection.execute("DELETE FROM docker_volumes WHERE name = ?", (name,))
    files.remove(_file(name))


def backend_mount(backend: str, serving: bool) -> tuple[dict[str, t.Any], str]:
    """What a backend mounts (asked) and the UUID it must carry, "" for one without a marker.

    ``serving``: one that is out of service is refused. Raises HostError.
    """
    with registry.reading() as connection:
        mount = _mount_of(connection, backend, serving)
        row = registry.rows(connection, "SELECT * FROM backends WHERE name = ?", backend)[0]
    return mount["asked"], row["uuid"] if row["identity"] == "marker" else ""


def _mount_of(connection: sqlite3.Connection, backend: str, serving: bool) -> registry.Row:
    found = registry.rows(connection, "SELECT * FROM backends WHERE name = ?", backend)
    if not found:
        known = [row["name"] for row in registry.rows(connection, "SELECT name FROM backends WHERE kind = 'nfs'")]
        hint = "the NFS backends of this host are %s" % ", ".join(known) if known else "this host has no NFS backend"
        raise HostError("not_found", "there is no backend %s" % backend, hint, field="backend")
    sql = "SELECT mounts.* FROM mounts JOIN mount_users ON mount = id WHERE user = ?"
    mount = registry.rows(connection, sql, "backend:" + backend)
    if found[0]["kind"] != "nfs" or not mount:
        text = "backend %s has the kind %s" % (backend, found[0]["kind"])
        raise HostError("unsupported", text, "a Docker volume can be on a backend of the kind nfs", field="backend")
    if serving and not found[0]["enabled"]:
        raise HostError("refused", "backend %s is not in service" % backend, "enable it", field="backend")
    return mount[0]


def _file(name: str) -> str:
    return os.path.join(RUN, name + ".json")
