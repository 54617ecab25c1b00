#!/usr/bin/python
# Copyright (c) 2026 microvm.host contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iscsi_lvm
short_description: Use iSCSI LUNs with LVM volume groups, one host at a time
version_added: 0.1.0
author:
  - microvm.host contributors (@microvm-host)
description:
  - Logs in to iSCSI targets and opens the volume group on each LUN, one by the options at the top or many by
    O(targets), and does so again at boot.
  - Portal, target and CHAP are first proven by a login of the module's own, from which no device appears. Only then is
    a node record written, for this portal alone, and only the one LUN is attached. There is no discovery; records and
    sessions of other targets are left alone.
  - A volume group belongs to one host, by its LVM system ID. On every other host the LUN is there and the group is not
    used, which is the status V(standby); such a host can neither activate nor change it.
  - A LUN is known again by its WWID and the UUIDs of physical volume and group. Another disk in its place is refused.
  - LVM sees no disk but this one in any command of this module, and nothing activates the volumes but this collection.
extends_documentation_fragment:
  - microvm.host._attributes
  - microvm.host._attributes.resource
options:
  <<: &item
    name:
      description:
        - Name of the LUN on this host; lower-case letters, digits, C(.), C(_) and C(-), at most 63 characters.
        - Made from O(iqn) and O(lun) when omitted.
        - With O(state=absent) and O(state=logged_out) the name alone is enough.
      type: str
    portal:
      description:
        - Where the target listens, as C(host:port); IPv6 addresses in brackets. The port is 3260 when omitted.
        - Required with O(state=present).
      type: str
    portals:
      description:
        - Further portals of the target, tried in this order when O(portal) does not answer.
        - There is one session at a time; this is no multipath.
      type: list
      elements: str
    iqn:
      description:
        - Name of the target.
        - Required with O(state=present).
      type: str
    lun:
      description:
        - Number of the LUN, 0 to 255. Some servers begin to count at 1.
      type: int
      default: 0
    initiator_name:
      description:
        - Name by which this host logs in. By default the one in C(/etc/iscsi/initiatorname.iscsi).
        - No two hosts may have the same.
      type: str
    username:
      description:
        - User for CHAP. Without it there is no CHAP.
      type: str
    password:
      description:
        - Secret for CHAP. Many servers want 12 to 16 characters.
        - It is kept in the node record of open-iscsi, readable by root alone, and nowhere else. Blank means keep it.
      type: str
    mutual_username:
      description:
        - Name by which the target must prove itself, for CHAP both ways.
      type: str
    mutual_password:
      description:
        - Secret of the target, another one than O(password). Blank means keep it.
      type: str
    vg:
      description:
        - Name of the volume group. It must lie on this LUN and on no other disk.
        - Required with O(state=present).
      type: str
    initialize:
      description:
        - Format the LUN when it is blank. This must be the name of the group, O(vg), to confirm it.
        - It is refused when there is any sign of data, namely a signature that wipefs or blkid know, a partition, a
          mount or a user of the disk.
        - It may stay in the inventory. It does nothing once the LUN carries the group, and a LUN whose group was
          registered on this host is never formatted again.
        - Of hosts that want to format one LUN at the same time one does, and the others are on standby.
      type: str
    layout:
      description:
        - How volumes are made.
      type: str
      default: linear
      choices:
        linear: Each volume has its space from the beginning.
        thin: Volumes take space when they are written, from a thin pool, which is made when it is missing.
    thin_pool:
      description:
        - Name of the thin pool, V(microvm-pool) when omitted. Only with O(layout=thin).
      type: str
    access:
      description:
        - Who may use the group.
      type: str
      default: exclusive
      choices:
        exclusive: The one host whose system ID it has.
        shared: Several, through a lock manager. This version refuses it.
    saferemove:
      description:
        - Overwrite a volume with zeros before its space is given back.
        - It is kept for the modules that remove volumes.
      type: bool
      default: false
    takeover:
      description:
        - Take the group from this owner, as RV(targets[].owner) names it, for instance V(hv2.d3be1e87); V(none) for a
          group without an owner.
        - This is for a host that is dead for good. If it is not, and it uses the group, both hosts write to it and
          destroy it; nothing here can notice or prevent that. Switch it off first.
        - It may stay in the inventory. While the group has another owner than this nothing is taken, and on a host that
          is on standby a warning says so.
        - A former owner that comes back lets go of what it still has active and nobody uses. What is in use, or part of
          a thin pool, stays active with a warning that says what to do, as taking it down would write to the LUN.
      type: str
    secret_check:
      description:
        - Only prove O(password) and O(mutual_password), or those at rest where they are blank, by one login, also in
          check mode.
        - Nothing is changed; with O(state=absent) it is refused.
        - A target that admits this host without CHAP proves nothing, which is an error (V(refused)).
      type: bool
      default: false
    state:
      description:
        - What is to be there.
      type: str
      default: present
      choices:
        present: Logged in now and at boot, and the group open or on standby.
        logged_out: Known to this host, with a node record, and not logged in, now or at boot.
        absent: Not logged in and no node record. The group and its data stay.
    timeout:
      description:
        - Seconds for the whole item, 1 to 3600.
        - While a LUN is formatted, here or by another host, they are those without any progress.
        - Beside O(targets), for every item that has none of its own.
      type: int
      default: 30
  targets:
    description:
      - Many LUNs in one call, which is much faster than a loop. Each has the options of a single one.
      - Of those options only O(timeout) may stand beside the list.
      - LUNs of one target share a session, so they must have the same portals, names and passwords.
    type: list
    elements: dict
    suboptions: *item
  purge:
    description:
      - Remove every LUN of this module that O(targets) does not list, as O(state=absent) would; not those of backends.
      - It can only be used with O(targets).
    type: bool
    default: false
