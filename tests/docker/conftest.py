# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with Docker and podman, the volume driver put there by its role, two NFS servers and an SMB server."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker.engine import INSTALL
from tests.gates.paths import environment
from tests.lab import Host, Lab, NfsServer, SmbServer, borrow

PLAY = """
- hosts: microvm_hosts
  gather_facts: false
  roles:
    - role: microvm.host.docker_volumes
      vars: {docker_volumes_podman: true}
"""


def _server(lab: Lab, name: str) -> NfsServer:
    found = lab.servers[name]
    assert isinstance(found, NfsServer)
    return found


class Engine:
    """The host as a user of Docker sees it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.host: Host = lab.hosts["hv1"]
        self.nas = _server(lab, "nas1")
        self.other = _server(lab, "nas2")
        smb = lab.servers["smb1"]
        assert isinstance(smb, SmbServer)
        self.smb = smb

    def run(self, command: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command on the host, as root."""
        return self.host.ssh(command, timeout=timeout, check=check)

    def volume(self, name: str, server: str = "nas1", path: str = "/export/rw", **opts: str) -> None:
        """``docker volume create``."""
        given = {"server": server, "path": path, **opts}
        self.run(f"docker volume create -d nfsd {' '.join(f'--opt {k}={v}' for k, v in given.items())} {name}")

    def status(self, name: str) -> dict[str, Any]:
        """What ``docker volume inspect`` shows under Status."""
        found: list[dict[str, Any]] = json.loads(self.run(f"docker volume inspect {name}").stdout)
        status: dict[str, Any] = found[0]["Status"]
        return status

    def mounted(self) -> list[str]:
        """The volumes that are mounted."""
        found = self.run("cat /proc/self/mountinfo").stdout
        base = "/var/lib/docker-volumes-nfsd/"
        return sorted(line.split()[4][len(base) :] for line in found.splitlines() if line.split()[4].startswith(base))

    def module(self, name: str, arguments: dict[str, Any], check: bool = True) -> dict[str, Any]:
        """What a module of the collection returns; one that fails is an error unless told otherwise."""
        done = subprocess.run(
            [
                "ansible",
                "-i",
                str(self.lab.inventory),
                "-m",
                f"microvm.host.{name}",
                "-a",
                json.dumps(arguments),
                "hv1",
            ],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not (check and done.returncode), done.stdout
        found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("=> ") + 3 :])
        return found

    def until(self, holds: Callable[[], Any], seconds: float = 90) -> None:
        """Wait for a condition."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.run("journalctl -u docker-nfsd -o cat -n 30", check=False).stdout
            time.sleep(0.2)

    def clear(self) -> None:
        """No container, no volume, no mount, no file on the servers' exports."""
        self.run("podman rm -fa -t 0; podman volume rm -a -f")  # before Docker: podman wants each volume in the driver
        self.run("docker ps -aq | xargs -r docker rm -f; docker volume ls -q | xargs -r docker volume rm")
        for server in (self.nas, self.other):
            self.run(f"mount -t nfs4 {server.name}:/export/rw /mnt && find /mnt -mindepth 1 -delete; umount /mnt")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab, with Docker, podman and the driver."""
    with borrow("docker", servers=["nfs", "nfs", "smb"], memory=1536) as lab:
        lab.hosts["hv1"].ssh(INSTALL, timeout=1800)
        play(lab, tmp_path_factory.mktemp("play"))
        yield lab


def play(lab: Lab, scratch: Path) -> None:
    """Run the role, twice: the second time nothing changes."""
    (scratch / "play.yml").write_text(PLAY)
    for expected in ("failed=0", "changed=0"):
        done = subprocess.run(
            ["ansible-playbook", "-i", str(lab.inventory), str(scratch / "play.yml")],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0 and expected in done.stdout, done.stdout


@pytest.fixture
def engine(lab: Lab) -> Iterator[Engine]:
    found = Engine(lab)
    yield found
    for server in (found.nas, found.other, found.smb):
        server.resume()
    found.clear()
    assert found.mounted() == []
