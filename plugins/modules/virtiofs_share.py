#!/usr/bin/python
# Copyright (c) 2026 microvm.host contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virtiofs_share
short_description: Share a directory of the host with a microVM
version_added: 0.1.0
author:
  - microvm.host contributors (@microvm-host)
description:
  - Adds one share to a machine that M(microvm.host.microvm) defined, changes or removes it, and leaves its others
    alone.
  - A machine that runs gets it with its next start, see RV(shares[].restart_required).
  - virtiofsd is started by systemd when the machine connects, so it can be killed and comes back with the machine.
extends_documentation_fragment:
  - microvm.host._attributes
  - microvm.host._attributes.resource
options:
  <<: &item
    vm:
      description:
        - Name of the machine. Required for each item.
      type: str
      aliases: [machine]
    state:
      description:
        - Whether the machine has the share.
      type: str
      default: present
      choices:
        present: It has.
        absent: It has not. The directory stays.
    tag:
      description:
        - Name by which the guest mounts it. Required for each item.
      type: str
    source:
      description:
        - Directory of the host, required for O(state=present), or relative to the machine's own directory
          C(/var/lib/microvm/machines/NAME).
      type: str
    mount_point:
      description:
        - Where the guest mounts it, by a word on its kernel's command line; its systemd must be 254 or newer.
          Without it the guest has the share, and mounts it as it likes.
      type: str
    proto:
      description:
        - V(virtiofs) is served by virtiofsd, V(9p) by QEMU itself with the rights of the machine's user.
      type: str
      default: virtiofs
      choices: [virtiofs, 9p]
    read_only:
      description:
        - Whether the guest can't write to it. Enforced on the host.
      type: bool
      default: false
    cache:
      description:
        - What the guest may keep, of virtiofs. V(auto) unless given.
      type: str
      choices: [auto, always, metadata, never]
    posix_acl:
      description:
        - Extended attributes and POSIX ACLs, of virtiofs. Off unless given.
      type: bool
    translate_uid:
      description:
        - Translations of user ids as C(--translate-uid) of virtiofsd takes them, for example
          V(squash-guest:0:1000:1).
      type: list
      elements: str
    translate_gid:
      description:
        - The same for group ids.
      type: list
      elements: str
    thread_pool_size:
      description:
        - Threads of virtiofsd, V(0) for none beside the first.
      type: int
    inode_file_handles:
      description:
        - How virtiofsd keeps the files that the guest knows. Anything but V(never) saves descriptors and needs a
          file system with file handles. V(never) unless given.
      type: str
      choices: [never, prefer, mandatory]
    sandbox:
      description:
        - How virtiofsd locks itself in. V(namespace) unless given.
      type: str
      choices: [namespace, chroot]
    security_model:
      description:
        - Where 9p keeps owners and modes that the guest sets. V(none) sets them as far as the machine's user may.
        - V(none) unless given.
      type: str
      choices: [none, mapped, mapped-file]
    extra_args:
      description:
        - More arguments for virtiofsd.
      type: list
      elements: str
    create:
      description:
        - Whether to make O(source) when it is missing.
      type: bool
      default: false
    owner:
      description:
        - Owner of a source that is made, a name or a number. C(root) unless given.
      type: str
    group:
      description:
        - Its group. C(root) unless given.
      type: str
    mode:
      description:
        - Its mode, in octal digits as V('0750'). V('0755') unless given.
      type: str
    timeout:
      description:
        - Seconds, 1 to 3600, to wait for another run that changes the machine.
        - Beside O(shares), for every item that has none of its own.
      type: int
      default: 60
  shares:
    description:
      - Many shares in one call, each with the options above. Of these only O(timeout) may stand beside the list.
    type: list
    elements: dict
    suboptions: *item
seealso:
  - module: microvm.host.microvm
"""

EXAMPLES = r"""
- name: Define a machine
  microvm.host.microvm:
    name: web1
    state: present
    memory: 64MiB
    kernel: /var/lib/microvm/images/vmlinuz

- name: Give it a directory of its own
  microvm.host.virtiofs_share:
    vm: web1
    tag: home
    source: home
    create: true
    mode: "0750"
    mount_point: /home

