# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts want the same volume, for many rounds: one wins, the other is told, nothing is left of what lost.

``make races`` runs all rounds on every kind of backend and writes RACES.md; a sample is a few rounds.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.killing import empty, listing
from tests.faults.progress import Table
from tests.faults.rig import Rig
from tests.faults.test_lun import fresh
from tests.faults.volumes import Side, kind, strays, together
from tests.lab import Filer, IscsiServer, Lab, NfsServer, SmbServer, counts
from tests.lab.daemon import wait_until

ROUNDS, SAMPLED_ROUNDS = 20, 4
"""Of each race on each backend: two hundred in all."""
PAUSES = 2
"""Of each holder."""
RESULT = "RACES.md"
COLUMNS = ("what", "backend", "rounds", "passed", "slowest to notice, s")
PASSED, SLOWEST = 3, 4
TOOL = "/usr/local/libexec/microvm/microvm-tool"
LOST = ("conflict", "in_use", "not_found")
NOTICED_SECONDS = 10.0
"""How long a paused host's program may go on when the host is resumed."""
LEASE_SECONDS = 20
"""Of the lab's servers."""
SIZE = "4MiB"
HERE, THERE = 17, 34
"""The byte by which each host marks what it writes."""
PASSWORD = "lab-secret-race"
GROUP: dict[str, Any] = {"kind": "iscsi_lvm", "portal": "san1", "iqn": "iqn.2026-01.lab:open", "lun": 1}
POOL = {"name": "pool", **GROUP, "vg": "vg_race", "layout": "thin", "timeout": 60}
Sides = tuple[Side, Side]


@dataclass(frozen=True)
class Hosts:
    """Two hosts that have the same backends, and the servers behind these."""

    sides: Sides
    nas: NfsServer
    filer: Filer
    smb: SmbServer

    def backends(self) -> list[dict[str, Any]]:
        """Those that both hosts have all the time."""
        nfs: dict[str, Any] = {"kind": "nfs", "server": self.nas.address, "timeout": 60}
        return [
            {"name": "nas", **nfs, "export": "/export/rw"},
            {"name": "nolock", **nfs, "export": "/export/rw2", "version": "3", "options": "nolock"},
            {"name": "filer", **nfs, "server": self.filer.address, "export": "/export/rw"},
            {
                "name": "files",
                "kind": "smb",
                "server": self.smb.address,
                "share": "vms",
                # Linux 7.2 tries a put-off close again and again while the session is gone: one CPU does nothing else.
                "options": "closetimeo=0",
                "timeout": 60,
                "username": "svc",
                "password": PASSWORD,
            },
        ]

    def left(self, backend: str) -> set[str]:
        """What lies on a backend that should not when no volume is there."""
        if backend == "filer":
            names = self.filer.host.ssh("cd /export/rw && find . -mindepth 1 -printf '%P\\n'").stdout.splitlines()
            return strays(set(names))
        where = {"nas": self.nas.data("rw"), "nolock": self.nas.data("rw2"), "files": self.smb.data("vms")}
        return strays(set(listing(where[backend])))


@pytest.fixture(scope="module")
def hosts(lab: Lab, rig: Rig, other: Rig, san: IscsiServer) -> Iterator[Hosts]:
    """Two hosts with backends of each kind; the volume group is made by the test that needs it."""
    nas, filer, smb = lab.servers["nas1"], lab.servers["filer1"], lab.servers["smb1"]
    assert isinstance(nas, NfsServer) and isinstance(filer, Filer) and isinstance(smb, SmbServer)
    found = Hosts((Side(rig), Side(other)), nas, filer, smb)
    for side in found.sides:
        side.rig.start()
        fresh(side.rig, san)
    for directory in (nas.data("rw"), nas.data("rw2"), smb.data("vms")):
        empty(directory)
    smb.set_password("svc", PASSWORD)
    for side in found.sides:
        side.works("storage_backend", backends=found.backends())
    yield found
    for side in found.sides:
        fresh(side.rig, san)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """What is written down of a whole run."""
    found = Table(RESULT, "Races", COLUMNS)
    yield found
    if not request.config.getoption("--sample"):
        found.write(
            "Two hosts want one disk at once: written by `make races`. A round passed when there was one winner, the",
            "other was told, and nothing was left of what lost. Of a pause it passed when the holder's program was",
            f"stopped within {NOTICED_SECONDS:g} s of waking up, and, on NFS 4, had not written a byte by then.",
        )


