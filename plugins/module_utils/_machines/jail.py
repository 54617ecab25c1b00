# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firecracker in its jailer. Private to microvm.host.

What it needs of the host is bound into the jail at the paths that it has outside, so configuration, sockets and orders
are the same with and without. The mounts are those of a namespace of this process: they end with the machine.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import sys
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import mounts, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

CGROUP2 = "/sys/fs/cgroup/cgroup.controllers"


class Jail(t.NamedTuple):
    """``identity``: Firecracker's --id. ``base``: a directory for jails. The last three are paths of the host."""

    jailer: str
    identity: str
    user: str
    base: str
    read: t.Sequence[str]
    write: t.Sequence[str]
    copy: t.Sequence[str]


def run(jail: Jail, program: t.Sequence[str]) -> int:
    """``microvm-tool vm-jail``: become the jailer, and it becomes ``program``. Returns only when that fails."""
    try:
        entry = pwd.getpwnam(jail.user)
        mounts.own_namespace()
        clear(jail.base)
        umask = os.umask(0o022)
        executable = os.path.basename(os.path.realpath(program[0]))
        root = os.path.join(jail.base, executable, jail.identity, "root")  # where the jailer makes it
        os.makedirs(root)
        for path in (*jail.read, *jail.write):
            _bring(path, root, path in jail.read)
        for path in jail.write:
            if os.path.isdir(path):  # its sockets are there
                os.chown(path, entry.pw_uid, entry.pw_gid)
        for path in jail.copy:
            _copy(path, root + path, entry)
        os.umask(umask)
        os.execv(jail.jailer, _words(jail, entry, program))
    except (HostError, OSError, KeyError) as error:
        sys.stderr.write("microvm-tool vm-jail: %s\n" % error)
        return 1


def _words(jail: Jail, entry: pwd.struct_passwd, program: t.Sequence[str]) -> list[str]:
    words = [jail.jailer, "--id", jail.identity, "--exec-file", program[0]]
    words += ["--uid", "%d" % entry.pw_uid, "--gid", "%d" % entry.pw_gid, "--chroot-base-dir", jail.base]
    words += ["--cgroup-version", "2" if os.path.exists(CGROUP2) else "1"]  # the cgroup itself is systemd's
    return [*words, "--", *program[1:]]


def _bring(path: str, root: str, read_only: bool) -> None:
    """Bind a file or directory to the same path below ``root``."""
    target = root + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if stat.S_ISDIR(os.stat(path).st_mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    mounts.bind(os.path.realpath(path), target)
    if read_only:
        mounts.set_flags(target, ["ro", "nosuid", "noexec"])


def _copy(path: str, target: str, entry: pwd.struct_passwd) -> None:
    """Have a file that root alone can read in the jail, for its user alone."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    with open(path, "rb") as source, os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file)
        os.fchown(file.fileno(), entry.pw_uid, entry.pw_gid)


def clear(base: str) -> None:
    """Remove what an earlier run left below ``base``. Raises ``in_use`` when something is mounted there."""
    below = [mount.path for mount in mounts.table() if mount.path != base and names.under(mount.path, base)]
    if below:
        raise HostError("in_use", "%s is a mount" % below[0], "unmount it: nothing of this collection mounts there")
    for name in os.listdir(base) if os.path.isdir(base) else ():
        path = os.path.join(base, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
