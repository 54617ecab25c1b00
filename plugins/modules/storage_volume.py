#!/usr/bin/python
# Copyright (c) 2026 microvm.host contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_volume
short_description: Keep the virtual disks of a microVM host
version_added: 0.1.0
author:
  - microvm.host contributors (@microvm-host)
description:
  - Makes, grows, snapshots, moves and deletes the disks of virtual machines on storage backends, one by the options at
    the top or many by O(volumes).
  - A disk is the file C(NAME.raw) on its backend, beside it its label C(NAME.json), by which other hosts know whose it
    is; on a backend of the kind V(iscsi_lvm) the logical volume C(NAME), with tags for a label. It gets its name only
    when it is whole, compared with its image, and synced.
  - Images are copied as fast as the storage can, and holes stay holes; blocks are shared where the file system can do
    that (xfs, btrfs, NFS 4.2 on such a server), else copied inside of it, else read and written.
extends_documentation_fragment:
  - microvm.host._attributes
  - microvm.host._attributes.resource
options:
  <<: &item
    name:
      description:
        - Name of the volume, unique on this host and, on its backend, among all hosts; lower-case letters, digits,
          C(.), C(_) and C(-), at most 63 characters.
        - Required.
      type: str
    state:
      description:
        - V(absent) deletes the disk with its snapshots. It is refused while the volume is in use, or a disk of a
          machine.
        - One that another host has adopted since, or whose backend of the kind V(iscsi_lvm) another host has taken
          over, is only forgotten here; its data stays.
      type: str
      default: present
      choices:
        - present
        - absent
    backend:
      description:
        - Name of the backend that the volume is on, as M(microvm.host.storage_backend) has it.
        - By default where it is; for a new one the default backend.
        - One of the kind V(iscsi_lvm) takes volumes on the host that owns its group.
      type: str
    size:
      description:
        - Size of the disk; bytes, or a number with C(K), C(M), C(G) or C(T) and an optional C(iB), in powers of 1024;
          a multiple of 512 bytes.
        - Required for a new volume without O(image), which has the size of its image by default.
        - A larger one grows the disk. A smaller one is refused without O(shrink), and always when it is less than the
          image has.
        - The disk takes room only for what is written to it. On LVM it has whole extents of the group (4 MiB), and
          without a thin pool it takes all its room at once.
      type: str
    image:
      description:
        - What a new volume is a copy of. A path on the host; a path without C(/) in front, on the backend itself; or
          C(volume:NAME), another volume of this host that is not in use.
        - It is put on the backend once, in C(.microvm/images), and volumes are clones of what is there; a raw image
          without O(checksum) that lies on the backend's file system is cloned from where it is. So that many hosts use
          one such copy, give O(checksum). O(prune_images) removes those that are not needed.
        - It is for new volumes only. One that is there stays as it is, with a warning when it was made from another.
          Where it is not known what it was made from, the image is kept as that, with a warning once.
      type: str
    checksum:
      description:
        - The SHA-256 that the image file must have, as C(sha256:DIGITS) or the digits alone.
        - The copy of a raw image is read again and held against it; a qcow2 image before it is converted.
        - Without it the copy is compared with the image in samples.
      type: str
    format:
      description:
        - Format of the image file; the disk is raw in any case.
        - By default V(raw).
      type: str
      choices:
        raw: The file is the disk.
        qcow2: It is converted by C(qemu-img). An image that refers to other files is refused.
    filesystem:
      description:
        - The file system that is the whole disk, without partitions.
        - It grows and shrinks with the disk. In a new volume without O(image) it is made.
        - The host then reads what the guest wrote there. Leave it out for guests that you do not trust.
      type: dict
      suboptions:
        type:
          description: Its type. The host needs the programs of it.
          type: str
          required: true
          choices:
            ext4: Needs C(e2fsprogs).
            xfs: Needs C(xfsprogs). It can't be made smaller.
            btrfs: Needs C(btrfs-progs).
        label:
          description: Its label; of a new one only.
          type: str
        owner:
          description: Who owns its top and its O(filesystem.directories), as C(UID) or C(UID:GID); of a new one only.
          type: str
        directories:
          description: Directories to make in it, relative to its top; of a new one only.
          type: list
          elements: str
    snapshots:
      description:
        - The snapshots that the volume shall have. Those missing are taken, those not listed are deleted.
        - Left as they are when omitted.
        - They are taken before the disk gets another O(size).
        - A volume in use is refused; what its guest has not yet written would be missing.
        - On LVM without a thin pool each is a copy that takes the room of the disk again.
      type: list
      elements: str
    restore:
      description:
        - Make the disk as this snapshot is; what was written since is lost.
        - The disk has O(size) then, without it the size it had, or that of the snapshot if that is more. An O(size)
          below that of the snapshot needs O(shrink). The file system in it grows or shrinks too, if O(filesystem) was
          given once.
        - This is an act. It is done in each run, so leave it out afterwards.
      type: str
    adopt:
      description:
        - Take a disk of this name that is there already and not this host's; one whose host is gone for good, or a file
          without a label.
        - When there is none, O(size) or O(image) make a new disk all the same, with a warning.
      type: bool
      default: false
    move:
      description:
        - Whether a volume that is on another backend than O(backend) is moved there. Refused otherwise.
        - The old disk is kept until the new one is proven.
        - Snapshots do not move. A volume that has some is refused unless O(snapshots) is given and lists none of them,
          as V([]) does; they are deleted then.
      type: bool
      default: false
    shrink:
      description:
        - Whether a smaller O(size) makes the disk smaller, its O(filesystem) first. Without O(filesystem) it is refused
          when something is written behind the new end.
      type: bool
      default: false
    takeover:
      description:
        - Whether to go on although another host holds the lock of the volume. That host must be dead for certain.
        - A holder that shows a sign of life within 25 seconds, or whose lock the server keeps, is left in possession
          all the same.
      type: bool
      default: false
    forget:
      description:
        - With O(state=absent), whether this host only forgets the volume. Nothing on the backend is asked or touched,
          so it is for a backend that is gone for good, or for a disk to be kept. What an interrupted run has left
          is undone first where that is possible, and let go of otherwise.
        - A disk that is left is an orphan in M(microvm.host.host_info), with
          O(microvm.host.host_info#module:refresh=true), and O(adopt) takes it again.
      type: bool
      default: false
    timeout:
      description:
        - Seconds, 1 to 3600, that a step may go on without any progress; a copy that goes on is never interrupted.
        - Beside O(volumes), for every item that has none of its own.
      type: int
      default: 60
  volumes:
    description:
      - Many volumes in one call, which is much faster than a loop. Each has the options of a single volume.
      - Of those options only O(timeout) may stand beside the list.
    type: list
    elements: dict
    suboptions: *item
  prune_images:
    description:
      - Remove the images that backends of this host keep and that no volume of any host was made from. They are
        returned as items with the name C(BACKEND:KEY).
      - Volumes are not touched; those that share blocks with an image keep them.
      - It can only be used with O(volumes), which may be V([]).
    type: bool
    default: false
notes:
  - Every change takes the lock of the volume, C(.microvm/locks/NAME) on its backend. What it guarantees is in
    C(docs/volumes.md).
  - There is no C(purge); a volume that is not listed stays.
seealso:
  - module: microvm.host.storage_backend
  - module: microvm.host.host_info
"""

EXAMPLES = r"""
- name: Have a data disk of 4 GiB with a file system
  microvm.host.storage_volume:
    name: web1-data
    size: 4GiB
    filesystem:
      type: ext4
      label: data
      owner: "1000:1000"
      directories: [www, www/logs]

- name: Have the disks of two machines, clones of one image
  microvm.host.storage_volume:
    volumes:
      - name: web1-root
        backend: nfs-prod
        image: /srv/images/debian.raw
        size: 64MiB
        snapshots: [fresh]
      - name: web2-root
        backend: nfs-prod
        image: /srv/images/debian.raw
        size: 64MiB
  register: disks

- name: Show where they are
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.path }} ({{ item.size | human_readable }})"
  loop: "{{ disks.volumes }}"
  loop_control:
    label: "{{ item.name }}"