SHARED = ("nas", "filer", "files")
"""Backends whose locks every host sees."""
RACES = {
    "test_a_name_is_given_once": SHARED[::-1],
    "test_a_disk_is_locked_by_its_owner_or_adopted": (*SHARED, "nolock"),
    "test_a_snapshot_is_taken_or_its_volume_goes": (*SHARED[1:], "nas"),
}
"""Where each race is run; a sample has the first."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A sample has a few rounds, and the first of the pauses: each of these takes a server's lease."""
    sampled = bool(metafunc.config.getoption("--sample"))
    if "rounds" in metafunc.fixturenames:
        backends = RACES[metafunc.function.__name__][: 1 if sampled else None]
        rounds = SAMPLED_ROUNDS if sampled else ROUNDS
        metafunc.parametrize(("backend", "rounds"), [(backend, rounds) for backend in backends])
    elif "pause" in metafunc.fixturenames:
        metafunc.parametrize("pause", PAUSED[: 1 if sampled else None], ids=lambda pause: pause.what)


def counted(table: Table, what: str, backend: str, rounds: int) -> Iterator[int]:
    """The rounds to go. One has passed when the next is asked for."""
    row = table.add(what, backend, rounds, 0, "")
    for number in range(rounds):
        yield number
        row[PASSED] += 1
        counts.add("races")


def test_a_name_is_given_once(hosts: Hosts, table: Table, backend: str, rounds: int) -> None:
    for number in counted(table, "one name made by both", backend, rounds):
        results = together(hosts.sides, "storage_volume", name="race", backend=backend, size=SIZE)
        won = [side for side, result in zip(hosts.sides, results, strict=True) if not kind(result)]
        lost = [kind(result) for result in results if kind(result)]
        assert len(won) == 1 and lost[0] in LOST, (number, results)
        won[0].works("storage_volume", name="race", state="absent")
        assert not hosts.left(backend), number
        assert not any(side.registered()["volumes"] or side.registered()["journal"] for side in hosts.sides), number


def test_a_disk_is_locked_by_its_owner_or_adopted(hosts: Hosts, table: Table, backend: str, rounds: int) -> None:
    here, there = hosts.sides
    here.works("storage_volume", name="race", backend=backend, size=SIZE)
    for number in counted(table, "locked by one, adopted by the other", backend, rounds):
        there.begin("storage_volume", name="race", backend=backend, adopt=True)
        with holding(here, "race", "sleep 1000") as locked:
            adopted = not kind(there.result())
            assert locked is not adopted, (number, locked, adopted)
        if adopted:
            for side in (there, here):  # the one that has it, then the one that only remembers it
                side.works("storage_volume", name="race", state="absent")
            here.works("storage_volume", name="race", backend=backend, size=SIZE)
    here.works("storage_volume", name="race", state="absent")
    assert not hosts.left(backend)


def test_a_snapshot_is_taken_or_its_volume_goes(hosts: Hosts, table: Table, backend: str, rounds: int) -> None:
    here, there = hosts.sides
    for number in counted(table, "snapshot by one, deletion by the other", backend, rounds):
        here.works("storage_volume", name="race", backend=backend, size=SIZE)
        here.begin("storage_volume", name="race", snapshots=["now"])
        refused = kind(there.call("storage_volume", name="race", backend=backend, adopt=True))
        held = refused or kind(there.call("storage_volume", name="race", state="absent"))
        taken = kind(here.result())
        if refused:
            assert refused in LOST and not taken, (number, refused, taken)
            assert hosts.left(backend) == {"race.raw", "race.json", "race@now.raw"}, number
        else:
            assert {held, taken} <= {"", *LOST}, (number, held, taken)
            there.works("storage_volume", name="race", state="absent")
            assert not hosts.left(backend), (number, held, taken)
        here.works("storage_volume", name="race", state="absent")
        assert not hosts.left(backend), number


@contextlib.contextmanager
def holding(side: Side, name: str, program: str, words: str = "") -> Iterator[bool]:
    """Whether a program runs with the lock of a volume; ``words``: what is typed to it, over and over."""
    typed = f"while printf '%s\\n' '{words}'; do sleep 0.1; done" if words else "true"
    lock = f"{TOOL} lock --volume {name} --holder guest -- {program}"
    pid = side.sh(f": >/run/held; ({typed}) 2>/dev/null </dev/null | {lock} >/run/held 2>&1 & echo $!").strip()
    wait_until(lambda: "locked" in side.sh("head -c 2000 /run/held"), 60, "the lock")
    try:
        yield "not locked" not in side.sh("head -c 2000 /run/held")
    finally:
        side.sh(f"kill {pid} 2>/dev/null || true")
        wait_until(lambda: side.sh(f"test -d /proc/{pid} && echo there || true") == "", 60, "the holder to end")


WRITERS = {
    "qemu-io": ("qemu-io -f raw -t none {disk}", "write -q -P %d 0 4k"),
    "qemu": (
        "qemu-system-x86_64 -machine none -nodefaults -display none -monitor stdio "
        "-drive if=none,id=d0,format=raw,cache=none,file={disk}",
        'qemu-io d0 "write -q -P %d 0 4k"',
    ),
}


