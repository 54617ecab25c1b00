# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts want the same volume, for many rounds: one wins, the other is told, nothing is left of what lost."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.killing import empty, listing
from tests.faults.rig import Rig
from tests.faults.volumes import Side, kind, strays, together
from tests.lab import Filer, Lab, NfsServer, counts
from tests.lab.daemon import wait_until

ROUNDS, SAMPLED_ROUNDS = 70, 4
"""Of each race; three of them are more than two hundred."""
TOOL = "/usr/local/libexec/microvm/microvm-tool"
LOST = ("conflict", "in_use", "not_found")
NOTICED_SECONDS = 10.0
"""How long a paused host's program may go on when the host is resumed."""
LEASE_SECONDS = 20
"""Of the lab's servers."""
SIZE = "1MiB"
HERE, THERE = 17, 34
"""The byte by which each host marks what it writes."""
Sides = tuple[Side, Side]


@pytest.fixture(scope="module")
def hosts(lab: Lab, rig: Rig, other: Rig) -> Iterator[Sides]:
    """Two hosts with the backends nas and filer."""
    nas, filer = lab.servers["nas1"], lab.servers["filer1"]
    assert isinstance(nas, NfsServer)
    found = (Side(rig), Side(other))
    for side in found:
        side.rig.start()
        side.rig.ask(do="wipe")
    empty(nas.data("rw"))
    backends = [
        {"name": name, "kind": "nfs", "server": server.address, "export": "/export/rw", "timeout": 60}
        for name, server in (("nas", nas), ("filer", filer))
    ]
    for side in found:
        side.works("storage_backend", backends=backends)
    yield found
    for side in found:
        side.rig.ask(do="wipe")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return SAMPLED_ROUNDS if request.config.getoption("--sample") else ROUNDS


def left_on(lab: Lab) -> set[str]:
    """What lies on the server's export that should not when no volume is there."""
    nas = lab.servers["nas1"]
    assert isinstance(nas, NfsServer)
    return strays(set(listing(nas.data("rw"))))


def test_a_name_is_given_once(lab: Lab, hosts: Sides, rounds: int) -> None:
    for number in range(rounds):
        results = together(hosts, "storage_volume", name="race", backend="nas", size=SIZE)
        won = [side for side, result in zip(hosts, results, strict=True) if not kind(result)]
        lost = [kind(result) for result in results if kind(result)]
        assert len(won) == 1 and lost[0] in LOST, (number, results)
        won[0].works("storage_volume", name="race", state="absent")
        assert not left_on(lab), number
        assert all(not side.registered()["volumes"] and not side.registered()["journal"] for side in hosts)
        counts.add("races")


def test_a_disk_is_locked_by_its_owner_or_adopted(lab: Lab, hosts: Sides, rounds: int) -> None:
    here, there = hosts
    here.works("storage_volume", name="race", backend="nas", size=SIZE)
    for number in range(rounds):
        there.begin("storage_volume", name="race", backend="nas", adopt=True)
        with contextlib.ExitStack() as held:
            locked = held.enter_context(holding(here, "race", "sleep 1000"))
            adopted = not kind(there.result())
            assert locked is not adopted, (number, locked, adopted)
        if adopted:
            for side in (there, here):  # the one that has it, then the one that only remembers it
                side.works("storage_volume", name="race", state="absent")
            here.works("storage_volume", name="race", backend="nas", size=SIZE)
        counts.add("races")
    here.works("storage_volume", name="race", state="absent")
    assert not left_on(lab)


def test_a_snapshot_is_taken_or_its_volume_goes(lab: Lab, hosts: Sides, rounds: int) -> None:
    here, there = hosts
    for number in range(rounds):
        here.works("storage_volume", name="race", backend="nas", size=SIZE)
        here.begin("storage_volume", name="race", snapshots=["now"])
        refused = kind(there.call("storage_volume", name="race", backend="nas", adopt=True))
        held = refused or kind(there.call("storage_volume", name="race", state="absent"))
        taken = kind(here.result())
        if refused:
            assert refused in LOST and not taken, (number, refused, taken)
            assert left_on(lab) == {"race.raw", "race.json", "race@now.raw"}, number
        else:
            assert {held, taken} <= {"", *LOST}, (number, held, taken)
            there.works("storage_volume", name="race", state="absent")
            assert not left_on(lab), (number, held, taken)
        here.works("storage_volume", name="race", state="absent")
        assert not left_on(lab), number
        counts.add("races")


@contextlib.contextmanager
def holding(side: Side, name: str, program: str, words: str = "") -> Iterator[bool]:
    """Whether a program runs with the lock of a volume; ``words``: what is typed to it, over and over."""
    typed = f"while printf '%s\\n' '{words}'; do sleep 0.1; done" if words else "true"
    lock = f"{TOOL} lock --volume {name} --holder guest -- {program}"
    pid = side.sh(f"({typed}) 2>/dev/null </dev/null | {lock} >/run/held 2>&1 & echo $!").strip()
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


PAUSED = [("nas", True, "qemu-io"), ("filer", True, "qemu"), ("filer", False, "qemu-io")]
"""Backend, whether its server gives delegations, who writes."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Of the pauses, which take a server's lease each, only the first when sampled."""
    if "writer" in metafunc.fixturenames:
        sampled = bool(metafunc.config.getoption("--sample"))
        metafunc.parametrize(("backend", "delegations", "writer"), PAUSED[: 1 if sampled else None])


def test_a_paused_holder_writes_no_more(lab: Lab, hosts: Sides, backend: str, delegations: bool, writer: str) -> None:
    """NFS 4 and QEMU: not a single write after another host has the disk; and it is stopped soon."""
    here, there = hosts
    server: Any = lab.servers["nas1" if backend == "nas" else "filer1"]
    if isinstance(server, Filer):
        server.host.ssh(f"sysctl -qw fs.leases-enable={int(delegations)}")
    disk = here.works("storage_volume", name="paused", backend=backend, size=SIZE)["volume"]["path"]
    program, words = WRITERS[writer]

    def stamp() -> int:
        if isinstance(server, Filer):
            return int(server.host.ssh("od -An -N1 -tu1 /export/rw/paused.raw").stdout)
        with (server.data("rw") / "paused.raw").open("rb") as file:
            return file.read(1)[0]

    with holding(here, "paused", program.format(disk=disk), words % HERE) as locked:
        assert locked
        wait_until(lambda: stamp() == HERE, 30, "the holder to write")
        here.rig.host.signal(signal.SIGSTOP)
        try:
            wait_until(
                lambda: not kind(there.call("storage_volume", name="paused", backend=backend, adopt=True)),
                6 * LEASE_SECONDS,
                "the server to give the locks of the paused host up",
            )
            path = there.works("storage_volume", name="paused")["volume"]["path"]
            there.sh(f"qemu-io -f raw -t none -c 'write -q -P {THERE} 0 4k' {path}")
            assert stamp() == THERE
        finally:
            here.rig.host.signal(signal.SIGCONT)
            here.rig.host.close_connections()  # ssh has given the paused host up
        resumed = time.monotonic()
        wait_until(lambda: "lock lost" in here.sh("tail -c 2000 /run/held"), 60, "the holder to notice")
        seconds = time.monotonic() - resumed
        here.rig.start()
        assert stamp() == THERE, "the paused holder has written to a disk that is another host's"
        assert seconds <= NOTICED_SECONDS, f"{seconds:.1f} s"
    there.works("storage_volume", name="paused", state="absent")
    here.works("storage_volume", name="paused", state="absent")
    counts.add("pauses")
