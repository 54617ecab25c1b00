# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host has, in one SQLite file. Private to microvm.host.

A connection lives for one transaction, so that none crosses a fork and none is open while somebody waits for a
server. The SQL is that of SQLite 3.34. Readers never write, not even to roll back what a killed writer left.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

PATH = "/var/lib/microvm/registry.db"
VERSION = 1
"""Of the schema. No release has had another: until 0.1.0 tables and columns are added without a new version."""
BUSY_SECONDS = 10.0

SCHEMA = """
CREATE TABLE mounts (
  id INTEGER PRIMARY KEY,
  identity TEXT NOT NULL UNIQUE,
  path TEXT NOT NULL UNIQUE,
  asked TEXT NOT NULL,
  attached TEXT,
  shown TEXT,
  version TEXT,
  address TEXT
);
CREATE TABLE mount_users (
  user TEXT PRIMARY KEY,
  mount INTEGER NOT NULL REFERENCES mounts (id),
  persistent INTEGER NOT NULL
);
CREATE TABLE targets (
  user TEXT PRIMARY KEY,
  identity TEXT NOT NULL UNIQUE,
  asked TEXT NOT NULL,
  facts TEXT NOT NULL,
  logged_in INTEGER NOT NULL
);
CREATE TABLE backends (
  name TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  config TEXT NOT NULL,
  uuid TEXT NOT NULL UNIQUE,
  identity TEXT NOT NULL CHECK (identity IN ('marker', 'weak')),
  capabilities TEXT NOT NULL,
  enabled INTEGER NOT NULL,
  is_default INTEGER NOT NULL
);
CREATE UNIQUE INDEX one_default ON backends (is_default) WHERE is_default = 1;
CREATE TABLE volumes (
  name TEXT PRIMARY KEY,
  backend TEXT NOT NULL REFERENCES backends (name),
  size INTEGER NOT NULL,
  uuid TEXT NOT NULL,
  config TEXT NOT NULL
);
CREATE TABLE docker_volumes (
  name TEXT PRIMARY KEY,
  backend TEXT REFERENCES backends (name),
  opts TEXT NOT NULL,
  created TEXT NOT NULL
);
CREATE TABLE machines (
  name TEXT PRIMARY KEY,
  config TEXT NOT NULL,
  kind TEXT NOT NULL,
  accelerator TEXT NOT NULL
);
CREATE TABLE journal (
  id TEXT PRIMARY KEY,
  resource TEXT NOT NULL,
  name TEXT NOT NULL,
  pid INTEGER NOT NULL,
  committed INTEGER NOT NULL,
  steps TEXT NOT NULL,
  known TEXT NOT NULL
);
"""

Row = dict[str, t.Any]
JSON_COLUMNS = frozenset({"asked", "attached", "shown", "config", "facts", "capabilities", "steps", "known", "opts"})


@contextlib.contextmanager
def reading(path: str = PATH) -> t.Iterator[sqlite3.Connection]:
    """A connection that can't write; an empty registry where there is none.

    Raises HostError ``unsupported`` for a registry of a newer collection, ``internal`` for one that is no database.
    """
    with _errors(path), contextlib.ExitStack() as held:
        connection = _opened("file:%s?mode=ro" % _uri(path) if os.path.exists(path) else ":memory:")
        held.callback(connection.close)
        connection.execute("BEGIN")  # all queries see one state
        try:
            version = _version(connection, path)
        except sqlite3.OperationalError:
            if not _hot(path):
                raise
            # A killed writer left a journal. Rolling it back is a write: do it on a copy.
            folder = held.enter_context(tempfile.TemporaryDirectory(prefix="microvm-"))
            for suffix in ("", "-journal"):
                shutil.copyfile(path + suffix, os.path.join(folder, "registry.db" + suffix))
            connection = _opened("file:%s/registry.db?mode=rw" % folder)
            held.callback(connection.close)
            version = _version(connection, path)
        if version == 0:  # none yet, or killed before the first transaction
            connection = _opened(":memory:")
            held.callback(connection.close)
            connection.executescript(SCHEMA)
        yield connection


@contextlib.contextmanager
def writing(path: str = PATH) -> t.Iterator[sqlite3.Connection]:
    """One durable transaction: committed at the end of the block, rolled back when it raises.

    Makes the registry (0600, in a 0755 directory) when there is none and migrates an older one.
    """
    with _errors(path):
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = _opened("file:%s?mode=rw" % _uri(path))
        try:
            # With FULL a loss of power soon afterwards may bring the rollback journal back, and undo the transaction.
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            if _version(connection, path) == 0:
                for statement in SCHEMA.split(";\n"):
                    if statement.strip():
                        connection.execute(statement)
                connection.execute("PRAGMA user_version = %d" % VERSION)
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            connection.close()


def rows(connection: sqlite3.Connection, sql: str, *values: t.Any) -> list[Row]:
    """The rows of a query as dicts, their JSON columns read."""
    found = []
    for row in connection.execute(sql, values):
        item = dict(row)
        for key in JSON_COLUMNS & item.keys():
            if item[key] is not None:
                item[key] = json.loads(item[key])
        found.append(item)
    return found


def put(connection: sqlite3.Connection, table: str, row: Row) -> None:
    """Insert a row, or update the one with its key (the first column); other rows are never replaced."""
    values = {key: stored(key, value) for key, value in row.items()}
    key = next(iter(values))
    changes = ", ".join("%s = :%s" % (name, name) for name in values)
    connection.execute(
        "INSERT INTO %s (%s) VALUES (%s) ON CONFLICT (%s) DO UPDATE SET %s"
        % (table, ", ".join(values), ", ".join(":" + name for name in values), key, changes),
        values,
    )


def stored(key: str, value: t.Any) -> t.Any:
    """A value as its column keeps it: JSON text where the column holds JSON."""
    return json.dumps(value, sort_keys=True) if key in JSON_COLUMNS and value is not None else value


def _opened(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(name, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def _uri(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _hot(path: str) -> bool:
    try:
        return os.path.getsize(path + "-journal") > 0
    except OSError:
        return False


def _version(connection: sqlite3.Connection, path: str) -> int:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise HostError(
            "unsupported",
            "the registry %s has version %d, this collection knows up to %d" % (path, found, VERSION),
            "use the newer microvm.host that wrote it",
        )
    return found


@contextlib.contextmanager
def _errors(path: str) -> t.Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "full" in text:
            raise HostError("full", "the registry %s: %s" % (path, text), "make room on that file system") from None
        if "locked" in text:
            raise HostError("busy", "the registry %s: %s" % (path, text), "run it again") from None
        raise HostError("internal", "the registry %s: %s" % (path, text)) from None
    except sqlite3.DatabaseError as error:
        raise HostError("internal", "the registry %s: %s" % (path, error), "restore it from a backup") from None
    except OSError as error:
        from ansible_collections.microvm.host.plugins.module_utils._host import files

        raise files.from_os(error, "opening the registry %s" % path) from None
