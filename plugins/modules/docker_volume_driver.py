#!/usr/bin/python
# Copyright (c) 2026 microvm.host contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_volume_driver
short_description: Give Docker and podman a volume driver for NFS
version_added: 0.1.0
author:
  - microvm.host contributors (@microvm-host)
description:
  - Puts the volume driver C(nfsd) into service. With it C(docker volume create -d nfsd) makes volumes that the kernel
    of the host mounts from NFS servers.
  - The driver is a small daemon that systemd starts when Docker first calls it. It executes no program. Volumes and
    running containers outlive restarts of the driver, of Docker and of the host.
  - Docker need not be there yet.
extends_documentation_fragment:
  - microvm.host._attributes
  - microvm.host._attributes.resource
options:
  <<: &item
    name:
      description:
        - Name of the driver, as Docker calls it. There is one.
      type: str
      default: nfsd
    state:
      description:
        - Whether the driver is there.
      type: str
      default: present
      choices:
        present: Its socket listens, now and at boot.
        absent: It is stopped and removed. Refused while it has volumes; nothing on a server is ever touched.
    scope:
      description:
        - What the driver tells Docker of its volumes.
      type: str
      default: local
      choices:
        local: A volume is known on the host where it was made.
        global: For cluster managers that take a volume of one name for the same one on all hosts.
    prime:
      description:
        - Have Docker look for its volume drivers each time it has started. Else Swarm's scheduler does not know that
          the host has this one until somebody used it there.
      type: bool
      default: true
    timeout:
      description:
        - Seconds to wait for another run that changes the driver, 1 to 3600.
        - Beside O(drivers), for every item that has none of its own.
      type: int
      default: 15
  drivers:
    description:
      - Many in one call, as with the other modules of this collection; there is one.
      - Of the options of an item only O(timeout) may stand beside the list.
    type: list
    elements: dict
    suboptions: *item
notes:
  - C(docker volume inspect) shows the health of a volume under C(Status), C(journalctl -u docker-nfsd) what was done.
  - The options of a volume are those of README, section Docker volumes.
seealso:
  - module: microvm.host.storage_backend
  - module: microvm.host.host_info
"""

EXAMPLES = r"""
- name: Give Docker the volume driver
  microvm.host.docker_volume_driver:
    scope: local

- name: Take it away again
  microvm.host.docker_volume_driver:
    state: absent
"""

RETURN = r"""
drivers:
  description: The drivers of this call, in the order in which they were asked for.
  returned: always; empty when an option is invalid
  type: list
  elements: dict
  contains: &driver
    name:
      description: Name of the driver.
      returned: always
      type: str
      sample: nfsd
    changed:
      description: Whether this item was changed, or would be in check mode.
      returned: always
      type: bool
      sample: true
    actions:
      description: What was done, or would be in check mode, in order. Empty when nothing changes.
      returned: always
      type: list
      elements: str
      sample:
        - install the host tool microvm-tool-1f0c9d3e
        - write the units of Docker's volume driver
        - reload systemd
        - start Docker's volume driver
    state:
      description: The state that was asked for.
      returned: always
      type: str
      sample: present
    status:
      description: What the driver is now, V(listening), V(stopped) or V(absent).
      returned: always
      type: str
      sample: listening
    scope:
      description: What it tells Docker of its volumes.
      returned: when present
      type: str
      sample: local
    prime:
      description: Whether Docker looks for it after each start.
      returned: when present
      type: bool
      sample: true
    socket:
      description: Where Docker finds it.
      returned: always
      type: str
      sample: /run/docker/plugins/nfsd.sock
    volumes:
      description: Number of volumes it has on this host.
      returned: always
      type: int
      sample: 2
    error:
      description: Why this item failed, as RV(error), and the C(message).
      returned: when this item failed
      type: dict
      sample:
        kind: in_use
        item: nfsd
        message: "the driver has 2 volume(s): db, web"
        hint: remove them first with docker volume rm; what is on the servers stays
driver:
  description: The driver, when it was asked for by the options at the top.
  returned: without O(drivers), unless an option is invalid
  type: dict
  contains: *driver
msg:
  description: What failed, on what, why, and what to do next; for a list, which items failed and of what kind.
  returned: failure
  type: str
  sample: "nfsd: the driver has 2 volume(s): db, web; remove them first: docker volume rm"
error:
  description: The failure for programs; of a list the first one, the others are in the items.
  returned: failure
  type: dict
  contains:
    kind:
      description:
        - The kind of failure. One of V(invalid), V(unreachable), V(refused), V(auth), V(not_found), V(stale), V(busy),
          V(in_use), V(full), V(unsupported), V(conflict), V(timeout), V(interrupted) and V(internal).
      returned: always
      type: str
      sample: in_use
    item:
      description: Name of the item that failed; null when the whole call was refused.
      returned: always
      type: str
      sample: nfsd
    hint:
      description: What to do next; may be empty.
      returned: always
      type: str
      sample: "remove them first: docker volume rm; what is on the servers stays"
    field:
      description: The option at fault.
      returned: when an option is at fault
      type: str
      sample: drivers[0].name
    command:
      description: The program that failed, with its arguments.
      returned: when a program failed
      type: list
      elements: str
      sample: [systemctl, start, docker-nfsd.socket]
    rc:
      description: Its exit code.
      returned: when a program failed
      type: int
      sample: 1
    stderr:
      description: What it said.
      returned: when a program failed
      type: str
      sample: Job for docker-nfsd.socket failed.
"""

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import entry
from ansible_collections.microvm.host.plugins.module_utils._docker.driver import Driver

ITEM: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str", "default": "nfsd"},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "scope": {"type": "str", "default": "local", "choices": ["local", "global"]},
    "prime": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 15},
}


def host_tool() -> t.Any:
    """The host tool, of which the payload has the sources; loaded when a plan may need it."""
    from ansible_collections.microvm.host.plugins.module_utils._tool import install

    return install


def main() -> None:
    """One driver by the options at the top, or in ``drivers``."""
    entry.run(lambda: Driver(host_tool), item=ITEM, plural="drivers", singular="driver")


if __name__ == "__main__":
    main()
