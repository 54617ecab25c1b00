# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts and one backend: a name is given once, a disk has one writer, and who is gone can be succeeded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from extensions.molecule.calls import call
from extensions.molecule.managed import Managed
from tests.lab.daemon import wait_until

TOOL = "/usr/local/libexec/microvm/microvm-tool"
LEASE_SECONDS = 20
"""Of the lab's servers."""
ROUNDS = 5


def hold(host: Managed, name: str) -> str:
    """Hold a volume with a program that does nothing; its process id."""
    pid = host.sh(
        f"{TOOL} lock --volume {name} --holder 'machine web1' -- sleep 1000 >/run/held 2>&1 </dev/null & echo $!"
    ).strip()
    wait_until(lambda: "locked" in host.sh("cat /run/held"), 30, "the lock")
    return pid


def gone(host: Managed, pid: str) -> bool:
    """Whether a process has ended."""
    return host.sh(f"test -d /proc/{pid} && echo there || true") == ""


@pytest.fixture
def shared(hv1: Managed, hv2: Managed) -> Iterator[str]:
    """A volume of the first host on the backend of both, gone from both afterwards."""
    hv1.converges("storage_volume", name="shared", size="4MiB")
    yield "shared"
    for host in (hv1, hv2):
        status = {item["name"]: item["status"] for item in host.works("host_info", refresh=True).result["volumes"]}
        if status.get("shared") == "ok":
            host.works("storage_volume", name="shared", state="absent")
        host.row("DELETE FROM volumes WHERE name = 'shared'")


def test_of_two_hosts_one_gets_the_name(hv1: Managed, hv2: Managed) -> None:
    names = [f"race{number}" for number in range(ROUNDS)]
    wanted = [{"name": name, "size": "1MiB"} for name in names]
    running = [host.start(call("storage_volume", volumes=wanted)) for host in (hv1, hv2)]
    answers = [each.answers()[0] for each in running]
    for name in names:
        outcomes = [answer.items("volumes")[name] for answer in answers]
        won = [outcome for outcome in outcomes if "error" not in outcome]
        lost = [outcome for outcome in outcomes if "error" in outcome]
        assert len(won) == 1, outcomes
        assert lost[0]["error"]["kind"] in ("conflict", "in_use"), lost
    for host, answer in zip((hv1, hv2), answers, strict=True):
        own = [name for name in names if name not in answer.errors("volumes")]
        host.works("storage_volume", volumes=[{"name": name, "state": "absent"} for name in own])
    left = hv1.sh("ls -A /var/lib/microvm/mounts/nas-*/ | grep race || true")
    assert left == "", "the loser has left something, or the winner"


def test_a_disk_in_use_is_refused_here_and_there(hv1: Managed, hv2: Managed, shared: str) -> None:
    pid = hold(hv1, shared)
    for options in ({"size": "8MiB"}, {"snapshots": ["now"]}, {"state": "absent"}):
        answer = hv1.fails("storage_volume", "in_use", name=shared, **options)
        assert "machine web1 on hv1" in answer.result["msg"]
    answer = hv2.fails("storage_volume", "in_use", name=shared, backend="nas", adopt=True)
    assert "machine web1 on hv1" in answer.result["msg"]
    (held,) = [item for item in hv1.works("host_info", refresh=True).result["volumes"] if item["name"] == shared]
    assert held["lock"]["holder"] == "machine web1"
    hv1.sh(f"kill {pid}")
    wait_until(lambda: gone(hv1, pid), 10, "the holder to end")
    hv1.converges("storage_volume", name=shared, size="8MiB")


def test_a_disk_that_qemu_has_open_is_refused(hv1: Managed, shared: str) -> None:
    path = hv1.works("storage_volume", name=shared).result["volume"]["path"]
    hv1.sh(f"(sleep 1000 | qemu-io -f raw {path}) >/run/io 2>&1 </dev/null &")
    locked = f"grep -q :$(stat -c %i {path}) /proc/locks && echo yes || true"
    wait_until(lambda: hv1.sh(locked) != "", 20, "qemu-io to lock the disk")
    answer = hv1.fails("storage_volume", "in_use", name=shared, size="8MiB")
    assert "virtual machine" in answer.result["msg"]
    hv1.sh("pkill -x qemu-io; pkill -x sleep")
    wait_until(lambda: hv1.sh("pgrep -x qemu-io || true") == "", 10, "qemu-io to end")
    hv1.converges("storage_volume", name=shared, size="8MiB")


def test_a_holder_that_was_cut_off_is_stopped_when_another_has_taken_over(
    hv1: Managed, hv2: Managed, shared: str
) -> None:
    pid = hold(hv1, shared)
    program = hv1.sh(f"cat /proc/{pid}/task/{pid}/children").split()
    assert program
    hv1.host.cut()

    def taken() -> bool:
        (answer,) = hv2.run(call("storage_volume", name=shared, backend="nas", adopt=True))
        assert not answer.failed or answer.kind == "in_use", answer.result
        return not answer.failed

    wait_until(taken, 4 * LEASE_SECONDS, "the server to give the locks of the lost host up")
    hv1.host.join()
    wait_until(lambda: gone(hv1, pid), 60, "the lost holder to notice")
    assert "lock lost" in hv1.sh("cat /run/held")
    answer = hv1.fails("storage_volume", "conflict", name=shared, size="8MiB")
    assert "taken over by hv2" in answer.result["msg"]
    (seen,) = [item for item in hv1.works("host_info", refresh=True).result["volumes"] if item["name"] == shared]
    assert seen["status"] == "taken"


def test_what_a_host_leaves_that_loses_power_is_an_orphan_and_can_be_adopted(
    hv1: Managed, hv2: Managed, shared: str
) -> None:
    hv1.host.kill()
    try:
        orphans = {item["name"]: item for item in hv2.works("host_info", refresh=True).result["orphans"]}
        assert (orphans[shared]["owner"], orphans[shared]["backend"]) == ("hv1", "nas")
        hv2.fails("storage_volume", "conflict", name=shared, backend="nas", size="4MiB")
        done = hv2.converges("storage_volume", name=shared, backend="nas", adopt=True, size="8MiB")
        assert done.result["volume"]["actions"][0] == "adopt volume shared on nas from hv1"
    finally:
        hv1.host.boot()
