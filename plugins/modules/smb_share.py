#!/usr/bin/python
# Copyright (c) 2026 microvm.host contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: smb_share
short_description: Mount SMB shares, now and at boot
version_added: 0.1.0
author:
  - microvm.host contributors (@microvm-host)
description:
  - Mounts shares of SMB servers (Samba, Windows, NAS), one by the options at the top or many by O(shares), and keeps
    them mounted.
  - A share is tried on a mount that nobody can see yet; it appears in its place only after the login and the probe
    succeeded. If they fail, or the run is killed, nothing is left behind.
  - The password goes from the module to the kernel by no file and no argument. At rest it is in one file for each
    mount, C(/etc/microvm/credentials/share:NAME), for root alone; the mount unit names only that file.
  - Another password is proven by a login of its own before it replaces the one at rest. A live mount gets it at once,
    without an interruption, where the kernel can do that.
extends_documentation_fragment:
  - microvm.host._attributes
  - microvm.host._attributes.resource
options:
  <<: &item
    name:
      description:
        - Name of the share on this host; lower-case letters, digits, C(.), C(_) and C(-), at most 63 characters.
        - Made from O(server), O(share) and O(subdir) when omitted.
        - With O(state=absent) the name alone is enough.
      type: str
    server:
      description:
        - Name or IPv4 or IPv6 address of the SMB server.
        - Of a name all addresses are tried.
        - Required, except for O(state=absent) with a O(name).
      type: str
    share:
      description:
        - Name of the share on the server, without slashes; it may have spaces.
        - Required, except for O(state=absent) with a O(name).
      type: str
    subdir:
      description:
        - Directory in the share that is mounted instead of all of it. It must be there.
      type: str
    username:
      description:
        - User of the server who logs in. A guest when omitted.
        - The domain goes into O(domain), not before the name.
      type: str
    password:
      description:
        - Password of O(username). Blank or omitted keeps the one that is at rest on the host.
        - Any characters but control characters (line ends, NUL), at most 255 bytes in UTF-8.
      type: str
    domain:
      description:
        - Domain or workgroup of O(username).
      type: str
    version:
      description:
        - Version of the SMB protocol.
        - The one in use is returned as RV(shares[].version_negotiated).
      type: str
      default: default
      choices:
        default: The highest that the server offers, of 3.1.1, 3.0.2, 3.0 and 2.1.
        "2.0": Exactly 2.0.
        "2.1": Exactly 2.1.
        "3": The highest 3.x that the server offers.
        "3.0": Exactly 3.0.
        "3.11": The same as V(3.1.1).
        "3.1.1": Exactly 3.1.1.
    options:
      description:
        - Mount options of mount.cifs(8) and mount(8), as a list or as one string with commas.
        - The defaults are V(hard), V(nosuid), V(nodev), V(noexec) and V(iocharset=utf8). V(soft) is refused; it turns a
          short absence of the server into I/O errors.
        - Unknown and contradictory options are refused by name, and so are those that this module has options for;
          for example V(credentials) (see O(username)), V(vers) (see O(version)) and V(uid) (see O(uid)).
      type: raw
      aliases:
        - opts
    uid:
      description:
        - Number of the user whose files they are for this host.
      type: int
      default: 0
    gid:
      description:
        - Number of the group whose files they are for this host.
      type: int
      default: 0
    file_mode:
      description:
        - Permissions of files for this host, in octal and in quotes.
      type: raw
      default: "0660"
    dir_mode:
      description:
        - Permissions of directories for this host, in octal and in quotes.
      type: raw
      default: "0770"
    seal:
      description:
        - Encrypt all that goes over the network; needs version 3.0 or later.
      type: bool
      default: false
    sign:
      description:
        - Require signatures on all that goes over the network.
      type: bool
      default: false
    path:
      description:
        - Absolute path of the mount point. It is made when missing.
        - Files in it are hidden while it is mounted; a warning names the directory when it is mounted over files.
        - By default a directory below O(mount_base), named after the source, with a short hash of it.
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
        unmounted: Not mounted now. Unit and password are kept, so that it is mounted at the next boot.
        present: Unit and password are there, so that it is mounted at boot. Whether it is mounted now is left alone.
        absent: Not mounted, no unit, no password; the empty mount point is removed. Nothing on the server is touched.
    persistent:
      description:
        - Mount again at boot, by a systemd mount unit that delays the boot of the host for no dead server.
        - V(false) mounts until the next boot only.
      type: bool
      default: true
    secret_check:
      description:
        - Only prove O(password), or the one at rest when it is blank, by one login, also in check mode.
        - Nothing is changed; with O(state=absent) it is refused.
      type: bool
      default: false
    timeout:
      description:
        - Seconds for the whole item, 1 to 3600; name lookup, waiting for another run, login, probe, mount and unmount.
        - Beside O(shares), for every item that has none of its own.
      type: int
      default: 15
    probe:
      description:
        - How the share is tried before it is put in its place.
      type: str
      default: read
      choices:
        none: Log in and mount only.
        read: Read the root directory and the capacity.
        write: Also write a file, sync it, read it back, lock it and remove it. The same as V(read) when read-only.
  shares:
    description:
      - Many shares in one call, which is much faster than a loop. Each has the options of a single share.
      - Of those options only O(timeout) may stand beside the list.
    type: list
    elements: dict
    suboptions: *item
  purge:
    description:
      - Remove every share of this module that O(shares) does not list, as O(state=absent) would; not those of backends.
      - It can only be used with O(shares).
    type: bool
    default: false
