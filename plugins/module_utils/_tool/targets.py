# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a boot: log in to the registered LUNs and open their groups. Private to microvm.host."""

from __future__ import annotations

import sqlite3
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.jobs import Job, carry_out, locked
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, Step
from ansible_collections.microvm.host.plugins.module_utils._host import names, secret
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import group_steps, iscsi_lvm, login_steps
from ansible_collections.microvm.host.plugins.module_utils._tool.log import Log

LOCK_SECONDS = 1.0
ATTEMPT_SECONDS = 30.0
FINAL = ("conflict", "auth", "refused", "unsupported")
"""Kinds of failure that another attempt does not mend: somebody must see to them."""


def log_in(log: Log) -> list[str]:
    """Log in to what is not there. Returns the names of those that are worth another attempt."""
    seen = iscsi_lvm.Observed(ATTEMPT_SECONDS, lambda user: False, set(), refresh=False)
    waiting = []
    for user, row in seen.rows.items():
        if not row["logged_in"] or seen.looks[user].status != "logged_out" or log.failed.get(user) in FINAL:
            continue
        resource, dummy, name = user.partition(":")
        try:
            with locked(["%s/%s" % (resource, name), "lun/" + names.hash8(row["identity"])], LOCK_SECONDS):
                _log_in(resource, name, row)
            log.event("logged in", item=name, target=row["asked"]["iqn"], lun=row["asked"]["lun"])
        except HostError as error:
            log.failure("not logged in", user, error)
            if error.kind in FINAL:
                log.failed[user] = error.kind
            else:
                waiting.append(name)
    return waiting


def _log_in(resource: str, name: str, row: registry.Row) -> None:
    """As an intent of that resource: what a kill leaves is undone by whoever is next at it."""
    asked, facts = row["asked"], row["facts"]
    key = secret.keep(iscsi_lvm.chap(asked, iscsi_lvm.Secrets(), iscsi_lvm.recorded(row, asked)[1]))
    steps: list[Step] = [
        login_steps.ProveLogin(asked, key, ATTEMPT_SECONDS),
        # The portal that answers may be another than last time, or have another address.
        login_steps.WriteRecord(asked, key, uuid.uuid4().hex[:8], ATTEMPT_SECONDS),
        login_steps.Login(asked, facts, False, ATTEMPT_SECONDS),
        group_steps.OpenGroup(asked, facts, False, "", "", ATTEMPT_SECONDS),
    ]

    def commit(connection: sqlite3.Connection, known: Known) -> None:
        connection.execute(
            "UPDATE targets SET facts = ? WHERE user = ?",
            (registry.stored("facts", iscsi_lvm.learned(facts, known)), row["user"]),
        )

    job = Job(resource, Plan(name, {}, {}, steps, commit))
    carry_out([job])
    if job.error is not None:
        raise job.error
