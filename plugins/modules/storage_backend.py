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
        smb: Files on an SMB share.
        iscsi_lvm: Logical volumes of a volume group on an iSCSI LUN, which one host owns.
    state:
      description:
        - V(absent) unmounts the backend and forgets it; the files stay.
        - A backend with volumes on it is not removed, nor is the default backend, unless it is the last one and has no
          volumes.
        - Volumes of a group that another host has taken over, which is the status V(standby), are forgotten with the
          backend, unless something on this host uses them. They and their data are that host's.
      type: str
      default: present
      choices:
        - present
        - absent
    enabled:
      description:
        - V(false) keeps the backend and its volumes, refuses new volumes and starts of machines on it, and unmounts it
          as soon as nobody uses it. With O(kind=iscsi_lvm) it is refused while a volume is in use.
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
        - Name or IPv4 or IPv6 address of the server.
        - Required for O(kind=nfs) and O(kind=smb), and only for them.
        - On a backend with volumes a change is accepted only when the marker at the new place proves that it is the
          same backend.
      type: str
    export:
      description:
        - Path of the export on the server.
        - Required for O(kind=nfs), and only for it.
        - It can be changed as O(server) can.
      type: str
    share:
      description:
        - Name of the share on the server, without slashes; it may have spaces.
        - Required for O(kind=smb), and only for it.
        - It can be changed as O(server) can.
      type: str
    subdir:
      description:
        - Directory in the share that is mounted instead of all of it; for O(kind=smb). It must be there.
      type: str
    username:
      description:
        - Who logs in; for O(kind=smb) a user of the server, a guest when omitted, and for O(kind=iscsi_lvm) the user of
          CHAP, which is not used when omitted.
      type: str
    password:
      description:
        - Password of O(username); for O(kind=smb) and O(kind=iscsi_lvm). Blank or omitted keeps the one that is at rest
          on the host.
        - At rest it is in C(/etc/microvm/credentials/NAME), for O(kind=iscsi_lvm) in the node record of open-iscsi, for
          root alone.
        - Another one is proven by a login before it replaces the one at rest; see
          O(microvm.host.smb_share#module:password) and O(microvm.host.iscsi_lvm#module:password).
      type: str
    domain:
      description:
        - Domain or workgroup of O(username); for O(kind=smb).
      type: str
    version:
      description:
        - Version of the protocol; for O(kind=nfs) one of V(default), V(3), V(4), V(4.0), V(4.1) and V(4.2), for
          O(kind=smb) one of V(default), V(2.0), V(2.1), V(3), V(3.0), V(3.11) and V(3.1.1).
        - By default V(default).
        - The one in use is returned as RV(backends[].version_negotiated).
      type: str
      choices:
        default: The highest that the server offers; of NFS 4.2 to 3, of SMB 3.1.1 to 2.1.
        "2.0": Exactly SMB 2.0.
        "2.1": Exactly SMB 2.1.
        "3": NFS 3, for which lock services of the host are started first, unless O(options) has V(nolock); or the
          highest SMB 3.x that the server offers.
        "3.0": Exactly SMB 3.0.
        "3.11": The same as V(3.1.1).
        "3.1.1": Exactly SMB 3.1.1.
        "4": The highest NFS 4.x that the server offers.
        "4.0": Exactly NFS 4.0.
        "4.1": Exactly NFS 4.1.
        "4.2": Exactly NFS 4.2.
    options:
      description:
        - Mount options, as a list or as one string with commas; for O(kind=nfs) and O(kind=smb).
        - They are those of O(microvm.host.nfs_export_mount#module:options) and
          O(microvm.host.smb_share#module:options).
      type: raw
      aliases:
        - opts
    read_only:
      description:
        - Mount read-only; for O(kind=nfs) and O(kind=smb). Nothing is written to such a backend, so it can be told from
          another only by its source; see RV(backends[].identity).
        - By default V(false).
      type: bool
    mount_base:
      description:
        - Directory for the mount point; for O(kind=nfs) and O(kind=smb).
        - By default V(/var/lib/microvm/mounts).
        - It counts when the backend is first mounted; no edit moves a mount point.
      type: path
    uid:
      description:
        - Number of the user whose files they are for this host; for O(kind=smb).
        - By default V(0).
      type: int
    gid:
      description:
        - Number of the group whose files they are for this host; for O(kind=smb).
        - By default that of the group C(microvm), in which virtual machines run; V(0) on a host without it. The role
          P(microvm.host.prepare_host#role) makes it.
      type: int
    file_mode:
      description:
        - Permissions of files for this host, in octal and in quotes; for O(kind=smb).
        - By default V(0660).
      type: raw
    dir_mode:
      description:
        - Permissions of directories for this host, in octal and in quotes; for O(kind=smb).
        - By default V(0770).
      type: raw
    seal:
      description:
        - Encrypt all that goes over the network; for O(kind=smb), version 3.0 or later.
        - By default V(false).
      type: bool
    sign:
      description:
        - Require signatures on all that goes over the network; for O(kind=smb).
        - By default V(false).
      type: bool
    secret_check:
      description:
        - Only prove the secret that is given, or the one at rest when it is blank, by one login, also in check mode;
          for O(kind=smb) and O(kind=iscsi_lvm).
        - Nothing is changed; with O(state=absent) it is refused.
        - By default V(false).
      type: bool
    portal:
      description:
        - Where the target listens, as C(host:port); see O(microvm.host.iscsi_lvm#module:portal).
        - Required for O(kind=iscsi_lvm), and only for it.
      type: str
    portals:
      description:
        - Further portals, tried when O(portal) does not answer; for O(kind=iscsi_lvm).
      type: list
      elements: str
    iqn:
      description:
        - Name of the target. It can't be changed later.
        - Required for O(kind=iscsi_lvm), and only for it.
      type: str
    lun:
      description:
        - Number of the LUN; for O(kind=iscsi_lvm). It can't be changed later.
        - By default V(0).
      type: int
    initiator_name:
      description:
        - Name by which this host logs in; for O(kind=iscsi_lvm).
        - By default the one in C(/etc/iscsi/initiatorname.iscsi).
      type: str
    mutual_username:
      description:
        - Name by which the target must prove itself; for O(kind=iscsi_lvm).
      type: str
    mutual_password:
      description:
        - Secret of the target; for O(kind=iscsi_lvm). Blank or omitted keeps it.
      type: str
    vg:
      description:
        - Name of the volume group, which lies on this LUN and on no other disk. It can't be changed later.
        - Required for O(kind=iscsi_lvm), and only for it.
      type: str
    initialize:
      description:
        - Format the LUN when it is blank; for O(kind=iscsi_lvm). To confirm it, this must be O(vg), the group's name.
        - See O(microvm.host.iscsi_lvm#module:initialize) for what it refuses.
      type: str
    layout:
      description:
        - How volumes are made; for O(kind=iscsi_lvm). It can't be changed later.
        - By default V(linear).
      type: str
      choices:
        linear: Each volume has its space from the beginning.
        thin: Volumes take space when they are written, from a thin pool, which is made when it is missing.
    thin_pool:
      description:
        - Name of the thin pool; for O(kind=iscsi_lvm) with O(layout=thin). It can't be changed later.
        - By default V(microvm-pool).
      type: str
    access:
      description:
        - Who may use the group; for O(kind=iscsi_lvm).
        - By default V(exclusive).
      type: str
      choices:
        exclusive: The one host whose system ID it has. On the others the backend has the status V(standby).
        shared: Several, through a lock manager. This version refuses it.
    saferemove:
      description:
        - Overwrite a volume with zeros before its space is given back; for O(kind=iscsi_lvm).
        - By default V(false).
      type: bool
    takeover:
      description:
        - Take the group from this owner, a host that is dead for good; for O(kind=iscsi_lvm). RV(backends[].owner)
          names it.
        - See O(microvm.host.iscsi_lvm#module:takeover) for what it risks.
      type: str
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
        - While a LUN is formatted, here or by another host, they are those without any progress.
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
seealso:
  - module: microvm.host.nfs_export_mount
  - module: microvm.host.smb_share
  - module: microvm.host.storage_volume
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

- name: Put an SMB share into service
  microvm.host.storage_backend:
    name: smb-lab
    kind: smb
    server: files.example.com
    share: vms
    username: svc-microvm
    password: "{{ vault_smb_lab }}"

- name: Does the password that is at rest still work? Nothing is changed
  microvm.host.storage_backend:
    name: smb-lab
    kind: smb
    server: files.example.com
    share: vms
    username: svc-microvm
    secret_check: true

- name: Put an iSCSI LUN into service, and format it when it is blank
  microvm.host.storage_backend:
    name: san1
    kind: iscsi_lvm
    portal: san.example.com
    iqn: iqn.2026-01.com.example:fast
    lun: 1
    username: host
    password: "{{ vault_fast }}"
    vg: vg_vms
    initialize: vg_vms
    layout: thin

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
        - For O(kind=iscsi_lvm) also V(standby), V(logged_out) and V(foreign); see
          RV(microvm.host.iscsi_lvm#module:targets[].status).
      returned: when present
      type: str
      sample: ok
    path:
      description: Where its volumes are on this host.
      returned: when present, but for O(kind=iscsi_lvm)
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
          returned: when the volumes are files
          type: int
          sample: 67108864
        inodes_free:
          description: Files that still fit.
          returned: when the volumes are files
          type: int
          sample: 66000000
        data_percent:
          description: How full the thin pool is. From 80 on there is a warning.
          returned: with O(layout=thin)
          type: float
          sample: 25.0
        metadata_percent:
          description: How full the metadata of the thin pool is. From 80 on there is a warning.
          returned: with O(layout=thin)
          type: float
          sample: 10.84
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
      description: Where it is on the network, as C(/proc/self/mountinfo) shows them.
      returned: for O(kind=nfs) and O(kind=smb), when present
      type: str
      sample: nas.example.com:/mnt/tank/vms
    server:
      description: The server, as asked for.
      returned: for O(kind=nfs) and O(kind=smb), when present
      type: str
      sample: nas.example.com
    export:
      description: The export, as asked for.
      returned: for O(kind=nfs), when present
      type: str
      sample: /mnt/tank/vms
    share:
      description: The share, as asked for.
      returned: for O(kind=smb), when present
      type: str
      sample: vms
    subdir:
      description: The directory in the share, as asked for; may be empty.
      returned: for O(kind=smb), when present
      type: str
      sample: ""
    username:
      description: Who logs in; empty for a guest.
      returned: for O(kind=smb) and O(kind=iscsi_lvm), when present
      type: str
      sample: svc-microvm
    domain:
      description: The domain of O(username); may be empty.
      returned: for O(kind=smb), when present
      type: str
      sample: ""
    uid:
      description: Whose the files are for this host.
      returned: for O(kind=smb), when present
      type: int
      sample: 0
    gid:
      description: Which group's the files are for this host.
      returned: for O(kind=smb), when present
      type: int
      sample: 0
    file_mode:
      description: Permissions of files for this host.
      returned: for O(kind=smb), when present
      type: str
      sample: "0660"
    dir_mode:
      description: Permissions of directories for this host.
      returned: for O(kind=smb), when present
      type: str
      sample: "0770"
    seal:
      description: Whether all is encrypted.
      returned: for O(kind=smb), when present
      type: bool
      sample: false
    sign:
      description: Whether signatures are required.
      returned: for O(kind=smb), when present
      type: bool
      sample: false
    portal:
      description: The first portal, as asked for.
      returned: for O(kind=iscsi_lvm), when present
      type: str
      sample: 192.0.2.7:3260
    portals:
      description: The further portals, as asked for.
      returned: for O(kind=iscsi_lvm), when present
      type: list
      elements: str
      sample: ["192.0.2.7:3261"]
    iqn:
      description: Name of the target.
      returned: for O(kind=iscsi_lvm), when present
      type: str
      sample: iqn.2026-01.com.example:fast
    lun:
      description: Number of the LUN.
      returned: for O(kind=iscsi_lvm), when present
      type: int
      sample: 1
    initiator_name:
      description: The name of the initiator that was asked for; empty for the host's own.
      returned: for O(kind=iscsi_lvm), when present
      type: str
      sample: ""
    mutual_username:
      description: Name by which the target proves itself; empty when it need not.
      returned: for O(kind=iscsi_lvm), when present
      type: str
      sample: ""
    vg:
      description: Name of the volume group.
      returned: for O(kind=iscsi_lvm), when present
      type: str
      sample: vg_fast
    layout:
      description: How volumes are made.
      returned: for O(kind=iscsi_lvm), when present
      type: str
      sample: thin
    thin_pool:
      description: Name of the thin pool; empty with the layout V(linear).
      returned: for O(kind=iscsi_lvm), when present
      type: str
      sample: microvm-pool
    access:
      description: Who may use the group.
      returned: for O(kind=iscsi_lvm), when present
      type: str
      sample: exclusive
    saferemove:
      description: Whether volumes are overwritten before their space is given back.
      returned: for O(kind=iscsi_lvm), when present
      type: bool
      sample: false
    owner:
      description: The system ID of the host that owns the group. Of this collection's hosts it begins with their name.
      returned: for O(kind=iscsi_lvm), when the LUN answers
      type: str
      sample: hv1.3b2c9a10
    session:
      description: The session over which the LUN is there.
      returned: for O(kind=iscsi_lvm), when logged in
      type: dict
      contains:
        sid:
          description: Its number.
          returned: always
          type: int
          sample: 1
        portal:
          description: The address and port that it goes to.
          returned: always
          type: str
          sample: 192.0.2.7:3260
        state:
          description: Its state, as the kernel tells it.
          returned: always
          type: str
          sample: LOGGED_IN
    device:
      description: The disk, now; it may have another name after the next login.
      returned: for O(kind=iscsi_lvm), when logged in
      type: str
      sample: /dev/sda
    wwid:
      description: The WWID by which the disk is known again.
      returned: for O(kind=iscsi_lvm), when it was open once
      type: str
      sample: naa.60000000000000000e00000000010001
    pv_uuid:
      description: The UUID of the physical volume.
      returned: for O(kind=iscsi_lvm), when it was open once
      type: str
      sample: 8gDYX2-PiUx-vPzL-4zfT-3bhG-ZLgH-mPJrHn
    vg_uuid:
      description: The UUID of the volume group.
      returned: for O(kind=iscsi_lvm), when it was open once
      type: str
      sample: 21jgGC-zMut-BipB-4H43-dcjN-Cjph-5CcfPY
    pending_login:
      description:
        - What uses the LUN, when its session began with other credentials than those asked for now; volumes, and other
          LUNs of the session.
        - The first run that finds it unused logs in anew, as a boot does.
      returned: for O(kind=iscsi_lvm), when a login is pending
      type: list
      elements: str
      sample: [web1-root]
    secret_checked:
      description: That only the secret was to be proven.
      returned: with O(secret_check)
      type: bool
      sample: true
    version:
      description: The protocol version that was asked for.
      returned: for O(kind=nfs) and O(kind=smb), when present
      type: str
      sample: default
    version_negotiated:
      description: The protocol version in use; the last one when it is not mounted.
      returned: for O(kind=nfs) and O(kind=smb), when present
      type: str
      sample: "4.2"
    options:
      description: The mount options that were asked for, in one spelling and with the defaults filled in.
      returned: for O(kind=nfs) and O(kind=smb), when present
      type: list
      elements: str
      sample: [hard, nosuid, nodev, noexec, relatime]
    read_only:
      description: Whether it was asked to be read-only.
      returned: for O(kind=nfs) and O(kind=smb), when present
      type: bool
      sample: false
    pending_remount:
      description:
        - Who holds the mount, when a change has to wait until it is no longer used; processes as C(name (pid)), those
          of a machine as C(machine NAME (pid)), and mounts below it.
        - The change is proven and stored, and made by the first run that finds the mount free, or at boot.
      returned: when a change is pending
      type: list
      elements: str
      sample: ["machine web1 (5295)", "machine web1 (5310)"]
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
    "kind": {"type": "str", "choices": ["local_file", "nfs", "smb", "iscsi_lvm"]},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "enabled": {"type": "bool", "default": True},
    "default": {"type": "bool"},
    "server": {"type": "str"},
    "export": {"type": "str"},
    "share": {"type": "str"},
    "subdir": {"type": "str"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "domain": {"type": "str"},
    "version": {
        "type": "str",
        "choices": ["default", "2.0", "2.1", "3", "3.0", "3.11", "3.1.1", "4", "4.0", "4.1", "4.2"],
    },
    "options": {"type": "raw", "aliases": ["opts"]},
    "read_only": {"type": "bool"},
    "mount_base": {"type": "path"},
    "uid": {"type": "int"},
    "gid": {"type": "int"},
    "file_mode": {"type": "raw"},
    "dir_mode": {"type": "raw"},
    "seal": {"type": "bool"},
    "sign": {"type": "bool"},
    "secret_check": {"type": "bool"},
    "portal": {"type": "str"},
    "portals": {"type": "list", "elements": "str"},
    "iqn": {"type": "str"},
    "lun": {"type": "int"},
    "initiator_name": {"type": "str"},
    "mutual_username": {"type": "str"},
    "mutual_password": {"type": "str", "no_log": True},
    "vg": {"type": "str"},
    "initialize": {"type": "str"},
    "layout": {"type": "str", "choices": ["linear", "thin"]},
    "thin_pool": {"type": "str"},
    "access": {"type": "str", "choices": ["exclusive", "shared"]},
    "saferemove": {"type": "bool"},
    "takeover": {"type": "str"},
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
