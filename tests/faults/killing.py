# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One kill after the other, and what must be true after each."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.operations import SHELL, Pair
from tests.faults.points import Event, hit, points
from tests.faults.rig import Rig
from tests.lab import NfsServer, SmbServer

State = dict[str, Any]
EXPORTS, SHARES = ("rw", "rw2"), ("vms",)
"""What the pairs use of the servers."""


BASES = ("/var/lib/microvm", "/var/lib/microvm/mounts", "/run/microvm")
"""Directories of the collection as a whole: there or not, that is no state of a resource."""
KEPT_IMAGE = re.compile(r"/\.microvm/images(/[0-9a-f]{64}\.raw)?$")
TOOL = "/usr/local/libexec/microvm"
TOOL_PARTS = 5
"""Its directory, the file, the link to it, the unit, the link that has it started."""


@dataclass(frozen=True)
class Point:
    """A run of ``pair`` (there or back) that is killed at ``event``.

    Then comes the same call again (``retried``), or the opposite one: the user has changed his mind.
    """

    pair: str
    forward: bool
    event: Event
    retried: bool

    @property
    def key(self) -> str:
        """Unique among all points."""
        way = "there" if self.forward else "back"
        return f"{self.pair}, {way}: {self.event.key}, then {'again' if self.retried else 'the opposite'}"


