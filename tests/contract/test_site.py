# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped example of a site: check, run, check, remove; and what a failure leaves. Its second run: test_readme."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract import snapshot
from tests.contract.controller import Controller
from tests.gates.paths import MIRROR
from tests.lab import Host, counts

SITE = MIRROR / "examples" / "site"
HOST = "hv3.example.com"
STORAGE: dict[str, Any] = {
    "storage_shared": [{"name": "nfs-prod", "kind": "nfs", "server": "nas1", "export": "/export/rw", "default": True}],
    "storage_nfs_mounts": [
        {"name": "images", "server": "nas1", "export": "/export/ro", "read_only": True, "path": "/srv/images"}
    ],
}
"""What the lab has in place of the example's exports."""

RECAP = re.compile(r"^\S+ +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=(\d+) ", re.MULTILINE)


class Site:
    """A copy of the example with an encrypted vault, whose last host is the lab's."""

    def __init__(self, controller: Controller, directory: Path) -> None:
        self.directory = shutil.copytree(SITE, directory / "site")
        self.controller = controller
        self.password = directory / "password"
        self.password.write_text("example\n")
        hosts = json.loads(controller.inventory.read_text())["all"]["children"]["microvm_hosts"]["hosts"]
        self.connection = {**hosts["hv1"], "ansible_user": "admin"}
        self.run("ansible-vault", "encrypt", "inventory/group_vars/microvm_hosts/vault.yml")

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of Ansible's programs in the site's directory, by the site's own ansible.cfg."""
        env = {key: value for key, value in self.controller.environment().items() if key != "ANSIBLE_INVENTORY"}
        return subprocess.run(
            [program, "--vault-password-file", str(self.password), *arguments],
            cwd=self.directory,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def play(self, playbook: str, *arguments: str, **variables: Any) -> tuple[int, int, str]:
        """Tasks that changed something, tasks that failed, and what was printed."""
        given = json.dumps({**self.connection, **STORAGE, **variables})
        done = self.run("ansible-playbook", playbook, "--limit", HOST, "-e", given, *arguments)
        recap = RECAP.search(done.stdout)
        assert recap is not None, done.stdout + done.stderr
        return int(recap[1]), int(recap[2]), done.stdout


@pytest.fixture
def site(controller: Controller, tmp_path: Path) -> Site:
    """The example, ready to run on a bare host."""
    return Site(controller, tmp_path)


def test_the_example_converges_and_comes_off_again(site: Site, host: Host) -> None:
    changed, failed, said = site.play("site.yml", "--check", "--diff")
    assert (changed, failed) == (3, 0), said
    assert snapshot.look(host).tables is None

    changed, failed, said = site.play("site.yml")
    assert (changed, failed) == (3, 0), said
    mounts = snapshot.look(host).mounts
    assert sorted(mounts.values()) == ["nas1:/export/ro", "nas1:/export/rw"]
    counts.add("real mounts", len(mounts))
    for name in ("nfs-prod", "scratch", "local", "images"):
        assert re.search(rf"{HOST} +{name} +\w+ +(ok|read_only) ", said), said

    changed, failed, said = site.play("site.yml", "--check", "--diff")
    assert (changed, failed) == (0, 0), said

    data = f"{next(path for path, source in mounts.items() if source == 'nas1:/export/rw')}/kept.raw"
    host.ssh(f"touch {data} /srv/scratch/kept.raw")
    changed, failed, said = site.play("microvm.host.remove")
    assert failed == 0 and changed > 0, said
    bare = snapshot.look(host)
    assert (bare.mounts, bare.units, bare.tables) == ({}, [], None)
    host.ssh("test -e /srv/scratch/kept.raw && rm -r /srv/scratch")
    changed, failed, said = site.play("microvm.host.remove")
    assert (changed, failed) == (0, 0), said


def test_images_are_downloaded_and_foreseen(site: Site, host: Host) -> None:
    source = "/usr/share/common-licenses"
    host.ssh(f"systemd-run --quiet --unit=www python3 -m http.server 8099 --bind 127.0.0.1 --directory {source}")
    checksum = "sha256:" + host.ssh(f"sha256sum < {source}/GPL-3").stdout.split()[0]
    image = {"name": "guest", "url": "http://127.0.0.1:8099/GPL-3", "checksum": checksum}
    try:
        changed, failed, said = site.play("site.yml", "--check", microvm_images=[image])
        assert failed == 0 and changed > 0 and "Have a directory for images" in said, said
        failed, said = site.play("site.yml", microvm_images=[image])[1:]
        assert failed == 0, said
        host.ssh(f"cmp {source}/GPL-3 /var/lib/microvm/images/guest")
        assert site.play("site.yml", "--check", microvm_images=[image])[:2] == (0, 0)
    finally:
        host.ssh("systemctl stop www; rm -rf /var/lib/microvm/images")


def test_a_failed_backend_stops_neither_the_others_nor_the_mounts(site: Site, host: Host) -> None:
    broken = [
        {"name": "typo", "kind": "nfs", "server": "nas1", "export": "/export/none"},
        {"name": "down", "kind": "nfs", "server": "127.0.0.1", "export": "/export/rw"},
    ]
    failed, said = site.play("site.yml", storage_shared=[*broken, *STORAGE["storage_shared"]])[1:]
    assert failed == 1, said
    table, dummy, summary = said.partition("Sum up what failed")
    assert re.search(rf"{HOST} +nfs-prod +nfs +ok ", table), said
    lines = summary.splitlines()
    assert any("2 of 5 backends failed: typo (not_found), down (unreachable)" in line for line in lines), said
    assert any(line.startswith("typo: mounting nas1:/export/none") for line in lines), said
    assert any(line.startswith("down: TCP port 2049 cannot be reached") for line in lines), said
    assert sorted(snapshot.look(host).mounts.values()) == ["nas1:/export/ro", "nas1:/export/rw"]
    host.ssh("rm -r /srv/scratch")
