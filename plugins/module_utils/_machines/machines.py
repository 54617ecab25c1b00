# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource of the module microvm. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import functools
import os
import pwd
import sqlite3
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, Record, ReloadUnits
from ansible_collections.microvm.host.plugins.module_utils._core.resource import with_tool
from ansible_collections.microvm.host.plugins.module_utils._host import command, deadline, files, names, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import (
    by_hand,
    control,
    definition,
    disks,
    fit,
    hypervisor,
    kernel,
    network,
    overlays,
    places,
    unit,
)
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import Config
from ansible_collections.microvm.host.plugins.module_utils._shares import virtiofs
from ansible_collections.microvm.host.plugins.module_utils._storage import volume_seen, volumes
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.journal import Kinds
    from ansible_collections.microvm.host.plugins.module_utils._core.plan import Step
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Tool

LOOK_SECONDS = 15.0
RUNNING = ("started", "restarted", "paused")
"""The states in which a machine runs afterwards."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A validated item. ``config`` None: the definition there is. ``keeps_shares``: those stay that the machine has.

    ``prepares``: its volumes are made and grown too.
    """

    name: str
    state: str
    timeout: int
    prefix: str
    config: Config | None
    keeps_shares: bool = False
    restart: str = "never"
    delete_volumes: bool = False
    taking: disks.Taking = disks.NONE
    prepares: bool = True


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


