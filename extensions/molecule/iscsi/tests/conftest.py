# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the converge playbook asks for, who owns it, and a server that comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from extensions.molecule.calls import Answer, call
from extensions.molecule.managed import Managed
from tests.lab import IscsiServer, Lab


@dataclass(frozen=True)
class Asked:
    """The lists that site.yml was given."""

    backends: list[dict[str, Any]]
    targets: list[dict[str, Any]]

    def run(self, host: Managed, check: bool = False) -> list[Answer]:
        """The answers to the two module calls of the role."""
        calls = call("storage_backend", check, backends=self.backends), call("iscsi_lvm", check, targets=self.targets)
        return host.run(*calls)

    @property
    def san(self) -> dict[str, Any]:
        """The one backend."""
        return self.backends[0]


@dataclass(frozen=True)
class Group:
    """The backend's group on its owner, used past the collection: by LVM itself."""

    host: Managed
    device: str
    owner: str

    def lvm(self, verb: str, words: str) -> str:
        """Run a command of LVM's as the owner."""
        config = f'global{{system_id_source="lvmlocal"}}local{{system_id="{self.owner}"}}'
        return self.host.sh(f"lvm {verb} --yes --devices {self.device} --config '{config}' {words}")

    def make(self, name: str, size: str) -> str:
        """A thin volume; its device."""
        self.lvm("lvcreate", f"--type thin --virtualsize {size} --thinpool microvm-pool --name {name} vg_san")
        return f"/dev/vg_san/{name}"


def found(answers: list[Answer]) -> dict[str, dict[str, Any]]:
    """The items of the answers to ``Asked.run``."""
    return {**answers[0].items("backends"), **answers[1].items("targets")}


def statuses(answers: list[Answer]) -> dict[str, str]:
    """Status by name."""
    return {name: item["status"] for name, item in found(answers).items()}


@pytest.fixture(scope="session")
def asked(lab: Lab) -> Asked:
    """What the scenario's converge playbook asks for."""
    text = (Path(__file__).parents[1] / "converge.yml").read_text()
    rendered = jinja2.Template(text).render(lab_dead_addresses=lab.dead_addresses(1))
    variables = yaml.safe_load(rendered)[0]["vars"]
    return Asked(variables["storage_backends"], variables["storage_iscsi_targets"])


@pytest.fixture(scope="session")
def storage(lab: Lab) -> IscsiServer:
    """The server."""
    server = lab.servers["san1"]
    assert isinstance(server, IscsiServer)
    return server


@pytest.fixture
def served(storage: IscsiServer) -> Iterator[IscsiServer]:
    """The server, for tests that break it: back in service afterwards."""
    yield storage
    storage.join()
    if storage.running():
        storage.resume()
    storage.start()


@pytest.fixture
def seen(hv1: Managed, hv2: Managed, asked: Asked) -> dict[str, dict[str, Any]]:
    """The backend as each host sees it now, by host."""
    return {host.name: host.works("storage_backend", **asked.san).result["backend"] for host in (hv1, hv2)}


@pytest.fixture
def pair(hv1: Managed, hv2: Managed, seen: dict[str, dict[str, Any]]) -> tuple[Managed, Managed]:
    """The host that owns the backend's group now, and the one on standby."""
    assert {item["status"] for item in seen.values()} == {"ok", "standby"}
    return (hv1, hv2) if seen["hv1"]["status"] == "ok" else (hv2, hv1)


@pytest.fixture
def group(pair: tuple[Managed, Managed], seen: dict[str, dict[str, Any]]) -> Group:
    """The backend's group, on the host that owns it."""
    owner, dummy = pair
    item = seen[owner.name]
    assert item["owner"].startswith(f"{owner.name}."), "LVM is never told to be another host"
    return Group(owner, item["device"], item["owner"])
