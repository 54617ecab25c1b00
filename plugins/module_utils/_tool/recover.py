# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a boot or a kill: settle open intents, check backends, mount what failed, log in. Private to microvm.host."""

from __future__ import annotations

import time

from ansible_collections.microvm.host.plugins.module_utils._core import journal, registry
from ansible_collections.microvm.host.plugins.module_utils._core.jobs import locked
from ansible_collections.microvm.host.plugins.module_utils._docker import steps as docker
from ansible_collections.microvm.host.plugins.module_utils._host import command, deadline, mounts, names, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import steps as machines
from ansible_collections.microvm.host.plugins.module_utils._storage import (
    filesystems,
    group_steps,
    observed,
    steps,
    volume_steps,
)
from ansible_collections.microvm.host.plugins.module_utils._tool import install, targets
from ansible_collections.microvm.host.plugins.module_utils._tool.log import Log

LOCK_SECONDS = 1.0
ATTEMPT_SECONDS = 15.0
LOOK_SECONDS = 15.0
AUTH = "auth"
"""The kind of failure that another attempt makes worse."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 20.0


def run() -> int:
    """Do all of it; returns when nothing that should be mounted is missing or unchecked. 1: an intent stays open."""
    log = Log()
    settled = settle(log)
    checked: set[str] = set()
    pause = FIRST_PAUSE
    while True:
        waiting = check(log, checked) + attach(log) + targets.log_in(log)
        if not waiting:
            log.event("done", settled=settled)
            return 0 if settled else 1
        log.event("waiting", seconds=pause, items=sorted(set(waiting)))
        time.sleep(pause)  # a server that comes back tells nobody: it is asked again
        pause = min(pause * 2, LONGEST_PAUSE)


def settle(log: Log) -> bool:
    """Undo or finish what dead runs left; a run that lives has its lock and is left alone. False: some stay open."""
    kinds = {
        **steps.KINDS,
        **group_steps.KINDS,
        **volume_steps.KINDS,
        **docker.KINDS,
        **machines.KINDS,
        **install.KINDS,
    }
    done = True
    for resource, name in sorted({(row["resource"], row["name"]) for row in journal.left_open()}):
        try:
            with locked(["%s/%s" % (resource, name)], LOCK_SECONDS):
                for text in journal.settle(resource, name, lambda: kinds):
                    log.event("settled", item=name, resource=resource, action=text)
        except HostError as error:
            done = done and error.kind == "busy"
            log.failure("not settled", "%s %s" % (resource, name), error)
    return done


def check(log: Log, checked: set[str]) -> list[str]:
    """Look at the mounts of backends with a marker; another file system is unmounted. Returns those not answering."""
    rows, backends = _registered()
    table = mounts.table()
    there = {
        row["path"]: backends[row["id"]]
        for row in rows
        if row["id"] in backends and row["path"] not in checked and mounts.stack_at(row["path"], table)
    }
    paths = [path for path, backend in there.items() if backend["identity"] == "marker"]
    waiting = []
    for index, found in deadline.Sweep(paths, observed.look, LOOK_SECONDS):
        path = paths[index]
        if not found or found["status"] != "ok":
            waiting.append(path)
            continue
        expected = there[path]["uuid"]
        checked.add(path)
        if found.get("uuid") == expected:
            log.event("checked", mount=path, uuid=expected)
            continue
        text = "it carries %s, not %s" % (found.get("uuid") or "no marker", expected)
        log.event("foreign file system", mount=path, backend=there[path]["name"], message=text)
        try:
            child = steps.DetachMount(path, False, ATTEMPT_SECONDS).apply({})
            if child is not None:
                deadline.result_of(child)
            log.event("unmounted", mount=path)
        except HostError as error:
            log.failure("not unmounted", path, error)
    return waiting


def attach(log: Log) -> list[str]:
    """Mount what systemd failed to mount at boot. Returns the paths that are still missing.

    What systemd did not try, or somebody unmounted since, is not missing: its unit is inactive, not failed. A server
    that does not answer is asked once, however many of its mounts are missing; one that refuses a login is left
    alone, as accounts get locked by repeated attempts.
    """
    rows, backends = _registered()
    table = mounts.table()
    missing = [row for row in rows if not mounts.stack_at(row["path"], table)]
    states = _states([systemd.unit_of_path(row["path"]) for row in missing])
    waiting = []
    dead: set[str] = set()
    for row, state in zip(missing, states):
        path, server = row["path"], row["asked"]["server"]
        if state == "pending" or (state == "failed" and server in dead):
            waiting.append(path)
            continue
        if state != "failed" or log.failed.get(path) == AUTH:
            continue
        marker = backends[row["id"]]["uuid"] if row["id"] in backends else ""
        try:
            _reach(row)  # without the lock: who changes the mount meanwhile need not wait for a dead server
            with locked(["export/" + names.hash8(row["identity"])], LOCK_SECONDS):
                _attach(row, marker)
            log.event("mounted", mount=path, source=filesystems.of(row["asked"]).source(row["asked"]))
        except HostError as error:
            log.failure("not mounted", path, error)
            if error.kind == AUTH:
                log.failed[path] = AUTH
                continue
            if error.kind in ("unreachable", "timeout"):
                dead.add(server)
            waiting.append(path)
    return waiting


def _reach(row: registry.Row) -> None:
    asked = row["asked"]
    what = "connecting to %s" % asked["server"]
    deadline.call(lambda: filesystems.of(asked).reach(asked, ATTEMPT_SECONDS / 2).text, ATTEMPT_SECONDS, what)


def _attach(row: registry.Row, marker: str) -> None:
    step = steps.AttachMount(
        asked=row["asked"],
        path=row["path"],
        base="",
        prefix="",
        replaces=False,
        place=True,
        probe="read",
        marker=marker,
        seconds=ATTEMPT_SECONDS,
        makes=[],
    )
    known = deadline.result_of(step.apply({}))
    values = {"attached": row["asked"], **{key: known[key] for key in ("shown", "version", "address")}}
    with registry.writing() as connection:
        connection.execute(
            "UPDATE mounts SET attached = :attached, shown = :shown, version = :version, address = :address"
            " WHERE id = :id",
            {"id": row["id"], **{key: registry.stored(key, value) for key, value in values.items()}},
        )


def _registered() -> tuple[list[registry.Row], dict[int, registry.Row]]:
    """The mounts that shall be there after a boot, and the backend of each that has one."""
    with registry.reading() as connection:
        rows = registry.rows(
            connection,
            "SELECT * FROM mounts WHERE id IN (SELECT mount FROM mount_users WHERE persistent = 1) ORDER BY id",
        )
        users = registry.rows(connection, "SELECT * FROM mount_users WHERE user LIKE 'backend:%'")
        backends = {row["name"]: row for row in registry.rows(connection, "SELECT * FROM backends")}
    return rows, {each["mount"]: backends[each["user"].split(":", 1)[1]] for each in users}


def _states(units: list[str]) -> list[str]:
    """Of each mount unit: failed, pending (systemd is at it, or will be), or other."""
    if not units:
        return []
    text = command.run(["systemctl", "show", "--property=ActiveState,Job", *units], LOOK_SECONDS, writes=False)
    found = []
    for block in text.strip().split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines())
        if values.get("Job", "0") not in ("", "0") or values["ActiveState"] == "activating":
            found.append("pending")
        else:
            found.append(values["ActiveState"])
    return found
