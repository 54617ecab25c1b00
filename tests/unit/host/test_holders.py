# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps a mount busy: real processes; only the table of mounts is a recorded one, with a directory in it."""

from __future__ import annotations

import io
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import holders, mounts

READY = "print(flush=True); input()"


@pytest.fixture(name="mount")
def mounted(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    lines = [
        "48 32 0:36 / %s rw,nosuid,nodev,relatime shared:82 - nfs4 nas1:/export/rw rw,vers=4.2" % (tmp_path / "a"),
        "49 48 0:37 / %s rw,relatime shared:83 - tmpfs tmpfs rw" % (tmp_path / "a" / "below"),
        "50 32 0:38 / %s rw,relatime shared:84 - tmpfs tmpfs rw" % (tmp_path / "ab"),
    ]
    monkeypatch.setattr(mounts, "table", lambda pid="self": [mounts.parse_line(line) for line in lines])
    (tmp_path / "a" / "sub").mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    return tmp_path / "a"


def held_by(mount: pathlib.Path, script: str, cwd: pathlib.Path) -> tuple[list[str], int]:
    """What is found while a process runs ``script`` in ``cwd``, and its pid."""
    program = [sys.executable, "-c", script + READY]
    with subprocess.Popen(program, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        t.cast("t.IO[bytes]", process.stdout).readline()
        try:
            return holders.of_mount(str(mount)), process.pid
        finally:
            process.kill()


def test_a_working_directory(mount: pathlib.Path) -> None:
    found, pid = held_by(mount, "", mount / "sub")
    assert found[0] == "mount %s" % (mount / "below")
    assert [text for text in found[1:] if text.endswith(" (%d)" % pid)]


def test_an_open_file(mount: pathlib.Path) -> None:
    found, pid = held_by(mount, "file = open(%r, 'w'); " % str(mount / "file"), pathlib.Path("/"))
    assert [text for text in found if text.endswith(" (%d)" % pid)]


def test_a_process_next_to_it(mount: pathlib.Path) -> None:
    found, dummy = held_by(mount, "", mount.with_name("ab"))
    assert found == ["mount %s" % (mount / "below")]


def test_what_is_no_mount(mount: pathlib.Path) -> None:
    assert holders.of_mount(str(mount / "sub")) == []


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("0::/microvm.slice/microvm@web-1.a.service", "machine web-1.a"),
        ("0::/microvm.slice/microvm-fs@web1@home.service", "machine web1"),
        ("0::/microvm.slice/microvm-lock@web1.service", "machine web1"),
        ("0::/system.slice/microvm-recover.service", "python3"),
        ("0::/user.slice/user-0.slice/session-1.scope", "python3"),
        ("0::/", "python3"),
    ],
)
def test_machines_go_by_their_names(monkeypatch: pytest.MonkeyPatch, group: str, name: str) -> None:
    files = {"/proc/7/cgroup": group + "\n", "/proc/7/comm": "python3\n"}
    monkeypatch.setattr("builtins.open", lambda path, **how: io.StringIO(files[path]))
    assert holders._name("7") == name
