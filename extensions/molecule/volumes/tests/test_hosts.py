# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts and one backend: a disk has one writer, and who is gone can be succeeded.

Each host has a volume on the backend of both; each of them loses it to the other here.
"""

from __future__ import annotations

from typing import Any

import pytest

from extensions.molecule.calls import call, refused
from extensions.molecule.managed import Managed
from tests.lab.daemon import wait_until

TOOL = "/usr/local/libexec/microvm/microvm-tool"
LEASE_SECONDS = 20
"""Of the lab's servers."""


@pytest.fixture(scope="module", autouse=True)
def answering(hv1: Managed, hv2: Managed) -> None:
    """The server was down at the end of the other file: each client comes back when it tries again."""
    for host in (hv1, hv2):
        wait_until(lambda host=host: host.backends(refresh=True)["nas"]["status"] == "ok", 120, "the server to answer")


def hold(host: Managed, name: str) -> str:
    """Hold a volume with a program that does nothing; its process id."""
    pid = host.sh(
        ": > /run/held;"
        f"{TOOL} lock --volume {name} --holder 'machine web1' -- sleep 1000 >>/run/held 2>&1 </dev/null & echo $!"
    ).strip()
    wait_until(lambda: "locked" in host.sh("cat /run/held"), 90, "the lock")
    return pid


def gone(host: Managed, pid: str) -> bool:
    """Whether a process has ended."""
    return host.sh(f"test -d /proc/{pid} && echo there || true") == ""


def test_a_disk_in_use_is_refused_here_and_there(hv1: Managed, hv2: Managed) -> None:
    pid = hold(hv1, "hv1-data")
    wanted = ({"size": "16MiB"}, {"snapshots": ["now"]}, {"state": "absent"})
    *here, info = hv1.run(
        *(call("storage_volume", name="hv1-data", **options) for options in wanted), call("host_info", refresh=True)
    )
    for answer in (*here, hv2.fails("storage_volume", "in_use", name="hv1-data", backend="nas", adopt=True)):
        refused(answer, "in_use")
        assert "machine web1 on hv1" in answer.result["msg"]
    assert info.items("volumes")["hv1-data"]["lock"]["holder"] == "machine web1"
    hv1.sh(f"kill {pid}")
    wait_until(lambda: gone(hv1, pid), 60, "the holder to end")


@pytest.mark.parametrize("backend", ["nas", "files"])
def test_a_takeover_that_is_refused_leaves_nothing_open(hv1: Managed, hv2: Managed, backend: str) -> None:
    wanted: dict[str, Any] = {"name": "taken", "backend": backend}
    hv1.works("storage_volume", size="1MiB", **wanted)
    pid = hold(hv1, "taken")
    answer, info = hv2.run(call("storage_volume", adopt=True, takeover=True, **wanted), call("host_info"))
    refused(answer, "in_use")
    said = answer.result["msg"] + answer.result["error"]["hint"]
    assert "machine web1 on hv1" in said and "heard of" in said and "takeover" not in said and "undo" not in said, said
    assert info.result["registry"]["open_intents"] == []
    hv1.sh(f"kill {pid}")
    wait_until(lambda: gone(hv1, pid), 60, "the holder to end")
    hv2.works("storage_volume", adopt=True, **wanted)
    pid = hold(hv2, "taken")
    hv2.sh(f"{TOOL} recover")
    again, info = hv2.run(call("storage_volume", **wanted), call("host_info", refresh=True))
    assert not again.changed and not again.failed, again.result
    assert info.items("volumes")["taken"]["status"] == "ok"
    hv2.sh(f"kill {pid}")
    wait_until(lambda: gone(hv2, pid), 60, "the holder to end")
    forgotten = hv1.works("storage_volume", name="taken", state="absent").result["volume"]
    assert forgotten["actions"] == ["forget volume taken, which is that of hv2 now"]
    hv2.works("storage_volume", name="taken", state="absent")


def test_a_disk_that_qemu_has_open_is_refused(hv1: Managed) -> None:
    path = hv1.sh("echo /var/lib/microvm/mounts/nas-*/hv1-data.raw").strip()
    hv1.sh(f"(sleep 1000 | qemu-io -f raw {path}) >/run/io 2>&1 </dev/null &")
    locked = f"grep -q :$(stat -c %i {path}) /proc/locks && echo yes || true"
    wait_until(lambda: hv1.sh(locked) != "", 20, "qemu-io to lock the disk")
    answer = hv1.fails("storage_volume", "in_use", name="hv1-data", size="16MiB")
    assert "virtual machine" in answer.result["msg"]
    hv1.sh("pkill -x qemu-io; pkill -x sleep")
    wait_until(lambda: hv1.sh("pgrep -x qemu-io || true") == "", 10, "qemu-io to end")
    hv1.converges("storage_volume", name="hv1-data", size="16MiB")


