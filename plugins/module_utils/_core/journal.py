# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intents: what a run is about to do, written down before it does it. Private to microvm.host.

An intent that is not committed is undone, one that is committed is finished; by the run itself, or after a kill by
whoever next holds the lock of that resource.
"""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import plan, registry
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step

Kinds = t.Mapping[str, "type[Step]"]
"""Step classes by the name under which the journal keeps them (the class name)."""


def begin(resource: str, name: str, steps: t.Sequence[Step]) -> str:
    """Write an intent down and return its id."""
    intent = uuid.uuid4().hex
    row = {
        "id": intent,
        "resource": resource,
        "name": name,
        "pid": os.getpid(),
        "committed": 0,
        "steps": [[type(step).__name__, dataclasses.asdict(step)] for step in steps],
        "known": {},
    }
    with registry.writing() as connection:
        registry.put(connection, "journal", row)
    return intent


def note(intent: str, known: Known) -> None:
    """Keep what the steps have answered."""
    with registry.writing() as connection:
        _update(connection, intent, known, committed=0)


def commit(
    intent: str, steps: t.Sequence[Step], change: t.Callable[[sqlite3.Connection, Known], None] | None, known: Known
) -> bool:
    """The point of no return: the registry rows and the intent change in one transaction.

    True when nothing follows: the intent is forgotten in that transaction too.
    """
    ends = all(type(step).finish is plan.Step.finish for step in steps)
    with registry.writing() as connection:
        if change is not None:
            change(connection, known)
        if ends:
            _forget(connection, intent)
        else:
            _update(connection, intent, known, committed=1)
    return ends


def undo(intent: str, steps: t.Sequence[Step], known: Known) -> None:
    """Take back the steps, last first, and forget the intent. Raises HostError: the intent stays."""
    for step in reversed(steps):
        step.undo(known)
    with registry.writing() as connection:
        _forget(connection, intent)


def finish(intent: str, steps: t.Sequence[Step], known: Known) -> None:
    """Do what follows the commit and forget the intent. Raises HostError: the intent stays."""
    for step in steps:
        step.finish(known)
    with registry.writing() as connection:
        _forget(connection, intent)


def left_open() -> list[registry.Row]:
    """All intents there are, those of runs in progress included: columns of the journal table."""
    with registry.reading() as connection:
        return registry.rows(connection, "SELECT * FROM journal ORDER BY rowid")


def settle(resource: str, name: str, kinds: t.Callable[[], Kinds], forget: bool = False) -> list[str]:
    """Undo or finish what dead runs left open for one resource; the caller holds its lock. Says what it did.

    ``kinds`` is only called when there is something: it loads all that the resource ever does. ``forget``: what can
    be neither undone nor finished is left as it is, and said.
    """
    told = []
    for row in left_open():
        if (row["resource"], row["name"]) != (resource, name):
            continue
        try:
            told.append("%s what process %d left" % (_settled(row, kinds()), row["pid"]))
        except HostError as error:
            if not forget:
                raise
            with registry.writing() as connection:
                _forget(connection, row["id"])
            told.append("forget what process %d left: %s" % (row["pid"], error))
    return told


def _settled(row: registry.Row, known: Kinds) -> str:
    """Undo or finish an intent; which of the two it was."""
    unknown = sorted({kind for kind, dummy in row["steps"]} - set(known))
    if unknown:
        text = "process %d left steps this collection does not know: %s" % (row["pid"], ", ".join(unknown))
        raise HostError("unsupported", text, "use the newer microvm.host that began them")
    steps = [known[kind](**fields) for kind, fields in row["steps"]]
    if row["committed"]:
        finish(row["id"], steps, row["known"])
        return "finish"
    undo(row["id"], steps, row["known"])
    return "undo"


def _update(connection: sqlite3.Connection, intent: str, known: Known, committed: int) -> None:
    connection.execute(
        "UPDATE journal SET known = ?, committed = ? WHERE id = ?",
        (registry.stored("known", known), committed, intent),
    )


def _forget(connection: sqlite3.Connection, intent: str) -> None:
    connection.execute("DELETE FROM journal WHERE id = ?", (intent,))