- name: Go back to what it was when it was fresh
  microvm.host.storage_volume:
    name: web1-root
    restore: fresh

- name: Give it more room, and no snapshots
  microvm.host.storage_volume:
    name: web1-root
    size: 96MiB
    snapshots: []

- name: Take it to another backend
  microvm.host.storage_volume:
    name: web1-root
    backend: local
    move: true

- name: Copy it
  microvm.host.storage_volume:
    name: web3-root
    image: volume:web1-root

- name: Let go of one, keep its disk; also when its backend is gone for good
  microvm.host.storage_volume:
    name: web3-root
    state: absent
    forget: true

- name: Take it back
  microvm.host.storage_volume:
    name: web3-root
    backend: local
    adopt: true

- name: Delete them
  microvm.host.storage_volume:
    volumes:
      - name: web2-root
        state: absent
      - name: web3-root
        state: absent

- name: Remove images that no volume needs
  microvm.host.storage_volume:
    volumes: []
    prune_images: true
"""

RETURN = r"""
volumes:
  description: The volumes of this call, in the order in which they were asked for.
  returned: always; empty when an option is invalid
  type: list
  elements: dict
  contains: &volume
    name:
      description: Name of the volume.
      returned: always
      type: str
      sample: web1-root
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
        - make volume web1-root on nfs-prod, 67108864 bytes from /srv/images/debian.raw
        - take the snapshot fresh of volume web1-root on nfs-prod
    backend:
      description: The backend it is on.
      returned: when present
      type: str
      sample: nfs-prod
    path:
      description: The disk, for a virtual machine.
      returned: when present
      type: str
      sample: /var/lib/microvm/mounts/nfs-prod-5e0c1b7a/web1-root.raw
    size:
      description: Bytes of the disk.
      returned: when present
      type: int
      sample: 67108864
    allocated_bytes:
      description: Bytes that it takes on its backend; shared blocks count. Of LVM for a disk that is active.
      returned: when the backend answered
      type: int
      sample: 8392704
    status:
      description:
        - V(ok); V(missing) when the disk is gone; V(taken) when another host has adopted it.
        - V(unreachable), V(stale), V(not_mounted), V(logged_out), V(standby) and V(foreign) are those of its backend.
      returned: when present
      type: str
      sample: ok
    snapshots:
      description: Its snapshots.
      returned: when the backend answered
      type: list
      elements: str
      sample: [fresh]
    uuid:
      description: UUID of the volume; a move and an adoption keep it.
      returned: when present
      type: str
      sample: 0d5f1a3c-94cb-4a4e-8f0f-5b8f1c1f4a2b
    image:
      description: What it was made from.
      returned: when it was made from an image, or one was named for it since
      type: str
      sample: /srv/images/debian.raw
    filesystem:
      description: The file system that is its whole disk.
      returned: when known
      type: str
      sample: ext4
    lock:
      description: Who holds the volume.
      returned: when it is in use
      type: dict
      contains:
        hostname:
          description: On which host.
          returned: always
          type: str
          sample: hv1
        holder:
          description: Who it is.
          returned: always
          type: str
          sample: machine web1
        since:
          description: Since when, UTC.
          returned: always
          type: str
          sample: "2026-11-21T06:58:03Z"
    assumes:
      description: What is missing now, and was taken for done by an earlier task of the play.
      returned: in check mode, when something is missing
      type: list
      elements: str
      sample: [no backend nfs-prod is registered on this host]
    error:
      description: Why this item failed, as RV(error), and the C(message).
      returned: when this item failed
      type: dict
      sample:
        kind: in_use
        item: web1-root
        message: volume web1-root is in use by machine web1 on hv2 (process 4711, since 2026-11-21T06:58:03Z)
        hint: "stop what uses it; takeover: true if its host is dead for certain"
