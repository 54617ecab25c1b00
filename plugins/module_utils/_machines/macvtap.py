# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices behind macvtaps: /dev/tapN, N the number of the interface. Private to microvm.host."""

from __future__ import annotations

import fcntl
import os
import pwd
import sys
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._machines import network

ASIDE = 100
"""Open files are put behind this number first, so that none is overwritten by another."""


def device(tap: str) -> str:
    """The device of an interface. Raises FileNotFoundError."""
    with open("/sys/class/net/%s/ifindex" % tap, encoding="ascii") as file:
        return "/dev/tap%d" % int(file.read())


def give(taps: t.Sequence[str], user: str) -> int:
    """``microvm-tool vm-macvtap --give``: let a user, and no other, open the devices of these interfaces."""
    try:
        entry = pwd.getpwnam(user)
        for tap in taps:
            os.chown(device(tap), entry.pw_uid, entry.pw_gid)
            os.chmod(device(tap), 0o600)
    except (OSError, KeyError) as error:
        return _failed(error)
    return 0


def become(taps: t.Sequence[str], program: t.Sequence[str]) -> int:
    """``microvm-tool vm-macvtap``: become ``program``, which has the devices open from ``network.FIRST`` on.

    Returns only when that fails.
    """
    try:
        opened = []
        for tap in taps:
            descriptor = os.open(device(tap), os.O_RDWR | os.O_CLOEXEC)
            opened.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, ASIDE))
            os.close(descriptor)
        for number, descriptor in enumerate(opened, network.FIRST):
            os.dup2(descriptor, number, inheritable=True)
        os.execv(program[0], list(program))
    except OSError as error:
        return _failed(error)


def _failed(error: Exception) -> int:
    sys.stderr.write("microvm-tool vm-macvtap: %s\n" % error)
    return 1
