# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_info returns. Private to microvm.host."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import journal, registry
from ansible_collections.microvm.host.plugins.module_utils._host import locks
from ansible_collections.microvm.host.plugins.module_utils._info import docker, machines
from ansible_collections.microvm.host.plugins.module_utils._storage import backends, mount, nfs_mounts

LOOKING = 0.8
"""The share of the timeout that is for looks: to end fifty that hang, and to answer, takes time too."""


def gather(refresh: bool, timeout: int) -> dict[str, t.Any]:
    """Everything the registry and the kernel know; ``refresh`` looks at each mount too, all within ``timeout`` s.

    Raises HostError ``invalid`` for a ``timeout`` that is none.
    """
    nfs_mounts.timeout_of({"timeout": timeout}, "")

    def probed(seen: mount.Seen) -> list[str]:
        local = [row["config"]["path"] for row in seen.backends.values() if row["kind"] == "local_file"]
        return local + ([row["path"] for row in seen.rows.values()] if refresh else [])

    seen = mount.Seen(probed, timeout * LOOKING)
    intents = journal.left_open()
    return {
        "backends": [dict(backends.described(row, seen), name=name) for name, row in sorted(seen.backends.items())],
        "mounts": [
            dict(nfs_mounts.described_row(seen.rows[use["mount"]], seen, bool(use["persistent"])), name=user[6:])
            for user, use in sorted(seen.users.items())
            if user.startswith("mount:")
        ],
        "volumes": [
            {"backend": backend, "name": name} for backend, owned in sorted(seen.volumes.items()) for name in owned
        ],
        **machines.gathered(),
        "docker_volumes": docker.volumes(),
        "locks": [lock for lock in locks.held() if lock["resource"] in ("backend", "mount", "machine", "share")],
        "jobs": [],
        "orphans": [],
        "registry": {
            "path": registry.PATH,
            "exists": os.path.exists(registry.PATH),
            "version": registry.VERSION,
            "open_intents": [{key: row[key] for key in ("resource", "name", "pid", "committed")} for row in intents],
        },
    }
