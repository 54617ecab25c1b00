# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Overlays: what is refused, what the guest is told, and the disk that is emptied."""

from __future__ import annotations

import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import diskfs, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import definition, fresh, overlays
from tests.unit.machines.given import asked
from tests.unit.machines.test_unit import files

SHARE = {"tag": "app", "source": "/srv/app", "read_only": True, "mount_point": "/app"}
UPPER = {"volume": "upper", "size": "4MiB", "serial": "upper"}
OVERLAY = {"lower": "app", "upper": "upper", "mount_point": "/rw"}


def given(**more: t.Any) -> dict[str, t.Any]:
    """A machine with one overlay."""
    return {"shares": [SHARE], "disks": [UPPER], "overlays": [OVERLAY], **more}


def test_the_guest_mounts_the_disk_and_then_the_two_as_one() -> None:
    config = asked(**given())
    top = "/run/overlays/upper"
    options = f"lowerdir=/app,upperdir={top}/upper,workdir={top}/work"
    wants = f"x-systemd.requires-mounts-for=/app,x-systemd.requires-mounts-for={top}"
    assert definition.guest_args(config) == [
        "systemd.mount-extra=app:/app:virtiofs:ro",
        f"systemd.mount-extra=/dev/disk/by-id/virtio-upper:{top}:ext4:rw",
        f"systemd.mount-extra=overlay:/rw:overlay:{options},{wants}",
    ]
    volume = definition.volume_of(config["disks"][0], 60, "")
    assert volume.filesystem == {"type": "ext4", "directories": ["upper", "work"]}
    other = asked(**given(disks=[{"volume": "upper", "serial": "upper"}]))
    assert definition.volume_of(other["disks"][0], 60, "").filesystem is None, "it is there already"


@pytest.mark.parametrize(
    ("options", "field", "text"),
    [
        ({"overlays": [{**OVERLAY, "upper": "app"}]}, "overlays[0].upper", "a share can't be it"),
        ({"disks": [{**UPPER, "read_only": True}]}, "overlays[0].upper", "read-only"),
        ({"overlays": [OVERLAY, {**OVERLAY, "mount_point": "/x"}]}, "overlays[1].upper", "another overlay"),
        ({"overlays": [{**OVERLAY, "mount_point": "/"}]}, "overlays[0].mount_point", "not the root"),
        ({"overlays": [{**OVERLAY, "mount_point": "/a:b"}]}, "overlays[0].mount_point", "colon"),
        ({"overlays": [{**OVERLAY, "mount_point": "a"}]}, "overlays[0].mount_point", "absolute"),
        (
            {"disks": [{"path": "/a", "serial": "upper"}], "overlays": [{**OVERLAY, "reset": "on_start"}]},
            "overlays[0].reset",
            "no volume",
        ),
    ],
)
def test_refused_with_the_field_at_fault(options: dict[str, t.Any], field: str, text: str) -> None:
    with pytest.raises(HostError) as refused:
        asked(**given(**options))
    assert refused.value.field == "machines[0]." + field
    assert text in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    ("overlay", "share", "field"),
    [
        ({"lower": "none"}, {}, "lower"),
        ({}, {"mount_point": ""}, "lower"),
        ({"mount_point": "/app"}, {}, "mount_point"),
    ],
)
def test_a_lower_is_a_share_that_is_mounted(overlay: dict[str, str], share: dict[str, str], field: str) -> None:
    with pytest.raises(HostError) as refused:
        overlays.refuse_unfounded([{**OVERLAY, **overlay}], [{**SHARE, **share}], "m.")
    assert refused.value.field == "m.overlays[0]." + field
    overlays.refuse_unfounded([OVERLAY], [SHARE], "m.")


def test_the_service_empties_the_disk() -> None:
    config = asked(**given(overlays=[{**OVERLAY, "reset": "on_start"}]))
    config["disks"][0]["path"] = "/var/lib/microvm/volumes/upper.raw"
    lines = files(config)["microvm@web1.service"].splitlines()
    empty = f"ExecStartPre=+{systemd.TOOL} vm-fresh /var/lib/microvm/volumes/upper.raw"
    (locked,) = (line for line in lines if line.startswith("ExecStartPre=+/bin/sh") and "lock@web1" in line)
    assert lines.index(locked) < lines.index(empty)
    assert "vm-fresh" not in files(asked(**given()))["microvm@web1.service"]


def test_a_disk_is_emptied_unless_it_is_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4 << 20))
    for dummy in range(2):
        assert fresh.run(str(disk)) == 0
        assert diskfs.kind(str(disk)) == "ext4"
        shown = subprocess.run(["debugfs", "-R", "ls -p /", str(disk)], capture_output=True, text=True, check=True)
        names = {line.split("/")[5] for line in shown.stdout.splitlines() if line}
        assert names == {".", "..", "lost+found", "upper", "work"}
        subprocess.run(["debugfs", "-w", "-R", "mkdir upper/mine", str(disk)], capture_output=True, check=True)
    foreign = b"XFSB" + bytes(1 << 20)
    disk.write_bytes(foreign)
    assert fresh.run(str(disk)) == 1 and disk.read_bytes() == foreign
    assert "is no ext4, it is left as it is" in capsys.readouterr().err
    assert fresh.run(str(tmp_path / "none")) == 1
