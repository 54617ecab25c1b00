#!/usr/bin/python
# Copyright (c) 2026 microvm.host contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Tell what a microVM host has
version_added: 0.1.0
author:
  - microvm.host contributors (@microvm-host)
description:
  - Returns everything that the registry of this collection and the kernel know about a host.
  - It changes nothing, needs nothing to be set up, and returns empty lists on a host that has nothing yet.
  - With O(discover) it also asks servers what they offer, before a backend is made of it. Nothing else asks for that;
    a mount or a LUN needs no discovery.
  - It never hangs, whatever servers are dead.
extends_documentation_fragment:
  - microvm.host._attributes
  - microvm.host._attributes.info
options:
  refresh:
    description:
      - Look at every mount too, all at once, which asks the servers.
      - Without it a mount is told as the kernel's table of mounts shows it, without capacity. A dead server is not seen
        then.
      - LVM is asked of every LUN with a session in either case, all at once, so that V(ok) and V(standby) are what it
        says now. Where it does not answer in time the status is V(unreachable).
    type: bool
    default: false
  timeout:
    description:
      - Seconds for the whole call. What has not answered after four fifths of it has the status V(unreachable).
    type: int
    default: 15
  discover:
    description:
      - Servers to ask for their exports, shares or targets, all at once, at most 16. One that refuses or does not
        answer is told as such in RV(discovered) and fails nothing.
      - An NFS server is asked through NFS 4, on a mount that nobody sees; one that does not speak it through
        C(showmount). A list of SMB shares needs C(smbclient) on the host. An iSCSI portal is asked by SendTargets, and
        no node record is made.
    type: list
    elements: dict
    suboptions:
      kind:
        description: What it serves, by the kind of backend that would be made of it.
        type: str
        required: true
        choices: [nfs, smb, iscsi_lvm]
      server:
        description: Host name or address of the server, for V(nfs) and V(smb).
        type: str
      portal:
        description: Where it listens, as C(host:port), for V(iscsi_lvm). The port is 3260 when omitted.
        type: str
      username:
        description: Who asks, for V(smb), where it is a guest without, and for V(iscsi_lvm) with CHAP.
        type: str
      password:
        description: The password of O(discover[].username). It is written nowhere.
        type: str
      domain:
        description: Domain of the user, for V(smb).
        type: str
      mutual_username:
        description: Name by which an iSCSI target must prove itself.
        type: str
      mutual_password:
        description: Secret of the target.
        type: str
      initiator_name:
        description: Name of the initiator that asks. By default the one in C(/etc/iscsi/initiatorname.iscsi).
        type: str
seealso:
  - module: microvm.host.storage_backend
  - module: microvm.host.nfs_export_mount
  - module: microvm.host.iscsi_lvm
  - module: microvm.host.storage_volume
  - module: microvm.host.docker_volume_driver
"""

EXAMPLES = r"""
- name: Ask what the host has
  microvm.host.host_info:
    refresh: true
  register: host

- name: Show the backends
  ansible.builtin.debug:
    msg: "{{ item.name }} ({{ item.kind }}): {{ item.status }}"
  loop: "{{ host.backends }}"
  loop_control:
    label: "{{ item.name }}"

- name: Ask servers what they offer, to choose from
  microvm.host.host_info:
    discover:
      - {kind: nfs, server: nas.example.com}
      - {kind: smb, server: files.example.com, username: svc-microvm, password: "{{ vault_smb_lab }}"}
      - {kind: iscsi_lvm, portal: san.example.com}

- name: Stop here when a backend does not work
  ansible.builtin.assert:
    that: host.backends | rejectattr('status', 'in', ['ok', 'read_only', 'disabled']) | length == 0
    fail_msg: "{{ host.backends | rejectattr('status', 'eq', 'ok') | map(attribute='name') | join(', ') }}"
