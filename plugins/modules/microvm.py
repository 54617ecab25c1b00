#!/usr/bin/python
# Copyright (c) 2026 microvm.host contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: microvm
short_description: Define microVMs, start and stop them
version_added: 0.1.0
author:
  - microvm.host contributors (@microvm-host)
description:
  - A machine is a service of systemd, C(microvm@NAME.service), that runs a hypervisor as a user of its own. It comes
    back at boot, and after its storage, whenever that comes.
  - QEMU with the machine C(microvm) is what this collection's tests run, without KVM too. Firecracker 1.12 runs in
    them with what is generated for it, where there is KVM, as a service too; it runs through its jailer when that
    lies beside it. What is for Cloud Hypervisor is written after its description and was never run.
  - An item with nothing but O(name) and O(state) leaves the definition as it is. With any option of the definition,
    the item is the whole definition; options that are left out have their defaults. O(shares) left out stay as they
    are.
extends_documentation_fragment:
  - microvm.host._attributes
  - microvm.host._attributes.resource
options:
  <<: &item
    name:
      description:
        - Name of the machine, at most 27 characters. Required for each item.
      type: str
    state:
      description:
        - What the machine shall be.
      type: str
      default: started
      choices:
        present: It is defined. Whether it runs stays as it is.
        started: It runs. One that is paused goes on.
        stopped: It does not run. Its guest is asked to power off first, see O(stop_timeout).
        restarted: It is stopped and started, each time.
        paused: It runs, and its processors stand still.
        absent: It is stopped and removed, with its units, taps, sockets, log and user. Disks and shared directories
          stay.
    restart:
      description:
        - What to do when a machine runs with another definition than it has now.
      type: str
      default: never
      choices:
        never: Say so, in RV(machines[].restart_required).
        if_needed: Stop it and start it.
    delete_volumes:
      description:
        - With O(state=absent), whether the volumes that the machine can write to are deleted too.
      type: bool
      default: false
    adopt:
      description:
        - Take the volumes that are on their backends already and not this host's, as
          O(microvm.host.storage_volume#module:adopt). So a machine moves here from another host, that let go of it.
        - A machine that is new to this host has no volume made then; one that is not on its backend is refused.
        - Nor has it the source of a share made, unless that is on a mount of this collection. One that is missing is
          refused.
      type: bool
      default: false
    takeover:
      description:
        - With O(adopt), whether to go on although another host holds the lock of a volume. That host must be dead for
          certain.
      type: bool
      default: false
    hypervisor:
      description:
        - The hypervisor. V(auto) is QEMU where it is installed, else one that has what the machine needs.
        - V(auto) unless given.
      type: str
      choices: [auto, qemu, firecracker, cloud_hypervisor]
    binary:
      description:
        - Path of the hypervisor, when it is not where distributions put it.
      type: path
    accelerator:
      description:
        - V(kvm) needs C(/dev/kvm), V(tcg) emulates the processor in QEMU, slowly. V(auto) is KVM where there is one.
        - V(auto) unless given.
      type: str
      choices: [auto, kvm, tcg]
    vcpus:
      description:
        - Number of virtual processors. V(1) unless given.
      type: int
    memory:
      description:
        - Memory of the guest, bytes or a size as V(512MiB). V(512MiB) unless given.
      type: raw
    hugepages:
      description:
        - Whether the guest's memory is of the host's huge pages of 2 MiB, of which there must be enough
          (C(sysctl vm.nr_hugepages)). Off unless given.
      type: bool
    kernel:
      description:
        - Path of the guest's kernel on the host, C(bzImage) or C(vmlinux). For Firecracker, which takes the latter
          only, that is extracted from the former; for some kernels with the program C(zstd) or C(lz4).
          Required for a definition.
        - It needs virtio-mmio and ACPI, as the kernels of distributions have them. Where its configuration lies
          beside it (C(/boot/config-VERSION)), a driver that a share needs is looked for.
      type: path
    initrd:
      description:
        - Path of the guest's initial file system on the host.
      type: path
    kernel_args:
      description:
        - Words for the guest kernel's command line, behind those of this module (the console, the shares).
      type: str
    root:
      description:
        - The disk that the guest's root file system is on, C(/dev/vda), before O(disks).
        - The kernel is told C(root=/dev/vda), unless O(kernel_args) has a C(root=).
      type: dict
      suboptions: &disk
        path:
          description:
            - Path of the disk on the host, a file or a block device that is there, in place of a volume.
          type: path
        volume:
          description:
            - Name of a volume, as M(microvm.host.storage_volume) has it, on a backend of any kind. The machine holds
              its lock as long as it runs, so that no other host and no other program of this collection writes to it.
            - That of O(root) is the machine's name with C(-root) behind it, unless it or a path is given.
          type: str
        backend:
          description:
            - Name of the backend that the volume is on; for a new one the default backend unless given.
          type: str
        size:
          description:
            - Size of the volume, as O(microvm.host.storage_volume#module:size). One that is not there yet is made. A
              larger one than it has lets it grow; when the machine runs, its guest is told.
          type: str
        image:
          description:
            - What a new volume is a copy of, as O(microvm.host.storage_volume#module:image).
          type: str
        checksum:
          description:
            - The SHA-256 of the image, as O(microvm.host.storage_volume#module:checksum).
          type: str
        format:
          description:
            - Format of the image. V(raw) unless given.
          type: str
          choices: [raw, qcow2]
        serial:
          description:
            - Serial number, by which the guest finds it as C(/dev/disk/by-id/virtio-SERIAL). V(root),
              or V(disk0), V(disk1) and so on, unless given. Firecracker tells its guests none.
          type: str
        read_only:
          description:
            - Whether the guest can't write to it.
          type: bool
          default: false
        cache:
          description:
            - V(writeback) goes through the host's page cache, and writes it out when the guest flushes. V(none)
              bypasses it.
          type: str
          default: writeback
          choices: [writeback, none]
        io:
          description:
            - How QEMU reads and writes. V(native) needs a C(cache) of V(none).
          type: str
          default: threads
          choices: [threads, native, io_uring]
        bandwidth_limit:
          description:
            - Most that the guest reads and writes in a second, bytes or a size as V(50MiB). No limit unless given.
          type: raw
        iops_limit:
          description:
            - Most requests of the guest in a second, reads and writes together. No limit unless given.
          type: int
    disks:
      description:
        - Disks of the guest in this order, each a volume, a raw image or a block device of the host.
        - What is no volume must be open to the user of the machine. It is of the group C(microvm).
      type: list
      elements: dict
      suboptions: *disk
    interfaces:
      description:
        - Network interfaces of the guest in this order.
      type: list
      elements: dict
      suboptions:
        type:
          description:
            - V(tap) is an interface of the host, see RV(machines[].taps). V(macvtap) is one that has a part in
              O(interfaces[].link), as if the guest were in the same network; not with Firecracker. V(user) is QEMU's
              own network, behind the addresses of the host.
          type: str
          default: tap
          choices: [tap, macvtap, user]
        bridge:
          description:
            - A bridge of the host, of which the tap becomes a port. It must be there, this module does not make it.
          type: str
        link:
          description:
            - The interface of the host that a macvtap has a part in. Required for one, and must be there.
          type: str
        mode:
          description:
            - With whom a macvtap talks. With V(bridge) it reaches the others on O(interfaces[].link) and the network
              behind it, but not the host itself; see ip-link(8) for the others. V(bridge) unless given.
          type: str
          choices: [bridge, vepa, private, passthru]
        queues:
          description:
            - Pairs of queues of a tap, as many as O(vcpus) at most. Not with Firecracker.
          type: int
          default: 1
        mac:
          description:
            - Address of the guest's interface. Made of the machine's name unless given, so it stays the same on all
              hosts.
          type: str
        bandwidth_limit:
          description:
            - Most that the guest receives, and most that it sends, in a second, bytes or a size. Not with QEMU. No
              limit unless given.
          type: raw
        iops_limit:
          description:
            - The same in packets. Not with QEMU. No limit unless given.
          type: int
    shares:
      description:
        - Directories of the host in the guest. Given, it is the full list of the machine's shares; left out, they
          stay.
      type: list
      elements: dict
      suboptions:
        tag:
          description:
            - Name by which the guest mounts it.
          type: str
          required: true
        source:
          description:
            - Directory of the host, or relative to the machine's own directory C(/var/lib/microvm/machines/NAME).
          type: str
          required: true
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
            - Whether to make O(shares[].source) when it is missing.
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
    overlays:
      description:
        - Shares that the guest sees as if it could write to them. What it writes is on a disk of its own; the share
          stays as it is, and may be O(shares[].read_only).
        - The guest's systemd must be 254 or newer.
      type: list
      elements: dict
      suboptions:
        lower:
          description:
            - Tag of a share that has a O(shares[].mount_point).
          type: str
          required: true
        upper:
          description:
            - Serial of the disk that is written to. It holds an ext4 with the directories C(upper) and C(work); a
              volume that is made with the machine gets them. A share can't be it, overlayfs needs a local file system.
          type: str
          required: true
        mount_point:
          description:
            - Where the guest mounts the two as one.
          type: str
          required: true
        reset:
          description:
            - When what was written goes.
          type: str
          default: never
          choices:
            never: It stays.
            on_start: Each start of the machine's service makes the file system of the disk, a volume, anew.
    vsock:
      description:
        - Context id of the guest's vsock device, 3 or more, of this machine only. None unless given.
      type: int
    balloon:
      description:
        - Whether the guest has a balloon device. Off unless given.
      type: bool
    balloon_target:
      description:
        - How much of its memory the guest shall do with, by its balloon; bytes or a size. All of it unless given.
        - Changed while the machine runs.
      type: raw
    credentials:
      description:
        - Credentials for the guest's systemd, as name and path of a file on the host. Read when the machine starts,
          and in no command line. QEMU only.
      type: dict
    metadata:
      description:
        - Path of a JSON file on the host, that Firecracker serves to its guest as C(http://169.254.169.254)
          (MMDS, version 2), through each of O(interfaces). Read when the machine starts. Firecracker only.
      type: path
    autostart:
      description:
        - Whether it starts with the host. On unless given.
      type: bool
    restart_policy:
      description:
        - When systemd starts it again. With V(on-failure) a guest that powers off stays off.
        - V(on-failure) unless given.
      type: str
      choices: ['no', on-failure, always]
    stop_timeout:
      description:
        - Seconds, 1 to 3600, that the guest has to power off. Then its hypervisor is told to quit, and killed at last.
        - V(60) unless given.
      type: int
    wait_for:
      description:
        - What the guest's console says when it is ready, for example V(login:). A start waits for it, within
          O(timeout).
        - Unless given, a machine is started when its processors run.
      type: str
    notify:
      description:
        - Whether a start waits, within O(timeout), until the guest's systemd says over O(vsock) that it has started. It
          must be 254 or newer, and have the driver C(vmw_vsock_virtio_transport).
        - It is told by C(systemd.set_credential=vmm.notify_socket) on its kernel's command line. Off unless given.
      type: bool
    cpu_limit:
      description:
        - Most processor time the machine gets, in percent of one processor. No limit unless given.
      type: int
    memory_limit:
      description:
        - Most memory of the machine and its hypervisor together, bytes or a size. No limit unless given.
      type: raw
    extra_args:
      description:
        - More arguments for the hypervisor.
      type: list
      elements: str
    timeout:
      description:
        - Seconds, 1 to 3600, to wait for another run that changes the machine, and for the machine to run.
        - Beside O(machines), for every item that has none of its own.
      type: int
      default: 60
  machines:
    description:
      - Many machines in one call, each with the options above.
      - Of these only O(timeout) may stand beside the list.
    type: list
    elements: dict
    suboptions: *item
  purge:
    description:
      - Remove the machines that are not in O(machines), as by O(state=absent), and the logs of those that never
        started.
    type: bool
    default: false
notes:
  - C(systemctl start) and C(systemctl stop) of a machine's unit do the same as the module.
    C(/var/lib/microvm/machines/NAME/run) runs it in the foreground, with its console on the terminal, and
    C(virtiofsd-run TAG) beside it the virtiofsd of a share. A machine with O(credentials) or O(metadata) has these from
    systemd, and runs as a service only.
seealso:
  - module: microvm.host.storage_backend
  - module: microvm.host.storage_volume
  - module: microvm.host.host_info
"""

EXAMPLES = r"""
- name: Start a machine
  microvm.host.microvm:
    name: web1
    vcpus: 1
    memory: 64MiB
    kernel: /var/lib/microvm/images/vmlinuz
    kernel_args: quiet
    root: {size: 8MiB, backend: local}
    disks:
      - {path: /srv/web1.raw, serial: data}
    interfaces:
      - {type: user}

- name: Stop it
  microvm.host.microvm:
    name: web1
    state: stopped

- name: Start it again, and define a second one beside it
  microvm.host.microvm:
    machines:
      - {name: web1}
      - {name: web2, state: present, memory: 64MiB, kernel: /var/lib/microvm/images/vmlinuz, autostart: false}

- name: Have the first run with more memory, the second not at all
  microvm.host.microvm:
    machines:
      - name: web1
        memory: 96MiB
        kernel: /var/lib/microvm/images/vmlinuz
        root: {size: 16MiB}
        disks:
          - {path: /srv/web1.raw, serial: data}
        interfaces:
          - {type: tap}
    purge: true

- name: Remove it and its disk
  microvm.host.microvm:
    name: web1
    state: absent
    delete_volumes: true
"""

RETURN = r"""
machines:
  description: The machines of this call, in the order in which they were asked for.
  returned: always; empty when an option is invalid
  type: list
  elements: dict
  contains: &machine
    name:
      description: Name of the machine.
      returned: always
      type: str
      sample: web1
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
        - reload systemd
        - make the user mvm-web1
        - write the units of the machine web1
        - start the machine web1
    state:
      description: The state that was asked for.
      returned: always
      type: str
      sample: started
    status:
      description:
        - What the machine is now, V(running), V(paused), V(starting), V(stopped) or V(absent); V(unreachable) when its
          hypervisor does not answer.
      returned: always
      type: str
      sample: running
    hypervisor:
      description: What runs it.
      returned: when defined
      type: str
      sample: qemu
    accelerator:
      description: V(kvm), or V(tcg) when its processors are emulated.
      returned: when defined
      type: str
      sample: tcg
    vcpus:
      description: Number of its processors.
      returned: when defined
      type: int
      sample: 1
    memory:
      description: Its memory in bytes.
      returned: when defined
      type: int
      sample: 67108864
    autostart:
      description: Whether it starts with the host.
      returned: when defined
      type: bool
      sample: true
    restart_required:
      description: Whether it runs with another definition than it has now.
      returned: when defined, or when something changes
      type: bool
      sample: false
    stopped:
      description:
        - How a machine that was stopped went. V(powered off) by its guest; V(quit), told to, when the guest did not
          within O(stop_timeout); V(killed); V(gone) when it had ended already.
      returned: when it was stopped
      type: str
      sample: powered off
    unit:
      description: Its service.
      returned: when defined
      type: str
      sample: microvm@web1.service
    user:
      description: The user its hypervisor runs as.
      returned: when defined
      type: str
      sample: mvm-web1
    directory:
      description: What belongs to it, and where relative sources of shares begin.
      returned: when defined
      type: str
      sample: /var/lib/microvm/machines/web1
    console:
      description: The log of its serial console.
      returned: when defined
      type: str
      sample: /var/lib/microvm/machines/web1/log/console.log
    disks:
      description: Paths of its disks, in their order.
      returned: when defined
      type: list
      elements: str
      sample: [/srv/web1.raw]
    volumes:
      description: Those of its disks that are volumes, by name.
      returned: when defined
      type: list
      elements: str
      sample: [web1-root]
    taps:
      description: Its interfaces on the host.
      returned: when defined
      type: list
      elements: str
      sample: [mv4f5be8c90]
    macs:
      description: The addresses of its interfaces, in their order.
      returned: when defined
      type: list
      elements: str
      sample: ["02:2b:a3:1d:5f:00"]
    shares:
      description: Its shares.
      returned: when defined
      type: list
      elements: dict
      sample: [{tag: home, proto: virtiofs, source: /srv/home}]
    assumes:
      description: What is missing now, and was taken for done by an earlier task of the play.
      returned: in check mode, when something is missing
      type: list
      elements: str
      sample: [there is no file /usr/bin/qemu-system-x86_64]
    error:
      description: Why this item failed, as RV(error), and the C(message).
      returned: when this item failed
      type: dict
      sample:
        kind: not_found
        item: web1
        message: there is no file /boot/vmlinuz-6.1
        hint: ""
        field: machines[0].kernel
machine:
  description: The machine, when it was asked for by the options at the top.
  returned: without O(machines), unless an option is invalid
  type: dict
  contains: *machine
msg:
  description: What failed, on what, why, and what to do next; for a list, which items failed and of what kind.
  returned: failure
  type: str
  sample: "web1: there is no file /boot/vmlinuz-6.1"
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
      sample: web1
    hint:
      description: What to do next; may be empty.
      returned: always
      type: str
      sample: "make it, or its backend is not mounted"
    field:
      description: The option at fault.
      returned: when an option is at fault
      type: str
      sample: machines[0].kernel
    command:
      description: The program that failed, with its arguments.
      returned: when a program failed
      type: list
      elements: str
      sample: [systemctl, start, microvm@web1.service]
    rc:
      description: Its exit code.
      returned: when a program failed
      type: int
      sample: 1
    stderr:
      description: What it said; of a machine that does not start, the last lines of its journal.
      returned: when a program failed
      type: str
      sample: Job for microvm@web1.service failed.
"""

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import entry
from ansible_collections.microvm.host.plugins.module_utils._machines import definition
from ansible_collections.microvm.host.plugins.module_utils._machines.machines import Machines

ITEM: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str"},
    "state": {
        "type": "str",
        "default": "started",
        "choices": ["present", "started", "stopped", "restarted", "paused", "absent"],
    },
    "restart": {"type": "str", "default": "never", "choices": ["never", "if_needed"]},
    "delete_volumes": {"type": "bool", "default": False},
    "adopt": {"type": "bool", "default": False},
    "takeover": {"type": "bool", "default": False},
    **definition.SPEC,
    "timeout": {"type": "int", "default": 60},
}


def host_tool() -> t.Any:
    """The host tool, of which the payload has the sources; loaded when a plan may need it."""
    from ansible_collections.microvm.host.plugins.module_utils._tool import install

    return install


def main() -> None:
    """One machine by the options at the top, or many in ``machines``."""
    entry.run(
        lambda: Machines(host_tool),
        item=ITEM,
        plural="machines",
        singular="machine",
        call={"purge": {"type": "bool", "default": False}},
    )


if __name__ == "__main__":
    main()
