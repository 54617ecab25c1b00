# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is of volumes: the registry's rows, and a look at each backend and image. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import (
    image,
    kinds,
    observed,
    probe,
    store,
    users,
    volume_report,
)
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume

LOOK_SECONDS = 15.0
"""How long a backend may take to tell of its volumes; an item's timeout, when that is shorter."""


class Seen:
    """The registered volumes and backends, and what a look at each backend and image in question gave."""

    def __init__(self, wanted: t.Sequence[Volume], hung: set[str]) -> None:
        with registry.reading() as connection:
            self.rows = {row["name"]: row for row in registry.rows(connection, "SELECT * FROM volumes")}
            self.users = users.of_volumes(connection)
        self.mounts = observed.Seen(lambda seen: [], 0)
        self.backends = self.mounts.backends
        self.default = next((name for name, row in self.backends.items() if row["is_default"]), None)
        self.stores: dict[str, store.Store] = {}
        self.looks: dict[str, store.Look] = {}
        self.images: dict[str, dict[str, t.Any]] = {}
        seconds = min([LOOK_SECONDS, *(float(each.timeout) for each in wanted)])
        asked: dict[str, list[str]] = {}
        for each in wanted:
            for backend in sorted({self.backend_of(each) or "", self.rows.get(each.name, {}).get("backend", "")}):
                if backend in self.backends:
                    asked.setdefault(backend, []).append(each.name)
        self._look(asked, hung, seconds)
        self._look_at_images([each for each in wanted if each.state == "present"], seconds)

    def _look(self, asked: dict[str, list[str]], hung: set[str], seconds: float) -> None:
        self.looks = {backend: {"status": "unreachable"} for backend in asked}
        todo = []
        for backend, owned in asked.items():
            beside = kinds.store_of(self.backends[backend], self.mounts)
            if beside is None:
                self.looks[backend] = {"status": "unsupported"}
            elif backend not in hung:
                todo.append((backend, beside, owned))

        def look(each: tuple[str, store.Store, list[str]]) -> store.Look:
            return each[1].looks(each[2], everything=False)

        for index, answer in deadline.Sweep(todo, look, seconds, large=True):
            if answer is None:
                hung.add(todo[index][0])
            else:
                self.looks[todo[index][0]] = answer

    def _look_at_images(self, wanted: t.Sequence[Volume], seconds: float) -> None:
        """Images of volumes that are yet to be made."""
        todo = []
        for each in wanted:
            backend = self.backend_of(each)
            if each.name in self.rows or each.image is None or each.image.volume:
                continue
            if backend is None or backend not in self.backends:
                continue
            if self.looks[backend]["status"] == "ok" and "size" not in self.at(backend, each.name):
                beside = self.store(backend)
                try:
                    path = each.image.path if each.image.path.startswith("/") else beside.inside(each.image.path)
                except HostError as error:
                    self.images[each.name] = {"error": error.message, "kind": error.kind, "hint": error.hint}
                    continue
                todo.append((each.name, path, each.image.format, beside.disk(each.name)))
        for index, answer in deadline.Sweep(todo, image.look, seconds):
            self.images[todo[index][0]] = answer or {
                "error": "the image %s does not answer" % todo[index][1],
                "hint": "check the server that it lies on",
            }

    def backend_of(self, wanted: Volume) -> str | None:
        """The name of the backend that a volume shall be on."""
        row = self.rows.get(wanted.name)
        return wanted.backend or (row["backend"] if row else self.default)

    def store(self, backend: str) -> store.Store:
        """Where the volumes of a registered backend are. Raises ``unsupported`` when its kind takes none."""
        found = self.stores.get(backend) or kinds.store_of(self.backends[backend], self.mounts)
        if found is None:
            text = "backend %s %s" % (backend, volume_report.DOWN["unsupported"])
            raise HostError("unsupported", text, "choose another backend")
        self.stores[backend] = found
        return found

    def whole(self, backend: str, size: int) -> int:
        """The least size that a disk on the backend can have and hold ``size`` bytes."""
        grain = self.looks.get(backend, {}).get("grain", 1)
        return int(-(-size // grain) * grain)

    def at(self, backend: str, name: str) -> dict[str, t.Any]:
        """What a look found of one volume; empty when there was no look."""
        found: dict[str, t.Any] = self.looks.get(backend, {}).get("volumes", {}).get(name, {})
        return found

    def without(self, machine: str, holder: str) -> None:
        """Leave out that a machine has volumes, and holds them under this name: it goes, or was stopped by then."""
        for each in self.users.values():
            each.discard(machine)
        for looked in self.looks.values():
            for there in looked.get("volumes", {}).values():
                held = there.get("holder") or {}
                if (held.get("holder"), held.get("host")) == (holder, probe.host_mark()):
                    there["holder"] = {}