- name: Give it two of the host, which it can't write to
  microvm.host.virtiofs_share:
    shares:
      - {vm: web1, tag: zones, source: /usr/share/zoneinfo, read_only: true, mount_point: /usr/share/zoneinfo}
      - {vm: web1, tag: keys, source: /usr/share/keyrings, read_only: true, proto: 9p}

- name: Take one away
  microvm.host.virtiofs_share:
    vm: web1
    tag: keys
    state: absent
"""

RETURN = r"""
shares:
  description: The shares of this call, in the order in which they were asked for.
  returned: always; empty when an option is invalid
  type: list
  elements: dict
  contains: &share
    name:
      description: Machine and tag, with a colon between them.
      returned: always
      type: str
      sample: "web1:home"
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
        - make the directory /var/lib/microvm/machines/web1/home
        - write the units of the machine web1
        - reload systemd
    state:
      description: The state that was asked for.
      returned: always
      type: str
      sample: present
    vm:
      description: Name of the machine.
      returned: always
      type: str
      sample: web1
    tag:
      description: Name by which the guest mounts it.
      returned: always
      type: str
      sample: home
    restart_required:
      description: Whether the machine runs without this change.
      returned: when the machine is defined
      type: bool
      sample: false
    proto:
      description: Its protocol.
      returned: when the machine has it
      type: str
      sample: virtiofs
    source:
      description: Directory of the host.
      returned: when the machine has it
      type: str
      sample: /var/lib/microvm/machines/web1/home
    mount_point:
      description: Where the guest mounts it; empty when it is left to the guest.
      returned: when the machine has it
      type: str
      sample: /home
    read_only:
      description: Whether the guest can't write to it.
      returned: when the machine has it
      type: bool
      sample: false
    unit:
      description: The socket unit that starts its virtiofsd.
      returned: when the machine has it, by virtiofs
      type: str
      sample: microvm-fs@web1@home.socket
    socket:
      description: Where its virtiofsd is reached.
      returned: when the machine has it, by virtiofs
      type: str
      sample: /run/microvm/web1/fs-home.sock
    assumes:
      description: What is missing now, and was taken for done by an earlier task of the play.
      returned: in check mode, when something is missing
      type: list
      elements: str
      sample: [there is no directory /srv/home]
    error:
      description: Why this item failed, as RV(error), and the C(message).
      returned: when this item failed
      type: dict
      sample:
        kind: not_found
        item: "web1:home"
        message: there is no machine web1
        hint: "define it first: microvm.host.microvm"
        field: shares[0].vm
share:
  description: The share, when it was asked for by the options at the top.
  returned: without O(shares), unless an option is invalid
  type: dict
  contains: *share
msg:
  description: What failed, on what, why, and what to do next; for a list, which items failed and of what kind.
  returned: failure
  type: str
  sample: "web1:home: there is no machine web1"
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
      sample: not_found
    item:
      description: Name of the item that failed; null when the whole call was refused.
      returned: always
      type: str
      sample: "web1:home"
    hint:
      description: What to do next; may be empty.
      returned: always
      type: str
      sample: "define it first: microvm.host.microvm"
    field:
      description: The option at fault.
      returned: when an option is at fault
      type: str
      sample: shares[0].vm
    command:
      description: The program that failed, with its arguments.
      returned: when a program failed
      type: list
      elements: str
      sample: [systemctl, daemon-reload]
    rc:
      description: Its exit code.
      returned: when a program failed
      type: int
      sample: 1
    stderr:
      description: What it said.
      returned: when a program failed
      type: str
      sample: no bus
"""

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import entry
from ansible_collections.microvm.host.plugins.module_utils._machines.shares import Shares
from ansible_collections.microvm.host.plugins.module_utils._shares import definition

ITEM: dict[str, dict[str, t.Any]] = {
    "vm": {"type": "str", "aliases": ["machine"]},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    **definition.SPEC,
    "tag": {"type": "str"},
    "source": {"type": "str"},
    "timeout": {"type": "int", "default": 60},
}


def host_tool() -> t.Any:
    """The host tool, of which the payload has the sources; loaded when a plan may need it."""
    from ansible_collections.microvm.host.plugins.module_utils._tool import install

    return install


def main() -> None:
    """One share by the options at the top, or many in ``shares``."""
    entry.run(lambda: Shares(host_tool), item=ITEM, plural="shares", singular="share")


if __name__ == "__main__":
    main()
