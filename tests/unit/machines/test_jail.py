# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of a jail is removed, but nothing that is mounted there. A real one: tests/contract/test_firecracker."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import mounts
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import jail


def fill(base: Path) -> Path:
    """A jail that a machine left; what it had of the host."""
    disk = base / "firecracker" / "web1" / "root" / "srv" / "disk.raw"
    disk.parent.mkdir(parents=True)
    disk.write_text("data")
    (base / "link").symlink_to("/etc")
    return disk


def test_what_is_left_goes(tmp_path: Path) -> None:
    fill(tmp_path / "jail")
    jail.clear(str(tmp_path / "jail"))
    assert list((tmp_path / "jail").iterdir()) == []
    jail.clear(str(tmp_path / "none"))
    assert Path("/etc/passwd").exists()


def test_what_is_mounted_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = fill(tmp_path / "jail")
    mounted = mounts.table()[0]._replace(path=str(disk))
    monkeypatch.setattr(mounts, "table", lambda: [mounted._replace(path=str(tmp_path / "jail")), mounted])
    with pytest.raises(HostError, match="is a mount") as refused:
        jail.clear(str(tmp_path / "jail"))
    assert refused.value.kind == "in_use" and disk.read_text() == "data"


def test_a_jail_that_cannot_be_made_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    given = jail.Jail("/usr/bin/jailer", "web1", "nobody-of-that-name", "/nowhere", (), (), ())
    assert jail.run(given, ["/usr/bin/firecracker"]) == 1
    assert "nobody-of-that-name" in capsys.readouterr().err
