# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_info returns. Private to microvm.host."""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import journal, registry
from ansible_collections.microvm.host.plugins.module_utils._host import locks, names
from ansible_collections.microvm.host.plugins.module_utils._info import discovery, docker, machines, volumes
from ansible_collections.microvm.host.plugins.module_utils._storage import backends, iscsi_lvm, mount_report, observed

LOOKING = 0.6
"""The share of the timeout that is for looks at storage: to end fifty that hang, and to answer, takes time too."""
MACHINES = 0.2
"""Of it for hypervisors, which are on this host."""
SERVERS = 0.8
"""Of it for servers that are asked what they offer, meanwhile."""
LOCKED = frozenset({"backend", "mount", "share", "target", "volume", "machine", "machine_share"})
"""Resources whose locks are told of; the others are inner ones."""


def gather(refresh: bool, timeout: int, discover: list[dict[str, t.Any]] | None) -> dict[str, t.Any]:
    """Everything the registry and the kernel know, and LVM of LUNs; ``refresh`` looks at each mount too, ``discover``
    asks servers.

    All of it within ``timeout`` s. Raises HostError ``invalid`` naming the option.
    """
    names.seconds(timeout, "timeout")
    asked = discovery.Discovery(discovery.servers(discover or ()), timeout * SERVERS)

    def probed(seen: observed.Seen) -> list[str]:
        local = [row["config"]["path"] for row in seen.backends.values() if "path" in row["config"]]
        return local + ([row["path"] for row in seen.rows.values()] if refresh else [])

    until = time.monotonic() + timeout * LOOKING
    luns = iscsi_lvm.Observed(timeout * LOOKING, lambda user: True, set())  # at the same time as mounts
    seen = observed.Seen(probed, until - time.monotonic())
    seen.beside["luns"] = luns
    intents = journal.left_open()
    return {
        "backends": [dict(backends.described(row, seen), name=name) for name, row in sorted(seen.backends.items())],
        "mounts": _mounts(seen, "mount"),
        **volumes.gather(seen, max(0.0, until - time.monotonic()), refresh),
        **machines.gather(timeout * MACHINES),
        "shares": _mounts(seen, "share"),
        "targets": [
            dict(iscsi_lvm.described(row, luns.looks[user]), name=user[7:], state=_state(row))
            for user, row in sorted(luns.rows.items())
            if user.startswith("target:")
        ],
        "docker_volumes": docker.volumes(),
        "locks": [lock for lock in locks.held() if lock["resource"] in LOCKED],
        "jobs": volumes.jobs(intents),
        "discovered": asked.told(),
        "registry": {
            "path": registry.PATH,
            "exists": os.path.exists(registry.PATH),
            "version": registry.VERSION,
            "open_intents": [{key: row[key] for key in ("resource", "name", "pid", "committed")} for row in intents],
        },
    }


def _state(row: registry.Row) -> str:
    return "present" if row["logged_in"] else "logged_out"


def _mounts(seen: observed.Seen, resource: str) -> list[dict[str, t.Any]]:
    """What a resource has mounted, by name."""
    used = [(user.split(":", 1)[1], use) for user, use in sorted(seen.users.items()) if user.startswith(resource + ":")]
    return [
        dict(mount_report.described(seen.rows[use["mount"]], seen, bool(use["persistent"])), name=name)
        for name, use in used
    ]
