# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a boot: log in to the registered LUNs and open their groups. Private to microvm.host."""

from __future__ import annotations

import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.jobs import locked
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, names, secret
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import iscsi_lvm, iscsi_steps, target
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
        name = user.partition(":")[2]
        try:
            with locked(["lun/" + names.hash8(row["identity"])], LOCK_SECONDS):
                _log_in(row)
            log.event("logged in", item=name, target=row["asked"]["iqn"], lun=row["asked"]["lun"])
        except HostError as error:
            log.failure("not logged in", user, error)
            if error.kind in FINAL:
                log.failed[user] = error.kind
            else:
                waiting.append(name)
    return waiting


def _log_in(row: registry.Row) -> None:
    asked, facts = row["asked"], row["facts"]
    path, recorded = iscsi_lvm.recorded(row, asked)
    key = secret.keep(iscsi_lvm.chap(asked, iscsi_lvm.Secrets(), recorded))
    known = dict(deadline.result_of(iscsi_steps.ProveLogin(asked, key, ATTEMPT_SECONDS).apply({})))
    if path is None or known["address"] != facts["address"]:
        write = iscsi_steps.WriteRecord(asked, key, uuid.uuid4().hex[:8], ATTEMPT_SECONDS)
        deadline.result_of(write.apply(known))
        write.finish(known)
    login = iscsi_steps.Login(asked, facts, False, ATTEMPT_SECONDS)
    try:
        known.update(deadline.result_of(login.apply(known)))
        opening = iscsi_steps.OpenGroup(asked, facts, False, "", "", ATTEMPT_SECONDS)
        known.update(deadline.result_of(opening.apply(known)))
    except HostError:
        login.undo(known)
        raise
    found = {key: known[key] for key in (*target.PLACE, *iscsi_lvm.FACTS)}
    with registry.writing() as connection:
        connection.execute(
            "UPDATE targets SET facts = ? WHERE user = ?",
            (registry.stored("facts", {**facts, **found}), row["user"]),
        )
