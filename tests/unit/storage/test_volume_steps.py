# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of volumes, on a directory with a marker: done, undone, finished, and killed at each call."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pathlib
import subprocess
import threading
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import copy, deadline, lease
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import (
    file_disks,
    making_steps,
    probe,
    resize_steps,
    snapshot_steps,
    volume_steps,
)

UUID = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
MIB = 1 << 20


@pytest.fixture
def place(tmp_path: pathlib.Path) -> dict[str, t.Any]:
    """A backend in a directory of its own."""
    folder = tmp_path / "backend"
    (folder / probe.FOLDER).mkdir(parents=True)
    (folder / probe.FOLDER / probe.MARKER).write_text(json.dumps({"uuid": OTHER}))
    found: dict[str, t.Any] = {"kind": "files", "backend": "local", "path": str(folder), "marker": OTHER}
    return {**found, "crosses": True}


def content(place: dict[str, t.Any]) -> dict[str, bytes | int]:
    """What is in the backend: names, sizes of disks, content of the rest; lock files come and go."""
    found: dict[str, bytes | int] = {}
    top = pathlib.Path(place["path"])
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        if path.is_file() and not name.startswith(file_disks.LOCKS):
            found[name] = path.read_bytes()
    return found


def apply(step: t.Any) -> None:
    child = step.apply({})
    deadline.wait_any([child])
    child.result()


def making(place: dict[str, t.Any], size: int = MIB, source: dict[str, t.Any] | None = None) -> making_steps.MakeVolume:
    return making_steps.MakeVolume(place, "web1", UUID, False, 20, size, source, None, {"created": "today"})


@pytest.fixture
def image(tmp_path: pathlib.Path) -> dict[str, t.Any]:
    """An image of 300 KiB with something in it."""
    path = tmp_path / "image.raw"
    path.write_bytes(os.urandom(100000) + bytes(107200) + os.urandom(100000))
    return {
        "path": str(path),
        "format": "raw",
        "size": 307200,
        "key": "",
        "checksum": "",
        "lock": "",
        "crosses": True,
        "volume": "",
        "backend": "",
        "disk": "",
    }


@pytest.fixture
def made(place: dict[str, t.Any], image: dict[str, t.Any]) -> dict[str, t.Any]:
    """A backend that has the volume web1."""
    apply(making(place, source=image))
    return place


def test_a_new_volume_has_a_disk_and_a_label(place: dict[str, t.Any]) -> None:
    apply(making(place))
    found = content(place)
    assert sorted(found) == [".microvm/backend.json", "web1.json", "web1.raw"]
    assert found["web1.raw"] == bytes(MIB)
    label = file_disks.read_label(place["path"], "web1")
    assert label is not None
    assert (label["uuid"], label["owner"], label["created"]) == (UUID, probe.host_mark(), "today")
    assert os.stat(os.path.join(place["path"], "web1.raw")).st_blocks == 0


def test_a_clone_is_its_image_and_zeros_behind(place: dict[str, t.Any], image: dict[str, t.Any]) -> None:
    apply(making(place, source=image))
    data = pathlib.Path(image["path"]).read_bytes()
    assert content(place)["web1.raw"] == data + bytes(MIB - len(data))


def test_an_image_is_put_on_a_backend_once(place: dict[str, t.Any], image: dict[str, t.Any]) -> None:
    image["key"] = "a" * 64
    apply(making(place, source=image))
    kept = content(place)
    assert sorted(kept) == [".microvm/backend.json", f".microvm/images/{'a' * 64}.raw", "web1.json", "web1.raw"]
    os.unlink(image["path"])
    apply(dataclasses.replace(making(place, source=image), name="web2", uuid=OTHER))
    assert content(place)["web2.raw"] == kept["web1.raw"]


@pytest.mark.parametrize(("checksum", "kind"), [("0" * 64, "invalid"), ("", "")])
def test_a_checksum_is_held_against_the_image(
    place: dict[str, t.Any], image: dict[str, t.Any], checksum: str, kind: str
) -> None:
    with open(image["path"], "rb") as file:
        image["checksum"] = checksum or copy.sha256(file.fileno(), lambda done, total: None)
    step = making(place, source=image)
    if not kind:
        return apply(step)  # of the copy that has arrived, before it is made larger
    before = content(place)
    with pytest.raises(HostError, match="SHA-256") as refused:
        apply(step)
    assert (refused.value.kind, refused.value.field) == (kind, "checksum")
    step.undo({})
    assert content(place) == before


