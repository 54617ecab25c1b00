# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook that moves machines refuses before it asks any host."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.gates.paths import environment

HOSTS = {"evacuate_from": "hv1", "evacuate_to": "hv2"}
INVENTORY = {
    "all": {
        # Who asks one of these hosts gets no answer, and a play that says so.
        "vars": {"ansible_connection": "ssh", "ansible_host": "192.0.2.1", "ansible_ssh_executable": "/bin/false"},
        "hosts": {"hv1": {"microvm_machines": [{"name": "web1"}]}, "hv2": {}},
    }
}


@pytest.mark.parametrize(
    ("asked", "touched"),
    [
        ({}, False),
        ({"evacuate_from": "hv1"}, False),
        ({"evacuate_from": "hv1", "evacuate_to": "hv3"}, False),
        ({"evacuate_from": "hv3", "evacuate_to": "hv2"}, False),
        ({"evacuate_from": "hv1", "evacuate_to": "hv1"}, False),
        ({**HOSTS, "evacuate_machines": ["web1", "web2"]}, False),
        ({**HOSTS, "evacuate_machines": ["web1"]}, True),
    ],
)
def test_what_the_inventory_does_not_have(tmp_path: Path, asked: dict[str, Any], touched: bool) -> None:
    (tmp_path / "hosts.json").write_text(json.dumps(INVENTORY))
    words = ["ansible-playbook", "-i", "hosts.json", "-e", json.dumps(asked), "microvm.host.evacuate"]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode != 0, done.stdout
    assert ("nothing was touched" in done.stdout) is not touched, done.stdout + done.stderr
    assert ("UNREACHABLE" in done.stdout) is touched, done.stdout + done.stderr
    assert ("hv1 " in done.stdout or "hv2 " in done.stdout) is touched, "a host is in the recap"
