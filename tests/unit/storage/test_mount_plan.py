# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned for a mount: from what the registry says, mountinfo shows and a look at the mount gave."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import time
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host import holders, mounts, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import (
    mount,
    mount_changes,
    mount_report,
    nfs,
    observed,
    steps,
)

PATH = "/var/lib/microvm/mounts/vms"
LINE = (
    "71 28 0:40 / %s rw,nosuid,nodev,noexec,relatime shared:39 - nfs4 nas1:/export/rw rw,vers=4.2,rsize=1048576,"
    "wsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,clientaddr=10.77.0.11,local_lock=none,"
    "addr=10.77.0.71"
)
"""As a lab host shows an export that was mounted with the default options."""


class World:
    """A host: its registry, its unit files, its mounts, who uses them."""

    def __init__(self, folder: pathlib.Path, patch: pytest.MonkeyPatch) -> None:
        path = str(folder / "registry.db")
        for function in ("reading", "writing"):
            patch.setattr(registry, function, functools.partial(getattr(registry, function), path))
        patch.setattr(systemd, "DIRECTORY", str(folder))
        patch.setattr(mounts, "table", lambda: [mounts.parse_line(line) for line in self.lines])
        patch.setattr(holders, "of_mount", lambda path: list(self.busy))
        self.folder = folder
        self.lines: list[str] = []
        self.busy: list[str] = []
        self.looks: dict[str, dict[str, t.Any]] = {PATH: {"status": "ok"}}

    def seen(self) -> observed.Seen:
        found = observed.Seen(lambda rows: [], 1)
        found.looks.update(self.looks)
        return found

    def plan(self, use: mount.Use) -> mount.Part:
        return mount.present(use, self.seen())

    def made(self, use: mount.Use, line: str = LINE % PATH) -> None:
        """As after a run for ``use``."""
        self.lines = [line]
        if use.persistent:
            unit = self.folder / systemd.unit_of_path(PATH)
            from ansible_collections.microvm.host.plugins.module_utils._storage import units

            unit.write_text(units.unit_text(use.asked, PATH))
            (self.folder / "remote-fs.target.wants").mkdir(exist_ok=True)
            link = self.folder / "remote-fs.target.wants" / unit.name
            if not link.is_symlink():
                os.symlink(unit, link)
        seen = self.seen()
        row = seen.of(use.user) or seen.by_identity(nfs.identity(use.asked))
        shown = nfs.shown(mounts.parse_line(line), use.asked)
        known = {"path": PATH, "shown": shown, "version": "4.2", "address": "10.77.0.71"}
        with registry.writing() as connection:
            mount_changes.store(connection, use, mount.Part(row=row), known)


@pytest.fixture(name="world")
def a_host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def use(user: str = "mount:vms", path: str = PATH, **more: t.Any) -> mount.Use:
    """What the module asks for by default; ``options``, ``server``, ``version`` go into the asked mount."""
    item = {"server": "nas1", "export": "/export/rw", **{key: more.pop(key) for key in ASKED if key in more}}
    asked = nfs.asked(item, "", None)
    wanted = mount.Use(user, asked, True, True, path, mount.BASE, "vms", "read", "", 15)
    return dataclasses.replace(wanted, **more)


ASKED = ("server", "export", "version", "options")


def kinds(part: mount.Part) -> list[str]:
    return [type(step).__name__ for step in part.steps]


def attaching(part: mount.Part) -> steps.AttachMount:
    """The first step, which is to mount."""
    first = part.steps[0]
    assert isinstance(first, steps.AttachMount)
    return first


def test_new(world: World) -> None:
    part = world.plan(use())
    assert kinds(part) == ["AttachMount", "WriteUnit", "ReloadUnits"]
    assert part.before == {}
    assert (part.after["mounted"], part.after["persistent"]) == ("yes", True)


def test_new_until_the_next_boot(world: World) -> None:
    assert kinds(world.plan(use(persistent=False))) == ["AttachMount"]


def test_new_but_not_in_service_is_only_tried(world: World) -> None:
    part = world.plan(use(mounted=False, persistent=False, marker="any", path=""))
    assert kinds(part) == ["AttachMount"]
    assert not attaching(part).place and attaching(part).makes == []


def test_unchanged(world: World) -> None:
    world.made(use())
    part = world.plan(use())
    assert part.steps == []
    assert part.before == part.after


def test_a_server_under_two_names_is_known_by_its_address(world: World) -> None:
    literal = use(server="10.77.0.71")
    world.made(literal)  # mountinfo shows nas1, which was mounted first
    assert world.plan(literal).steps == []
    world.lines = [(LINE % PATH).replace("addr=10.77.0.71", "addr=10.77.0.72")]
    assert world.plan(literal).before["mounted"] == "other source nas1:/export/rw"


