# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of volumes on a volume group: done, undone, finished, and killed before each of LVM's programs."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import pathlib
import struct
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import command, copy, deadline, diskfs, iscsi, lvm
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.lease import Lease
from ansible_collections.microvm.host.plugins.module_utils._storage import (
    lvm_disks,
    lvm_store,
    making_steps,
    probe,
    resize_steps,
    snapshot_steps,
    volume_steps,
)
from tests.unit.storage.fake_lvm import EXTENT, RECORDED, FakeLvm

UUID = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
IQN = "iqn.2026-01.lab:open"
OWN = "hv1.1234"
FACTS = {
    "wwid": "naa.6001",
    "pv_uuid": RECORDED["report"][0]["pv"][0]["pv_uuid"],
    "vg_uuid": RECORDED["report"][0]["vg"][0]["vg_uuid"],
}
KINDS = ["grow", "shrink", "snapshot", "restore", "longer", "shorter", "delete snapshot", "delete", "adopt"]


@pytest.fixture(params=["thin", "linear"])
def group(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> FakeLvm:
    """A group with a thin pool, whether volumes are in it or not."""
    fake = FakeLvm(tmp_path, RECORDED, "pool" if request.param == "thin" else "")
    monkeypatch.setattr(command, "run", fake.run)
    monkeypatch.setattr(command, "run_to_its_end", fake.change)
    monkeypatch.setattr(iscsi, "sessions", lambda name=None: [iscsi.Session(1, IQN, "", 0, "LOGGED_IN", 0, "")])
    monkeypatch.setattr(iscsi, "disks", lambda session: [iscsi.Disk("sda", 1, "naa.6001", "running")])
    monkeypatch.setattr(lvm, "system_id", lambda: OWN)
    monkeypatch.setattr(lvm_disks, "LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(lvm_disks.LvmDisks, "path", lambda self, disk: fake.path(disk))
    monkeypatch.setattr(fcntl, "ioctl", zeroes)
    monkeypatch.setattr(copy, "_lengthen", lambda target, size: None)
    return fake


def zeroes(descriptor: int, request: int, argument: t.Any) -> None:
    """BLKZEROOUT of a file."""
    if request != copy.BLKZEROOUT:
        raise OSError(22, "no such thing on a device")
    begin, length = struct.unpack("QQ", argument)
    os.pwrite(descriptor, bytes(length), begin)


def place(group: FakeLvm, **change: t.Any) -> dict[str, t.Any]:
    """The backend as its steps know it."""
    asked = {
        "iqn": IQN,
        "lun": 1,
        "vg": "vg_vms",
        "thin_pool": group.pool,
        "layout": "thin" if group.pool else "linear",
    }
    found: dict[str, t.Any] = {"kind": "lvm", "backend": "san1", "asked": asked, "facts": FACTS}
    return {**found, "wipe": False, "crosses": True, **change}


def content(group: FakeLvm) -> dict[str, t.Any]:
    """Names, data and what is known of them; not which are active."""
    return {
        name: (pathlib.Path(group.path(name)).read_bytes(), volume["tags"], volume["permission"])
        for name, volume in group.read().items()
    }


def apply(step: t.Any) -> None:
    child = step.apply({})
    deadline.wait_any([child])
    child.result()


def source(path: str, size: int, **more: t.Any) -> dict[str, t.Any]:
    """A raw image as a step has it."""
    found = {"path": path, "format": "raw", "size": size, "key": "", "checksum": "", "lock": "", "crosses": True}
    return {**found, "volume": "", "backend": "", "disk": "", **more}


def making(group: FakeLvm, size: int = 2 * EXTENT, found: dict[str, t.Any] | None = None) -> making_steps.MakeVolume:
    return making_steps.MakeVolume(place(group), "web1", UUID, False, 20, size, found, None, {"created": "today"})


@pytest.fixture
def image(tmp_path: pathlib.Path) -> dict[str, t.Any]:
    """An image of 5 MiB with a hole in it, and an odd end."""
    path = tmp_path / "image.raw"
    with path.open("wb") as file:
        file.write(os.urandom(100000))
        file.seek((5 << 20) - 777)
        file.write(os.urandom(777 + 512))
    return source(str(path), (5 << 20) + 512)


@pytest.fixture
def made(group: FakeLvm, image: dict[str, t.Any]) -> FakeLvm:
    """A group that has the volume web1."""
    apply(making(group, found=image))
    return group


def data(group: FakeLvm, name: str) -> bytes:
    return pathlib.Path(group.path(name)).read_bytes()


def test_a_new_volume_is_zeros_whoever_had_the_room_before(group: FakeLvm) -> None:
    apply(making(group, size=EXTENT + 512))
    assert list(group.read()) == ["web1"]
    assert data(group, "web1") == bytes(2 * EXTENT), "whole extents"
    seen = lvm.look("/dev/sda").group
    volume = seen.volume("web1") if seen else None
    assert volume is not None
    label = lvm_disks.labelled(volume)
    assert label is not None
    assert (label["uuid"], label["owner"], label["created"]) == (UUID, probe.host_mark(), "today")


def test_a_clone_is_its_image_and_zeros_behind(made: FakeLvm, image: dict[str, t.Any]) -> None:
    found = pathlib.Path(image["path"]).read_bytes()
    assert data(made, "web1") == found + bytes(2 * EXTENT - len(found))


def test_an_image_is_kept_in_a_pool_and_cloned_there(group: FakeLvm, image: dict[str, t.Any]) -> None:
    image["key"] = "ab" * 32
    apply(making(group, size=3 * EXTENT, found=image))
    first = data(group, "web1")
    if not group.pool:
        assert list(group.read()) == ["web1"]
        return
    kept = group.read()["+image." + "ab" * 8]
    assert (kept["permission"], kept["active"], kept["tags"][0]) == ("read-only", False, "microvm.key=" + "ab" * 32)
    os.unlink(image["path"])
    apply(dataclasses.replace(making(group, size=3 * EXTENT, found=image), name="web2", uuid=OTHER))
    assert data(group, "web2") == first
    making_steps.PruneImage(place(group), "ab" * 32, 20).finish({})
    assert sorted(group.read()) == ["web1", "web2"]


def test_a_volume_of_the_backend_is_cloned(made: FakeLvm) -> None:
    folder = os.path.join(lvm_disks.LOCKS, "san1")
    inside = source(made.path("web1"), 2 * EXTENT, lock=folder + "/web1", volume="web1", backend="san1", disk="web1")
    apply(dataclasses.replace(making(made, found=inside), name="web2", uuid=OTHER))
    assert data(made, "web2") == data(made, "web1")


def test_a_clone_in_a_pool_has_its_name_at_once_unless_more_is_to_be_done(
    made: FakeLvm, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = str(made.folder / "grown")

    class Inner:
        """In place of diskfs.Disk."""

        def __init__(self, path: str, *dummy: t.Any) -> None:
            self.path = path

        def grow(self, kind: str) -> None:
            """It grows under its hidden name."""
            assert os.path.basename(self.path).startswith(".")
            pathlib.Path(grown).write_text(kind)

    def refuse_rename(argv: list[str]) -> None:
        if argv[1] == "lvrename":
            raise HostError("refused", "renamed")

    monkeypatch.setattr(diskfs, "Disk", Inner)
    inside = source(made.path("web1"), 5 << 20, volume="web1", backend="san1", disk="web1")
    step = dataclasses.replace(making(made, found=inside), name="web2", uuid=OTHER)
    larger = dataclasses.replace(step, filesystem={"type": "ext4"})  # than the image was, in as many extents
    made.before = refuse_rename
    for each in [larger] if made.pool else [larger, step]:
        with pytest.raises(HostError, match="renamed"):
            apply(each)
        each.undo({})
        assert pathlib.Path(grown).exists() is (each is larger)
        pathlib.Path(grown).unlink(missing_ok=True)
    assert list(made.read()) == ["web1"]
    if made.pool:
        apply(step)
        assert list(made.read()) == ["web1", "web2"]
        step.undo({})
        assert list(made.read()) == ["web1"]


def test_what_is_there_already_is_not_touched(made: FakeLvm) -> None:
    before = content(made)
    late = dataclasses.replace(making(made), uuid=OTHER)
    with pytest.raises(HostError, match="already") as refused:
        apply(late)
    assert refused.value.kind == "conflict"
    late.undo({})
    assert content(made) == before


def test_a_group_of_another_host_is_left_alone(made: FakeLvm, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(made)
    monkeypatch.setattr(lvm, "system_id", lambda: "hv2.ffffffff")
    with pytest.raises(HostError, match=r"belongs to hv1\.1234") as refused:
        apply(dataclasses.replace(making(made), name="web2"))
    assert "takeover: hv1.1234" in refused.value.hint
    assert content(made) == before


def steps(group: FakeLvm) -> dict[str, t.Any]:
    """One of each kind, for the volume web1 of 8 MiB with a snapshot s."""
    base = (place(group), "web1", UUID, False, 20)
    seen = lvm.look("/dev/sda").group
    volume = seen.volume("web1") if seen else None
    label = lvm_disks.labelled(volume) if volume else None
    return {
        "grow": resize_steps.ResizeVolume(*base, 2 * EXTENT, 3 * EXTENT, None),
        "shrink": resize_steps.ResizeVolume(*base, 2 * EXTENT, EXTENT, None),
        "snapshot": snapshot_steps.TakeSnapshot(*base, "t", "abc"),
        "longer": snapshot_steps.RestoreSnapshot(*base, "s", 3 * EXTENT, None, "abc"),
        "shorter": snapshot_steps.RestoreSnapshot(*base, "s", EXTENT, None, "abc"),
        "restore": snapshot_steps.RestoreSnapshot(*base, "s", 2 * EXTENT, None, "abc"),
        "delete snapshot": snapshot_steps.DeleteSnapshot(*base, "s"),
        "delete": volume_steps.DeleteVolume(*base, False),
        "adopt": volume_steps.AdoptVolume(*base, label),
    }


@pytest.fixture
def changed(group: FakeLvm, image: dict[str, t.Any]) -> FakeLvm:
    """A volume that has been written to since its snapshot s; its second half is empty."""
    with open(image["path"], "r+b") as file:
        file.truncate(EXTENT)
    apply(making(group, found={**image, "size": EXTENT}))
    apply(snapshot_steps.TakeSnapshot(place(group), "web1", UUID, False, 20, "s", "000"))
    with open(group.path("web1"), "r+b") as disk:
        disk.write(b"later")
    return group


@pytest.mark.parametrize("kind", KINDS)
def test_undo_leaves_what_was(changed: FakeLvm, kind: str) -> None:
    before = content(changed)
    step = steps(changed)[kind]
    step.undo({})
    assert content(changed) == before, "an undo of what was not begun"
    apply(step)
    if kind != "adopt":
        assert content(changed) != before
    step.undo({})
    assert content(changed) == before


def test_finished_steps_leave_only_what_was_asked_for(changed: FakeLvm) -> None:
    old = {name: data(changed, name) for name in changed.read()}
    for kind in ("grow", "snapshot", "restore", "delete snapshot"):
        step = steps(changed)[kind]
        apply(step)
        step.finish({})
        step.finish({})
    assert sorted(changed.read()) == ["web1", "web1+t"]
    assert data(changed, "web1") == old["web1+s"]
    assert data(changed, "web1+t").startswith(b"later")
    assert data(changed, "web1+t")[2 * EXTENT :] == bytes(EXTENT), "grown by zeros"
    gone = steps(changed)["delete"]
    apply(gone)
    gone.finish({})
    gone.finish({})
    assert changed.read() == {}
    assert os.listdir(os.path.join(lvm_disks.LOCKS, "san1")) == [lvm_disks.TURN]


def test_shrinking_refuses_to_cut_data_off(changed: FakeLvm) -> None:
    with open(changed.path("web1"), "r+b") as disk:
        disk.seek(EXTENT + 5)
        disk.write(b"x")
    before = content(changed)
    with pytest.raises(HostError, match="has data behind"):
        apply(steps(changed)["shrink"])
    assert content(changed) == before


def test_what_goes_is_overwritten_first_when_asked_for(changed: FakeLvm) -> None:
    wiping = place(changed, wipe=True)
    seen: dict[str, bytes] = {}

    def before(argv: list[str]) -> None:
        if argv[1] == "lvremove":
            path = changed.path(argv[-1].rpartition("/")[2])
            pathlib.Path(path + ".copy").write_bytes(pathlib.Path(path).read_bytes())

    changed.before = before
    step = dataclasses.replace(steps(changed)["delete"], place=wiping)
    apply(step)
    step.finish({})
    seen = {path.name: path.read_bytes() for path in (changed.folder / "dev").iterdir()}
    assert len(seen) == 2 and not any(found.strip(b"\0") for found in seen.values())


def test_a_disk_that_somebody_has_open_is_refused(changed: FakeLvm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lvm_disks, "CLOSE_SECONDS", 0.0)
    changed.report = {"report": [dict(RECORDED["report"][0], lv=[{**RECORDED["report"][0]["lv"][0]}])]}
    changed.report["report"][0]["lv"][0]["lv_device_open"] = "open"  # the template of all
    before = content(changed)
    for kind in ("grow", "snapshot", "restore", "delete"):
        with pytest.raises(HostError, match="is open") as refused:
            apply(steps(changed)[kind])
        assert refused.value.kind == "in_use"
        steps(changed)[kind].undo({})
    assert content(changed) == before


class Fuse:
    """Ends the process in place of the n-th program, and of the first write to a disk after it."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, argv: list[str]) -> None:
        self.left -= 1
        if self.left == 0:
            os._exit(9)


@pytest.mark.parametrize("kind", ["make", *KINDS])
def test_killed_before_any_program_it_is_undone(changed: FakeLvm, image: dict[str, t.Any], kind: str) -> None:
    """The child dies in place of its n-th program, then the parent undoes it; until a child gets to its end."""
    before = content(changed)
    if kind == "make":
        step: t.Any = dataclasses.replace(
            making(changed, found={**image, "size": EXTENT, "key": "c" * 64}), name="web2", uuid=OTHER
        )
    else:
        step = steps(changed)[kind]
    for at in range(1, 30):
        changed.before = Fuse(at)
        child = step.apply({})
        deadline.wait_any([child])
        changed.before = lambda argv: None
        try:
            child.result()
        except HostError as error:
            assert error.kind == "interrupted"
            step.undo({})
            left = {name: found for name, found in content(changed).items() if not name.startswith("+image.")}
            assert left == before, at
            continue
        assert at > 1 or kind == "adopt"
        return
    pytest.fail("no end in 30 calls")


def test_a_disk_grows_under_the_machine_that_has_it_open_and_locked(changed: FakeLvm) -> None:
    """And what was cut off is taken back while the machine runs, so that no guest sees what was another's."""
    step = resize_steps.LengthenVolume(place(changed), "web1", UUID, False, 20, 2 * EXTENT, 3 * EXTENT)
    holder = Lease(os.path.join(lvm_disks.LOCKS, "san1"), "web1", "machine web1", "other000", True)
    holder.take()
    changed.report = {"report": [dict(RECORDED["report"][0], lv=[{**RECORDED["report"][0]["lv"][0]}])]}
    changed.report["report"][0]["lv"][0]["lv_device_open"] = "open"  # the template of all
    before = content(changed)
    for at in range(1, 30):
        changed.before = Fuse(at)
        child = step.apply({})
        deadline.wait_any([child])
        changed.before = lambda argv: None
        try:
            child.result()
        except HostError as error:
            assert error.kind == "interrupted"
            step.undo({})
            assert content(changed) == before, at
            continue
        break
    assert at > 1
    assert data(changed, "web1") == before["web1"][0] + bytes(EXTENT)
    after = content(changed)
    step.undo({})
    apply(step)
    assert content(changed) == after, "what the guest may use already stays, and the next run has nothing to do"
    holder.release()


def test_a_look_tells_of_volumes_snapshots_and_images(changed: FakeLvm, image: dict[str, t.Any]) -> None:
    kept = {**image, "size": EXTENT, "key": "d" * 64}
    apply(dataclasses.replace(making(changed, found=kept), name="web2", uuid=OTHER))
    here = place(changed)
    target = {"asked": {**here["asked"], "saferemove": False}, "facts": FACTS}
    store = lvm_store.LvmStore({"name": "san1", "capabilities": []}, target)
    looked = store.looks(["gone"], everything=True)
    assert (looked["status"], looked["grain"]) == ("ok", EXTENT)
    assert sorted(looked["volumes"]) == ["gone", "web1", "web2"]
    assert looked["volumes"]["web1"]["snapshots"] == {"s": 2 * EXTENT}
    assert looked["volumes"]["web1"]["size"] == 2 * EXTENT
    assert "size" not in looked["volumes"]["gone"]
    assert looked["volumes"]["web1"]["label"]["uuid"] == UUID
    assert looked["images"] == ({"d" * 64: EXTENT} if changed.pool else {})
    assert looked["volumes"]["web1"]["allocated_bytes"] == (EXTENT if changed.pool else 2 * EXTENT)


@pytest.mark.parametrize(
    ("name", "snapshots", "field"),
    [
        ("snapshot1", [], "volumes[2].name"),
        ("a_tdata", [], "volumes[2].name"),
        ("x" * 63, ["y" * 63], "volumes[2].snapshots[0]"),
        ("x", ["ok", "_rmeta_".strip("_") + "_tmeta"], "volumes[2].snapshots[1]"),
    ],
)
def test_names_that_lvm_does_not_take_are_refused_by_field(
    group: FakeLvm, name: str, snapshots: list[str], field: str
) -> None:
    here = place(group)
    target = {"asked": {**here["asked"], "saferemove": False}, "facts": FACTS}
    store = lvm_store.LvmStore({"name": "san1", "capabilities": []}, target)
    store.refuse_names("x" * 63, ["y"], "")
    with pytest.raises(HostError) as refused:
        store.refuse_names(name, snapshots, "volumes[2].")
    assert (refused.value.kind, refused.value.field) == ("invalid", field)
