# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of this host, as they are: registered, on disk, running. Private to microvm.host."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host import command, deadline, files, names, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import by_hand, control, definition, places
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import Config
from ansible_collections.microvm.host.plugins.module_utils._shares import virtiofs
from ansible_collections.microvm.host.plugins.module_utils._storage import volume_seen

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.plan import Step
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool
    from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume

LOOK_SECONDS = 15.0


class Seen:
    """The registered machines, and of those asked for what is on disk and what runs."""

    def __init__(self, wanted: t.Iterable[str], seconds: float = LOOK_SECONDS) -> None:
        with registry.reading() as connection:
            rows = registry.rows(connection, "SELECT * FROM machines ORDER BY name")
            mounts = registry.rows(connection, "SELECT path FROM mounts ORDER BY path")
        self.rows = {row["name"]: row for row in rows}
        self.mounts = [row["path"] for row in mounts]
        self.names = sorted(set(wanted))
        units = [each for each in _listed(systemd.DIRECTORY) if each.startswith("microvm")]
        self.files = {name: _files(name, units) for name in self.names}
        self.active = _active([name for name in self.names if places.unit_file(places.unit(name)) in self.files[name]])
        self.states = self._states(seconds)
        self._daemon: virtiofs.Daemon | None = None
        self._tool: tuple[str, str, list[Step]] | None = None
        self._volumes: volume_seen.Seen | None = None

    @property
    def stored(self) -> volume_seen.Seen:
        """The volumes of this host: those that were looked at, and what the registry has of the others."""
        if self._volumes is None:
            self._volumes = volume_seen.Seen([], set())
        return self._volumes

    def look_at(self, wanted: t.Sequence[Volume], hung: set[str]) -> None:
        """Have looked at volumes; ``hung`` are backends that did not answer before."""
        if wanted:
            self._volumes = volume_seen.Seen(wanted, hung)

    def _states(self, seconds: float) -> dict[str, str]:
        """running, paused or starting of each active machine; unreachable when its hypervisor does not answer."""
        running = [name for name in self.names if name in self.active and name in self.rows]
        found = dict.fromkeys(self.active, "unreachable")
        for index, answer in deadline.Sweep(running, self._ask, seconds):
            found[running[index]] = answer or "unreachable"
        return found

    def _ask(self, name: str) -> str:
        try:
            return control.connect(self.rows[name]["kind"], places.control_socket(name)).state()
        except HostError as error:
            return "starting" if error.kind == "not_found" else "unreachable"

    def tool(self, tool: t.Callable[[], Tool]) -> tuple[str, str, list[Step]]:
        """What ``planned`` of the host tool says; looked up once, for all items."""
        if self._tool is None:
            self._tool = tool().planned()
        return self._tool

    def status(self, name: str) -> str:
        """running, paused, starting, unreachable; stopped, or absent when there is no definition."""
        return self.states.get(name, "stopped" if name in self.rows else "absent")

    def booted(self, name: str) -> str:
        """The digest of the definition that a running machine was started with."""
        try:
            return os.readlink(places.booted(name))
        except OSError:
            return ""

    def outdated(self, name: str, config: Config) -> bool:
        """Whether a machine runs with another definition than this."""
        return name in self.active and self.booted(name) != definition.digest(config)

    def mount_units(self, path: str) -> list[str]:
        """The mount units that a path needs: of the mounts that this collection keeps."""
        return [systemd.unit_of_path(mount) for mount in self.mounts if names.under(path, mount)]

    def lacks(self, path: str) -> bool:
        """Whether a directory is missing; may be on a dead server."""
        return not deadline.call(lambda: os.path.isdir(path), LOOK_SECONDS, "looking at %s" % path)

    def daemon(self, config: Config) -> virtiofs.Daemon | None:
        """The host's virtiofsd, None for a machine that needs none."""
        if not any(share["proto"] == "virtiofs" for share in config["shares"]):
            return None
        if self._daemon is None:
            try:
                self._daemon = virtiofs.find(os.path.exists)
            except HostError:
                if not command.reading_only():
                    raise
                self._daemon = virtiofs.Daemon(virtiofs.USUAL[0], True)  # an earlier task of the play installs it
        return self._daemon


def registered() -> list[str]:
    """The names of all machines."""
    with registry.reading() as connection:
        return [row["name"] for row in registry.rows(connection, "SELECT name FROM machines ORDER BY name")]


def _files(name: str, units: t.Iterable[str]) -> dict[str, str]:
    """Path to text of what there is of a machine, by its names; ``units`` are the files that there are of units."""
    own = (places.unit(name), places.net_unit(name), places.lock_unit(name), places.lost_unit(name))
    shares = places.fs_unit(name, "")
    paths = [places.unit_file(each) for each in units if each in own or each.startswith(shares)]
    folder = places.directory(name)
    for each in _listed(folder):
        if each in by_hand.SCRIPTS or (each.startswith("firecracker-") and each.endswith(".json")):
            paths.append(os.path.join(folder, each))
    found = {path: files.text_of(path) for path in paths}
    return {path: text for path, text in found.items() if text is not None}


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _active(machines: t.Sequence[str]) -> set[str]:
    """Those whose service runs, or is about to: also one that systemd will start again in a moment.

    The list has those that systemd has loaded; to ask for each by name would have it load them all, again each time.
    """
    if not machines or not systemd.running():
        return set()
    units = {places.unit(name): name for name in machines}
    asked = ["systemctl", "list-units", "--plain", "--no-legend", "--full", *units]
    lines = [line.split() for line in command.run(asked, LOOK_SECONDS, writes=False).splitlines()]
    return {units[words[0]] for words in lines if words[2] not in ("inactive", "failed")}
