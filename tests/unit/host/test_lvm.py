# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LVM's JSON as LVM 2.03.31 gave it, and names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import command, lvm
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

REPORTS = json.loads(Path(__file__).with_name("lvm_reports.json").read_text())


def test_a_group_with_a_thin_pool() -> None:
    found = lvm.parsed(json.dumps(REPORTS["pool"]), "/dev/sda")
    group = found.group
    assert group is not None
    assert (found.pv, group.name, group.system_id) == ("abcdef-1234-5678-9012-3456-7890-abcdef", "vg_vms", "hv1.1234")
    assert (group.bytes, group.free, group.extent, group.devices) == (264241152, 29360128, 4194304, 1)
    assert not group.autoactivation
    pool = group.volume("pool")
    assert pool is not None
    assert (pool.layout, pool.active, pool.open) == ("thin,pool", True, False)
    assert (pool.data_percent, pool.metadata_percent) == (0.0, 10.84)
    assert group.volume("other") is None


def test_a_physical_volume_without_a_group_and_a_blank_disk() -> None:
    orphan = lvm.parsed(json.dumps(REPORTS["orphan"]), "/dev/sdb")
    assert (orphan.pv, orphan.group) == ("vD1R3Z-ezp0-PIFb-0BlX-0d0r-FDXg-Hi1oau", None)
    assert lvm.parsed(json.dumps(REPORTS["blank"]), "/dev/sdb") == lvm.Found("", None)
    assert lvm.parsed(json.dumps(REPORTS["orphan"]), "/dev/sdc") == lvm.Found("", None), "of another disk"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"report": [{"pv": [{}]}]}'])
def test_a_report_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(HostError) as refused:
        lvm.parsed(text, "/dev/sda")
    assert refused.value.kind == "internal"


def test_every_change_sees_one_device_as_this_host_and_is_never_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(command, "run_to_its_end", lambda argv, seconds, alive, keeps, env: ran.append((argv, seconds)))
    lvm.change("/dev/sda", "hv1.1234", ["vgchange", "--activate", "y", "vg"], 5, formerly="hv2.99")
    ((argv, seconds),) = ran
    assert argv[:4] == ["lvm", "vgchange", "--devices", "/dev/sda"]
    assert 'system_id="hv1.1234"' in argv[5] and 'extra_system_ids=["hv2.99"]' in argv[5]
    assert seconds == 5


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (
            "  WARNING: Thin pool vg/pool is out of data space.\n"
            "  Cannot create new thin volume, free space in thin pool vg/pool reached threshold.",
            "full",
        ),
        ('  Volume group "vg" has insufficient free space (62 extents): 100 required.', "full"),
        ('  Logical Volume "a" already exists in volume group "vg"', "refused"),
    ],
)
def test_no_room_is_told_from_other_refusals(monkeypatch: pytest.MonkeyPatch, said: str, kind: str) -> None:
    """What LVM 2.03.31 says."""

    def refuse(argv: list[str], *dummy: object, **more: object) -> None:
        raise HostError("refused", "lvm failed: %s" % said, command=argv, rc=5, stderr=said)

    monkeypatch.setattr(command, "run_to_its_end", refuse)
    with pytest.raises(HostError) as refused:
        lvm.change("/dev/sda", "hv1.1234", ["lvcreate", "vg"], 5)
    assert refused.value.kind == kind
    assert kind == "refused" or refused.value.message == "LVM has no room: " + said.splitlines()[-1].strip()


def test_a_host_is_the_same_under_another_name() -> None:
    assert lvm.is_own("old.1a2b3c4d", "new.1a2b3c4d")
    assert not lvm.is_own("hv1.1a2b3c4d", "hv1.ffffffff")
    assert not lvm.is_own("", "hv1.ffffffff")


def test_new_uuids_are_lvms() -> None:
    assert re.fullmatch(r"\w{6}(-\w{4}){5}-\w{6}", lvm.new_uuid())
    assert lvm.new_uuid() != lvm.new_uuid()


@pytest.mark.parametrize("value", ["vg", "vg_vms", "VG-1", "a+b.c", "x" * 60])
def test_names(value: str) -> None:
    assert lvm.name(value, "vg") == value


@pytest.mark.parametrize("value", ["", "-vg", ".", "..", "a/b", "a b", "vg\n", "ü", "x" * 61, None, 5])
def test_what_is_no_name_is_refused(value: object) -> None:
    with pytest.raises(HostError) as refused:
        lvm.name(value, "targets[1].vg")
    assert refused.value.field == "targets[1].vg"