class Machines:
    """The microVMs of this host. ``tool`` gives the host tool, which stops them."""

    name = "machine"

    def __init__(self, tool: t.Callable[[], Tool]) -> None:
        self.tool = tool
        self.hung: set[str] = set()
        self._checked: set[str] = set()
        """Binaries whose version will do; to run one takes as long as to start a machine."""
        self._fits: dict[str, tuple[Config, hypervisor.Chosen]] = {}
        """Definitions that this host can run; a call plans twice."""

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> Wanted:
        """See Resource."""
        if item.get("name") is None:
            raise HostError("invalid", "%sname is required" % prefix, field=prefix + "name")
        name = definition.name_of(item["name"], prefix + "name")
        seconds = int(item["timeout"])
        if not 1 <= seconds <= 3600:
            names.refuse(prefix + "timeout", "%d is not within 1 to 3600 seconds" % seconds)
        config = None
        if definition.given_of(given) and item["state"] != "absent":
            config = definition.asked(item, name, prefix)
        keeps = given.get("shares") is None
        delete = bool(item["delete_volumes"])
        if delete and item["state"] != "absent":
            names.refuse(prefix + "delete_volumes", "the volumes of a machine go with it", "give state: absent too")
        taking = disks.Taking(bool(item["adopt"]), bool(item["takeover"]))
        return Wanted(name, item["state"], seconds, prefix, config, keeps, item["restart"], delete, taking)

    def together(self, wanted: t.Sequence[Wanted]) -> None:
        """See Resource."""
        configs = {each.name: each.config for each in wanted if each.config is not None}
        for each in wanted:
            if each.config is not None:
                _refuse_shared(
                    each, each.config, {name: config for name, config in configs.items() if name < each.name}
                )

    def registered(self) -> list[str]:
        """See Resource."""
        return sorted({*registered(), *places.left_behind()})  # of one whose first start failed there are logs

    def removal(self, name: str) -> Wanted:
        """See Resource."""
        return Wanted(name, "absent", 60, "", None)

    def observe(self, wanted: t.Sequence[Wanted]) -> Seen:
        """See Resource."""
        seen = Seen(each.name for each in wanted)
        seen.look_at([volume for each in wanted for volume in self._to_look_at(each, seen)], self.hung)
        return seen

    def _to_look_at(self, wanted: Wanted, seen: Seen) -> list[Volume]:
        """The volumes whose backends must be looked at to plan an item."""
        row = seen.rows.get(wanted.name)
        config = wanted.config or (row["config"] if row else None)
        if config is None or not disks.of(config) or (wanted.state == "absent" and not wanted.delete_volumes):
            return []
        starts = wanted.name not in seen.active and wanted.state in RUNNING
        starts = starts or self._restarts(wanted, seen, config) or wanted.delete_volumes
        return disks.to_look_at(config, seen.stored, starts, wanted.timeout, wanted.prefix)

    def _restarts(self, wanted: Wanted, seen: Seen, config: Config) -> bool:
        """Whether a machine that runs is stopped and started."""
        if wanted.name not in seen.active:
            return False
        if wanted.restart == "if_needed" and wanted.state != "stopped":
            placed = disks.placed(config, seen.stored) if disks.of(config) else config
            return wanted.state == "restarted" or seen.outdated(wanted.name, placed)
        return wanted.state == "restarted"

    def plan(self, wanted: Wanted, seen: Seen) -> Plan:
        """See Resource."""
        return self._absent(wanted, seen) if wanted.state == "absent" else self._there(wanted, seen)

    def _there(self, wanted: Wanted, seen: Seen) -> Plan:
        from ansible_collections.microvm.host.plugins.module_utils._machines import live_steps, made_steps, start_steps

        if not systemd.running():
            raise HostError("unsupported", "systemd does not run on this host", "a machine is a service of it")
        name, row = wanted.name, seen.rows.get(wanted.name)
        config = self._definition(wanted, row)
        if disks.of(config):
            config = disks.placed(config, seen.stored)
        others = {other: each["config"] for other, each in seen.rows.items() if other != name}
        _refuse_shared(wanted, config, others)
        chosen = hypervisor.choose(config, prefix=wanted.prefix)
        if chosen.kind == "firecracker":
            chosen = self._with_kernel(chosen, config, wanted)
        texts = unit.files(config, name, chosen, seen.mount_units, seen.daemon(config))
        autostarted = os.path.islink(places.autostart_link(name))
        written = seen.files[name] != texts or autostarted != config["autostart"]
        plan = Plan(name, {}, _facets(config, chosen.kind, chosen.accelerator), seconds=wanted.timeout)
        if row is not None:
            plan.before = _facets(row["config"], row["kind"], row["accelerator"])
            if written and plan.before == plan.after:
                plan.before["units"], plan.after["units"] = "edited", "written"
        active = name in seen.active
        restart = self._restarts(wanted, seen, config)
        goes_on = active and not restart and wanted.state != "stopped"
        start = restart or (not active and wanted.state in RUNNING)
        if written or start:
            self._refuse_binary(plan, config, chosen, wanted, written)
            self._refuse_unfit(plan, config, chosen, wanted, seen)
        if (written or start) and not _has_user(name):
            plan.steps.append(made_steps.MakeUser(places.user(name)))
        if written or start:
            missing = [share for share in config["shares"] if share["create"] and seen.lacks(share["source"])]
            if row is None and wanted.taking.adopt:
                alone = [share for share in missing if not seen.mount_units(share["source"])]
                _refuse_left_behind(wanted, config, alone)
            plan.steps += [made_steps.MakeSource(share["source"], **share["create"]) for share in missing]
        if (written or start) and chosen.kernel and not os.path.exists(chosen.kernel):
            plan.steps.append(made_steps.ExtractKernel(config["kernel"], chosen.kernel, uuid.uuid4().hex[:8]))
        if restart or (active and wanted.state == "stopped"):
            kind = row["kind"] if row else chosen.kind
            plan.steps.append(live_steps.StopMachine(name, kind, float(config["stop_timeout"]), restart))
        parts: list[Plan] = []
        if wanted.prepares and disks.of(config):
            running = row["kind"] if goes_on and row else ""
            parts = disks.prepare(plan, config, wanted.prefix, seen.stored, start, running, wanted.taking)
        if written:
            previous = {path: seen.files[name].get(path) for path in {**seen.files[name], **texts}}
            nonce = uuid.uuid4().hex[:8]
            plan.steps.append(made_steps.WriteMachine(name, texts, previous, config["autostart"], autostarted, nonce))
            plan.steps += [] if start else [ReloadUnits()]
        if start:
            opened = [[disk["path"], not disk["read_only"]] for dummy, disk in disks.of(config)]
            how = (opened, written, config["wait_for"], config["vsock"] if config["notify"] else 0)
            plan.steps.append(start_steps.StartMachine(name, chosen.kind, float(wanted.timeout), *how))
        target = config["balloon_target"] or config["memory"]
        if goes_on and row and config["balloon"] and row["config"]["balloon"]:
            before = row["config"]["balloon_target"] or row["config"]["memory"]
            if before != target and not seen.outdated(name, config):
                plan.steps.append(live_steps.SetBalloon(name, row["kind"], config["memory"], target, before))
        status = seen.status(name)
        if wanted.state == "paused" and (start or status != "paused"):
            plan.steps.append(live_steps.PauseMachine(name, chosen.kind, True))
        if wanted.state == "started" and status == "paused" and not start:
            plan.steps.append(live_steps.PauseMachine(name, chosen.kind, False))
        self._tell(plan, wanted, seen, row is not None, restart)
        if not plan.steps and plan.diff():
            plan.steps.append(Record("update the machine %s" % name))
        values = {"name": name, "config": config, "kind": chosen.kind, "accelerator": chosen.accelerator}

        def commit(connection: sqlite3.Connection, known: Known) -> None:
            for part in parts:
                if part.commit is not None:
                    part.commit(connection, known)
            registry.put(connection, "machines", values)
            _tell_stopped(plan, known)

        plan.commit = commit
        if plan.steps:
            plan.notes["restart_required"] = seen.outdated(name, config) and not restart and wanted.state != "stopped"
        with_tool(plan, seen.tool(self.tool))
        return plan

    def _definition(self, wanted: Wanted, row: registry.Row | None) -> Config:
        """What the machine shall be. Raises ``not_found`` when nobody ever said."""
        if wanted.config is None:
            if row is None:
                text = "there is no machine %s" % wanted.name
                raise HostError("not_found", text, "give its definition, at least kernel", wanted.prefix + "kernel")
            return {**definition.DEFAULTS, **row["config"]}
        config = wanted.config
        if row is not None and wanted.keeps_shares:
            config = {**config, "shares": row["config"]["shares"]}
            definition.refuse_impossible(config, wanted.name, wanted.prefix)
        overlays.refuse_unfounded(config["overlays"], config["shares"], wanted.prefix)
        return config

    def _with_kernel(self, chosen: hypervisor.Chosen, config: Config, wanted: Wanted) -> hypervisor.Chosen:
        """With where the kernel's ELF image is, or shall be; one that is missing is refused later."""
        try:
            path = deadline.call(
                lambda: kernel.image(config["kernel"], places.directory(wanted.name)), LOOK_SECONDS, "looking at kernel"
            )
        except HostError as error:
            if error.kind != "not_found":
                raise error.in_field(wanted.prefix + "kernel") from None
            return chosen
        return chosen._replace(kernel="" if path == config["kernel"] else path)

    def _refuse_binary(
        self, plan: Plan, config: Config, chosen: hypervisor.Chosen, wanted: Wanted, written: bool
    ) -> None:
        """Refuse a binary that is too old; ``written``: the unit that starts it is yet to be."""
        if not os.path.exists(chosen.binary):
            text = "there is no file %s" % chosen.binary
            plan.assumes.append(HostError("not_found", text, "the role prepare_host installs it"))
            return
        changed = written or hypervisor.newer(chosen, places.unit_file(places.unit(wanted.name)))
        if changed and chosen.binary not in self._checked:
            hypervisor.refuse_old(chosen, wanted.prefix + ("binary" if config["binary"] else "hypervisor"))
            self._checked.add(chosen.binary)

    def _refuse_unfit(self, plan: Plan, config: Config, chosen: hypervisor.Chosen, wanted: Wanted, seen: Seen) -> None:
        """Refuse what this host can't run; check mode assumes that what is missing comes with an earlier task."""
        daemon = seen.daemon(config)
        if daemon is not None and not os.path.exists(daemon.path):
            text = "there is no file %s" % daemon.path
            plan.assumes.append(HostError("not_found", text, "the role prepare_host installs virtiofsd"))
        if self._fits.get(wanted.name) == (config, chosen):
            return
        try:
            work = functools.partial(fit.refuse_unfit_for, places.user(wanted.name), config, chosen, wanted.prefix)
            deadline.call(work, LOOK_SECONDS, "looking at kernel, disks and shares")
            self._fits[wanted.name] = (config, chosen)
        except HostError as error:
            if error.kind != "not_found" or not command.reading_only():
                raise
            plan.assumes.append(error)

    def _tell(self, plan: Plan, wanted: Wanted, seen: Seen, there: bool, restart: bool) -> None:
        """The state of the machine in before and after, where the item asks for one."""
        status = seen.status(wanted.name)
        if there and wanted.state != "present":
            plan.before["status"] = status
        if wanted.state != "present":
            plan.after["status"] = {"paused": "paused", "stopped": "stopped"}.get(wanted.state, "running")
            if status in ("starting", "unreachable") and wanted.state == "started":
                plan.after["status"] = status  # it is not for this run to wait for that
        if restart:
            plan.before["restarted"], plan.after["restarted"] = False, True

    def _absent(self, wanted: Wanted, seen: Seen) -> Plan:
        from ansible_collections.microvm.host.plugins.module_utils._machines import live_steps, made_steps

        name, row = wanted.name, seen.rows.get(wanted.name)
        there, left = seen.files[name], places.left_by_starts(name)
        if row is None and not there and not left:
            return Plan(name, {}, {})
        config = {**definition.DEFAULTS, **(row["config"] if row else {})}
        before = dict(_facets(config, row["kind"], row["accelerator"]), status=seen.status(name)) if row else {}
        plan = Plan(name, before, {}, seconds=wanted.timeout)
        if not row:
            plan.before["files"] = [*sorted(there), *left]
        if name in seen.active:
            kind = row["kind"] if row else "qemu"
            plan.steps.append(live_steps.StopMachine(name, kind, float(config["stop_timeout"]), False))
        autostarted = os.path.islink(places.autostart_link(name))
        nonce = uuid.uuid4().hex[:8]
        previous: dict[str, str | None] = dict(there)
        units = sorted(os.path.basename(path) for path in there if os.path.dirname(path) == systemd.DIRECTORY)
        plan.steps += [
            made_steps.WriteMachine(name, {}, previous, False, autostarted, nonce),
            ReloadUnits(),
            made_steps.RemoveMachine(name, units),
        ]
        parts = disks.delete(plan, config, seen.stored) if wanted.delete_volumes else []

        def commit(connection: sqlite3.Connection, known: Known) -> None:
            for part in parts:
                if part.commit is not None:
                    part.commit(connection, known)
            connection.execute("DELETE FROM machines WHERE name = ?", (name,))
            _tell_stopped(plan, known)

        plan.commit = commit
        return plan

    def without(self, failed: t.AbstractSet[str], seen: Seen) -> bool:
        """See Resource."""
        return False

    def report(self, wanted: Wanted, seen: Seen) -> dict[str, t.Any]:
        """See Resource."""
        found: dict[str, t.Any] = {"state": wanted.state, "status": seen.status(wanted.name)}
        row = seen.rows.get(wanted.name)
        return dict(found, **described(row, seen)) if row else found

    def remarks(self, wanted: Wanted, seen: Seen) -> list[str]:
        """See Resource."""
        silent = wanted.state != "absent" and seen.status(wanted.name) == "unreachable"
        return ["it runs, but its hypervisor does not answer"] if silent else []

    def kinds(self) -> Kinds:
        """See Resource."""
        from ansible_collections.microvm.host.plugins.module_utils._machines import steps

        return {**volumes.Volumes().kinds(), **steps.KINDS, **self.tool().KINDS}