notes:
  - One share that several need is mounted once. It is unmounted when the last user is gone; a mount that a storage
    backend uses can't be removed here.
  - A run logs in at most twice for an item, so that a wrong password does not lock the account; the second login only
    tells a missing directory from a missing share.
  - Use pipelining (C(pipelining = true) in C(ansible.cfg)); without it Ansible itself writes the arguments of modules,
    passwords included, to a temporary file on the host.
  - Rotation without an interruption needs Linux 6.10 or later, or a kernel with that change ported back. On others the
    mount keeps its old password while it is in use, and RV(shares[].pending_remount) tells who uses it.
seealso:
  - module: microvm.host.storage_backend
  - module: microvm.host.host_info
  - name: mount.cifs(8)
    description: The mount options of SMB.
    link: https://manpages.debian.org/trixie/cifs-utils/mount.cifs.8.en.html
"""

EXAMPLES = r"""
- name: Mount one share, now and at boot
  microvm.host.smb_share:
    server: files.example.com
    share: iso
    username: svc-microvm
    password: "{{ vault_smb_iso }}"

- name: Mount several shares in one call
  microvm.host.smb_share:
    shares:
      - name: templates
        server: files.example.com
        share: Virtual Machines
        subdir: templates
        username: svc-microvm
        domain: EXAMPLE
        password: "{{ vault_smb_templates }}"
        path: /srv/templates
        read_only: true
        seal: true
      - name: public
        server: files.example.com
        share: public
        version: "3"
        options: [noatime]
  register: smb

- name: Show where they are
  ansible.builtin.debug:
    msg: "{{ smb.shares | items2dict(key_name='name', value_name='path') }}"

- name: Does the new password work? Nothing is changed
  microvm.host.smb_share:
    name: templates
    server: files.example.com
    share: Virtual Machines
    subdir: templates
    username: svc-microvm
    domain: EXAMPLE
    password: "{{ vault_smb_templates_next }}"
    secret_check: true