@dataclass
class Stage:
    """A host with an agent and the server it uses, in one of the two states of a pair."""

    rig: Rig
    nas: NfsServer
    smb: SmbServer
    pair: Pair
    away: bool = False
    states: dict[bool, State] = field(default_factory=dict)
    """By ``away``: what an undisturbed run leaves on host and server."""

    def prepare(self) -> None:
        """Bring the host from wherever it is to the first state, and learn what both states look like."""
        self.reset()
        for forward in (True, False):
            self.step(forward)
            self.states[forward] = self.look()

    def reset(self) -> None:
        """The first state, from nothing; the pair has been there once, as the states that are compared."""
        self.rig.ask(do="wipe")
        for directory in self.served().values():
            empty(directory)
        for module, args in self.pair.given:
            if module == SHELL:
                self.rig.host.ssh(args["command"])
            else:
                self.run(module, args)
        for forward in (True, False):
            self.step(forward)

    def blank(self) -> None:
        """Before going there: a place that nobody has used."""
        for place in () if self.away else self.pair.blank:
            if place.startswith("/"):
                self.rig.ask(do="remove", path=place)
            else:
                empty(self.served()[place])

    def served(self) -> dict[str, Path]:
        """The directories on this machine that the servers export or share, by name."""
        return {**{name: self.nas.data(name) for name in EXPORTS}, **{name: self.smb.data(name) for name in SHARES}}

    def before(self, args: dict[str, Any]) -> None:
        """The server takes the password that the call gives, and no other."""
        if "password" in args:
            self.smb.set_password(args["username"], args["password"])

    def run(self, module: str, args: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Run a module to its end; AssertionError when it failed."""
        self.before(args)
        answer = self.rig.run(module, args, **more)
        result = answer["result"]
        assert answer["status"] == 0 and result and not result.get("failed"), (
            f"{module} {args} failed: {json.dumps(result or answer)[:1500]}"
        )
        assert not answer["killed"], f"{module} {args} left processes behind"
        return answer

    def step(self, forward: bool) -> None:
        """Go there, or come back, undisturbed."""
        if forward:
            self.blank()
        self.run(*self.pair.call(forward))
        self.away = forward

    def traced(self, forward: bool) -> list[Event]:
        """The kill points of going there or coming back."""
        if self.away == forward:
            self.step(not forward)
        self.blank()
        answer = self.run(*self.pair.call(forward), trace=True)
        self.away = forward
        self.check("the second time", forward)
        return points(answer["trace"])

    def look(self) -> State:
        """All there is on host and server."""
        state = self.rig.snapshot()
        for path in BASES:
            state["files"].pop(path, None)
        state["server"] = {name: listing(directory) for name, directory in self.served().items()}
        return state

    def check(self, when: str, away: bool) -> None:
        """AssertionError with the differences unless all is as an undisturbed run leaves it."""
        found, allowed = self.look(), self.states[away]
        assert comparable(found) == comparable(allowed), f"{when}: {differences(allowed, found)}"

    def kill(self, point: Point) -> bool:
        """Kill at a point and check; False when the run came to its end without reaching it."""
        if self.away == point.forward:
            self.step(not point.forward)
        self.blank()
        old, new = self.states[self.away], self.states[point.forward]
        event = point.event
        module, args = self.pair.call(point.forward)
        self.before(args)
        answer = self.rig.run(module, args, kill=[event.role, event.call, event.count])
        if hit(answer["trace"]) != f"{event.call} {event.where}":
            self.away = point.forward
            self.run(module, args)
            return False
        assert not answer["killed"], "processes of the killed run go on for ever"
        between = self.look()
        assert between["registry"].get("integrity", "ok") == "ok", between["registry"]
        # only a child died: the run itself said that it failed, and what the child did is drift for the next one
        told = event.role != "main" and answer["result"] and answer["result"].get("failed")
        answered = between["registry"].get("journal") or hot(between) or told
        assert answered or like(between, old) or like(between, new), (
            f"neither old nor new, and nothing in the journal; to old: {differences(old, between)}; "
            f"to new: {differences(new, between)}"
        )
        information = self.run("host_info", {})["result"]
        assert {row["name"] for row in information["backends"]} in (names(old), names(new)), information["backends"]
        wanted = point.forward if point.retried else not point.forward
        self.run(*self.pair.call(wanted))
        self.away = wanted
        if not point.retried and leftovers(self.look()):
            # what a probe left on a server goes with the next use of that export, a transaction of the registry that
            # was under way with the next one, an intent with the next run for that item
            self.run(*self.pair.call(not wanted))
            self.check("after the change that had been killed", not wanted)
            self.run(*self.pair.call(wanted))
        self.check("after the next run", wanted)
        again = self.run(*self.pair.call(wanted))["result"]
        assert again["changed"] is self.pair.acts, "the run after that changes something"
        return True


def names(state: State) -> set[str]:
    """The backends of a state."""
    return {row["name"] for row in state["registry"].get("backends", ())}


def hot(state: State) -> bool:
    """Whether a transaction of the registry was under way."""
    return "/var/lib/microvm/registry.db-journal" in state["files"]


def like(state: State, other: State) -> bool:
    """Whether the host is in this state; what a killed probe left on the server is looked at after the next run."""
    return {**comparable(state), "server": None} == {**comparable(other), "server": None}


def comparable(state: State) -> State:
    """The state without what outlives backend and volume: marker, kept images, the host tool. Parts of them stay in."""
    server = {
        export: {} if set(names) == {".microvm", ".microvm/backend.json"} else names
        for export, names in state["server"].items()
    }
    files = dict(state["files"])
    for marker in [path for path in files if path.endswith("/.microvm/backend.json")]:
        folder = os.path.dirname(marker)
        for path in (marker, folder, os.path.dirname(folder)):
            files.pop(path, None)
    files = {path: what for path, what in files.items() if not KEPT_IMAGE.search(path)}
    tool = {path for path in files if path.startswith(TOOL) or path.endswith("/microvm-recover.service")}
    if len(tool) == TOOL_PARTS:
        files = {path: what for path, what in files.items() if path not in tool}
    tables = {name: rows for name, rows in state["registry"].items() if rows and name != "integrity"}
    machines = state["machines"]
    return {"mounts": state["mounts"], "files": files, "registry": tables, "server": server, "machines": machines}


def leftovers(state: State) -> bool:
    """Whether something waits for the next run that needs it."""
    partial = [names for names in comparable(state)["server"].values() if names]
    return hot(state) or bool(partial) or bool(state["registry"].get("journal"))


def differences(wanted: Any, found: Any, where: str = "") -> list[str]:
    """Where two states differ, one line each."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        lines = []
        for key in sorted({*wanted, *found}):
            lines += differences(wanted.get(key), found.get(key), f"{where}/{key}")
        return lines
    return [] if wanted == found else [f"{where}: {wanted!r:.300} became {found!r:.300}"]


def listing(top: Path) -> dict[str, str]:
    """Names of all files and directories below one, hidden ones included."""
    return {str(path.relative_to(top)): "directory" if path.is_dir() else "file" for path in top.rglob("*")}


def empty(directory: Path) -> None:
    """Remove everything from a directory."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
