# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks of disks: real locks on real files, of holders in this process and in others."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import time
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import deadline, lease
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


def wanted(folder: pathlib.Path, holder: str = "machine web1", host: str = "aaaaaaaa", crosses: bool = True) -> t.Any:
    return lease.Lease(str(folder / "locks"), "disk", holder, host, crosses)


def record(folder: pathlib.Path) -> dict[str, t.Any]:
    return lease.read(str(folder / "locks" / "disk"))


def test_one_holder_at_a_time_and_the_other_is_told_who(tmp_path: pathlib.Path) -> None:
    first, second = wanted(tmp_path), wanted(tmp_path, "machine web2")
    first.take()
    assert record(tmp_path)["holder"] == "machine web1"
    with pytest.raises(HostError, match=r"held by machine web1 on \S+ \(process %d" % os.getpid()) as refused:
        second.take()
    assert refused.value.kind == "in_use"
    assert refused.value.hint == "stop what uses it", "of this host nothing is taken over"
    first.release()
    assert record(tmp_path) == {}
    second.take(seconds=1)
    assert record(tmp_path)["holder"] == "machine web2"
    second.release()


def test_a_holder_that_dies_leaves_the_lock_free_where_locks_are_seen(tmp_path: pathlib.Path) -> None:
    def die() -> None:
        wanted(tmp_path).take()
        os._exit(0)

    with pytest.raises(HostError):
        deadline.call(die, 10, "dying")
    assert record(tmp_path)["holder"] == "machine web1"
    path = str(tmp_path / "locks" / "disk")
    assert lease.holder(path, "bbbbbbbb", crosses=True) == {}
    assert lease.holder(path, "bbbbbbbb", crosses=False)["holder"] == "machine web1"
    second = wanted(tmp_path, host="bbbbbbbb")
    second.take()
    assert lease.holder(path, "aaaaaaaa", crosses=True)["host"] == "bbbbbbbb"
    second.release()


def test_where_locks_are_not_seen_what_is_written_keeps_others_out(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = wanted(tmp_path, host="bbbbbbbb", crosses=False)
    other.take()
    left = record(tmp_path)
    other.release()
    path = tmp_path / "locks" / "disk"
    path.write_bytes(json.dumps(left).encode().ljust(lease.RECORD))  # its host has died
    mine = wanted(tmp_path, crosses=False)
    with pytest.raises(HostError, match="nobody can tell whether it is alive") as refused:
        mine.take()
    assert "takeover: true" in refused.value.hint
    assert record(tmp_path) == left
    again = wanted(tmp_path, host="bbbbbbbb", crosses=False)
    again.take()  # after a reboot the host itself
    again.release()
    path.write_bytes(json.dumps(left).encode().ljust(lease.RECORD))
    monkeypatch.setattr(lease, "WATCH_SECONDS", 1.5)
    mine.take(takeover=True)
    assert record(tmp_path)["host"] == "aaaaaaaa"
    mine.release()


def test_where_locks_are_not_seen_one_of_two_that_come_at_once_gets_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found the file empty when neither has written to it yet."""
    monkeypatch.setattr(fcntl, "fcntl", lambda *dummy: 0)  # as on two hosts
    first, second = (wanted(tmp_path, host=host, crosses=False) for host in ("aaaaaaaa", "bbbbbbbb"))
    write = lease.Lease._write
    told: list[str] = []

    def late(self: lease.Lease) -> None:
        if self is first and not told:
            with pytest.raises(HostError, match=r"held by machine web1 .*nobody can tell") as refused:
                second.take()
            told.append(refused.value.kind)
        write(self)

    monkeypatch.setattr(lease.Lease, "_write", late)
    first.take()
    assert told == ["in_use"] and record(tmp_path)["host"] == "aaaaaaaa"
    first.release()
    assert [path.name for path in (tmp_path / "locks").iterdir()] == ["disk"]
    second.take()
    assert record(tmp_path)["host"] == "bbbbbbbb"
    first.release()
    second.release()


def test_a_claim_that_a_dead_process_left_is_its_hosts(tmp_path: pathlib.Path) -> None:
    """It died when it had the claim and had not written to the lock yet."""
    mine, other = wanted(tmp_path, crosses=False), wanted(tmp_path, host="bbbbbbbb", crosses=False)
    mine.take()
    claim = pathlib.Path(mine.claim).read_bytes()
    mine.release()
    pathlib.Path(mine.claim).write_bytes(claim)
    with pytest.raises(HostError, match="nobody can tell") as refused:
        other.take()
    assert "takeover: true" in refused.value.hint
    again = wanted(tmp_path, crosses=False)
    again.take()
    again.release()
    assert not os.path.exists(mine.claim)


def test_a_holder_that_is_heard_of_is_not_taken_over(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "WATCH_SECONDS", 3.0)
    left = wanted(tmp_path, host="bbbbbbbb", crosses=False)
    left.take()
    path = tmp_path / "locks" / "disk"
    data = path.read_bytes()
    left.release()
    path.write_bytes(data)

    def beat() -> None:
        time.sleep(1.2)
        os.pwrite(os.open(path, os.O_WRONLY), data.replace(b'"beat": 0', b'"beat": 1'), 0)

    child = deadline.Child(lambda send: beat(), 10, "beating")
    mine = wanted(tmp_path, crosses=False)
    with pytest.raises(HostError, match=r"heard of \d s ago") as refused:
        mine.take(takeover=True)
    assert "takeover" not in refused.value.hint and "stop what uses it on" in refused.value.hint
    deadline.wait_any([child])


@pytest.mark.parametrize("crosses", [True, False])
def test_a_holder_learns_that_it_was_taken_over(tmp_path: pathlib.Path, crosses: bool) -> None:
    mine = wanted(tmp_path, crosses=crosses)
    mine.take()
    mine.beat()
    assert record(tmp_path)["beat"] == 1
    text = json.dumps({**mine.record, "nonce": "other", "hostname": "hv2", "holder": "machine web2"})
    (tmp_path / "locks" / "disk").write_bytes(text.encode().ljust(lease.RECORD))
    with pytest.raises(HostError, match="taken over by machine web2 on hv2") as lost:
        mine.beat()
    assert lost.value.kind == "in_use"
    mine.release()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"nonce": 1}', b"{" * 512])
def test_what_others_write_does_no_harm(tmp_path: pathlib.Path, content: bytes) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "disk").write_bytes(content)
    assert record(tmp_path) == {}
    mine = wanted(tmp_path, crosses=False)
    mine.take()
    mine.release()


def test_the_file_goes_with_the_disk_and_no_lock_on_the_old_one_counts(tmp_path: pathlib.Path) -> None:
    mine, other = wanted(tmp_path), wanted(tmp_path, "machine web2")
    mine.take()
    mine.release(forget=True)
    assert not (tmp_path / "locks" / "disk").exists()
    other.take()
    assert record(tmp_path)["holder"] == "machine web2"
    other.release()


def test_many_may_read_a_disk_that_nobody_writes(tmp_path: pathlib.Path) -> None:
    readers, writer = [wanted(tmp_path), wanted(tmp_path)], wanted(tmp_path, "machine web1")
    for reader in readers:
        reader.take(shared=True)
    assert record(tmp_path) == {}
    with pytest.raises(HostError, match="being copied") as refused:
        writer.take()
    assert refused.value.kind == "in_use"
    for reader in readers:
        reader.release()
    writer.take()
    with pytest.raises(HostError, match="machine web1"):
        readers[0].take(shared=True)
    assert record(tmp_path)["holder"] == "machine web1"
    writer.release()
