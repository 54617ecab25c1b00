#!/usr/bin/python
# Copyright (c) 2026 microvm.host contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nfs_export_mount
short_description: Mount NFS exports, now and at boot
version_added: 0.1.0
author:
  - microvm.host contributors (@microvm-host)
description:
  - Mounts exports of NFS servers, one by the options at the top or many by O(mounts), and keeps them mounted.
  - An export is tried on a mount that nobody can see yet; it appears in its place only after the probe succeeded.
    If the probe fails, or the run is killed, nothing is left behind.
  - A mount that differs from what is asked (another source, other options, read-only, stale, gone, stacked) is seen and
    put right; in place when the kernel can do that or nobody uses the mount, else it is reported as pending.
extends_documentation_fragment:
  - microvm.host._attributes
  - microvm.host._attributes.resource
options:
  <<: &item
    name:
      description:
        - Name of the mount on this host; lower-case letters, digits, C(.), C(_) and C(-), at most 63 characters.
        - Made from O(server) and O(export) when omitted.
        - With O(state=absent) the name alone is enough.
      type: str
    server:
      description:
        - Name or IPv4 or IPv6 address of the NFS server; IPv6 with or without brackets.
        - Of a name all addresses are tried.
        - Required, except for O(state=absent) with a O(name).
      type: str
    export:
      description:
        - Path of the export on the server.
        - Required, except for O(state=absent) with a O(name).
      type: str
    version:
      description:
        - Version of the NFS protocol.
        - The one in use is returned as RV(mounts[].version_negotiated).
      type: str
      default: default
      choices:
        default: The highest that the server offers, of 4.2, 4.1, 4.0 and 3.
        "3": Version 3. Lock services of the host are started first, unless O(options) has V(nolock).
        "4": The highest 4.x that the server offers.
        "4.0": Exactly 4.0.
        "4.1": Exactly 4.1.
        "4.2": Exactly 4.2.
    options:
      description:
        - Mount options of nfs(5) and mount(8), as a list or as one string with commas.
        - The defaults are V(hard), V(nosuid), V(nodev) and V(noexec); V(soft), V(suid), V(dev) and V(exec) undo them.
        - V(_netdev), V(nofail) and C(x-systemd.*) are understood and go to the mount unit.
        - Unknown and contradictory options are refused by name, and so are those that this module has options for;
          for example V(vers) (see O(version)), V(addr) (see O(server)) and V(noauto) (see O(persistent)).
        - V(nconnect) and V(max_connect) are kept by the kernel once for all mounts of a server by one protocol version,
          and the first mount decides. Where another V(nconnect) than asked is in force, a warning tells which.
      type: raw
      aliases:
        - opts
    path:
      description:
        - Absolute path of the mount point. It is made when missing.
        - Files in it are hidden while it is mounted; a warning names the directory when it is mounted over files.
        - By default a directory below O(mount_base), named after server and export, with a short hash of both.
        - A mount is not moved. Omit this to keep its path; another path is a conflict.
      type: path
    mount_base:
      description:
        - Directory for mount points when O(path) is omitted.
      type: path
      default: /var/lib/microvm/mounts
    read_only:
      description:
        - Mount read-only.
      type: bool
      default: false
    state:
      description:
        - What is to be there.
      type: str
      default: mounted
      choices:
        mounted: Mounted now and, unless O(persistent=false), at boot.
        unmounted: Not mounted now. The unit is kept, so that it is mounted at the next boot.
        present: The unit is there, so that it is mounted at boot. Whether it is mounted now is left alone.
        absent: Not mounted and no unit; the empty mount point is removed. Nothing on the server is touched.
    persistent:
      description:
        - Mount again at boot, by a systemd mount unit that delays the boot of the host for no dead server.
        - V(false) mounts until the next boot only.
      type: bool
      default: true
    timeout:
      description:
        - Seconds for the whole item, 1 to 3600; name lookup, waiting for another run, negotiation, probe, mount and
          unmount.
        - To look at what is mounted already takes at most half of it, and no more than 5 seconds.
        - Beside O(mounts), for every item that has none of its own.
      type: int
      default: 15
    probe:
      description:
        - How the export is tried before it is put in its place.
      type: str
      default: read
      choices:
        none: Mount only.
        read: Read the root directory and the capacity.
        write: Also write a file, sync it, read it back, lock it and remove it. The same as V(read) when read-only.
  mounts:
    description:
      - Many mounts in one call, which is much faster than a loop. Each has the options of a single mount.
      - Of those options only O(timeout) may stand beside the list.
    type: list
    elements: dict
    suboptions: *item
  purge:
    description:
      - Remove every mount of this module that O(mounts) does not list, as O(state=absent) would; not those of backends.
      - It can only be used with O(mounts).
    type: bool
    default: false
