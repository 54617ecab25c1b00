#!/usr/bin/python
# Copyright (c) 2026 microvm.host contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_backend
short_description: Keep the storage backends of a microVM host
version_added: 0.1.0
author:
  - microvm.host contributors (@microvm-host)
description:
  - Puts places for the volumes of virtual machines into service, one by the options at the top or many by O(backends).
  - A backend counts only after a probe wrote, synced, read back and removed a file on it. If the probe fails, or the
    run is killed, nothing is left behind; no mount, no directory, no unit and no entry in the registry.
  - An edit is probed in the same way. If it fails, the backend goes on working as before.
extends_documentation_fragment:
  - microvm.host._attributes
  - microvm.host._attributes.resource
options:
  <<: &item
    name:
      description:
        - Name of the backend, unique on this host; lower-case letters, digits, C(.), C(_) and C(-), at most 63
          characters.
        - Required.
      type: str
    kind:
      description:
        - Kind of the backend. It can't be changed later.
        - Required, but for O(state=absent).
        - An option that belongs to another kind is refused.
      type: str
      choices:
        local_file: Files in a directory of this host.
        nfs: Files on an NFS export.
    state:
      description:
        - V(absent) unmounts the backend and forgets it; the files stay.
        - A backend with volumes on it is not removed, nor is the default backend, unless it is the last one and has no
          volumes.
      type: str
      default: present
      choices:
        - present
        - absent
    enabled:
      description:
        - V(false) keeps the backend and its volumes, refuses new volumes and starts of machines on it, and unmounts it
          as soon as nobody uses it.
      type: bool
      default: true
    default:
      description:
        - Whether volumes go here that name no backend. Exactly one backend is the default.
        - V(true) takes it from the backend that had it. V(false) is refused for the only default.
        - Left as it is when omitted. The first backend of a host becomes the default.
        - When the one that shall be the default fails and the host has no other, the first of the call that works is
          the default meanwhile, with a warning; the next run in which it does not fail makes it the default.
      type: bool
    server:
      description:
        - Name or IPv4 or IPv6 address of the NFS server.
        - Required for O(kind=nfs), and only for it.
        - On a backend with volumes a change is accepted only when the marker at the new place proves that it is the
          same backend.
      type: str
    export:
      description:
        - Path of the export on the server.
        - Required for O(kind=nfs), and only for it.
        - It can be changed as O(server) can.
      type: str
    version:
      description:
        - Version of the NFS protocol; for O(kind=nfs).
        - By default V(default).
        - The one in use is returned as RV(backends[].version_negotiated).
      type: str
      choices:
        default: The highest that the server offers, of 4.2, 4.1, 4.0 and 3.
        "3": Version 3. Lock services of the host are started first, unless O(options) has V(nolock).
        "4": The highest 4.x that the server offers.
        "4.0": Exactly 4.0.
        "4.1": Exactly 4.1.
        "4.2": Exactly 4.2.
    options:
      description:
        - Mount options, as a list or as one string with commas; for O(kind=nfs).
        - They are those of O(microvm.host.nfs_export_mount#module:options).
      type: raw
      aliases:
        - opts
    read_only:
      description:
        - Mount read-only; for O(kind=nfs). Nothing is written to such a backend, so it can be told from another only by
          its source; see RV(backends[].identity).
        - By default V(false).
      type: bool
    mount_base:
      description:
        - Directory for the mount point; for O(kind=nfs).
        - By default V(/var/lib/microvm/mounts).
        - It counts when the backend is first mounted; no edit moves a mount point.
      type: path
    path:
      description:
        - Directory for the volumes; for O(kind=local_file). It is made when missing, and can't be changed later.
        - By default V(/var/lib/microvm/volumes).
      type: path
    timeout:
      description:
        - Seconds for the whole item, 1 to 3600; name lookup, waiting for another run, negotiation, probe, mount and
          unmount.
        - To look at what is mounted already takes at most half of it, and no more than 5 seconds.
        - Beside O(backends), for every item that has none of its own.
      type: int
      default: 15
  backends:
    description:
      - Many backends in one call, which is much faster than a loop. Each has the options of a single backend.
      - Of those options only O(timeout) may stand beside the list.
    type: list
    elements: dict
    suboptions: *item
  purge:
    description:
      - Remove every backend of this host that O(backends) does not list, as O(state=absent) would; never any data.
      - It can only be used with O(backends).
    type: bool
    default: false
notes:
  - A backend carries a marker, C(.microvm/backend.json) with a UUID. Hosts that add one export share its marker; the
    same file system under two names is a conflict.
  - For O(kind=nfs) the server has to let root of this host write; export it with C(no_root_squash), or with C(anonuid)
    and C(anongid) of an owner who may write.
  - This version has no module for volumes and machines; what is said of them holds as soon as one makes them.
seealso:
  - module: microvm.host.nfs_export_mount
  - module: microvm.host.host_info
"""

EXAMPLES = r"""
- name: Put one NFS export into service
  microvm.host.storage_backend:
    name: nfs-prod
    kind: nfs
    server: nas.example.com
    export: /mnt/tank/vms
    default: true

- name: Have exactly these backends
  microvm.host.storage_backend:
    backends:
      - name: local
        kind: local_file
      - name: nfs-prod
        kind: nfs
        server: nas.example.com
        export: /mnt/tank/vms
        version: "4"
        options: [nconnect=4, noatime]
        default: true
      - name: nfs-templates
        kind: nfs
        server: "2001:db8::7"
        export: /templates
        read_only: true
    purge: true
    timeout: 30
  register: storage

- name: Show their free space
  ansible.builtin.debug:
    msg: "{{ item.name }} ({{ item.status }}): {{ item.capacity.free_bytes | human_readable }} free"
  loop: "{{ storage.backends | selectattr('capacity', 'defined') }}"
  loop_control:
    label: "{{ item.name }}"

- name: Take a backend out of service for a while
  microvm.host.storage_backend:
    name: nfs-prod
    kind: nfs
    server: nas.example.com
    export: /mnt/tank/vms
    enabled: false

- name: Forget a backend; its files stay on the server
  microvm.host.storage_backend:
    name: nfs-templates
    state: absent

- name: Go on without a backend whose server is down
  block:
    - name: Put the archive into service
      microvm.host.storage_backend:
        name: nfs-archive
        kind: nfs
        server: archive.example.com
        export: /archive
  rescue:
    - name: Fail for any other reason
      ansible.builtin.fail:
        msg: "{{ ansible_failed_result.msg }}"
      when: ansible_failed_result.error.kind not in ['unreachable', 'timeout']
"""

RETURN = r"""
backends:
  description: The backends of this call, in the order in which they were asked for, and those that O(purge) removed.
  returned: always; empty when an option is invalid
  type: list
  elements: dict
  contains: &backend
    name:
      description: Name of the backend.
      returned: always
      type: str
      sample: nfs-prod
    kind:
      description: Kind of the backend.
      returned: when known
      type: str
      sample: nfs
    state:
      description: The state that was asked for.
      returned: always
      type: str
      sample: present
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
        - mount nas.example.com:/mnt/tank/vms below /var/lib/microvm/mounts; write .microvm/backend.json if missing
        - write the mount unit of nas.example.com:/mnt/tank/vms
        - reload systemd
        - make nfs-prod the default, in place of local
    enabled:
      description: Whether it takes new volumes and starts of machines.
      returned: when present
      type: bool
      sample: true
    default:
      description: Whether volumes go here that name no backend.
      returned: when present
      type: bool
      sample: true
    status:
      description:
        - How the backend is doing.
        - One of V(ok), V(read_only), V(unreachable), V(stale), V(not_mounted) and V(disabled).
      returned: when present
      type: str
      sample: ok
    path:
      description: Where its volumes are on this host.
      returned: when present
      type: str
      sample: /var/lib/microvm/mounts/nfs-prod-5e0c1b7a
    capacity:
      description: Size of the file system that the volumes are on.
      returned: when the backend answered
      type: dict
      contains:
        total_bytes:
          description: Size.
          returned: always
          type: int
          sample: 1099511627776
        used_bytes:
          description: In use.
          returned: always
          type: int
          sample: 274877906944
        free_bytes:
          description: Free for users other than root.
          returned: always
          type: int
          sample: 824633720832
        inodes_total:
          description: Files that fit; V(0) when the file system sets no limit.
          returned: always
          type: int
          sample: 67108864
        inodes_free:
          description: Files that still fit.
          returned: always
          type: int
          sample: 66000000
    capabilities:
      description:
        - What the backend can do, as the probe found out.
        - Of V(clone_from_image), V(fast_clone), V(snapshot), V(resize), V(external) and V(multi_host).
      returned: when present
      type: list
      elements: str
      sample: [clone_from_image, fast_clone, resize, external, multi_host]
    uuid:
      description: UUID of the backend; the same on all hosts that use it. With C(weak:) in front for a weak identity.
      returned: when present
      type: str
      sample: 5e0c1b7a-4f57-4f0c-9d3e-3c1f0a9e2b11
    identity:
      description:
        - How the backend is recognized.
        - V(marker) by the marker file on it; V(weak) by its source and file system only, where nothing can be written.
      returned: when present
      type: str
      sample: marker
    volumes:
      description: Number of volumes of this host on the backend.
      returned: when present
      type: int
      sample: 3
    source:
      description: Server and export, as C(/proc/self/mountinfo) shows them.
      returned: for O(kind=nfs), when present
      type: str
      sample: nas.example.com:/mnt/tank/vms
    server:
      description: The server, as asked for.
      returned: for O(kind=nfs), when present
      type: str
      sample: nas.example.com
    export:
      description: The export, as asked for.
      returned: for O(kind=nfs), when present
      type: str
      sample: /mnt/tank/vms
    version:
      description: The protocol version that was asked for.
      returned: for O(kind=nfs), when present
      type: str
      sample: default
    version_negotiated:
      description: The protocol version in use; the last one when it is not mounted.
      returned: for O(kind=nfs), when present
      type: str
      sample: "4.2"
    options:
      description: The mount options that were asked for, in one spelling and with the defaults filled in.
      returned: for O(kind=nfs), when present
      type: list
      elements: str
      sample: [hard, nosuid, nodev, noexec, relatime]
    read_only:
      description: Whether it was asked to be read-only.
      returned: for O(kind=nfs), when present
      type: bool
      sample: false
    pending_remount:
      description:
        - Who holds the mount, when a change has to wait until it is no longer used; processes as C(name (pid)), and
          mounts below it.
        - The change is proven and stored, and made by the first run that finds the mount free, or at boot.
      returned: when a change is pending
      type: list
      elements: str
      sample: ["qemu-system-x86 (4711)"]
    probe_seconds:
      description: Time that the probe took.
      returned: when probed
      type: float
      sample: 0.034
    not_probed:
      description: What only the run can find out, as check mode does no more than open a connection.
      returned: in check mode, when the item would be mounted
      type: str
      sample: check mode only opened a connection; export, rights and version are not probed
    error:
      description: Why this item failed, as RV(error), and the C(message).
      returned: when this item failed
      type: dict
      sample:
        kind: refused
        item: nfs-prod
        message: the export refuses to let root write
        hint: export it with no_root_squash or with anonuid
backend:
  description: The backend, when it was asked for by the options at the top.
  returned: without O(backends), unless an option is invalid
  type: dict
  contains: *backend
msg:
  description:
    - What failed, on what, why, and what to do next.
    - For a list, which items failed and of what kind, then a line for each.
  returned: failure
  type: str
  sample: "2 of 5 backends failed: nfs-prod (unreachable), nfs-templates (refused)"
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
      sample: nfs-prod
    hint:
      description: What to do next; may be empty.
      returned: always
      type: str
      sample: "the volumes are web1-root, web2-root and db-data"
    field:
      description: The option at fault.
      returned: when an option is at fault
      type: str
      sample: backends[3].server
    command:
      description: The program that failed, with its arguments.
      returned: when a program failed
      type: list
      elements: str
      sample: [systemctl, start, rpc-statd.service]
    rc:
      description: Its exit code.
      returned: when a program failed
      type: int
      sample: 1
    stderr:
      description: What it said.
      returned: when a program failed
      type: str
      sample: Job for rpc-statd.service failed.
"""

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import entry
from ansible_collections.microvm.host.plugins.module_utils._storage.backends import Backends

# What belongs to one kind has no default here: that tells "asked for" from "not asked for".
ITEM: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str"},
    "kind": {"type": "str", "choices": ["local_file", "nfs"]},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "enabled": {"type": "bool", "default": True},
    "default": {"type": "bool"},
    "server": {"type": "str"},
    "export": {"type": "str"},
    "version": {"type": "str", "choices": ["default", "3", "4", "4.0", "4.1", "4.2"]},
    "options": {"type": "raw", "aliases": ["opts"]},
    "read_only": {"type": "bool"},
    "mount_base": {"type": "path"},
    "path": {"type": "path"},
    "timeout": {"type": "int", "default": 15},
}
CALL: dict[str, dict[str, t.Any]] = {"purge": {"type": "bool", "default": False}}


def host_tool() -> t.Any:
    """The host tool, of which the payload has the sources; loaded when a plan may need it."""
    from ansible_collections.microvm.host.plugins.module_utils._tool import install

    return install


def main() -> None:
    """One backend by the options at the top, or many by ``backends``."""
    entry.run(lambda: Backends(host_tool), item=ITEM, plural="backends", singular="backend", call=CALL)


if __name__ == "__main__":
    main()
