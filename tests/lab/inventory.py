# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible inventory of a lab."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab import host as hosts
from tests.lab import images

if TYPE_CHECKING:
    from tests.lab.host import Host
    from tests.lab.lab import Lab

DEAD_IN_INVENTORY = 60


def _host(host: Host) -> dict[str, Any]:
    options = [word for word in host.ssh_options() if word not in ("-i", str(images.KEY))]
    return {
        "ansible_host": host.address,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(images.KEY),
        "ansible_ssh_common_args": shlex.join(options),
        "ansible_ssh_timeout": hosts.PATIENCE,
        "ansible_python_interpreter": "/usr/bin/python3",
        "lab_address6": host.address6,
    }


def write_inventory(lab: Lab, path: Path) -> None:
    """Write groups microvm_hosts and lab_filers with lab_servers and lab_dead_addresses as variables of all.

    The file is JSON, which every YAML reader takes.
    """
    servers = {name: server.described for name, server in lab.servers.items()}
    filers = {name: lab.filer_host(name) for name in lab.servers if lab.is_filer(name)}
    inventory = {
        "all": {
            "vars": {
                "lab_name": lab.name,
                "lab_servers": servers,
                "lab_dead_addresses": lab.dead_addresses(DEAD_IN_INVENTORY),
            },
            "children": {
                "microvm_hosts": {"hosts": {name: _host(host) for name, host in lab.hosts.items()}},
                "lab_filers": {"hosts": {name: _host(host) for name, host in filers.items()}},
            },
        }
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(inventory, indent=2) + "\n")
    fresh.rename(path)
