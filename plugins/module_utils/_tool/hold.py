# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""microvm-tool lock: hold the locks of volumes while a program uses them. Private to microvm.host.

Two processes. One holds the locks and writes to them every ten seconds: it may hang with its server. The other runs the
program and never touches a server: when a lock is lost it kills the program at once, without a word to it, because a
virtual machine that is asked to end writes out what it has.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.lease import BEAT_SECONDS, Lease
from ansible_collections.microvm.host.plugins.module_utils._storage import kinds, observed, probe, standby
from ansible_collections.microvm.host.plugins.module_utils._storage.store import Store

TAKE_SECONDS = 60.0
"""How long taking the locks may last, beside what is waited for a holder and what a take-over watches."""
NOT_HELD, LOST = 75, 74
"""Exit codes: EX_TEMPFAIL and EX_IOERR of sysexits.h."""
FOREVER = 10.0**6
"""s. The process that holds the locks has no deadline: a server that is silent has not given them to anybody."""
FULL = (errno.ENOSPC, errno.EDQUOT)


def run(names: t.Sequence[str], holder: str, takeover: bool, wait: float, program: t.Sequence[str]) -> int:
    """Hold the locks of volumes while ``program`` runs, or without one until a signal. Returns the exit code."""
    try:
        stores = _stores(names)
    except HostError as error:
        return _failed("not locked", error, NOT_HELD)
    ended, stop = os.pipe()
    wake, woken = os.pipe()
    for number in (wake, woken):
        os.set_blocking(number, False)
    signal.set_wakeup_fd(woken)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *dummy: None)

    def hold(send: t.Callable[..., None]) -> None:
        os.close(stop)
        signal.set_wakeup_fd(-1)
        _hold(stores, holder, takeover, wait, ended, send)

    held: list[str] = []
    keeper = deadline.Child(hold, wait + 3 * BEAT_SECONDS + TAKE_SECONDS, "locking %s" % ", ".join(names))
    keeper.reported = held.append
    while not held and not keeper.ended:
        keeper.read()
        if not held and not keeper.ended:
            select.select([keeper.fd], [], [], max(0.0, keeper.deadline - time.monotonic()))
            if time.monotonic() >= keeper.deadline:
                keeper.expire()
    if keeper.ended:
        return _failed("not locked", _why(keeper), NOT_HELD)
    _tell({"event": "locked", "volumes": list(names)})
    _ready()
    child = _start(program) if program else None
    try:
        return _watch(keeper, child, wake)
    finally:
        os.close(stop)
        if not keeper.ended:
            keeper.seconds = BEAT_SECONDS
            keeper.deadline = time.monotonic() + BEAT_SECONDS
            deadline.wait_any([keeper])


def _watch(keeper: deadline.Child, child: subprocess.Popen[bytes] | None, wake: int) -> int:
    """Until the program ends, a signal comes or a lock is lost."""
    while True:
        ready = select.select([keeper.fd, wake], [], [])[0]
        keeper.read()
        if keeper.ended:
            if child is not None:
                child.kill()
                child.wait()
            return _failed("lock lost", _why(keeper), LOST)
        signals = b""
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                signals = os.read(wake, 64)
        if child is not None and child.poll() is not None:
            return child.returncode if child.returncode >= 0 else 128 - child.returncode
        for number in set(signals) - {signal.SIGCHLD}:
            if child is None:
                return 0
            child.send_signal(number)


def _stores(names: t.Sequence[str]) -> list[tuple[registry.Row, Store]]:
    """The volumes, and where they are. Raises ``not_found``, and ``refused`` for a backend out of service."""
    with registry.reading() as connection:
        rows = {row["name"]: row for row in registry.rows(connection, "SELECT * FROM volumes")}
    seen = observed.Seen(lambda seen: [], 0)
    found = []
    for name in names:
        if name not in rows:
            raise HostError("not_found", "no volume %s is registered on this host" % name, "make it: storage_volume")
        backend = seen.backends[rows[name]["backend"]]
        if not backend["enabled"]:
            text = "backend %s of volume %s is not enabled" % (backend["name"], name)
            raise HostError("refused", text, "enable it: storage_backend")
        store = kinds.store_of(backend, seen)
        if store is None:
            raise HostError("unsupported", "backend %s takes no volumes" % backend["name"])
        found.append((rows[name], store))
    return found


def _hold(
    stores: t.Sequence[tuple[registry.Row, Store]],
    holder: str,
    takeover: bool,
    wait: float,
    ended: int,
    send: t.Callable[..., None],
) -> None:
    leases: list[Lease] = []
    watches = [store.watch(row["name"]) for row, store in stores]
    try:
        for row, store in stores:
            _refuse_other(row, store)
            folder, name = os.path.split(store.lock_for(row["name"]))
            lease = Lease(folder, name, holder, probe.host_mark(), store.place["crosses"])
            lease.take(takeover, wait)
            leases.append(lease)
            _refuse_other(row, store)  # until it was locked, another host could adopt it
        send("held", "progress")
        while not select.select([ended], [], [], BEAT_SECONDS)[0]:
            for lease, watch in zip(leases, watches):
                _beat(lease)
                watch()
    except OSError as error:
        raise HostError("unreachable", "the lock of a volume: %s" % os.strerror(error.errno or 0)) from None
    finally:
        for lease in leases:
            with contextlib.suppress(OSError):  # one that is lost can't be given back
                lease.release()


def _refuse_other(row: registry.Row, store: Store) -> None:
    """Raise HostError unless the volume is there and this host's."""
    looked = store.looks([row["name"]], everything=False)
    if looked["status"] == "standby":
        raise HostError(
            "in_use", "backend %s %s" % (row["backend"], standby.told(looked["owner"])), standby.hint(looked["owner"])
        )
    if looked["status"] != "ok":
        raise HostError("unreachable", "backend %s: %s" % (row["backend"], looked["status"]), "see to the backend")
    there = looked["volumes"][row["name"]]
    label = there["label"]
    if "size" not in there:
        raise HostError("not_found", "the disk of volume %s is gone" % row["name"], "restore it from a backup")
    if label is None or label["uuid"] != row["uuid"] or label["owner"] != probe.host_mark():
        whose = label["hostname"] if label else "nobody"
        raise HostError("conflict", "volume %s is that of %s" % (row["name"], whose), "adopt it first")


def _beat(lease: Lease) -> None:
    try:
        lease.beat()
    except OSError as error:
        if error.errno not in FULL:  # nothing was written, and nobody has taken the lock
            raise


def _start(program: t.Sequence[str]) -> subprocess.Popen[bytes]:
    die_with_us = deadline.bond()

    def bound() -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        die_with_us()

    return subprocess.Popen(list(program), preexec_fn=bound)


def _ready() -> None:
    """Tell systemd, when it wants to know (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.send(b"READY=1")


def _why(keeper: deadline.Child) -> HostError:
    try:
        keeper.result()
    except HostError as error:
        return error
    return HostError("interrupted", "the process that held the locks ended")


def _failed(event: str, error: HostError, code: int) -> int:
    _tell({"event": event, "error": error.as_dict(), "message": error.message})
    return code


def _tell(event: dict[str, t.Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()