"""

RETURN = r"""
backends:
  description: Storage backends, each as RV(microvm.host.storage_backend#module:backends) has it.
  returned: success
  type: list
  elements: dict
  sample:
    - name: nfs-prod
      kind: nfs
      state: present
      enabled: true
      default: true
      status: ok
      path: /var/lib/microvm/mounts/nfs-prod-5e0c1b7a
      capacity:
        total_bytes: 1099511627776
        used_bytes: 274877906944
        free_bytes: 824633720832
        inodes_total: 67108864
        inodes_free: 66000000
      capabilities: [clone_from_image, fast_clone, resize, external, multi_host]
      uuid: 5e0c1b7a-4f57-4f0c-9d3e-3c1f0a9e2b11
      identity: marker
      volumes: 3
      source: nas.example.com:/mnt/tank/vms
      server: nas.example.com
      export: /mnt/tank/vms
      version: default
      version_negotiated: "4.2"
      options: [hard, nosuid, nodev, noexec, relatime]
      read_only: false
      probe_seconds: 0.003
mounts:
  description: Mounts, each as RV(microvm.host.nfs_export_mount#module:mounts) has it.
  returned: success
  type: list
  elements: dict
  sample:
    - name: images
      state: mounted
      source: nas.example.com:/mnt/tank/images
      server: nas.example.com
      export: /mnt/tank/images
      path: /srv/images
      version: default
      version_negotiated: "4.2"
      options: [hard, nosuid, nodev, noexec, relatime, ro]
      status: read_only
      capacity:
        total_bytes: 1099511627776
        used_bytes: 274877906944
        free_bytes: 824633720832
        inodes_total: 67108864
        inodes_free: 66000000
      persistent: true
      read_only: true
      probe_seconds: 0.003
volumes:
  description:
    - Volumes of this host, each as RV(microvm.host.storage_volume#module:volumes) has it.
    - Without O(refresh) the status of one on a mount is V(unknown), as nobody looked, unless the mount is gone.
  returned: success
  type: list
  elements: dict
  sample:
    - name: web1-root
      state: present
      backend: nfs-prod
      path: /var/lib/microvm/mounts/nfs-prod-5e0c1b7a/web1-root.raw
      size: 67108864
      allocated_bytes: 8392704
      status: ok
      snapshots: [fresh]
      uuid: 0d5f1a3c-94cb-4a4e-8f0f-5b8f1c1f4a2b
images:
  description: Images that a backend keeps, because volumes share their blocks. One without volumes is not needed.
  returned: success
  type: list
  elements: dict
  contains:
    backend:
      description: The backend it is on.
      returned: always
      type: str
    key:
      description: Its name there; the SHA-256 of the image when that was given.
      returned: always
      type: str
    size:
      description: Bytes of the disk.
      returned: always
      type: int
    volumes:
      description: Volumes of all hosts that were made from it.
      returned: always
      type: list
      elements: str
  sample:
    - backend: nfs-prod
      key: 326fd0d25aaa69d62cb1ed5b8d79e07f066c90a722d30fd1c5b83d77e1670c04
      size: 67108864
      volumes: [web1-root]
machines:
  description: Machines, each as RV(microvm.host.microvm#module:machines) has it.
  returned: success
  type: list
  elements: dict
  sample:
    - name: web1
      status: running
      hypervisor: qemu
      accelerator: tcg
      vcpus: 1
      memory: 67108864
      autostart: true
      restart_required: false
      unit: microvm@web1.service
      user: mvm-web1
      directory: /var/lib/microvm/machines/web1
      console: /var/lib/microvm/machines/web1/log/console.log
      disks: [/srv/web1.raw]
      volumes: []
      taps: [mv278b9fe80]
      macs: ["02:06:4f:9f:69:00"]
      shares: [{tag: home, proto: virtiofs, source: /srv/home}]
machine_shares:
  description: Directories shared with machines, each as RV(microvm.host.virtiofs_share#module:shares) has it.
  returned: success
  type: list
  elements: dict
  sample:
    - name: "web1:home"
      vm: web1
      tag: home
      proto: virtiofs
      source: /srv/home
      mount_point: /home
      read_only: false
      unit: microvm-fs@web1@home.socket
      socket: /run/microvm/web1/fs-home.sock
shares:
  description: SMB shares, each as RV(microvm.host.smb_share#module:shares) has it.
  returned: success
  type: list
  elements: dict
  sample:
    - name: templates
      state: mounted
      source: //files.example.com/Virtual Machines/templates
      server: files.example.com
      share: Virtual Machines
      subdir: templates
      username: svc-microvm
      domain: EXAMPLE
      path: /srv/templates
      version: default
      version_negotiated: 3.1.1
      options: [hard, iocharset=utf8, nosuid, nodev, noexec, relatime, ro]
      uid: 0
      gid: 0
      file_mode: "0660"
      dir_mode: "0770"
      seal: true
      sign: false
      status: read_only
      capacity:
        total_bytes: 1099511627776
        used_bytes: 274877906944
        free_bytes: 824633720832
        inodes_total: 0
        inodes_free: 0
      persistent: true
      read_only: true
      probe_seconds: 0.003
targets:
  description: LUNs with volume groups, each as RV(microvm.host.iscsi_lvm#module:targets) has it.
  returned: success
  type: list
  elements: dict
  sample:
    - name: fast
      state: present
      status: ok
      portal: 192.0.2.7:3260
      portals: ["192.0.2.7:3261"]
      iqn: iqn.2026-01.com.example:fast
      lun: 1
      initiator_name: ""
      username: host
      mutual_username: ""
      vg: vg_fast
      layout: thin
      thin_pool: microvm-pool
      access: exclusive
      saferemove: false
      owner: hv1.3b2c9a10
      session:
        sid: 1
        portal: 192.0.2.7:3260
        state: LOGGED_IN
      device: /dev/sda
      wwid: naa.60000000000000000e00000000010001
      pv_uuid: 8gDYX2-PiUx-vPzL-4zfT-3bhG-ZLgH-mPJrHn
      vg_uuid: 21jgGC-zMut-BipB-4H43-dcjN-Cjph-5CcfPY
      capacity:
        total_bytes: 1099511627776
        used_bytes: 274877906944
        free_bytes: 824633720832
        data_percent: 25.0
        metadata_percent: 10.84
docker_volumes:
  description: Volumes of the driver that M(microvm.host.docker_volume_driver) gives Docker and podman.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      returned: always
      type: str
    options:
      description: The options it was created with.
      returned: always
      type: dict
    created:
      description: Since when, UTC.
      returned: always
      type: str
    path:
      description: Where it is mounted while it is in use.
      returned: always
      type: str
    status:
      description: V(mounted), V(not mounted), or V(failed) when the last operation failed.
      returned: always
      type: str
    version_negotiated:
      description: The protocol version in use; empty when it is not mounted.
      returned: always
      type: str
    references:
      description: Who has it mounted, by the IDs of Docker and podman, and how often.
      returned: always
      type: list
      elements: dict
    drift:
      description:
        - Where it differs from what was asked for; empty when it does not.
        - Also how the options differed when it was asked for a second time under its name.
      returned: always
      type: list
      elements: str
    error:
      description: What the last operation failed with; empty when it did not.
      returned: always
      type: str
  sample:
    - name: web
      options: {server: nas.example.com, path: /tank/web}
      created: "2026-11-21T06:58:03Z"
      path: /var/lib/docker-volumes-nfsd/web
      status: mounted
      version_negotiated: "4.2"
      references:
        - id: 2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2
          count: 1
      drift: []
      error: ""
locks:
  description: >-
    Backends, mounts, SMB shares, LUNs, volumes, machines and their shares that a run is changing right now, by the
    locks it holds.
  returned: success
  type: list
  elements: dict
  contains:
    resource:
      description:
        - What it is, V(backend), V(mount), V(share), V(target), V(volume), V(machine) or V(machine_share).
      returned: always
      type: str
    name:
      description: Its name.
      returned: always
      type: str
    pid:
      description: The process that changes it.
      returned: always
      type: int
    since:
      description: Since when, UTC.
      returned: always
      type: str
  sample:
    - name: nfs-prod
      pid: 4711
      resource: backend
      since: "2026-11-21T06:58:03Z"
jobs:
  description: Copies of disks under way, as they were when they last told of their progress.
  returned: success
  type: list
  elements: dict
  contains:
    resource:
      description: What it is for, V(volume).
      returned: always
      type: str
    name:
      description: Its name.
      returned: always
      type: str
    pid:
      description: The process of the run.
      returned: always
      type: int
    percent:
      description: How much is done.
      returned: always
      type: int
    rate:
      description: Bytes per second.
      returned: always
      type: int
    seconds_left:
      description: How long it will take at that rate.
      returned: always
      type: float
  sample:
    - resource: volume
      name: web1-root
      pid: 4711
      percent: 40
      rate: 104857600
      seconds_left: 24.6
orphans:
  description:
    - Disks on the backends that this host does not know. They may be those of other hosts.
    - Those on backends of the kinds V(nfs) and V(smb) are listed with O(refresh=true) only.
    - Those of a host that is gone can be taken with O(microvm.host.storage_volume#module:adopt).
  returned: success
  type: list
  elements: dict
  contains:
    backend:
      description: The backend it is on.
      returned: always
      type: str
    name:
      description: Its name.
      returned: always
      type: str
    path:
      description: The disk.
      returned: always
      type: str
    size:
      description: Bytes of the disk.
      returned: always
      type: int
    owner:
      description: The host whose volume it is by its label; empty without a label.
      returned: always
      type: str
  sample:
    - backend: nfs-prod
      name: db1-data
      path: /var/lib/microvm/mounts/nfs-prod-5e0c1b7a/db1-data.raw
      size: 10737418240
      owner: hv2
discovered:
  description: What the servers of O(discover) offer, in their order.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: The kind of O(discover[].kind).
      returned: always
      type: str
    server:
      description: The server, with V(nfs) and V(smb).
      returned: when it was given
      type: str
    portal:
      description: The portal, with V(iscsi_lvm).
      returned: when it was given
      type: str
    offers:
      description:
        - What there is for this host, by the names of the options of M(microvm.host.storage_backend).
        - C(export) of each export; C(share) and C(comment) of each share; C(iqn) and C(portals) of each target.
      returned: always; empty when it did not answer
      type: list
      elements: dict
    error:
      description: Why there is no answer, as RV(error), and the C(message).
      returned: when there is none
      type: dict
  sample:
    - kind: nfs
      server: nas.example.com
      offers:
        - export: /mnt/tank/iso
        - export: /mnt/tank/vms
    - kind: smb
      server: files.example.com
      offers: []
      error:
        kind: unsupported
        item: files.example.com
        hint: "install it: Debian has a package of that name, Red Hat samba-client"
        message: a list of shares needs smbclient, which is not installed
    - kind: iscsi_lvm
      portal: san.example.com
      offers:
        - iqn: iqn.2026-01.com.example:vms
          portals: ["192.0.2.7:3260", "192.0.2.7:3261"]
registry:
  description: The registry itself.
  returned: success
  type: dict
  contains:
    path:
      description: Where it is.
      returned: always
      type: str
      sample: /var/lib/microvm/registry.db
    exists:
      description: Whether it is there; the first change of a host makes it.
      returned: always
      type: bool
      sample: true
    version:
      description: The version of its layout that this collection reads and writes.
      returned: always
      type: int
      sample: 1
    open_intents:
      description: Changes under way, or left by an interrupted run; the next change of that resource settles them.
      returned: always
      type: list
      elements: dict
      sample:
        - resource: backend
          name: nfs-prod
          pid: 4711
          committed: 0
msg:
  description: What failed, why, and what to do next.
  returned: failure
  type: str
  sample: "this module manages the host and is not running as root; use become: true (-b)"
error:
  description: The failure for programs.
  returned: failure
  type: dict
  contains:
    kind:
      description: The kind of failure, as RV(microvm.host.storage_backend#module:error.kind).
      returned: always
      type: str
      sample: refused
    item:
      description: Always null; the call as a whole failed.
      returned: always
      type: str
    hint:
      description: What to do next; may be empty.
      returned: always
      type: str
      sample: "use become: true (-b)"
    field:
      description: The option at fault.
      returned: when an option is at fault
      type: str
      sample: timeout
"""

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import entry
from ansible_collections.microvm.host.plugins.module_utils._info.host import gather

SERVER: dict[str, dict[str, t.Any]] = {
    "kind": {"type": "str", "required": True, "choices": ["nfs", "smb", "iscsi_lvm"]},
    "server": {"type": "str"},
    "portal": {"type": "str"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "domain": {"type": "str"},
    "mutual_username": {"type": "str"},
    "mutual_password": {"type": "str", "no_log": True},
    "initiator_name": {"type": "str"},
}
OPTIONS: dict[str, dict[str, t.Any]] = {
    "refresh": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 15},
    "discover": {"type": "list", "elements": "dict", "options": SERVER},
}


def main() -> None:
    """Everything about this host, read-only."""
    entry.inform(gather, options=OPTIONS)


if __name__ == "__main__":
    main()