notes:
  - One export that several need is mounted once. It is unmounted when the last user is gone; a mount that a storage
    backend uses can't be removed here.
  - A mount in use is never unmounted under its users, and mounts are never stacked on each other.
  - An entry in C(/etc/fstab) for the same path is a conflict and is named with its line. The same export mounted
    elsewhere by others is left alone.
seealso:
  - module: microvm.host.storage_backend
  - module: microvm.host.host_info
  - module: ansible.posix.mount
  - name: nfs(5)
    description: The mount options of NFS.
    link: https://man7.org/linux/man-pages/man5/nfs.5.html
"""

EXAMPLES = r"""
- name: Mount one export, now and at boot
  microvm.host.nfs_export_mount:
    server: nas.example.com
    export: /mnt/tank/iso

- name: Mount several exports in one call
  microvm.host.nfs_export_mount:
    mounts:
      - name: images
        server: nas.example.com
        export: /mnt/tank/images
        path: /srv/images
        read_only: true
      - name: scratch
        server: "2001:db8::7"
        export: /scratch
        version: "4.2"
        options: [nconnect=4, noatime]
        probe: write
      - name: legacy
        server: 192.0.2.9
        export: /vol/vol0
        version: "3"
        options: nolock,timeo=100
    timeout: 30
  register: nfs

- name: Show where they are
  ansible.builtin.debug:
    msg: "{{ nfs.mounts | items2dict(key_name='name', value_name='path') }}"

- name: Unmount before the server is serviced; it is mounted again at the next boot
  microvm.host.nfs_export_mount:
    name: scratch
    server: "2001:db8::7"
    export: /scratch
    version: "4.2"
    options: [nconnect=4, noatime]
    state: unmounted

- name: Take a mount away; the files stay on the server
  microvm.host.nfs_export_mount:
    name: legacy
    state: absent

- name: Go on without the archive when its server is down
  block:
    - name: Mount the archive
      microvm.host.nfs_export_mount:
        server: archive.example.com
        export: /archive
  rescue:
    - name: Fail for any other reason
      ansible.builtin.fail:
        msg: "{{ ansible_failed_result.msg }}"
      when: ansible_failed_result.error.kind not in ['unreachable', 'timeout']