def registered() -> list[str]:
    """The names of all machines."""
    with registry.reading() as connection:
        return [row["name"] for row in registry.rows(connection, "SELECT name FROM machines ORDER BY name")]


def described(row: registry.Row, seen: Seen) -> dict[str, t.Any]:
    """What is told of a registered machine, without its name."""
    name, config = row["name"], {**definition.DEFAULTS, **row["config"]}
    return {
        "status": seen.status(name),
        "hypervisor": row["kind"],
        "accelerator": row["accelerator"],
        "vcpus": config["vcpus"],
        "memory": config["memory"],
        "autostart": config["autostart"],
        "restart_required": seen.outdated(name, config),
        "unit": places.unit(name),
        "user": places.user(name),
        "directory": places.directory(name),
        "console": places.logs(name) + "/console.log",
        "disks": [disk["path"] for disk in config["disks"]],
        "volumes": [disk["volume"] for disk in config["disks"] if disk["volume"]],
        "taps": [tap for tap, dummy in network.taps(config, name)],
        "macs": [each["mac"] for each in config["interfaces"]],
        "shares": [{key: share[key] for key in ("tag", "proto", "source")} for share in config["shares"]],
    }


def _facets(config: Config, kind: str, accelerator: str) -> dict[str, t.Any]:
    """A definition as diffs show it: what was resolved in place of ``auto``, and only what is set."""
    found = {key: value for key, value in config.items() if value not in ("", 0, [], {}) or key in ("autostart",)}
    return dict(found, hypervisor=kind, accelerator=accelerator)


