# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirror is the checkout as it is now: edits, new files and removals."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.gates.mirror import files_of, mirror


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git repository with one committed, one new and one ignored file, and a link."""
    tree = tmp_path / "any name"
    (tree / "roles" / "a").mkdir(parents=True)
    (tree / ".gitignore").write_text("/build/\n*.pyc\n")
    (tree / "roles" / "a" / "committed").write_text("1")
    (tree / "ignored.pyc").write_text("1")
    (tree / "link").symlink_to("roles")
    subprocess.run(["git", "init", "--quiet"], cwd=tree, check=True)
    subprocess.run(["git", "add", "roles"], cwd=tree, check=True)
    (tree / "new").write_text("1")
    return tree


def test_the_mirror_has_what_git_tracks_or_would_track(checkout: Path) -> None:
    target = mirror(checkout, checkout / "build" / "ns" / "name")
    assert files_of(target) == {".gitignore", "roles/a/committed", "link", "new"}
    assert os.readlink(target / "link") == "roles"


def test_the_mirror_follows_edits_and_removals(checkout: Path) -> None:
    target = mirror(checkout, checkout / "build" / "ns" / "name")
    (target / "cache.pyc").write_text("of a gate")
    (checkout / "new").write_text("2")
    (checkout / "new").chmod(0o755)
    (checkout / "roles" / "a" / "committed").unlink()
    mirror(checkout, target)
    assert (target / "new").read_text() == "2"
    assert (target / "new").stat().st_mode & 0o777 == 0o755
    assert not (target / "roles").exists()
    assert (target / "cache.pyc").exists()


def test_what_did_not_change_is_not_written_again(checkout: Path) -> None:
    target = mirror(checkout, checkout / "build" / "ns" / "name")
    before = (target / "new").stat()
    mirror(checkout, target)
    assert (target / "new").stat().st_ino == before.st_ino