DRIFT = {
    "vanished": (lambda line: [], "no", ["AttachMount"]),
    "stacked": (lambda line: [line, line.replace("71 28", "72 71")], "2 mounts stacked", ["AttachMount"]),
    "other source": (
        lambda line: [line.replace("/export/rw ", "/export/ro ")],
        "other source nas1:/export/ro",
        ["AttachMount"],
    ),
    "flag": (lambda line: [line.replace("nosuid,", "")], "options drifted: nosuid", ["SetFlags"]),
    "option": (lambda line: [line.replace("timeo=600", "timeo=50")], "options drifted: timeo", ["AttachMount"]),
}


@pytest.mark.parametrize("what", DRIFT)
def test_drift_is_named_and_put_right(world: World, what: str) -> None:
    change, says, steps = DRIFT[what]
    world.made(use())
    world.lines = change(LINE % PATH)
    part = world.plan(use())
    assert (part.before["mounted"], part.after["mounted"]) == (says, "yes")
    assert kinds(part) == steps


def test_a_stale_mount_is_mounted_again(world: World) -> None:
    world.made(use())
    world.looks[PATH] = {"status": "stale"}
    part = world.plan(use())
    assert part.before["mounted"] == "stale"
    assert kinds(part) == ["AttachMount"]


def test_a_dead_server_is_no_drift(world: World) -> None:
    world.made(use())
    world.looks[PATH] = {"status": "unreachable"}
    assert world.plan(use()).steps == []


def test_what_the_kernel_negotiated_is_no_drift(world: World) -> None:
    world.made(use())
    world.lines = [(LINE % PATH).replace("rsize=1048576", "rsize=262144").replace("10.77.0.11", "10.77.0.12")]
    assert world.plan(use()).steps == []


def test_flags_change_in_place(world: World) -> None:
    world.made(use())
    part = world.plan(use(options=["ro"]))
    assert kinds(part) == ["WriteUnit", "ReloadUnits", "SetFlags"]


def test_drift_of_a_mount_in_use_waits(world: World) -> None:
    world.made(use())
    world.lines = [(LINE % PATH).replace("timeo=600", "timeo=50")]
    world.busy = ["qemu (4711)"]
    part = world.plan(use())
    assert part.steps == []
    assert part.pending == ["qemu (4711)"]
    assert "in use by qemu (4711)" in part.warnings[0]


def test_an_edit_of_a_mount_in_use_is_tried_stored_and_waits(world: World) -> None:
    world.made(use())
    world.busy = ["qemu (4711)"]
    part = world.plan(use(options=["timeo=300"]))
    assert kinds(part) == ["AttachMount", "WriteUnit", "ReloadUnits"]
    assert not attaching(part).place
    assert part.pending == ["qemu (4711)"]


def test_an_edited_unit_is_written_again(world: World) -> None:
    world.made(use())
    unit = world.folder / systemd.unit_of_path(PATH)
    unit.write_text(unit.read_text() + "# by hand\n")
    part = world.plan(use())
    assert kinds(part) == ["WriteUnit", "ReloadUnits"]
    assert (part.before["unit"], part.after["unit"]) == ("edited", "written")


def test_out_of_service_leaves_nothing(world: World) -> None:
    world.made(use())
    part = world.plan(use(mounted=False, persistent=False))
    assert kinds(part) == ["RemoveUnit", "ReloadUnits", "DetachMount"]
    last = part.steps[-1]
    assert isinstance(last, steps.DetachMount) and last.forget


def test_out_of_service_waits_for_who_uses_it_when_told(world: World) -> None:
    world.made(use())
    world.busy = ["qemu (4711)"]
    part = world.plan(use(mounted=False, persistent=False, patient=True))
    assert kinds(part) == ["RemoveUnit", "ReloadUnits"]
    assert part.pending == ["qemu (4711)"]


def test_out_of_service_leaves_the_mount_to_its_other_users(world: World) -> None:
    world.made(use())
    world.made(use("backend:nas", marker="any"))
    part = world.plan(use("backend:nas", path="", marker="any", mounted=False, persistent=False, patient=True))
    assert kinds(part) == ["Record"]
    assert part.before["mounted"] == part.after["mounted"]


def test_an_edit_out_of_service_is_tried(world: World) -> None:
    off = use(mounted=False, persistent=False, marker="1f0e3dad-0000-0000-0000-000000000000")
    world.made(off)
    world.lines = []
    part = world.plan(dataclasses.replace(off, asked=use(options=["timeo=300"]).asked))
    assert kinds(part) == ["AttachMount"]
    assert not attaching(part).place


def test_a_second_user_shares_the_mount(world: World) -> None:
    world.made(use())
    assert kinds(world.plan(use("mount:again", path=""))) == ["Record"]
    part = world.plan(use("backend:nas", path="", marker="any"))
    assert kinds(part) == ["AttachMount"]
    assert not attaching(part).place
    world.made(use("backend:nas", marker="any"))
    assert world.plan(use("backend:nas", path="", marker="any")).steps == []
    assert [type(step).__name__ for step in mount_changes.absent("mount:vms", world.seen(), 15).steps] == ["Record"]