@dataclass(frozen=True)
class Pause:
    """Who holds the disk, on what, and whether the server refuses what it writes when it wakes up."""

    what: str
    backend: str
    writer: str
    refused: bool
    delegations: bool = True


PAUSED = (
    Pause("NFS 4, nfs-ganesha", "nas", "qemu-io", refused=True),
    Pause("NFS 4, Linux, delegations", "filer", "qemu", refused=True),
    Pause("NFS 4, Linux, no delegations", "filer", "qemu-io", refused=True, delegations=False),
    Pause("SMB, its session closed", "files", "qemu-io", refused=False),
    Pause("NFS 3 with nolock, takeover", "nolock", "qemu-io", refused=False),
    Pause("iSCSI and LVM, takeover", "pool", "qemu-io", refused=False),
)


def succeed(hosts: Hosts, pause: Pause, there: Side, owner: str) -> str:
    """Another host gets the disk of the one that is paused, by what the documents name; the path of the disk there."""
    wanted: dict[str, Any] = {"name": "paused", "backend": pause.backend, "adopt": True, "timeout": 60}
    if pause.backend == "pool":
        there.works("storage_backend", **POOL, takeover=owner)
    elif pause.backend == "files":
        hosts.smb.disconnect()
    elif pause.backend == "nolock":
        wanted["takeover"] = True
    wait_until(
        lambda: not kind(there.call("storage_volume", **wanted)),
        6 * LEASE_SECONDS,
        "the server to give the locks of the paused host up",
    )
    return str(there.works("storage_volume", name="paused")["volume"]["path"])


def stamp(side: Side, disk: str) -> int:
    """The first byte of a disk, past the host's own memory of it."""
    return int(side.sh(f"dd if={disk} bs=4096 count=1 iflag=direct status=none | od -An -N1 -tu1"))


def paused_once(hosts: Hosts, pause: Pause, sides: Sides) -> float:
    """The holder is paused, another host gets the disk, the holder wakes up; seconds until it was stopped."""
    here, there = sides
    owner = ""
    if pause.backend == "pool":
        owner = here.works("storage_backend", **POOL, initialize="vg_race")["backend"]["owner"]
    disk = here.works("storage_volume", name="paused", backend=pause.backend, size=SIZE)["volume"]["path"]
    program, words = WRITERS[pause.writer]
    with holding(here, "paused", program.format(disk=disk), words % HERE) as locked:
        assert locked
        wait_until(lambda: stamp(here, disk) == HERE, 30, "the holder to write")
        here.rig.host.signal(signal.SIGSTOP)
        try:
            disk = succeed(hosts, pause, there, owner)
            write = f"qemu-io -f raw -t none -c 'write -q -P {THERE} 0 4k' {disk}"
            there.sh(write)
            assert stamp(there, disk) == THERE
        finally:
            here.rig.host.signal(signal.SIGCONT)
            here.rig.host.close_connections()  # ssh has given the paused host up
        resumed = time.monotonic()
        wait_until(lambda: "lock lost" in here.sh("tail -c 2000 /run/held"), 60, "the holder to notice")
        seconds = time.monotonic() - resumed
        here.rig.start()
        if pause.refused:
            assert stamp(there, disk) == THERE, "the paused holder has written to a disk that is another host's"
        there.sh(write)
    assert stamp(there, disk) == THERE, "the holder was stopped, and writes all the same"
    assert seconds <= NOTICED_SECONDS, f"{seconds:.1f} s"
    for side in (there, here):
        side.works("storage_volume", name="paused", state="absent")
    if pause.backend == "pool":  # what it still has active of the thin pool writes to the LUN when it is taken down
        here.rig.host.kill()
        here.rig.host.boot()
        here.rig.start()
    return seconds


def test_a_paused_holder_is_stopped(hosts: Hosts, table: Table, pause: Pause, request: pytest.FixtureRequest) -> None:
    """And with NFS 4 and QEMU there is not a single write after another host has the disk."""
    first, second = hosts.sides
    hosts.filer.host.ssh(f"sysctl -qw fs.leases-enable={int(pause.delegations)}")
    rounds = 1 if request.config.getoption("--sample") else PAUSES
    row = table.add(f"paused, {pause.writer}: {pause.what}", pause.backend, rounds, 0, 0.0)
    for number in range(rounds):
        seconds = paused_once(hosts, pause, (second, first) if number % 2 else (first, second))
        row[PASSED] += 1
        row[SLOWEST] = max(row[SLOWEST], round(seconds, 1))
        counts.add("pauses")
