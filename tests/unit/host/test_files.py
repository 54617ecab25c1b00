# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or not there, on a real file system."""

from __future__ import annotations

import errno
import os
import pathlib
import resource
import signal
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import deadline, files
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


def test_write_makes_and_replaces(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "unit"
    files.write(str(path), b"one", 0o640, "aa")
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o7777 == 0o640
    inode = path.stat().st_ino
    files.write(str(path), b"two", 0o644, "bb")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o7777 == 0o644
    assert path.stat().st_ino != inode  # a new file took the name: who reads the old one still has it whole
    assert os.listdir(tmp_path) == ["unit"]


def test_write_gives_the_mode_whatever_the_umask(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "unit"
    before = os.umask(0o777)
    try:
        files.write(str(path), b"one", 0o644, "aa")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o7777 == 0o644


def test_a_write_that_finds_no_room_leaves_the_old_file(tmp_path: pathlib.Path) -> None:
    """The limit on the size of a file stops write(2) in its middle, as a full disk does, with EFBIG."""
    path = tmp_path / "unit"
    files.write(str(path), b"old", 0o644, "aa")

    def work() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            files.write(str(path), b"n" * 100_000, 0o644, "bb")
        except HostError as error:
            return error.message
        return "written"

    assert deadline.call(work, 10, "writing") == "writing %s: %s" % (path, os.strerror(errno.EFBIG))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["unit"]


def test_a_killed_write_leaves_the_old_file_and_forget_clears_up(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "unit"
    files.write(str(path), b"old", 0o644, "aa")

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        files.write(str(path), b"n" * 100_000, 0o644, "bb")  # SIGXFSZ ends this process

    with pytest.raises(HostError, match="was killed"):
        deadline.call(work, 10, "writing")
    assert path.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == [".unit.bb", "unit"]
    files.forget(str(path), "bb")
    files.forget(str(path), "bb")
    assert os.listdir(tmp_path) == ["unit"]


def test_write_below_a_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="Not a directory") as caught:
        files.write(str(tmp_path / "file" / "unit"), b"", 0o644, "aa")
    assert caught.value.kind == "conflict"


def test_write_does_not_follow_a_link_at_the_temporary_name(tmp_path: pathlib.Path) -> None:
    (tmp_path / "precious").write_text("as it was")
    (tmp_path / ".unit.aa").symlink_to(tmp_path / "precious")
    with pytest.raises(HostError) as caught:
        files.write(str(tmp_path / "unit"), b"new", 0o644, "aa")
    assert caught.value.kind == "conflict"
    assert (tmp_path / "precious").read_text() == "as it was"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, "full"),
        (errno.EDQUOT, "full"),
        (errno.EROFS, "refused"),
        (errno.EACCES, "refused"),
        (errno.ENOTDIR, "conflict"),
        (errno.EIO, "internal"),
    ],
)
def test_kinds_of_errors(number: int, kind: str) -> None:
    error = files.from_os(OSError(number, "x"), "writing /a")
    assert (error.kind, error.message) == (kind, "writing /a: " + os.strerror(number))


def test_text_of(tmp_path: pathlib.Path) -> None:
    assert files.text_of(str(tmp_path / "none")) is None
    (tmp_path / "fstab").write_bytes(b"# Datentr\xe4ger\n")
    text = files.text_of(str(tmp_path / "fstab"))
    assert text is not None
    assert os.fsencode(text) == b"# Datentr\xe4ger\n"


def test_make_directories_says_what_it_made(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "a" / "b" / "c")
    assert files.make_directories(path) == [str(tmp_path / "a"), str(tmp_path / "a" / "b"), path]
    assert files.make_directories(path) == []
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert files.make_directories(str(tmp_path / "link" / "d")) == [str(tmp_path / "link" / "d")]


@pytest.mark.parametrize("below", ["", "/sub/sub"])
@pytest.mark.parametrize("what", ["file", "dangling"])
def test_make_directories_names_what_is_in_the_way(tmp_path: pathlib.Path, what: str, below: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(HostError, match="%s is not a directory" % (tmp_path / what)) as caught:
        files.make_directories(str(tmp_path / what) + below)
    assert caught.value.kind == "conflict"


def test_a_directory_that_another_host_made_is_seen_once_the_one_above_is_opened(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS client that has found none goes on saying so."""
    real, opened = os.open, []

    def noted(path: str, *more: t.Any, **options: t.Any) -> int:
        opened.append((path, options["dir_fd"]))
        return real(path, *more, **options)

    (tmp_path / "a").mkdir()
    root = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(os, "open", noted)
    assert not files.make_directory(str(tmp_path / "a"), 0o755)
    assert not files.make_directory("a", 0o755, dir_fd=root)
    assert files.make_directory("b", 0o755, dir_fd=root)
    os.close(root)
    assert opened == [(str(tmp_path), None), (".", root)]


def test_remove_empty(tmp_path: pathlib.Path) -> None:
    full, empty, file = tmp_path / "full", tmp_path / "empty", tmp_path / "full" / "file"
    full.mkdir()
    empty.mkdir()
    file.touch()
    assert files.remove_empty(str(empty))
    assert files.remove_empty(str(empty))
    assert not files.remove_empty(str(full))
    assert not files.remove_empty(str(file))
    assert file.exists()


def test_remove(tmp_path: pathlib.Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    files.remove(str(tmp_path / "link"))
    files.remove(str(tmp_path / "link"))
    assert os.listdir(tmp_path) == []


def test_a_link_is_made_with_its_directory_and_left_when_it_is_there(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "wants" / "a.service"
    files.link("/one", str(path))
    files.link("/other", str(path))
    assert os.readlink(path) == "/one"


def test_a_link_never_replaces_a_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.service").write_text("mine")
    with pytest.raises(HostError, match="linking") as caught:
        files.link("/one", str(tmp_path / "a.service"))
    assert caught.value.kind == "conflict"
    assert (tmp_path / "a.service").read_text() == "mine"


def test_the_inode_is_that_of_the_name(tmp_path: pathlib.Path) -> None:
    path, link = tmp_path / "disk", tmp_path / "link"
    assert files.inode(str(path)) is None
    path.touch()
    link.symlink_to(path)
    assert files.inode(str(path)) == path.stat().st_ino
    assert files.inode(str(link)) == link.lstat().st_ino != path.stat().st_ino
    with pytest.raises(NotADirectoryError, match="disk/below"):
        files.inode(str(path / "below"))
