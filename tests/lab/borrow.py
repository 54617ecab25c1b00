# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab for the time of a test run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.lab.lab import Lab

OWN = "MICROVM_LAB"
"""Environment variable that names a lab to use instead: it is taken as it stands, and left up if it was."""


@contextlib.contextmanager
def borrow(
    name: str,
    hosts: int = 1,
    servers: Sequence[str] = (),
    suite: str = "trixie",
    memory: int = 1024,
    machines: bool = False,
    kvm: bool = False,
    bytecode: bool = False,
) -> Iterator[Lab]:
    """A lab of prepared hosts, new and gone afterwards, unless OWN names another.

    What an interrupted run has left under the same name is taken away first: its hosts would not be as new. Each of
    pytest's parallel processes has a lab of its own; a second run with the same lab waits for the first. ``memory`` is
    MiB per host, ``machines`` gives them the hypervisor, ``kvm`` this machine's own kernel and with it KVM; with
    ``bytecode`` they compile a module once. LabError when it can't be brought up.
    """
    own = os.environ.get(OWN)
    name = "-".join([own or name, *os.environ.get("PYTEST_XDIST_WORKER", "").split()])
    with Path(tempfile.gettempdir(), f"microvm-lab-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = bool(own) and name in Lab.names()
        if not kept:
            Lab.take_down(name)
        lab = Lab.up(name, hosts, servers, suite, prepared=True, memory=memory, machines=machines, kvm=kvm)
        try:
            for host in lab.hosts.values():
                if bytecode:
                    host.keep_bytecode()
            yield lab
        finally:
            if not kept:
                lab.down()
