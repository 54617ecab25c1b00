# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The marker of a backend, and what a run leaves that is killed while it makes one."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.microvm.host.plugins.module_utils._storage import probe


def test_a_temporary_name_that_was_left_goes_with_the_next_use(tmp_path: Path) -> None:
    root = os.open(tmp_path, probe.DIRECTORY)
    try:
        made = probe.identify(root, "any", True, "here")
        folder = tmp_path / probe.FOLDER
        os.link(folder / probe.MARKER, folder / probe._temporary_marker())  # killed after the link
        assert probe.identify(root, made["uuid"], False, "here") == made, "a reader leaves it"
        assert len(list(folder.iterdir())) == 2
        assert probe.identify(root, made["uuid"], True, "here") == made
        assert [path.name for path in folder.iterdir()] == [probe.MARKER]
    finally:
        os.close(root)