"""

RETURN = r"""
mounts:
  description: The mounts of this call, in the order in which they were asked for.
  returned: always; empty when an option is invalid
  type: list
  elements: dict
  contains: &mount
    name:
      description: Name of the mount on this host.
      returned: always
      type: str
      sample: images
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
        - mount nas.example.com:/mnt/tank/images on /srv/images
        - write the mount unit of nas.example.com:/mnt/tank/images
        - reload systemd
    state:
      description: The state that was asked for.
      returned: always
      type: str
      sample: mounted
    source:
      description: Server and export, as C(/proc/self/mountinfo) shows them.
      returned: when known
      type: str
      sample: nas.example.com:/mnt/tank/images
    server:
      description: The server, as asked for.
      returned: when known
      type: str
      sample: nas.example.com
    export:
      description: The export, as asked for.
      returned: when known
      type: str
      sample: /mnt/tank/images
    path:
      description: The mount point.
      returned: when it is not absent
      type: str
      sample: /srv/images
    version:
      description: The protocol version that was asked for.
      returned: when known
      type: str
      sample: default
    version_negotiated:
      description: The protocol version in use; the last one when it is not mounted.
      returned: when it is not absent
      type: str
      sample: "4.2"
    options:
      description: The mount options that were asked for, in one spelling and with the defaults filled in.
      returned: when known
      type: list
      elements: str
      sample: [hard, nosuid, nodev, noexec, relatime, ro]
    status:
      description:
        - How the mount is doing.
        - One of V(ok), V(read_only), V(stale), V(unreachable) and V(not_mounted).
      returned: always
      type: str
      sample: read_only
    persistent:
      description: Whether it is mounted again at boot.
      returned: always
      type: bool
      sample: true
    read_only:
      description: Whether it was asked to be read-only.
      returned: when known
      type: bool
      sample: true
    capacity:
      description: Size of the file system, as the server tells it.
      returned: when the server answered
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
          description: Files that fit; V(0) when the server sets no limit.
          returned: always
          type: int
          sample: 67108864
        inodes_free:
          description: Files that still fit.
          returned: always
          type: int
          sample: 66000000
    probe_seconds:
      description: Time that the probe took.
      returned: when probed
      type: float
      sample: 0.021
    pending_remount:
      description:
        - Who holds the mount, when a change has to wait until it is no longer used; processes as C(name (pid)), those
          of a machine as C(machine NAME (pid)), and mounts below it.
        - The change is proven and stored, and made by the first run that finds the mount free, or at boot.
      returned: when a change is pending
      type: list
      elements: str
      sample: ["machine web1 (5295)", "machine web1 (5310)"]
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
        kind: unreachable
        item: images
        message: nas.example.com does not answer on port 2049
        hint: check that nas.example.com runs an NFS server
mount:
  description: The mount, when it was asked for by the options at the top.
  returned: without O(mounts), unless an option is invalid
  type: dict
  contains: *mount
msg:
  description:
    - What failed, on what, why, and what to do next.
    - For a list, which items failed and of what kind, then a line for each.
  returned: failure
  type: str
  sample: "2 of 5 mounts failed: images (unreachable), scratch (conflict)"
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
      sample: unreachable
    item:
      description: Name of the item that failed; null when the whole call was refused.
      returned: always
      type: str
      sample: images
    hint:
      description: What to do next; may be empty.
      returned: always
      type: str
      sample: check that nas.example.com runs an NFS server and that no firewall drops port 2049
    field:
      description: The option at fault.
      returned: when an option is at fault
      type: str
      sample: mounts[3].server
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
from ansible_collections.microvm.host.plugins.module_utils._storage import nfs
from ansible_collections.microvm.host.plugins.module_utils._storage.mount_resource import Mounts

ITEM: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str"},
    "server": {"type": "str"},
    "export": {"type": "str"},
    "version": {"type": "str", "default": "default", "choices": ["default", "3", "4", "4.0", "4.1", "4.2"]},
    "options": {"type": "raw", "aliases": ["opts"]},
    "path": {"type": "path"},
    "mount_base": {"type": "path", "default": "/var/lib/microvm/mounts"},
    "read_only": {"type": "bool", "default": False},
    "state": {"type": "str", "default": "mounted", "choices": ["mounted", "unmounted", "present", "absent"]},
    "persistent": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 15},
    "probe": {"type": "str", "default": "read", "choices": ["none", "read", "write"]},
}
CALL: dict[str, dict[str, t.Any]] = {"purge": {"type": "bool", "default": False}}


def host_tool() -> t.Any:
    """The host tool, of which the payload has the sources; loaded when a plan may need it."""
    from ansible_collections.microvm.host.plugins.module_utils._tool import install

    return install


def main() -> None:
    """One mount by the options at the top, or many by ``mounts``."""
    entry.run(lambda: Mounts("mount", nfs, host_tool), item=ITEM, plural="mounts", singular="mount", call=CALL)


if __name__ == "__main__":
    main()