def _tell_stopped(plan: Plan, known: Known) -> None:
    if "stopped" in known:
        plan.notes["stopped"] = known["stopped"]


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(places.user(name))
    except KeyError:
        return False
    return True


def _refuse_left_behind(wanted: Wanted, config: Config, missing: t.Sequence[dict[str, t.Any]]) -> None:
    """Refuse to make a source of a machine that moves here: it would be empty, and the real one left behind."""
    if missing:
        text = "there is no directory %s on this host for %s to find again" % (missing[0]["source"], wanted.name)
        hint = "copy it here, or put it on storage that both hosts have; to begin with an empty one, make it by hand"
        field = "%sshares[%d].source" % (wanted.prefix, config["shares"].index(missing[0]))
        raise HostError("not_found", text, hint, field=field)


def _refuse_shared(wanted: Wanted, config: Config, others: t.Mapping[str, Config]) -> None:
    """Refuse a disk that another machine writes to, or writing to one that another has; and a vsock address twice."""
    for other, its in others.items():
        if config["vsock"] and config["vsock"] == its["vsock"]:
            text = "the machine %s has the vsock address %d" % (other, config["vsock"])
            raise HostError("conflict", text, "each machine of a host has its own", field=wanted.prefix + "vsock")
        theirs = {place: disk["read_only"] for disk in its["disks"] for place in _places(disk)}
        for index, disk in enumerate(config["disks"]):
            shared = [place for place in _places(disk) if place in theirs]
            if shared and not (disk["read_only"] and theirs[shared[0]]):
                text = "%s is a disk of the machine %s" % (shared[0], other)
                field = definition.disk_field(config, index, wanted.prefix) + ("volume" if disk["volume"] else "path")
                raise HostError("conflict", text, "a disk with a writer has one machine", field=field)


def _places(disk: dict[str, t.Any]) -> list[str]:
    """What a disk is known by."""
    return (["volume " + disk["volume"]] if disk["volume"] else []) + ([disk["path"]] if disk["path"] else [])
