# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the parts of a machine are, and what they are called. Private to microvm.host."""

from __future__ import annotations

import glob
import os

from ansible_collections.microvm.host.plugins.module_utils._host import names, systemd

BASE = "/var/lib/microvm/machines"
RUN = "/run/microvm"
LONGEST_NAME = 27
"""So that the user's name has at most 31 characters, which is what utmp and useradd(8) take."""
LONGEST_SOCKET = 107
"""Bytes of a path in sockaddr_un (unix(7)), without the final zero."""
RESERVED = frozenset({"locks", "docker-volumes"})
"""Directories in RUN that are no machine's."""


def directory(name: str) -> str:
    """What belongs to a machine and outlives a boot; sources of shares may be relative to it."""
    return os.path.join(BASE, name)


def logs(name: str) -> str:
    """The one directory below that its user may write to."""
    return os.path.join(directory(name), "log")


def jail(name: str) -> str:
    """What Firecracker's jailer makes its jail in; empty but while the machine runs, and after a power loss."""
    return os.path.join(directory(name), "jail")


def runtime(name: str) -> str:
    """Its sockets; gone with the boot."""
    return os.path.join(RUN, name)


def left_by_starts(name: str) -> list[str]:
    """Of the directories that a start makes, those that are there; also when it failed and was taken back."""
    made = (runtime(name), logs(name), jail(name))
    return [path for path in made if os.path.isdir(path) and not os.path.islink(path)]


def left_behind() -> list[str]:
    """The machines, registered or not, of which a start made something that outlives a boot."""
    folders = sorted(glob.glob(glob.escape(BASE) + "/*"))
    found = [os.path.basename(folder) for folder in folders if not os.path.islink(folder)]
    return [name for name in found if names.is_name(name, LONGEST_NAME) and left_by_starts(name)]


def control_socket(name: str) -> str:
    """Where its hypervisor takes orders of modules."""
    return os.path.join(runtime(name), "control.sock")


def stop_socket(name: str) -> str:
    """The same for the unit's own stop: QMP serves one client a socket."""
    return os.path.join(runtime(name), "stop.sock")


def console_socket(name: str) -> str:
    """The serial console of a QEMU machine, to attach to."""
    return os.path.join(runtime(name), "console.sock")


def share_socket(name: str, tag: str) -> str:
    """Where virtiofsd of one share listens."""
    return os.path.join(runtime(name), "fs-%s.sock" % tag)


def vsock_socket(name: str) -> str:
    """Where the host reaches its guest's vsock, with Firecracker and Cloud Hypervisor."""
    return os.path.join(runtime(name), "vsock.sock")


def notify_port(cid: int) -> int:
    """The host's vsock port where the guest of this address says that it is ready; at most 2^32 - 1."""
    return 10000 + cid % 2**31


def booted(name: str) -> str:
    """A link to nowhere; its target is the digest of the definition that the machine was last started with."""
    return os.path.join(runtime(name), "booted")


def user(name: str) -> str:
    """The user its hypervisor runs as, of this machine only."""
    return "mvm-" + name


def credential(name: str, key: str) -> str:
    """A file that systemd puts there for the machine's service alone (LoadCredential=)."""
    return "/run/credentials/%s/%s" % (unit(name), key)


def unit(name: str) -> str:
    """Its service."""
    return "microvm@%s.service" % name


def net_unit(name: str) -> str:
    """The service that makes its taps."""
    return "microvm-net@%s.service" % name


def lock_unit(name: str) -> str:
    """The service that holds the locks of its disks."""
    return "microvm-lock@%s.service" % name


def lost_unit(name: str) -> str:
    """The service that kills it when these locks are lost."""
    return "microvm-lost@%s.service" % name


def holder(name: str) -> str:
    """Who holds these locks, for others to read."""
    return "machine " + name


def fs_unit(name: str, tag: str) -> str:
    """The service of one share's virtiofsd, without ``.service`` or ``.socket``."""
    return "microvm-fs@%s@%s" % (name, tag)


def units(name: str) -> list[str]:
    """Its services and sockets, as systemctl(1) takes them: names, and a pattern for those of shares."""
    own = [unit(name), net_unit(name), lock_unit(name), lost_unit(name)]
    return [*own, fs_unit(name, "*") + ".*"]


def unit_file(unit_name: str) -> str:
    """Where a unit is."""
    return os.path.join(systemd.DIRECTORY, unit_name)


def autostart_link(name: str) -> str:
    """The link that has it started at boot."""
    return os.path.join(systemd.DIRECTORY, "multi-user.target.wants", unit(name))


def tap(name: str, index: int) -> str:
    """The name of an interface on the host, at most 15 characters (IFNAMSIZ)."""
    return "mv%s%d" % (names.hash8(name), index)


def mac(name: str, index: int) -> str:
    """A MAC address of its own, the same on every host: locally administered, unicast."""
    digits = names.hash8(name, "mac")
    return "02:" + ":".join(digits[at : at + 2] for at in (0, 2, 4, 6)) + ":%02x" % index
