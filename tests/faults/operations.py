# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is killed: pairs of module calls, each of which undoes the other, and what must be there beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.machines import guests

Call = tuple[str, dict[str, Any]]
"""Module and arguments."""

LOCAL: Call = ("storage_backend", {"name": "local", "kind": "local_file"})
SHELL = "shell"
"""In place of a module: its ``command`` is run on the host."""
IMAGE = "/run/faults.image"
"""Not on the file system of a backend, so that each keeps a copy of it."""
MAKE_IMAGE: Call = (SHELL, {"command": f"test -e {IMAGE} || seq 40000 > {IMAGE}"})
FOLDER = "/var/lib/microvm/disk"
"""Of the backend ``disk``."""
MACHINE = {
    "kernel": guests.TOY,
    "memory": "64MiB",
    "root": {"size": "64KiB"},
    "interfaces": [{}],
    "shares": [{"tag": "keys", "source": "/usr/share/keyrings"}],
}

TOOL = (
    "/usr/local/libexec/microvm",
    "/etc/systemd/system/microvm-recover.service",
    "/etc/systemd/system/multi-user.target.wants/microvm-recover.service",
)


TRACED_SECONDS = 60
"""``timeout`` of a call that says none: under strace, on a busy machine, the modules' own may be too short."""


@dataclass(frozen=True)
class Pair:
    """``there`` takes the host from the one state to the other, ``back`` returns it; ``given`` are run before.

    ``blank`` are the exports and shares that are emptied and the files and directories (paths) that are removed before
    each ``there``, so that the identity marker is made anew, or the host tool. Both ways of what ``acts``
    change something each time. What is ``slow`` is in no sample unless it is asked for.
    """

    name: str
    given: tuple[Call, ...]
    there: Call
    back: Call
    blank: tuple[str, ...] = ()
    acts: bool = False
    slow: bool = False

    def call(self, forward: bool) -> Call:
        """The call that leads away from the state that the host is in."""
        module, arguments = self.there if forward else self.back
        return module, {"timeout": TRACED_SECONDS, **arguments}


def pairs(server: str, files: str) -> list[Pair]:
    """All of them, for an NFS server with exports /export/rw and /export/rw2 and an SMB server with a share vms."""
    smb = {"name": "files", "kind": "smb", "server": files, "share": "vms", "username": "svc", "password": "first"}
    nfs = {"name": "nas", "kind": "nfs", "server": server, "export": "/export/rw"}
    disk = {"name": "disk", "kind": "local_file", "path": FOLDER}
    export = {"name": "vms", "server": server, "export": "/export/rw2"}
    backend = "storage_backend"
    return [
        Pair("nfs backend", (LOCAL,), (backend, nfs), (backend, {"name": "nas", "state": "absent"}), blank=("rw",)),
        Pair(
            "local backend",
            (LOCAL,),
            (backend, disk),
            (backend, {"name": "disk", "state": "absent"}),
            blank=(disk["path"],),
        ),
        Pair(
            "edit",
            (LOCAL, (backend, {**nfs, "options": "timeo=300,retrans=3"})),
            (backend, {**nfs, "options": "timeo=100,retrans=3"}),
            (backend, {**nfs, "options": "timeo=300,retrans=3"}),
        ),
        Pair(
            "default",
            (LOCAL, (backend, nfs)),
            (backend, {**nfs, "default": True}),
            (backend, {**LOCAL[1], "default": True}),
        ),
        Pair(
            "mount",
            (LOCAL,),
            ("nfs_export_mount", export),
            ("nfs_export_mount", {**export, "state": "absent"}),
            blank=TOOL,
        ),
        Pair(
            "volume",
            (LOCAL, (backend, nfs)),
            ("storage_volume", {"name": "web1", "backend": "nas", "size": "64KiB", "snapshots": ["a"]}),
            ("storage_volume", {"name": "web1", "state": "absent"}),
        ),
        Pair(
            "clone",
            (LOCAL, (backend, nfs), MAKE_IMAGE),
            ("storage_volume", {"name": "web1", "backend": "nas", "image": IMAGE, "size": "512KiB"}),
            ("storage_volume", {"name": "web1", "state": "absent"}),
        ),
        Pair(
            "first clone",
            (LOCAL, (backend, disk), MAKE_IMAGE),
            ("storage_volume", {"name": "web1", "backend": "disk", "image": IMAGE}),
            ("storage_volume", {"name": "web1", "state": "absent"}),
            blank=(f"{FOLDER}/.microvm/images",),
        ),
        Pair(
            "resize",
            (LOCAL, (backend, nfs), ("storage_volume", {"name": "web1", "backend": "nas", "size": "64KiB"})),
            ("storage_volume", {"name": "web1", "size": "128KiB", "snapshots": ["b"]}),
            ("storage_volume", {"name": "web1", "size": "64KiB", "shrink": True, "snapshots": []}),
        ),
        Pair(
            "restore",
            (
                LOCAL,
                (backend, disk),
                ("storage_volume", {"name": "web1", "backend": "disk", "size": "256KiB", "snapshots": ["a"]}),
                (SHELL, {"command": f"seq 20000 | dd of={FOLDER}/web1.raw conv=notrunc status=none"}),
                ("storage_volume", {"name": "web1", "snapshots": ["a", "b"]}),
            ),
            ("storage_volume", {"name": "web1", "restore": "a", "size": "512KiB"}),
            ("storage_volume", {"name": "web1", "restore": "b", "size": "256KiB"}),
            acts=True,
        ),
        Pair(
            "adopt",
            (
                LOCAL,
                (backend, nfs),
                ("storage_volume", {"name": "web1", "backend": "nas", "size": "64KiB"}),
                ("storage_volume", {"name": "web1", "state": "absent", "forget": True}),
            ),
            ("storage_volume", {"name": "web1", "backend": "nas", "adopt": True}),
            ("storage_volume", {"name": "web1", "state": "absent", "forget": True}),
        ),
        Pair(
            "move",
            (
                LOCAL,
                (backend, nfs),
                (backend, disk),
                MAKE_IMAGE,
                ("storage_volume", {"name": "web1", "backend": "nas", "image": IMAGE}),
            ),
            ("storage_volume", {"name": "web1", "backend": "disk", "move": True}),
            ("storage_volume", {"name": "web1", "backend": "nas", "move": True}),
        ),
        Pair("smb backend", (LOCAL,), (backend, smb), (backend, {"name": "files", "state": "absent"}), blank=("vms",)),
        Pair("rotation", (LOCAL, (backend, smb)), (backend, {**smb, "password": "second"}), (backend, smb)),
        Pair(
            "docker driver",
            (),
            ("docker_volume_driver", {"prime": False}),
            ("docker_volume_driver", {"state": "absent"}),
            blank=TOOL,
        ),
        Pair(
            "definition",
            (LOCAL,),
            ("microvm", {"name": "web1", "state": "present", "kernel": guests.TOY, "interfaces": [{}]}),
            ("microvm", {"name": "web1", "state": "absent"}),
            blank=TOOL,
        ),
        Pair(
            "machine",
            (LOCAL,),
            ("microvm", {"name": "web1", **MACHINE}),
            ("microvm", {"name": "web1", "state": "absent", "delete_volumes": True}),
            blank=TOOL,
            slow=True,
        ),
        Pair("first", (), LOCAL, (backend, {"name": "local", "state": "absent"}), blank=("/var/lib/microvm/volumes",)),
    ]
