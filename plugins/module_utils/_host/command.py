# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the host: list argv, C locale, closed stdin, own process group, time limit. Private to microvm.host."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

_reading_only = False
REAP_SECONDS = 1.0
"""How long what a killed program said is waited for."""
ALIVE_SECONDS = 1.0
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


def run(
    argv: t.Sequence[str],
    seconds: float,
    writes: bool,
    ok: t.Container[int] = (0,),
    keeps: t.Sequence[int] = (),
    env: t.Mapping[str, str] | None = None,
) -> str:
    """Run a program and return its standard output.

    The descriptors ``keeps`` stay open in it; ``env`` is added to its environment, which users of this host may see.
    Raises HostError: ``unsupported`` when it is not installed, ``timeout`` when it did not end within ``seconds``
    (its whole process group is killed then), ``refused`` when its return code is not in ``ok``.
    """
    process = _start(argv, writes, subprocess.PIPE, subprocess.PIPE, keeps, env=env)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that left the group may hold the pipes
            process.communicate(timeout=REAP_SECONDS)
        raise HostError("timeout", "%s did not end within %g s" % (argv[0], seconds), command=argv) from None
    _refuse_failed(argv, process.returncode, err, ok)
    return out.decode(errors="replace")


def run_to_its_end(
    argv: t.Sequence[str],
    seconds: float,
    alive: t.Callable[[], None] = lambda: None,
    keeps: t.Sequence[int] = (),
    ok: t.Container[int] = (0,),
    env: t.Mapping[str, str] | None = None,
) -> None:
    """Run a program that changes a disk and must not be killed while it does.

    ``alive`` is called each second meanwhile. The descriptors ``keeps`` stay open in the program, whatever becomes of
    this process: a lock that one holds ends with the program. ``env`` and what is raised: as for ``run``; at
    ``timeout`` the program goes on, and its pid is named.
    """
    import tempfile

    with tempfile.TemporaryFile() as said:  # no pipe: it may outlive who reads it
        process = _start(argv, True, said, said, keeps, env=env)
        until = time.monotonic() + seconds
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, min(ALIVE_SECONDS, until - time.monotonic())))
                break
            alive()
            if time.monotonic() >= until:
                text = "%s has not ended within %g s and goes on as process %d" % (argv[0], seconds, process.pid)
                raise HostError("timeout", text, "run this again when it has ended", command=argv)
        said.seek(0)
        _refuse_failed(argv, process.returncode, said.read(), ok)


def filtered(argv: t.Sequence[str], data: bytes, seconds: float) -> bytes:
    """What a program, which only reads, makes of ``data`` on its standard input. Raises as ``run``."""
    process = _start(argv, False, subprocess.PIPE, subprocess.PIPE, stdin=subprocess.PIPE)
    try:
        out, err = process.communicate(data, timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise HostError("timeout", "%s did not end within %g s" % (argv[0], seconds), command=argv) from None
    _refuse_failed(argv, process.returncode, err, (0,))
    return out


def _start(
    argv: t.Sequence[str],
    writes: bool,
    out: t.Any,
    err: t.Any,
    keeps: t.Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    env: t.Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    if writes and _reading_only:
        raise HostError("internal", "%s would write in check mode" % argv[0], "please report this")
    program = find(argv[0])
    if program is None:
        raise HostError("unsupported", "%s is not installed" % argv[0], "the role prepare_host installs it")
    return subprocess.Popen(
        [program, *argv[1:]],
        stdin=stdin,
        stdout=out,
        stderr=err,
        env={"LC_ALL": "C", "PATH": SEARCH, **(env or {})},
        start_new_session=True,
        pass_fds=keeps,
    )


def _refuse_failed(argv: t.Sequence[str], rc: int, said: bytes, ok: t.Container[int]) -> None:
    if rc in ok:
        return
    text = said.decode(errors="replace").strip()
    raise HostError(
        "refused",
        "%s failed: %s" % (" ".join(argv), text or "return code %d" % rc),
        command=argv,
        rc=rc,
        stderr=text,
    )