notes:
  - Volumes that are in use keep a LUN from being logged out or removed; the error names them.
  - LVM's own commands leave out or refuse the group on every host, its owner too (C(Cannot access VG)), since this
    collection gives the system ID with each call. To look at it, use C(vgs --foreign) and C(lvs --foreign).
  - LVM writes the metadata of a group that it changes to C(/etc/lvm/archive) and C(/etc/lvm/backup), where they stay.
  - LVM 2.03.12 or later and open-iscsi are needed; the role P(microvm.host.prepare_host#role) installs them.
seealso:
  - module: microvm.host.storage_backend
  - module: microvm.host.host_info
  - name: lvmsystemid(7)
    description: How LVM keeps hosts apart.
    link: https://man7.org/linux/man-pages/man7/lvmsystemid.7.html
"""

EXAMPLES = r"""
- name: Use a LUN, and format it when it is blank
  microvm.host.iscsi_lvm:
    portal: san.example.com
    iqn: iqn.2026-01.com.example:vms
    lun: 1
    vg: vg_vms
    initialize: vg_vms

- name: Use several in one call
  microvm.host.iscsi_lvm:
    targets:
      - name: fast
        portal: "192.0.2.7:3260"
        portals: ["192.0.2.7:3261"]
        iqn: iqn.2026-01.com.example:fast
        lun: 1
        username: host
        password: "{{ vault_fast }}"
        vg: vg_fast
        initialize: vg_fast
        layout: thin
      - name: archive
        portal: "[2001:db8::9]:3260"
        iqn: iqn.2026-01.com.example:archive
        lun: 1
        username: host2
        password: "{{ vault_archive }}"
        mutual_username: san
        mutual_password: "{{ vault_archive_san }}"
        vg: vg_archive
        initialize: vg_archive
        saferemove: true
    timeout: 60
  register: san

- name: Show whose they are
  ansible.builtin.debug:
    msg: "{{ san.targets | items2dict(key_name='name', value_name='owner') }}"

- name: Prove a new password before it is used, changing nothing
  microvm.host.iscsi_lvm:
    name: fast
    portal: "192.0.2.7:3260"
    iqn: iqn.2026-01.com.example:fast
    lun: 1
    username: host
    password: "{{ vault_fast }}"
    vg: vg_fast
    layout: thin
    secret_check: true

- name: Log out before the server is serviced, and stay out
  microvm.host.iscsi_lvm:
    name: archive
    state: logged_out

- name: Take a LUN from this host; the volume group stays on it
  microvm.host.iscsi_lvm:
    name: archive
    state: absent
"""

RETURN = r"""
targets:
  description: The LUNs of this call, in the order in which they were asked for.
  returned: always; empty when an option is invalid
  type: list
  elements: dict
  contains: &target
    name:
      description: Name of the LUN on this host.
      returned: always
      type: str
      sample: fast
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
        - try a login to iqn.2026-01.com.example:fast
        - write the node record of iqn.2026-01.com.example:fast
        - log in to iqn.2026-01.com.example:fast for LUN 1
        - open volume group vg_fast on LUN 1, make it when the LUN is blank
    state:
      description: The state that was asked for.
      returned: always
      type: str
      sample: present
    status:
      description:
        - How the LUN is doing.
        - One of V(ok), V(standby) when another host owns the group, V(logged_out), V(unreachable), and V(foreign) when
          another disk is in its place.
      returned: always
      type: str
      sample: ok
    portal:
      description: The first portal, as asked for.
      returned: when known
      type: str
      sample: 192.0.2.7:3260
    portals:
      description: The further portals, as asked for.
      returned: when known
      type: list
      elements: str
      sample: ["192.0.2.7:3261"]
    iqn:
      description: Name of the target.
      returned: when known
      type: str
      sample: iqn.2026-01.com.example:fast
    lun:
      description: Number of the LUN.
      returned: when known
      type: int
      sample: 1
    initiator_name:
      description: The name of the initiator that was asked for; empty for the host's own.
      returned: when known
      type: str
      sample: ""
    username:
      description: User for CHAP; empty without.
      returned: when known
      type: str
      sample: host
    mutual_username:
      description: Name by which the target proves itself; empty when it need not.
      returned: when known
      type: str
      sample: ""
    vg:
      description: Name of the volume group.
      returned: when known
      type: str
      sample: vg_fast
    layout:
      description: How volumes are made.
      returned: when known
      type: str
      sample: thin
    thin_pool:
      description: Name of the thin pool; empty with the layout V(linear).
      returned: when known
      type: str
      sample: microvm-pool
    access:
      description: Who may use the group.
      returned: when known
      type: str
      sample: exclusive
    saferemove:
      description: Whether volumes are overwritten before their space is given back.
      returned: when known
      type: bool
      sample: false
    owner:
      description: The system ID of the host that owns the group. Of this collection's hosts it begins with their name.
      returned: when the LUN answers
      type: str
      sample: hv1.3b2c9a10
    session:
      description: The session over which the LUN is there.
      returned: when logged in
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
      returned: when logged in
      type: str
      sample: /dev/sda
    wwid:
      description: The WWID by which the disk is known again.
      returned: when it was open once
      type: str
      sample: naa.60000000000000000e00000000010001
    pv_uuid:
      description: The UUID of the physical volume.
      returned: when it was open once
      type: str
      sample: 8gDYX2-PiUx-vPzL-4zfT-3bhG-ZLgH-mPJrHn
    vg_uuid:
      description: The UUID of the volume group.
      returned: when it was open once
      type: str
      sample: 21jgGC-zMut-BipB-4H43-dcjN-Cjph-5CcfPY
    capacity:
      description: Space of the group, or with the layout V(thin) of its pool.
      returned: when the LUN answers, and a pool is active on this host
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
          description: Free.
          returned: always
          type: int
          sample: 824633720832
        data_percent:
          description: How full the pool is. From 80 on there is a warning.
          returned: when a thin pool is active
          type: float
          sample: 25.0
        metadata_percent:
          description: How full the pool's metadata is. From 80 on there is a warning.
          returned: when a thin pool is active
          type: float
          sample: 10.84
    secret_checked:
      description: That only the password was to be proven.
      returned: with O(secret_check)
      type: bool
      sample: true
    pending_login:
      description:
        - What uses the LUN, when its session began with other credentials than those asked for now; volumes, and other
          LUNs of the session.
        - The first run that finds it unused logs in anew, as a boot does.
      returned: when a login is pending
      type: list
      elements: str
      sample: [web1-root]
    not_probed:
      description: What only the run can find out, as check mode does no more than open a connection.
      returned: in check mode, when it would log in
      type: str
      sample: check mode only opened a connection; export, rights and version are not probed
    error:
      description: Why this item failed, as RV(error), and the C(message).
      returned: when this item failed
      type: dict
      sample:
        kind: auth
        item: fast
        field: password
        message: iqn.2026-01.com.example:fast at 192.0.2.7:3260 refuses these credentials
        hint: check username and password; without them the target wants CHAP
target:
  description: The LUN, when it was asked for by the options at the top.
  returned: without O(targets), unless an option is invalid
  type: dict
  contains: *target
msg:
  description: What failed, on what, why, and what to do next; for a list, which items failed and of what kind.
  returned: failure
  type: str
  sample: "2 of 5 targets failed: fast (auth), archive (unreachable)"
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
      sample: auth
    item:
      description: Name of the item that failed; null when the whole call was refused.
      returned: always
      type: str
      sample: fast
    hint:
      description: What to do next; may be empty.
      returned: always
      type: str
      sample: check username and password; without them the target wants CHAP
    field:
      description: The option at fault.
      returned: when an option is at fault
      type: str
      sample: password
    command:
      description: The program that failed, with its arguments.
      returned: when a program failed
      type: list
      elements: str
      sample: [vgs, --devices, /dev/sda]
    rc:
      description: Its exit code.
      returned: when a program failed
      type: int
      sample: 5
    stderr:
      description: What it said.
      returned: when a program failed
      type: str
      sample: Volume group "vg_fast" not found
"""

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import entry
from ansible_collections.microvm.host.plugins.module_utils._storage.targets import Targets

ITEM: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str"},
    "portal": {"type": "str"},
    "portals": {"type": "list", "elements": "str"},
    "iqn": {"type": "str"},
    "lun": {"type": "int", "default": 0},
    "initiator_name": {"type": "str"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "mutual_username": {"type": "str"},
    "mutual_password": {"type": "str", "no_log": True},
    "vg": {"type": "str"},
    "initialize": {"type": "str"},
    "layout": {"type": "str", "default": "linear", "choices": ["linear", "thin"]},
    "thin_pool": {"type": "str"},
    "access": {"type": "str", "default": "exclusive", "choices": ["exclusive", "shared"]},
    "saferemove": {"type": "bool", "default": False},
    "takeover": {"type": "str"},
    "secret_check": {"type": "bool", "default": False, "no_log": False},
    "state": {"type": "str", "default": "present", "choices": ["present", "logged_out", "absent"]},
    "timeout": {"type": "int", "default": 30},
}
CALL: dict[str, dict[str, t.Any]] = {"purge": {"type": "bool", "default": False}}


def host_tool() -> t.Any:
    """The host tool, of which the payload has the sources; loaded when a plan may need it."""
    from ansible_collections.microvm.host.plugins.module_utils._tool import install

    return install


def main() -> None:
    """One LUN by the options at the top, or many by ``targets``."""
    entry.run(lambda: Targets(host_tool), item=ITEM, plural="targets", singular="target", call=CALL)


if __name__ == "__main__":
    main()