volume:
  description: The volume, when it was asked for by the options at the top.
  returned: without O(volumes), unless an option is invalid
  type: dict
  contains: *volume
msg:
  description: What failed, on what, why, and what to do next; for a list, which items failed and of what kind.
  returned: failure
  type: str
  sample: "1 of 2 volumes failed: web1-root (in_use)"
error:
  description: The failure for programs; of a list the first one, the others are in the items.
  returned: failure
  type: dict
  contains:
    kind:
      description: The kind of failure, as RV(microvm.host.storage_backend#module:error.kind).
      returned: always
      type: str
      sample: in_use
    item:
      description: Name of the item that failed; null when the whole call was refused.
      returned: always
      type: str
      sample: web1-root
    hint:
      description: What to do next; may be empty.
      returned: always
      type: str
      sample: "stop what uses it; takeover: true if its host is dead for certain"
    field:
      description: The option at fault.
      returned: when an option is at fault
      type: str
      sample: volumes[3].size
    command:
      description: The program that failed, with its arguments.
      returned: when a program failed
      type: list
      elements: str
      sample: [e2fsck, -f, -p, /var/lib/microvm/volumes/web1-data.raw]
    rc:
      description: Its exit code.
      returned: when a program failed
      type: int
      sample: 8
    stderr:
      description: What it said.
      returned: when a program failed
      type: str
      sample: "e2fsck: Bad magic number in super-block"
"""

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import entry
from ansible_collections.microvm.host.plugins.module_utils._storage.volumes import Volumes

ITEM: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str"},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "backend": {"type": "str"},
    "size": {"type": "str"},
    "image": {"type": "str"},
    "checksum": {"type": "str"},
    "format": {"type": "str", "choices": ["raw", "qcow2"]},
    "filesystem": {
        "type": "dict",
        "options": {
            "type": {"type": "str", "required": True, "choices": ["ext4", "xfs", "btrfs"]},
            "label": {"type": "str"},
            "owner": {"type": "str"},
            "directories": {"type": "list", "elements": "str"},
        },
    },
    "snapshots": {"type": "list", "elements": "str"},
    "restore": {"type": "str"},
    "adopt": {"type": "bool", "default": False},
    "move": {"type": "bool", "default": False},
    "shrink": {"type": "bool", "default": False},
    "takeover": {"type": "bool", "default": False},
    "forget": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
}
CALL: dict[str, dict[str, t.Any]] = {"prune_images": {"type": "bool", "default": False}}


def main() -> None:
    """One volume by the options at the top, or many by ``volumes``."""
    entry.run(Volumes, item=ITEM, plural="volumes", singular="volume", call=CALL)


if __name__ == "__main__":
    main()