def test_the_name_is_claimed_once(made: dict[str, t.Any]) -> None:
    before = content(made)
    os.rename(os.path.join(made["path"], "web1.raw"), os.path.join(made["path"], "gone"))
    late = dataclasses.replace(making(made), uuid=OTHER)
    with pytest.raises(HostError, match="is that of") as refused:
        apply(late)
    assert refused.value.kind == "conflict"
    late.undo({})
    os.rename(os.path.join(made["path"], "gone"), os.path.join(made["path"], "web1.raw"))
    assert content(made) == before, "the undo of the one that came late took something of the other"


@pytest.mark.parametrize(("code", "kind", "field"), [(errno.EFBIG, "invalid", "size"), (errno.ENOSPC, "full", None)])
def test_a_size_that_the_file_system_does_not_take(
    place: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch, code: int, kind: str, field: str | None
) -> None:
    def refuse(descriptor: int, size: int) -> None:
        raise OSError(code, os.strerror(code))

    before, step = content(place), making(place)
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(HostError, match="volume web1 on local") as refused:
            apply(step)
    assert (refused.value.kind, refused.value.field) == (kind, field)
    assert refused.value.hint
    step.undo({})
    assert content(place) == before


def test_a_source_that_is_gone_is_named(place: dict[str, t.Any], image: dict[str, t.Any]) -> None:
    os.unlink(image["path"])
    with pytest.raises(HostError, match=r"image\.raw is not there") as refused:
        apply(making(place, source=image))
    assert refused.value.kind == "not_found"


