# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection off a host: its mounts and its state are gone, the files on the servers are not. Runs last."""

from __future__ import annotations

from extensions.molecule.managed import Converge, Managed
from tests.lab import NfsServer


def test_remove(hv1: Managed, nas: NfsServer, remove: Converge) -> None:
    path = hv1.backends()["nas"]["path"]
    hv1.sh(f"echo kept > {path}/kept")
    done = remove("--limit=hv1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (nas.data("e03") / "kept").read_text() == "kept\n"
    assert not [stack for stack in hv1.table().values() if stack[-1]["type"].startswith("nfs")]
    assert hv1.sh("ls /etc/systemd/system | grep -E 'microvm|[.]mount$' || true") == ""
    assert hv1.sh("ls /etc/systemd/system/*.wants | grep -E 'microvm|[.]mount$' || true") == ""
    left = hv1.sh("find /var/lib/microvm /run/microvm /usr/local/libexec -mindepth 1 2>/dev/null || true").split()
    volumes = "/var/lib/microvm/volumes"
    assert sorted(left) == [
        "/var/lib/microvm/mounts",
        *(volumes, f"{volumes}/.microvm", f"{volumes}/.microvm/backend.json"),
    ]
