# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What LVM's programs do to a group, on files: for steps that are killed, which a real group would take minutes for."""

from __future__ import annotations

import copy
import json
import os
import shutil
import typing as t
from pathlib import Path

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

RECORDED = json.loads((Path(__file__).parents[1] / "host" / "lvm_reports.json").read_text())["pool"]
EXTENT = 4 << 20
FLAGS = ("--yes", "--force", "--snapshot", "--ignoreactivationskip")


class FakeLvm:
    """The group of LVM's recorded report: its state in a file, as steps run in children, and its volumes as files.

    ``pool``: that of its volumes, or "". Its extents are EXTENT bytes. What is not in the pool has in it what the last
    volume there had: ``STALE``.
    """

    STALE = b"another tenant's"

    def __init__(self, folder: Path, report: dict[str, t.Any], pool: str) -> None:
        self.folder = folder
        self.pool = pool
        self.report = report
        self.before: t.Callable[[list[str]], None] = lambda argv: None
        (folder / "dev").mkdir()
        self._write({})

    def path(self, name: str) -> str:
        """The file that stands for a device."""
        return str(self.folder / "dev" / name)

    def run(self, argv: list[str], seconds: float, writes: bool) -> str:
        """In place of command.run: LVM's report."""
        assert argv[:2] == ["lvm", "fullreport"] and not writes
        report = copy.deepcopy(self.report)
        found = report["report"][0]
        template = found["lv"][0]
        for name, volume in self.read().items():
            found["lv"].append(
                {
                    **template,
                    "lv_name": name,
                    "lv_uuid": "uuid of %s" % name,
                    "lv_size": str(volume["size"]),
                    "lv_layout": "thin,sparse" if volume["pool"] else "linear",
                    "lv_active": "active" if volume["active"] else "",
                    "lv_permissions": volume["permission"],
                    "lv_tags": ",".join(volume["tags"]),
                    "pool_lv": volume["pool"],
                    "data_percent": "50.00" if volume["pool"] and volume["active"] else "",
                    "metadata_percent": "",
                }
            )
        return json.dumps(report)

    def change(
        self,
        argv: list[str],
        seconds: float,
        alive: t.Callable[[], None],
        keeps: t.Sequence[int],
        env: t.Mapping[str, str],
    ) -> None:
        """In place of command.run_to_its_end: what the program would do."""
        assert argv[0] == "lvm" and argv[2] == "--devices" and argv[4] == "--config"
        self.before(argv)
        options: dict[str, list[str]] = {}
        places = []
        words = iter(argv[6:])
        for word in words:
            if word.startswith("--"):
                options.setdefault(word, []).append("" if word in FLAGS else next(words))
            else:
                places.append(word.rpartition("/")[2])
        state = self.read()
        getattr(self, "_" + argv[1])(state, options, places)
        self._write(state)

    def _lvcreate(self, state: dict[str, t.Any], options: dict[str, list[str]], places: list[str]) -> None:
        (name,) = options["--name"]
        assert name not in state
        origin = state[places[0]] if "--snapshot" in options else None
        pool = origin["pool"] if origin else options.get("--thinpool", [""])[0]
        size = origin["size"] if origin else self._bytes((options.get("--size") or options["--virtualsize"])[0])
        skip = options.get("--setactivationskip", ["n"])[0] == "y"
        permission = "read-only" if options.get("--permission") == ["r"] else "writeable"
        state[name] = {"tags": sorted(options["--addtag"]), "size": size, "pool": pool}
        state[name].update(active=not skip, permission=permission)
        if origin:
            shutil.copyfile(self.path(places[0]), self.path(name))
            return
        with open(self.path(name), "wb") as file:
            file.write(b"" if pool else self.STALE * (size // len(self.STALE)))
            file.truncate(size)

    def _lvrename(self, state: dict[str, t.Any], options: dict[str, list[str]], places: list[str]) -> None:
        dummy, old, new = places
        if new in state:
            raise HostError("refused", "the name %s is taken" % new)
        state[new] = state.pop(old)
        os.rename(self.path(old), self.path(new))

    def _lvremove(self, state: dict[str, t.Any], options: dict[str, list[str]], places: list[str]) -> None:
        del state[places[0]]
        os.unlink(self.path(places[0]))

    def _lvextend(self, state: dict[str, t.Any], options: dict[str, list[str]], places: list[str]) -> None:
        volume, size = state[places[0]], self._bytes(options["--size"][0])
        assert size > volume["size"]
        with open(self.path(places[0]), "r+b") as file:
            if not volume["pool"]:
                file.seek(volume["size"])
                file.write(self.STALE * ((size - volume["size"]) // len(self.STALE)))
            file.truncate(size)
        volume["size"] = size

    def _lvreduce(self, state: dict[str, t.Any], options: dict[str, list[str]], places: list[str]) -> None:
        size = self._bytes(options["--size"][0])
        assert size < state[places[0]]["size"]
        os.truncate(self.path(places[0]), size)
        state[places[0]]["size"] = size

    def _lvchange(self, state: dict[str, t.Any], options: dict[str, list[str]], places: list[str]) -> None:
        volume = state[places[0]]
        tags = (set(volume["tags"]) - set(options.get("--deltag", []))) | set(options.get("--addtag", []))
        volume["tags"] = sorted(tags)
        for value in options.get("--activate", []):
            volume["active"] = value == "y"
        for value in options.get("--permission", []):
            volume["permission"] = "read-only" if value == "r" else "writeable"

    def _bytes(self, text: str) -> int:
        assert text.endswith("b")
        return -(-int(text[:-1]) // EXTENT) * EXTENT

    def read(self) -> dict[str, t.Any]:
        """The volumes, by name."""
        found: dict[str, t.Any] = json.loads((self.folder / "state").read_text())
        return found

    def _write(self, state: dict[str, t.Any]) -> None:
        (self.folder / "state.new").write_text(json.dumps(state))
        os.rename(self.folder / "state.new", self.folder / "state")