def test_the_last_user_takes_all_with_it(world: World) -> None:
    world.made(use())
    part = mount_changes.absent("mount:vms", world.seen(), 15)
    assert kinds(part) == ["RemoveUnit", "ReloadUnits", "DetachMount"]
    assert part.after == {}


REFUSED = {
    "another user, other options": (use("backend:nas", path="", options=["timeo=300"]), "with other options"),
    "another user, other path": (use("backend:nas", path="/mnt/x"), "is mounted for mount vms on"),
    "own mount, other path": (use(path="/mnt/x"), "was chosen when the mount was made"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_conflicts_name_what_is_in_the_way(world: World, what: str) -> None:
    wanted, says = REFUSED[what]
    world.made(use())
    with pytest.raises(HostError, match=says) as caught:
        world.plan(wanted)
    assert caught.value.kind == "conflict"


def test_a_path_that_is_a_mount_point_is_refused(world: World) -> None:
    world.lines = [LINE % PATH]
    with pytest.raises(HostError, match="is a mount point already, of nas1:/export/rw"):
        world.plan(use())


def test_unmounting_what_others_use_is_refused(world: World) -> None:
    world.made(use())
    world.made(use("backend:nas"))
    with pytest.raises(HostError, match="is used by backend nas") as caught:
        world.plan(use(mounted=False))
    assert caught.value.kind == "in_use"


def test_what_is_missing_below_a_network_mount_is_looked_for_in_a_child(
    world: World, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = str(tmp_path / "a" / "b")
    assert mount_changes.missing(wanted, world.seen(), 5) == [str(tmp_path / "a"), wanted]
    world.lines = [LINE % tmp_path]
    monkeypatch.setattr(mount_changes, "_missing", lambda path: time.sleep(60))  # a dead server
    with pytest.raises(HostError, match="while looking at") as caught:
        mount_changes.missing(wanted, world.seen(), 0.2)
    assert caught.value.kind == "timeout"


def test_a_mount_over_files_names_the_directory(world: World, tmp_path: pathlib.Path) -> None:
    place = tmp_path / "home"
    place.mkdir()
    assert world.plan(use(path=str(place))).warnings == []
    for name in ("a", "b", "c", "d"):
        (place / name).touch()
    (warning,) = world.plan(use(path=str(place))).warnings
    assert warning.startswith("%s is not empty" % place) and "(a, b, c, ...)" in warning
    world.made(use())
    world.lines = []
    assert world.plan(use()).warnings == []
    world.lines = [LINE % PATH]
    world.looks[str(place)] = {"status": "ok"}
    assert world.plan(use()).warnings == []  # mounted: not told again


@pytest.fixture(autouse=True)
def with_mount_program(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    program = tmp_path / "mount.nfs"
    program.touch()
    monkeypatch.setattr(nfs, "PROGRAM", (str(program), "nfs-common or nfs-utils"))
    return program


def test_a_host_without_the_program_is_told_what_boot_needs(world: World, with_mount_program: pathlib.Path) -> None:
    with_mount_program.unlink()
    (warning,) = world.plan(use()).warnings
    assert "mount.nfs is missing" in warning and "nfs-common" in warning and "prepare_host" in warning
    assert world.plan(use(persistent=False)).warnings == []


def remarks(world: World) -> list[str]:
    seen = world.seen()
    row = seen.of("mount:vms")
    assert row is not None
    return mount_report.remarks(row, seen)


@pytest.mark.parametrize("status", ["unreachable", "stale"])
def test_a_server_that_does_not_answer_is_named_with_its_address(world: World, status: str) -> None:
    world.made(use())
    assert remarks(world) == []
    world.looks[PATH] = {"status": status}
    (remark,) = remarks(world)
    assert remark.startswith("mounted, but %s: nas1 (10.77.0.71) " % status)
    assert "/export/rw" in remark and PATH in remark
    world.lines = []
    assert remarks(world) == []


@pytest.mark.parametrize(
    ("shown", "told"), [("", "nconnect=1 is in force, not 4"), ("nconnect=2,", "nconnect=2"), ("nconnect=4,", "")]
)
def test_connections_of_another_mount_are_told(world: World, shown: str, told: str) -> None:
    world.made(use(options=["nconnect=4"]), (LINE % PATH).replace("proto=tcp,", "proto=tcp," + shown))
    assert [remark[: len(told)] for remark in remarks(world)] == ([told] if told else [])
    assert world.plan(use(options=["nconnect=4"])).steps == []


def test_looks_leave_time_for_the_change() -> None:
    assert [observed.look_seconds(each) for each in ([2], [15], [2, 60], [])] == [1, 5, 5, 0.5]
