# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirrors the checkout to ``build/ansible_collections/microvm/host``, edits included.

ansible-test accepts a collection only under a real path of that form, and the checkout may have any name. What git
tracks or would track is copied; what is gone from the checkout goes from the mirror; caches of the gates, which are
ignored, stay there. The mirror is a git repository of its own, because the outer one ignores ``build/`` and
ansible-test, ansible-lint and reuse ask git which files exist.
"""

from __future__ import annotations

import fcntl
import filecmp
import os
import shutil
import subprocess
from pathlib import Path

from tests.gates.paths import MIRROR, ROOT


def files_of(tree: Path) -> set[str]:
    """Relative paths of the files below ``tree`` that git tracks or would track, without those deleted since.

    Raises ``subprocess.CalledProcessError`` when ``tree`` is not in a git repository.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=tree,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    return {name for name in os.fsdecode(listed).split("\0") if name and os.path.lexists(tree / name)}


def same(source: Path, target: Path) -> bool:
    """Whether ``target`` already is a copy of ``source``: kind, content and permissions."""
    if not os.path.lexists(target) or source.is_symlink() != target.is_symlink():
        return False
    if source.is_symlink():
        return os.readlink(source) == os.readlink(target)
    return source.stat().st_mode == target.stat().st_mode and filecmp.cmp(source, target, shallow=True)


def copy(source: Path, target: Path) -> None:
    """Replace ``target`` by a copy of ``source`` with its time, so that caches keyed by it stay warm."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(target.name + ".mirror")
    shutil.copy2(source, fresh, follow_symlinks=False)
    os.replace(fresh, target)


def remove(target: Path, top: Path) -> None:
    """Remove a file below ``top``, and the directories that it leaves empty."""
    target.unlink()
    for parent in target.parents:
        if parent == top or any(parent.iterdir()):
            return
        parent.rmdir()


def mirror(source: Path = ROOT, target: Path = MIRROR) -> Path:
    """Bring ``target`` up to date and return its path. Safe to call from several processes at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / ".git").is_dir():
            target.mkdir(exist_ok=True)
            subprocess.run(["git", "init", "--quiet"], cwd=target, check=True)
        wanted = files_of(source)
        for name in files_of(target) - wanted:
            remove(target / name, target)
        for name in wanted:
            if not same(source / name, target / name):
                copy(source / name, target / name)
        # With nothing in the index, git cannot tell reuse which directories hold only ignored files.
        subprocess.run(["git", "add", "--all"], cwd=target, check=True)
    return target


if __name__ == "__main__":
    print(mirror())