- name: Take a share away; the files stay on the server
  microvm.host.smb_share:
    name: public
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
      description: Name of the share on this host.
      returned: always
      type: str
      sample: templates
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
        - mount //files.example.com/Virtual Machines/templates on /srv/templates
        - write the mount unit of //files.example.com/Virtual Machines/templates
        - write /etc/microvm/credentials/share:templates
        - reload systemd
    state:
      description: The state that was asked for.
      returned: always
      type: str
      sample: mounted
    source:
      description: Server, share and directory, as C(/proc/self/mountinfo) shows them.
      returned: when known
      type: str
      sample: //files.example.com/Virtual Machines/templates
    server:
      description: The server, as asked for.
      returned: when known
      type: str
      sample: files.example.com
    share:
      description: The share, as asked for.
      returned: when known
      type: str
      sample: Virtual Machines
    subdir:
      description: The directory in the share, as asked for; may be empty.
      returned: when known
      type: str
      sample: templates
    username:
      description: Who logs in; empty for a guest.
      returned: when known
      type: str
      sample: svc-microvm
    domain:
      description: The domain of O(username); may be empty.
      returned: when known
      type: str
      sample: EXAMPLE
    path:
      description: The mount point.
      returned: when it is not absent
      type: str
      sample: /srv/templates
    version:
      description: The protocol version that was asked for.
      returned: when known
      type: str
      sample: default
    version_negotiated:
      description: The protocol version in use; the last one when it is not mounted.
      returned: when it is not absent
      type: str
      sample: 3.1.1
    options:
      description: The mount options that were asked for, in one spelling and with the defaults filled in.
      returned: when known
      type: list
      elements: str
      sample: [hard, iocharset=utf8, nosuid, nodev, noexec, relatime, ro]
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
    uid:
      description: Whose the files are for this host.
      returned: when known
      type: int
      sample: 0
    gid:
      description: Which group's the files are for this host.
      returned: when known
      type: int
      sample: 0
    file_mode:
      description: Permissions of files for this host.
      returned: when known
      type: str
      sample: "0660"
    dir_mode:
      description: Permissions of directories for this host.
      returned: when known
      type: str
      sample: "0770"
    seal:
      description: Whether all is encrypted.
      returned: when known
      type: bool
      sample: true
    sign:
      description: Whether signatures are required.
      returned: when known
      type: bool
      sample: false
    secret_checked:
      description: That only the password was to be proven.
      returned: with O(secret_check)
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
      sample: check mode only opened a connection; login, rights and version are not probed
    error:
      description: Why this item failed, as RV(error), and the C(message).
      returned: when this item failed
      type: dict
      sample:
        kind: unreachable
        item: templates
        message: files.example.com does not answer on port 445
        hint: check that files.example.com runs an SMB server
share:
  description: The share, when it was asked for by the options at the top.
  returned: without O(shares), unless an option is invalid
  type: dict
  contains: *share
msg:
  description:
    - What failed, on what, why, and what to do next.
    - For a list, which items failed and of what kind, then a line for each.
  returned: failure
  type: str
  sample: "2 of 5 shares failed: templates (auth), public (unreachable)"
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
      sample: templates
    hint:
      description: What to do next; may be empty.
      returned: always
      type: str
      sample: check that files.example.com runs an SMB server and that no firewall drops port 445
    field:
      description: The option at fault.
      returned: when an option is at fault
      type: str
      sample: shares[3].server
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
from ansible_collections.microvm.host.plugins.module_utils._storage import smb
from ansible_collections.microvm.host.plugins.module_utils._storage.mount_resource import Mounts

ITEM: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str"},
    "server": {"type": "str"},
    "share": {"type": "str"},
    "subdir": {"type": "str"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "domain": {"type": "str"},
    "version": {
        "type": "str",
        "default": "default",
        "choices": ["default", "2.0", "2.1", "3", "3.0", "3.11", "3.1.1"],
    },
    "options": {"type": "raw", "aliases": ["opts"]},
    "uid": {"type": "int", "default": 0},
    "gid": {"type": "int", "default": 0},
    "file_mode": {"type": "raw", "default": "0660"},
    "dir_mode": {"type": "raw", "default": "0770"},
    "seal": {"type": "bool", "default": False},
    "sign": {"type": "bool", "default": False},
    "path": {"type": "path"},
    "mount_base": {"type": "path", "default": "/var/lib/microvm/mounts"},
    "read_only": {"type": "bool", "default": False},
    "state": {"type": "str", "default": "mounted", "choices": ["mounted", "unmounted", "present", "absent"]},
    "persistent": {"type": "bool", "default": True},
    "secret_check": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 15},
    "probe": {"type": "str", "default": "read", "choices": ["none", "read", "write"]},
}
CALL: dict[str, dict[str, t.Any]] = {"purge": {"type": "bool", "default": False}}


def host_tool() -> t.Any:
    """The host tool, of which the payload has the sources; loaded when a plan may need it."""
    from ansible_collections.microvm.host.plugins.module_utils._tool import install

    return install


def main() -> None:
    """One share by the options at the top, or many by ``shares``."""
    entry.run(lambda: Mounts("share", smb, host_tool), item=ITEM, plural="shares", singular="share", call=CALL)


if __name__ == "__main__":
    main()