def test_a_name_that_is_being_given_up_is_waited_for(place: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on SMB, where a deleted file keeps its name until the last host has closed it, and nobody can open it."""
    deleted = pathlib.Path(place["path"], "web1.json")
    deleted.symlink_to("nothing")
    monkeypatch.setattr(file_disks, "GIVEN_UP_SECONDS", 0.2)
    with pytest.raises(HostError, match="that of another host") as refused:
        apply(making(place))
    assert refused.value.kind == "conflict"
    monkeypatch.setattr(file_disks, "GIVEN_UP_SECONDS", 20)
    closing = threading.Timer(0.3, deleted.unlink)
    closing.start()
    apply(making(place))
    closing.join()
    assert file_disks.read_label(place["path"], "web1")


def test_a_file_without_a_label_is_not_overwritten(place: dict[str, t.Any]) -> None:
    pathlib.Path(place["path"], "web1.raw").write_bytes(b"foreign")
    step = making(place)
    with pytest.raises(HostError, match="there is a file"):
        apply(step)
    step.undo({})
    assert content(place)["web1.raw"] == b"foreign"


def test_another_file_system_in_its_place_is_refused(made: dict[str, t.Any]) -> None:
    before = content(made)
    with pytest.raises(HostError, match="does not carry the marker"):
        apply(dataclasses.replace(making({**made, "marker": UUID}), name="web2"))
    assert content(made) == before


def steps(place: dict[str, t.Any]) -> dict[str, t.Any]:
    """One of each kind, for the volume web1 of 1 MiB with a snapshot s."""
    base = (place, "web1", UUID, False, 20)
    label = file_disks.read_label(place["path"], "web1")
    return {
        "grow": resize_steps.ResizeVolume(*base, MIB, 2 * MIB, None),
        "shrink": resize_steps.ResizeVolume(*base, MIB, MIB // 2, None),
        "snapshot": snapshot_steps.TakeSnapshot(*base, "t", "abc"),
        "longer": snapshot_steps.RestoreSnapshot(*base, "s", 2 * MIB, None, "abc"),
        "restore": snapshot_steps.RestoreSnapshot(*base, "s", MIB, None, "abc"),
        "delete snapshot": snapshot_steps.DeleteSnapshot(*base, "s"),
        "delete": volume_steps.DeleteVolume(*base, False),
        "adopt": volume_steps.AdoptVolume(*base, label, "abc"),
    }


KINDS = ["grow", "shrink", "snapshot", "restore", "longer", "delete snapshot", "delete", "adopt"]


@pytest.fixture
def changed(made: dict[str, t.Any]) -> dict[str, t.Any]:
    """A volume that has been written to since its snapshot s."""
    apply(snapshot_steps.TakeSnapshot(made, "web1", UUID, False, 20, "s", "000"))
    snapshot_steps.TakeSnapshot(made, "web1", UUID, False, 20, "s", "000").finish({})
    with open(os.path.join(made["path"], "web1.raw"), "r+b") as disk:
        disk.write(b"later")
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_undo_leaves_what_was(changed: dict[str, t.Any], kind: str) -> None:
    before = content(changed)
    step = steps(changed)[kind]
    step.undo({})
    assert content(changed) == before, "an undo of what was not begun"
    apply(step)
    assert content(changed) != before
    step.undo({})
    assert content(changed) == before


def test_finished_steps_leave_only_what_was_asked_for(changed: dict[str, t.Any]) -> None:
    old = content(changed)
    for kind in ("grow", "snapshot", "restore", "delete snapshot"):
        step = steps(changed)[kind]
        apply(step)
        step.finish({})
        step.finish({})
    now = content(changed)
    assert sorted(now) == [".microvm/backend.json", "web1.json", "web1.raw", "web1@t.raw"]
    assert now["web1.raw"] == old["web1@s.raw"]
    assert bytes(now["web1@t.raw"]).startswith(b"later")
    gone = steps(changed)["delete"]
    apply(gone)
    gone.finish({})
    gone.finish({})
    assert sorted(content(changed)) == [".microvm/backend.json"]
    assert os.listdir(os.path.join(changed["path"], file_disks.LOCKS)) == []


def test_a_disk_that_is_written_behind_its_old_end_is_not_cut(changed: dict[str, t.Any]) -> None:
    step = steps(changed)["grow"]
    apply(step)
    with open(os.path.join(changed["path"], "web1.raw"), "r+b") as disk:
        disk.seek(MIB + 5)
        disk.write(b"x")
    step.undo({})
    assert os.path.getsize(os.path.join(changed["path"], "web1.raw")) == 2 * MIB


def test_shrinking_refuses_to_cut_data_off(changed: dict[str, t.Any]) -> None:
    before = content(changed)
    with pytest.raises(HostError, match="has data behind") as refused:
        apply(dataclasses.replace(steps(changed)["shrink"], after=4096))
    assert refused.value.kind == "conflict"
    assert content(changed) == before
    apply(steps(changed)["shrink"])
    assert len(bytes(content(changed)["web1.raw"])) == MIB // 2


def test_a_disk_grows_under_the_machine_that_has_it_locked(changed: dict[str, t.Any]) -> None:
    path = os.path.join(changed["path"], "web1.raw")
    holder = lease.Lease(os.path.join(changed["path"], file_disks.LOCKS), "web1", "machine web1", "other000", True)
    holder.take()
    step = resize_steps.LengthenVolume(changed, "web1", UUID, False, 20, MIB, 2 * MIB)
    for dummy in range(2):
        apply(step)
        step.undo({})
        assert os.path.getsize(path) == 2 * MIB, "the guest may use it already"
    apply(dataclasses.replace(step, after=MIB))
    assert os.path.getsize(path) == 2 * MIB, "it is never made shorter"
    with pytest.raises(HostError, match="is now that of"):
        apply(dataclasses.replace(step, uuid=OTHER))
    holder.release()


@pytest.mark.parametrize("inner", [None, "ext4"])
def test_a_restored_disk_has_the_size_that_was_asked_for(made: dict[str, t.Any], inner: str | None) -> None:
    """And so has the file system in it, which the snapshot had on a disk of another size."""
    path = os.path.join(made["path"], "web1.raw")
    os.truncate(path, 8 * MIB)
    if inner:
        subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)
    base = (made, "web1", UUID, False, 20)
    apply(snapshot_steps.TakeSnapshot(*base, "s", "000"))
    for size in (16 * MIB, 4 * MIB, 8 * MIB):
        step = snapshot_steps.RestoreSnapshot(*base, "s", size, inner, "abc")
        apply(step)
        step.finish({})
        assert os.path.getsize(path) == size
        if inner:
            with open(path, "rb") as disk:
                superblock = disk.read(2048)[1024:]
            blocks, power = (int.from_bytes(superblock[at : at + 4], "little") for at in (4, 24))
            assert blocks << 10 + power == size


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "adopt"])
def test_a_volume_of_another_host_is_left_alone(changed: dict[str, t.Any], kind: str) -> None:
    step = steps(changed)[kind]
    path = pathlib.Path(changed["path"], "web1.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "owner": "other000", "hostname": "hv2"}))
    before = content(changed)
    with pytest.raises(HostError, match="is now that of hv2"):
        apply(step)
    step.undo({})
    assert content(changed) == before


def labelled(place: dict[str, t.Any], **changes: str) -> None:
    """Change the label of web1."""
    path = pathlib.Path(place["path"], "web1.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("kind", ["make", *KINDS])
def test_what_was_refused_for_a_holder_needs_no_undo_that_takes_the_lock(changed: dict[str, t.Any], kind: str) -> None:
    step = making(changed) if kind == "make" else steps(changed)[kind]
    step = dataclasses.replace(step, takeover=True)
    labelled(changed, owner="other000", hostname="hv2")
    if kind == "adopt":
        step = dataclasses.replace(step, previous=file_disks.read_label(changed["path"], "web1"))
    holder = lease.Lease(os.path.join(changed["path"], file_disks.LOCKS), "web1", "machine web1", "other000", True)
    holder.take()
    before = content(changed)
    try:
        with pytest.raises(HostError, match="held by machine web1"):
            apply(step)
        step.undo({})  # else it would wait for the holder, and raise
        assert content(changed) == before
    finally:
        holder.release()


@pytest.mark.parametrize("kind", ["make", *KINDS])
def test_what_another_host_took_over_meanwhile_is_not_undone(
    changed: dict[str, t.Any], image: dict[str, t.Any], kind: str
) -> None:
    """It was done, and this host died before the commit; now a machine of the other host uses the disk."""
    before = content(changed)
    step = making(changed) if kind == "make" else steps(changed)[kind]
    if kind != "make":
        apply(step)
    if not kind.startswith("delete"):
        labelled(changed, owner="other000", hostname="hv2")
        before = {name: data for name, data in content(changed).items() if not name.startswith(".web1")}
    step.undo({})
    found = content(changed)
    assert {name: found[name] for name in before} == before


def test_an_adoption_that_was_adopted_again_is_not_undone(changed: dict[str, t.Any]) -> None:
    """By another host and back: the label is this host's, and not the one of the step."""
    labelled(changed, owner="other000", hostname="hv2")
    label = file_disks.read_label(changed["path"], "web1")
    first = volume_steps.AdoptVolume(changed, "web1", UUID, False, 20, label, "first")
    then = dataclasses.replace(first, nonce="then")
    apply(then)
    before = content(changed)
    holder = lease.Lease(
        os.path.join(changed["path"], file_disks.LOCKS), "web1", "machine web1", probe.host_mark(), True
    )
    holder.take()
    for each in (first, dataclasses.replace(first, nonce="")):
        each.undo({})
    assert content(changed) == before
    with pytest.raises(HostError, match="held by machine web1"):
        dataclasses.replace(then, seconds=1).undo({})  # there is something to undo, and it is in use
    holder.release()
    then.undo({})
    assert file_disks.read_label(changed["path"], "web1") == label


def test_an_undo_waits_for_what_the_dead_run_left_running(changed: dict[str, t.Any]) -> None:
    """It has written nothing yet, but may: an undo that only looked would come too early."""
    step = dataclasses.replace(steps(changed)["grow"], seconds=1)
    left = step.lease()
    left.take()
    with pytest.raises(HostError, match="held by Ansible"):
        step.undo({})
    left.release()
    step.undo({})


class Fuse:
    """Ends the process in place of the n-th of all counted calls."""

    def __init__(self, at: int) -> None:
        self.left = at

    def counted(self, real: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        """The call, counted."""

        def call(*args: t.Any, **more: t.Any) -> t.Any:
            self.left -= 1
            if self.left == 0:
                os._exit(9)
            return real(*args, **more)

        return call


@pytest.mark.parametrize("kind", ["make", *KINDS])
def test_killed_at_any_rename_link_or_unlink_it_is_undone(
    changed: dict[str, t.Any], image: dict[str, t.Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child dies in place of its n-th call, then the parent undoes it; until a child gets to its end."""
    before = content(changed)
    if kind == "make":
        step: t.Any = dataclasses.replace(making(changed, source=image), name="web2", uuid=OTHER)
    else:
        step = steps(changed)[kind]
    for at in range(1, 30):
        with monkeypatch.context() as patch:
            fuse = Fuse(at)
            for name in ("rename", "link", "unlink", "ftruncate", "fsync", "pwrite"):
                patch.setattr(os, name, fuse.counted(getattr(os, name)))
            child = step.apply({})
            deadline.wait_any([child])
        try:
            child.result()
        except HostError as error:
            assert error.kind == "interrupted"
            step.undo({})
            assert content(changed) == before, at
            continue
        assert at > 3
        return
    pytest.fail("no end in 30 calls")