def test_a_holder_that_was_cut_off_is_stopped_when_another_has_taken_over(hv1: Managed, hv2: Managed) -> None:
    pid = hold(hv2, "hv2-data")
    hv2.host.cut()

    def taken() -> bool:
        (answer,) = hv1.run(call("storage_volume", name="hv2-data", backend="nas", adopt=True))
        assert not answer.failed or answer.kind == "in_use", answer.result
        return not answer.failed

    wait_until(taken, 4 * LEASE_SECONDS, "the server to give the locks of the lost host up")
    hv2.host.join()
    wait_until(lambda: gone(hv2, pid), 60, "the lost holder to notice")
    assert "lock lost" in hv2.sh("cat /run/held")
    answer, info, forgotten = hv2.run(
        call("storage_volume", name="hv2-data", size="16MiB"),
        call("host_info", refresh=True),
        call("storage_volume", name="hv2-data", state="absent"),
    )
    refused(answer, "conflict")
    assert "taken over by hv1" in answer.result["msg"]
    assert info.items("volumes")["hv2-data"]["status"] == "taken"
    assert forgotten.result["volume"]["actions"] == ["forget volume hv2-data, which is that of hv1 now"]


def test_a_group_that_was_taken_over_stops_who_held_its_disks(hv1: Managed, hv2: Managed) -> None:
    made = hv1.works("storage_volume", name="logical", backend="pool", size="8MiB").result["volume"]
    hv1.sh(f"printf kept | dd of={made['path']} bs=512 conv=sync,fsync oflag=direct status=none")
    pid = hold(hv1, "logical")
    used, info = hv1.run(
        call("storage_volume", name="logical", state="absent"),
        call("host_info", refresh=True),
    )
    refused(used, "in_use")
    assert "machine web1" in used.result["msg"]
    pool = {"name": "pool", "kind": "iscsi_lvm", "portal": "san1", "iqn": "iqn.2026-01.lab:open", "lun": 1}
    pool.update(vg="vg_pool", layout="thin", timeout=60, takeover=info.items("backends")["pool"]["owner"])
    owner = hv2.works("storage_backend", **pool).result["backend"]["owner"]
    wait_until(lambda: gone(hv1, pid), 60, "the former owner to notice")
    said = hv1.sh("cat /run/held")
    assert "lock lost" in said and f"belongs to {owner} now" in said
    wanted: dict[str, Any] = {"name": "logical", "backend": "pool", "adopt": True, "size": "12MiB"}
    info, done, again = hv2.run(
        call("host_info", refresh=True),
        call("storage_volume", **wanted),
        call("storage_volume", check=True, **wanted),
    )
    orphan = info.items("orphans")["logical"]
    assert (orphan["owner"], orphan["backend"]) == ("hv1", "pool")
    assert not done.failed and not again.changed, (done, again)
    assert hv2.sh(f"head -c 4 {done.result['volume']['path']}") == "kept"


def test_what_a_host_leaves_that_loses_power_is_an_orphan_and_can_be_adopted(hv1: Managed, hv2: Managed) -> None:
    path = "/var/lib/microvm/mounts/nas-*/hv1-data.raw"
    hv1.sh(f"printf kept | dd of=$(echo {path}) conv=notrunc,fsync status=none")
    hv1.host.kill()
    try:
        info, taken, adopted, grown = hv2.run(
            call("host_info", refresh=True),
            call("storage_volume", name="hv1-data", backend="nas"),
            call("storage_volume", name="hv1-data", backend="nas", adopt=True),
            call("storage_volume", name="hv1-data", backend="nas", adopt=True, size="24MiB"),
        )
        orphan = info.items("orphans")["hv1-data"]
        assert (orphan["owner"], orphan["backend"]) == ("hv1", "nas")
        refused(taken, "conflict")
        assert adopted.result["volume"]["actions"] == ["adopt volume hv1-data on nas from hv1"]
        assert grown.changed and not grown.failed, grown.result
        assert hv2.sh(f"head -c 4 {path}") == "kept"
    finally:
        hv1.host.boot()

    def back() -> bool:
        found = hv1.works("host_info", refresh=True).items("backends")
        return (found["pool"]["status"], found["nas"]["status"]) == ("standby", "ok")

    wait_until(back, 120, "the lost host to be logged in and mounted again, after its boot")
    lost = [{"name": name, "state": "absent"} for name in ("hv1-data", "logical")]
    forgotten = hv1.works("storage_volume", volumes=lost).items("volumes")
    assert forgotten["hv1-data"]["actions"] == ["forget volume hv1-data, which is that of hv2 now"]
    assert forgotten["logical"]["actions"][0].startswith("forget volume logical: backend pool belongs to ")
