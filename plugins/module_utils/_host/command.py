# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the host: list argv, C locale, closed stdin, own process group, time limit. Private to microvm.host."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

_reading_only = False
REAP_SECONDS = 1.0
"""How long what a killed program said is waited for."""
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def only_read() -> None:
    """From now on a command declared to write is a bug and raises ``internal`` (check mode, host_info)."""
    global _reading_only
    _reading_only = True


def reading_only() -> bool:
    """Whether ``only_read`` was called."""
    return _reading_only


def find(program: str) -> str | None:
    """The path of a program of the host, sbin directories included; None when it is not installed."""
    return shutil.which(program, path=SEARCH)


def run(argv: t.Sequence[str], seconds: float, writes: bool, ok: t.Container[int] = (0,)) -> str:
    """Run a program and return its standard output.

    Raises HostError: ``unsupported`` when it is not installed, ``timeout`` when it did not end within ``seconds``
    (its whole process group is killed then), ``refused`` when its return code is not in ``ok``.
    """
    if writes and _reading_only:
        raise HostError("internal", "%s would write in check mode" % argv[0], "please report this")
    program = find(argv[0])
    if program is None:
        raise HostError("unsupported", "%s is not installed" % argv[0], "the role prepare_host installs it")
    process = subprocess.Popen(
        [program, *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"LC_ALL": "C", "PATH": SEARCH},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that left the group may hold the pipes
            process.communicate(timeout=REAP_SECONDS)
        raise HostError("timeout", "%s did not end within %g s" % (argv[0], seconds), command=argv) from None
    if process.returncode not in ok:
        stderr = err.decode(errors="replace").strip()
        raise HostError(
            "refused",
            "%s failed: %s" % (" ".join(argv), stderr or "return code %d" % process.returncode),
            command=argv,
            rc=process.returncode,
            stderr=stderr,
        )
    return out.decode(errors="replace")
