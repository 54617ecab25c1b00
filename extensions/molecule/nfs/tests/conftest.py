# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the converge playbook asks for, and servers that come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from extensions.molecule.calls import Answer, Call, call
from extensions.molecule.managed import Managed
from tests.lab import Lab, NfsServer
from tests.lab.daemon import wait_until


@dataclass(frozen=True)
class Asked:
    """The lists that site.yml was given."""

    backends: list[dict[str, Any]]
    mounts: list[dict[str, Any]]

    def calls(self, check: bool = False) -> tuple[Call, Call]:
        """The two module calls of the role."""
        return (
            call("storage_backend", check, backends=self.backends),
            call("nfs_export_mount", check, mounts=self.mounts),
        )

    def statuses(self, answers: tuple[Answer, ...] | list[Answer]) -> dict[str, str]:
        """Status by name, of the answers to ``calls``."""
        found = {**answers[0].items("backends"), **answers[1].items("mounts")}
        return {name: item["status"] for name, item in found.items()}


@pytest.fixture(scope="session")
def asked(lab: Lab) -> Asked:
    """What the scenario's converge playbook asks for."""
    servers = {name: {"address6": server.address6} for name, server in lab.servers.items()}
    text = (Path(__file__).parents[1] / "converge.yml").read_text()
    variables = yaml.safe_load(jinja2.Template(text).render(lab_servers=servers))[0]["vars"]
    return Asked(variables["storage_backends"], variables["storage_nfs_mounts"])


@pytest.fixture
def back(asked: Asked, nas: NfsServer) -> Callable[[Managed], None]:
    """Brings the server back, and waits until a host is as it was: nothing to do, everything answers."""

    def bring(host: Managed) -> None:
        def well() -> bool:
            answers = host.run(*asked.calls())
            assert not any(answer.failed for answer in answers), answers
            return not any(answer.changed for answer in answers) and healthy(asked.statuses(answers))

        revive(nas)
        wait_until(well, 90, "host and server to be as before")

    return bring


def healthy(statuses: dict[str, str]) -> bool:
    """Whether everything answers."""
    return {name: status for name, status in statuses.items() if status != "ok"} == {"readonly": "read_only"}


def revive(nas: NfsServer) -> None:
    """Undo stop, pause and cut."""
    nas.join()
    if nas.running():
        nas.resume()
    nas.start()
