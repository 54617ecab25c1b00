# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry, a real SQLite file: constraints, versions, killed writers, readers that leave no trace."""

from __future__ import annotations

import os
import pathlib
import signal
import sqlite3
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


@pytest.fixture(name="path")
def registry_path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "lib" / "registry.db")


def backend(name: str, default: bool = False) -> registry.Row:
    return {
        "name": name,
        "kind": "nfs",
        "config": {"server": "nas", "path": None},
        "uuid": "uuid of " + name,
        "identity": "marker",
        "capabilities": ["sparse"],
        "enabled": 1,
        "is_default": int(default),
    }


def add(path: str, *rows: registry.Row) -> None:
    with registry.writing(path) as connection:
        for row in rows:
            registry.put(connection, "backends", row)


def found(path: str, table: str = "backends") -> list[registry.Row]:
    with registry.reading(path) as connection:
        return registry.rows(connection, "SELECT * FROM %s" % table)


def refused(path: str, work: t.Callable[[sqlite3.Connection], t.Any]) -> HostError:
    with pytest.raises(HostError) as caught, registry.writing(path) as connection:
        work(connection)
    return caught.value


def test_reading_nothing_makes_nothing(path: str, tmp_path: pathlib.Path) -> None:
    for table in ("mounts", "mount_users", "backends", "volumes", "journal"):
        assert found(path, table) == []
    assert os.listdir(tmp_path) == []


def test_rows_come_back(path: str) -> None:
    add(path, backend("a"), backend("b", default=True))
    assert found(path) == [backend("a"), backend("b", default=True)]
    add(path, dict(backend("a"), enabled=0))
    assert found(path)[0]["enabled"] == 0
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(os.path.dirname(path)) == ["registry.db"]


def test_one_default_only(path: str) -> None:
    add(path, backend("a", default=True))
    error = refused(path, lambda connection: registry.put(connection, "backends", backend("b", default=True)))
    assert "UNIQUE" in error.message
    assert [row["name"] for row in found(path)] == ["a"]


def test_a_backend_with_volumes_stays(path: str) -> None:
    add(path, backend("a"))
    with registry.writing(path) as connection:
        connection.execute("INSERT INTO volumes VALUES ('v', 'a', 1, 'u', '{}')")
    assert "FOREIGN KEY" in refused(path, lambda connection: connection.execute("DELETE FROM backends")).message
    assert len(found(path)) == 1


def test_a_block_that_raises_is_rolled_back(path: str) -> None:
    with pytest.raises(KeyError), registry.writing(path) as connection:
        registry.put(connection, "backends", backend("a"))
        raise KeyError
    assert found(path) == []


def test_a_newer_registry_is_refused(path: str) -> None:
    add(path, backend("a"))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = %d" % (registry.VERSION + 1))
    connection.close()
    for use in (registry.reading, registry.writing):
        with pytest.raises(HostError, match="has version 2, this collection knows up to 1") as caught, use(path):
            raise AssertionError("opened")
        assert caught.value.kind == "unsupported"


def test_what_is_no_database(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    pathlib.Path(path).write_text("no database " * 100)
    with pytest.raises(HostError, match="not a database") as caught:
        found(path)
    assert caught.value.kind == "internal"


def test_readers_do_not_write(path: str) -> None:
    add(path, backend("a"))
    with pytest.raises(HostError, match="readonly"), registry.reading(path) as connection:
        connection.execute("DELETE FROM backends")
    assert len(found(path)) == 1


def killed_in_the_middle(path: str) -> None:
    """Leave what a writer leaves that is killed when half of its pages are in the file."""

    def work() -> None:
        with registry.writing(path) as connection:
            connection.execute("PRAGMA cache_size = 5")
            for number in range(2000):
                registry.put(connection, "backends", backend("n%d" % number))
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(HostError, match="was killed"):
        deadline.call(work, 30, "writing")


def test_after_a_killed_writer_readers_see_the_state_before_and_touch_nothing(path: str) -> None:
    add(path, backend("a"))
    size = os.path.getsize(path)
    killed_in_the_middle(path)
    left = {name: pathlib.Path(path + name).read_bytes() for name in ("", "-journal")}
    assert len(left[""]) > size
    assert found(path) == [backend("a")]
    assert {name: pathlib.Path(path + name).read_bytes() for name in left} == left
    add(path, backend("b"))
    assert found(path) == [backend("a"), backend("b")]
    assert os.listdir(os.path.dirname(path)) == ["registry.db"]


def test_a_writer_killed_before_the_first_row(path: str) -> None:
    killed_in_the_middle(path)
    assert found(path) == []
    add(path, backend("a"))
    assert found(path) == [backend("a")]


def test_reading_while_another_process_writes(path: str) -> None:
    add(path, backend("a"))

    def work(send: t.Callable[[t.Any], None]) -> None:
        while True:
            add(path, backend("a"))
            send(1)

    writer = deadline.Child(work, 30, "writing")
    try:
        while len(writer.answers) < 100:
            writer.read()
            assert found(path) == [backend("a")]
    finally:
        writer.expire()
