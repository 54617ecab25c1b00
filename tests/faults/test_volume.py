# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that becomes full, and a server that goes away, in the middle of a copy: no half volume, nothing lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.killing import empty, listing
from tests.faults.points import events
from tests.faults.rig import Rig
from tests.faults.volumes import IMAGE, Side, kind, strays
from tests.lab import Lab, NfsServer, counts
from tests.lab.daemon import wait_until

SMALL = "/srv/small/volumes"
"""On a file system of its own."""
PIECES = 24
MAKE = f"""
set -e
umount /srv/small 2>/dev/null || true
truncate -s 192M /srv/small.img
mkfs.ext4 -q -F /srv/small.img
mkdir -p /srv/small
mount -o loop /srv/small.img /srv/small
rm -f {IMAGE}
truncate -s 64M {IMAGE}
for at in $(seq 0 2 46); do
    dd if=/dev/urandom of={IMAGE} bs=1M count=1 seek=$at conv=notrunc status=none
done
cp --sparse=always {IMAGE} /srv/small/image.raw
sync
"""
LARGE = "/srv/large.raw"
LARGE_MIB = 192
TIMEOUT = 5
MARGIN = 60.0
"""What a call may take beside the copy's and the undo's deadline, s: it is a slow machine."""


@pytest.fixture(scope="module")
def host(lab: Lab, rig: Rig) -> Iterator[Side]:
    """The first host, with the backends small (ext4), local and nas."""
    nas = lab.servers["nas1"]
    assert isinstance(nas, NfsServer)
    found = Side(rig)
    rig.start()
    rig.ask(do="wipe")
    empty(nas.data("rw"))
    found.sh(MAKE, timeout=120)
    backends = [
        {"name": "small", "kind": "local_file", "path": SMALL},
        {"name": "local", "kind": "local_file"},
        {"name": "nas", "kind": "nfs", "server": nas.address, "export": "/export/rw", "timeout": 60},
    ]
    found.works("storage_backend", backends=backends)
    yield found
    rig.ask(do="wipe")
    found.sh(f"umount /srv/small; rm -f {LARGE} {IMAGE} /srv/small.img")


def on_small(host: Side) -> set[str]:
    """What lies there that is neither marker nor kept image."""
    return strays(set(host.sh(f"cd {SMALL} && find . -mindepth 1 -printf '%P\\n'").split()))


CLONE = {"name": "web1", "backend": "small"}
OPERATIONS: dict[str, dict[str, Any]] = {
    # What is on the backend is copied there; what comes from elsewhere is read and written.
    "clone": {**CLONE, "image": "/srv/small/image.raw"},
    "put": {**CLONE, "image": IMAGE},
    "snapshot": {"name": "web0", "snapshots": ["one"]},
}
CALLS = {"clone": "copy_file_range", "put": "pwrite64", "snapshot": "copy_file_range"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_disk_that_becomes_full_leaves_nothing_half_made(
    host: Side, operation: str, request: pytest.FixtureRequest
) -> None:
    """ENOSPC at the first write of the data, in the middle and at the last; then there is room again."""
    host.works("storage_volume", name="web0", backend="small", image="/srv/small/image.raw")
    wanted, call = OPERATIONS[operation], CALLS[operation]
    back = {**wanted, "snapshots": []} if operation == "snapshot" else {"name": "web1", "state": "absent"}
    traced = host.rig.run("storage_volume", wanted, trace=True)
    assert traced["result"] and not traced["result"].get("failed"), traced["result"]
    writes = [event for event in events(traced["trace"]) if event.call == call and event.where.startswith(SMALL)]
    assert len(writes) >= PIECES, [event.key for event in events(traced["trace"])]
    host.works("storage_volume", **back)
    host.works("storage_volume", volumes=[], prune_images=True)
    before = on_small(host)
    places = [writes[len(writes) // 2], writes[0], writes[-1]]
    for event in places[:1] if request.config.getoption("--sample") else places:
        answer = host.rig.run("storage_volume", wanted, kill=[event.role, call, event.count], error="ENOSPC")
        assert kind(answer["result"]) == "full", answer
        assert "No space left" in answer["result"]["msg"]
        assert on_small(host) == before
        assert not host.registered()["journal"]
        done = host.works("storage_volume", **wanted)
        assert done["changed"]
        host.sh(f"cmp -n {64 << 20} {IMAGE} {done['volume']['path']}")
        host.works("storage_volume", **back)
        host.works("storage_volume", volumes=[], prune_images=True)
        assert on_small(host) == before
        counts.add("full disks")
    host.works("storage_volume", name="web0", state="absent")


def test_what_does_not_fit_is_refused_before_it_is_begun(host: Side) -> None:
    host.sh("fallocate -l $(df -B1 --output=avail /srv/small | tail -1) /srv/small/ballast")
    try:
        result = host.call("storage_volume", **OPERATIONS["clone"])
    finally:
        host.sh("rm /srv/small/ballast")
    assert kind(result) == "full" and "bytes are needed" in result["msg"], result
    assert not on_small(host) and not host.registered()["journal"]


@pytest.fixture(scope="module")
def large(host: Side) -> str:
    """An image whose copy takes a while."""
    host.sh(f"head -c {LARGE_MIB}M /dev/urandom > {LARGE} && sync", timeout=120)
    return LARGE


@pytest.mark.parametrize(("operation", "how"), [("clone", "cut"), ("move", "kill")])
def test_a_server_that_goes_in_the_middle_of_a_copy(lab: Lab, host: Side, large: str, operation: str, how: str) -> None:
    nas = lab.servers["nas1"]
    assert isinstance(nas, NfsServer)
    wanted: dict[str, Any] = {"name": "big", "backend": "nas", "timeout": TIMEOUT}
    if operation == "move":
        host.works("storage_volume", name="big", backend="local", image=large)
        wanted["move"] = True
    else:
        wanted["image"] = large
    host.begin("storage_volume", **wanted)

    def halfway() -> bool:
        with contextlib.suppress(FileNotFoundError):
            hidden = [path for path in nas.data("rw").rglob(".*") if path.is_file()]
            return any(path.stat().st_blocks * 512 > LARGE_MIB << 18 for path in hidden)  # a quarter
        return False

    wait_until(halfway, 60, "a part of the copy")
    nas.cut()  # at once: to kill it may take as long as the rest of the copy
    begun = time.monotonic()
    if how == "kill":
        nas.kill()
        nas.join()
    try:
        # The child that copied can't die before its server is back, and the agent waits for all: the call does not.
        wait_until(
            lambda: host.sh("tail -c 2 /run/faults.out").endswith("}\n"), 2 * TIMEOUT + MARGIN, "the call to end"
        )
        print(f"the call ended {time.monotonic() - begun:.1f} s after the server went")
    finally:
        nas.start() if how == "kill" else nas.join()
    result = host.result()
    assert kind(result) in ("timeout", "unreachable"), result
    assert "big.raw" not in listing(nas.data("rw")), "a half volume under its own name"
    if operation == "move":
        host.sh(f"cmp {large} $(find /var/lib/microvm/volumes -name '*big.raw*')")
    done = host.works("storage_volume", **{**wanted, "timeout": 60})
    host.sh(f"cmp {large} {done['volume']['path']}", timeout=120)
    assert host.works("storage_volume", **wanted)["changed"] is False
    host.works("storage_volume", name="big", state="absent")
    host.works("storage_volume", volumes=[], prune_images=True)
    assert not strays(set(listing(nas.data("rw")))) and not host.registered()["journal"]
    counts.add("servers lost in a copy")
