# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host that has the modules and what they need of ansible-core, without Ansible."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import ansible
import pytest

from tests.gates.paths import MIRROR
from tests.lab import Host, borrow

TREE = "/opt/input"


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One prepared host and an NFS server, with the modules in TREE."""
    with borrow("input", servers=["nfs"]) as lab:
        host = lab.hosts["hv1"]
        _install(host, tmp_path_factory.mktemp("tree") / "tree.tar.gz")
        yield host


def _install(host: Host, archive: Path) -> None:
    core = Path(ansible.__file__).parent
    with tarfile.open(archive, "w:gz") as tar:
        for path in (core / "release.py", core / "module_utils"):
            tar.add(path, f"ansible/{path.name}", filter=_source)
        for part in ("modules", "module_utils"):
            name = f"ansible_collections/microvm/host/plugins/{part}"
            tar.add(MIRROR / "plugins" / part, name, filter=_source)
        tar.add(Path(__file__).with_name("runner.py"), "runner.py")
    host.ssh(f"rm -rf {TREE} && mkdir -p {TREE}")
    host.put(archive, f"{TREE}/tree.tar.gz")
    unpack = f"cd {TREE} && tar -xzf tree.tar.gz && touch ansible/__init__.py"
    host.ssh(f"{unpack} && python3 -m compileall -q .", timeout=300)


def _source(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member
