# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a machine that shall be there. Private to microvm.host."""

from __future__ import annotations

import contextlib
import os
import pwd
import sqlite3
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, Record, ReloadUnits
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import (
    definition,
    disks,
    exclusive,
    hypervisor,
    kernel,
    overlays,
    places,
    told,
    unit,
)
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import Config
from ansible_collections.microvm.host.plugins.module_utils._machines.seen import LOOK_SECONDS

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._machines.checks import Checks
    from ansible_collections.microvm.host.plugins.module_utils._machines.seen import Seen
    from ansible_collections.microvm.host.plugins.module_utils._machines.wanted import Wanted


class Making:
    """One machine's way from what it is to what is asked of it."""

    def __init__(self, wanted: Wanted, seen: Seen) -> None:
        if not systemd.running():
            raise HostError("unsupported", "systemd does not run on this host", "a machine is a service of it")
        self.wanted, self.seen, self.name = wanted, seen, wanted.name
        self.row = seen.rows.get(self.name)
        self.config = self._definition()
        others = {other: each["config"] for other, each in seen.rows.items() if other != self.name}
        exclusive.refuse(self.config, others, wanted.prefix)
        active = self.name in seen.active
        self.restart = wanted.restarts(seen, self.config)
        self.start = wanted.starts(seen, self.config)
        self.stop = self.restart or (active and wanted.state == "stopped")
        self.goes_on = active and not self.stop
        self.chosen = self._hypervisor()
        self.texts = unit.files(self.config, self.name, self.chosen, seen.mount_units, seen.daemon(self.config))
        self.autostarted = os.path.islink(places.autostart_link(self.name))
        self.written = seen.files[self.name] != self.texts or self.autostarted != self.config["autostart"]
        self.result = Plan(self.name, {}, self._facets(), seconds=wanted.timeout)

    def plan(self, checks: Checks) -> Plan:
        """The plan; raises HostError for what this host can't run or the machine can't be."""
        plan, seen = self.result, self.seen
        if self.row is not None:
            plan.before = told.facets(self.row["config"], self.row["kind"], self.row["accelerator"])
            if self.written and plan.before == plan.after:
                plan.before["units"], plan.after["units"] = "edited", "written"
        if self.written or self.start:
            prefix = self.wanted.prefix
            checks.binary(plan, self.config, self.chosen, prefix, self.written)
            checks.host(plan, self.config, self.chosen, prefix, seen.daemon(self.config))
        if self.written or self.start or seen.status(self.name) == "starting":
            self._provide()
        if self.stop:
            self._stop()
        parts = self._prepare_disks()
        if self.written:
            self._write()
        if self.start:
            self._start()
        self._change_live()
        self._tell()
        if not plan.steps and plan.diff():
            plan.steps.append(Record("update the machine %s" % self.name))
        plan.commit = self._commit(parts)
        if plan.steps:
            outdated = seen.outdated(self.name, self.config)
            plan.notes["restart_required"] = outdated and not self.restart and self.wanted.state != "stopped"
        return plan

    def _definition(self) -> Config:
        """What the machine shall be. Raises ``not_found`` when nobody ever said."""
        wanted, row = self.wanted, self.row
        if wanted.config is None:
            if row is None:
                text = "there is no machine %s" % wanted.name
                raise HostError("not_found", text, "give its definition, at least kernel", wanted.prefix + "kernel")
            config: Config = {**definition.DEFAULTS, **row["config"]}
        else:
            config = wanted.config
            if row is not None and wanted.keeps_shares:
                config = {**config, "shares": row["config"]["shares"]}
                definition.refuse_impossible(config, wanted.name, wanted.prefix)
            overlays.refuse_unfounded(config["overlays"], config["shares"], wanted.prefix)
        return disks.placed(config, self.seen.stored) if disks.of(config) else config

    def _hypervisor(self) -> hypervisor.Chosen:
        """With where the kernel's ELF image is, or shall be; one that is missing is refused later."""
        chosen = self._chosen()
        if chosen.kind != "firecracker":
            return chosen
        asked, directory = self.config["kernel"], places.directory(self.name)
        try:
            path = deadline.call(lambda: kernel.image(asked, directory), LOOK_SECONDS, "looking at kernel")
        except HostError as error:
            if error.kind != "not_found":
                raise error.in_field(self.wanted.prefix + "kernel") from None
            return chosen
        return chosen._replace(kernel="" if path == asked else path)

    def _chosen(self) -> hypervisor.Chosen:
        """What one that runs is run by, it keeps: the orders of another would not be understood."""
        now = self.row["kind"] if self.goes_on and self.row is not None else ""
        if now and self.config["hypervisor"] == "auto":
            kept = {**self.config, "hypervisor": now}
            with contextlib.suppress(HostError):  # it is not there any more, or can't: then another is asked for
                definition.refuse_impossible(kept, self.name, self.wanted.prefix)
                return hypervisor.choose(kept)
        chosen = hypervisor.choose(self.config, prefix=self.wanted.prefix)
        if now not in ("", chosen.kind):
            text = "the machine %s runs in %s, and is to run in %s" % (self.name, now, chosen.kind)
            hint = "stop it first, or give restart: if_needed"
            raise HostError("conflict", text, hint, field=self.wanted.prefix + "hypervisor")
        if self.config["hypervisor"] == "auto":
            resolved = {**self.config, "hypervisor": chosen.kind}
            definition.refuse_impossible(resolved, self.name, self.wanted.prefix)
        return chosen

    def _facets(self) -> dict[str, t.Any]:
        return told.facets(self.config, self.chosen.kind, self.chosen.accelerator)

    def _provide(self) -> None:
        """The machine's user, the directories of its shares and its kernel's image, where they are missing."""
        from ansible_collections.microvm.host.plugins.module_utils._machines import made_steps

        steps = self.result.steps
        if not _has_user(self.name):
            steps.append(made_steps.MakeUser(places.user(self.name)))
        missing = [share for share in self.config["shares"] if share["create"] and self.seen.lacks(share["source"])]
        if self.row is None and self.wanted.taking.adopt:
            self._refuse_left_behind(missing)
        steps += [made_steps.MakeSource(share["source"], **share["create"]) for share in missing]
        if missing and self.row is not None:
            sources = [share["source"] for share in missing]
            self.result.before["missing"], self.result.after["missing"] = sources, []
        if self.chosen.kernel and not os.path.exists(self.chosen.kernel):
            steps.append(made_steps.ExtractKernel(self.config["kernel"], self.chosen.kernel, uuid.uuid4().hex[:8]))

    def _refuse_left_behind(self, missing: t.Sequence[dict[str, t.Any]]) -> None:
        """Refuse to make a source of a machine that moves here: it would be empty, and the real one left behind."""
        alone = [share for share in missing if not self.seen.mount_units(share["source"])]
        if alone:
            text = "there is no directory %s on this host for %s to find again" % (alone[0]["source"], self.name)
            hint = (
                "copy it here, or put it on storage that both hosts have; to begin with an empty one, make it by hand"
            )
            field = "%sshares[%d].source" % (self.wanted.prefix, self.config["shares"].index(alone[0]))
            raise HostError("not_found", text, hint, field=field)

    def _prepare_disks(self) -> list[Plan]:
        """The plans of its volumes, whose steps are among its own now."""
        if not self.wanted.prepares or not disks.of(self.config):
            return []
        running, wanted = None, self.wanted
        if self.goes_on and self.row is not None:
            began = {**definition.DEFAULTS, **self.row["config"]}
            known = not self.seen.outdated(self.name, began)
            running = disks.Running(self.row["kind"], began["disks"] if known else None)
        return disks.prepare(
            self.result, self.config, wanted.prefix, self.seen.stored, self.start, running, wanted.taking
        )

    def _stop(self) -> None:
        from ansible_collections.microvm.host.plugins.module_utils._machines import live_steps

        kind = self.row["kind"] if self.row else self.chosen.kind
        step = live_steps.StopMachine(self.name, kind, float(self.config["stop_timeout"]), self.restart)
        self.result.steps.append(step)

    def _write(self) -> None:
        from ansible_collections.microvm.host.plugins.module_utils._machines import made_steps

        found, autostart = self.seen.files[self.name], self.config["autostart"]
        previous = {path: found.get(path) for path in {**found, **self.texts}}
        nonce = uuid.uuid4().hex[:8]
        self.result.steps.append(
            made_steps.WriteMachine(self.name, self.texts, previous, autostart, self.autostarted, nonce)
        )
        if not self.start:
            self.result.steps.append(ReloadUnits())

    def _start(self) -> None:
        from ansible_collections.microvm.host.plugins.module_utils._machines import start_steps

        config = self.config
        opened = [[disk["path"], not disk["read_only"]] for dummy, disk in disks.of(config)]
        how = (opened, self.written, config["wait_for"], config["vsock"] if config["notify"] else 0)
        seconds = float(self.wanted.timeout)
        self.result.steps.append(start_steps.StartMachine(self.name, self.chosen.kind, seconds, *how))

    def _change_live(self) -> None:
        """What changes in a machine that runs: its balloon, and whether it is paused."""
        state, status = self.wanted.state, self.seen.status(self.name)
        self._inflate()
        if state == "paused" and (self.start or status != "paused"):
            self._pause(True)
        if state == "started" and status == "paused" and not self.start:
            self._pause(False)

    def _inflate(self) -> None:
        config, row = self.config, self.row
        if not self.goes_on or row is None or not (config["balloon"] and row["config"]["balloon"]):
            return
        target = config["balloon_target"] or config["memory"]
        before = row["config"]["balloon_target"] or row["config"]["memory"]
        if before != target and not self.seen.outdated(self.name, config):
            from ansible_collections.microvm.host.plugins.module_utils._machines import live_steps

            step = live_steps.SetBalloon(self.name, row["kind"], config["memory"], target, before)
            self.result.steps.append(step)

    def _pause(self, on: bool) -> None:
        from ansible_collections.microvm.host.plugins.module_utils._machines import live_steps

        self.result.steps.append(live_steps.PauseMachine(self.name, self.chosen.kind, on))

    def _tell(self) -> None:
        """The state of the machine in before and after, where the item asks for one."""
        plan, state, status = self.result, self.wanted.state, self.seen.status(self.name)
        if self.row is not None and state != "present":
            plan.before["status"] = status
        if state != "present":
            plan.after["status"] = {"paused": "paused", "stopped": "stopped"}.get(state, "running")
            if status in ("starting", "unreachable") and state == "started":
                plan.after["status"] = status  # it is not for this run to wait for that
        if self.restart:
            plan.before["restarted"], plan.after["restarted"] = False, True

    def _commit(self, parts: t.Sequence[Plan]) -> t.Callable[[sqlite3.Connection, Known], None]:
        values = {
            "name": self.name,
            "config": self.config,
            "kind": self.chosen.kind,
            "accelerator": self.chosen.accelerator,
        }

        def commit(connection: sqlite3.Connection, known: Known) -> None:
            for part in parts:
                if part.commit is not None:
                    part.commit(connection, known)
            registry.put(connection, "machines", values)
            told.stopped(self.result, known)

        return commit


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(places.user(name))
    except KeyError:
        return False
    return True
