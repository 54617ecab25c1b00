# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shares: what is asked, what a refusal of the kernel means, and what is planned for passwords."""

from __future__ import annotations

import dataclasses
import errno
import grp
import os
import pathlib
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import holders, mounts, secret
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import (
    credential_steps,
    credentials,
    mount,
    smb,
    steps,
)

LOGIN = {"server": "nas1", "share": "vms", "username": "svc"}
LINE = (
    "40 20 0:33 / %s rw,nosuid,nodev,noexec,relatime shared:79 - cifs //nas1/vms rw,vers=3.1.1,cache=strict,"
    "upcall_target=app,username=svc,uid=0,forceuid,gid=0,forcegid,addr=10.77.1.81,file_mode=0660,dir_mode=0770,"
    "iocharset=utf8,hard,nounix,serverino,mapposix,reparse=nfs,nativesocket,symlink=native,rsize=4194304,"
    "wsize=4194304,bsize=1048576,echo_interval=60,actimeo=1,closetimeo=1"
)
FAILED = "CIFS: Status code returned 0xc000006d STATUS_LOGON_FAILURE"

REFUSALS = {
    "wrong user or password": (errno.EACCES, [FAILED], "share", "auth", "password"),
    "account locked": (
        errno.EACCES,
        ["CIFS: Status code returned 0xc0000234 STATUS_ACCOUNT_LOCKED_OUT"],
        "share",
        "auth",
        "password",
    ),
    "not for this user": (errno.EACCES, ["CIFS: Attempting to mount //nas1/vms"], "share", "refused", "username"),
    "no such share": (errno.ENOENT, ["CIFS: Attempting to mount //nas1/vms"], "share", "not_found", "share"),
    "no such directory": (errno.ENOENT, [], "subdir", "not_found", "subdir"),
    "dialect": (errno.EOPNOTSUPP, [], "share", "unsupported", "version"),
    "closed port": (errno.ECONNREFUSED, [], "share", "unreachable", None),
    "server gone": (errno.EHOSTDOWN, [], "share", "unreachable", None),
    "kernel without cifs": (errno.ENODEV, [], "share", "unsupported", None),
    "old kernel": (errno.ENOSYS, [], "share", "unsupported", None),
    "option": (errno.EINVAL, [], "share", "invalid", "options"),
}
"""As Linux 7.2 answers and logs for Samba 4.22: errno, log lines, what is missing; kind and field of the error."""


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_are_told_apart(what: str) -> None:
    number, logged, missing, kind, field = REFUSALS[what]
    error = smb.explained(mounts.KernelRefused(number, "fsconfig"), asked(), logged, missing)
    assert (error.kind, error.field) == (kind, field)
    assert "//nas1/vms" in error.message and (error.hint or kind == "internal")


def asked(**more: t.Any) -> smb.Asked:
    return smb.asked({**LOGIN, **more}, "", None)


def test_files_of_a_backend_are_for_virtual_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> t.Any:
        raise KeyError(name)

    monkeypatch.setattr(grp, "getgrnam", none)
    assert asked()["gid"] == 0
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.struct_group((name, "x", 361, [])))
    assert (asked()["gid"], asked(gid=0)["gid"], asked(gid=7)["gid"]) == (361, 0, 7)


def test_identity_is_server_share_and_directory() -> None:
    same = [asked(), asked(share="VMS"), asked(username="other"), asked(options="actimeo=3")]
    assert len({smb.identity(each) for each in same}) == 1
    assert (
        len({smb.identity(each) for each in (asked(), asked(subdir="a"), asked(subdir="a/b"), asked(server="x"))}) == 4
    )


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"server": "nas1"}, "share"),
        ({"share": "vms"}, "server"),
        ({"server": "nas1", "share": "vms", "password": "x"}, "password"),
        ({"server": "nas1", "share": "vms", "domain": "x"}, "domain"),
        ({**LOGIN, "version": "4.2"}, "version"),
        ({**LOGIN, "subdir": "a" * 250}, "share"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(item: dict[str, t.Any], field: str) -> None:
    with pytest.raises(HostError) as caught:
        smb.asked(item, "shares[2].", None)
    assert caught.value.field == "shares[2]." + field


@pytest.mark.parametrize("value", ["a,b", "a=b", "$HOME", "#x", "'\"", " x ", "pässwörd", "a\\b", "`id`", "x" * 255])
def test_passwords_survive_their_file(tmp_path: pathlib.Path, value: str) -> None:
    assert smb.given({"password": value}, "") == value
    login = credentials.Login(str(tmp_path / "x"), "svc", "LAB")
    (tmp_path / "x").write_text(credentials.text_of(login, value))
    assert credentials.password(login) == value


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "x" * 256, "ä" * 128])
def test_passwords_that_no_file_holds_are_refused_and_not_shown(value: str) -> None:
    with pytest.raises(HostError) as caught:
        smb.given({"password": value}, "shares[0].")
    assert caught.value.field == "shares[0].password"
    assert value not in caught.value.message + caught.value.hint


def test_a_blank_password_keeps_the_one_there_is() -> None:
    assert smb.given({"password": ""}, "") is None
    assert smb.given({}, "") is None


class World:
    """A host with one share, whose mount, file and registry row are as after a run."""

    def __init__(self, folder: pathlib.Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.busy: list[str] = []
        self.renews = True
        patch.setattr(credentials, "DIRECTORY", str(folder / "credentials"))
        patch.setattr(holders, "of_mount", lambda path: list(self.busy))
        patch.setattr(smb, "can_renew", lambda: self.renews)
        self.row: dict[str, t.Any] | None = None

    def seen(self) -> t.Any:
        line = mounts.parse_line(LINE % "/mnt/x")
        row = self.row

        class Seen:
            rows = {1: row} if row else {}
            users = {"share:vms": {"mount": 1, "persistent": 0}} if row else {}
            stacks = {"/mnt/x": [line]} if row else {}
            looks: t.ClassVar[dict[str, t.Any]] = {}

            def of(self, user: str) -> dict[str, t.Any] | None:
                return row if user == "share:vms" else None

            def by_identity(self, identity: str) -> dict[str, t.Any] | None:
                return row if row and row["identity"] == identity else None

            def users_of(self, row: dict[str, t.Any], but: str) -> list[str]:
                return []

            def stack(self, path: str) -> list[mounts.Mount]:
                return list(self.stacks.get(path, []))

        return Seen()

    def use(self, password: str | None = None, **more: t.Any) -> mount.Use:
        wanted = asked(**more)
        use = mount.Use("share:vms", wanted, True, False, "/mnt/x", mount.BASE, "", "read", "", 15)
        use = dataclasses.replace(use, secret=secret.keep(password))
        return mount.settled(use, self.seen())

    def made(self, password: str) -> None:
        use = self.use(password)
        login = smb.login(use.asked)
        assert login is not None
        os.makedirs(os.path.dirname(login.file), mode=0o700)
        path = pathlib.Path(login.file)
        path.write_text(credentials.text_of(login, password))
        path.chmod(0o600)
        shown = smb.shown(mounts.parse_line(LINE % "/mnt/x"), use.asked)
        live = {"attached": use.asked, "shown": shown, "address": "10.77.1.81", "version": "3.1.1"}
        self.row = {"id": 1, "path": "/mnt/x", "identity": smb.identity(use.asked), "asked": use.asked, **live}

    def kinds(self, use: mount.Use) -> list[str]:
        return [type(step).__name__ for step in mount.present(use, self.seen()).steps]


@pytest.fixture(name="world")
def a_host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> World:
    if os.geteuid() != 0:
        monkeypatch.setattr(os, "lstat", _as_root)
    return World(tmp_path, monkeypatch)


_lstat = os.lstat


def _as_root(path: str) -> os.stat_result:
    found = list(_lstat(path))
    found[4] = 0
    return os.stat_result(found)


def test_a_new_share_is_proven_before_its_password_is_kept(world: World) -> None:
    assert world.kinds(world.use("new")) == ["AttachMount", "WriteCredentials"]


def test_a_new_share_without_a_password_is_refused(world: World) -> None:
    with pytest.raises(HostError, match="no password is given or kept") as caught:
        mount.present(world.use(), world.seen())
    assert caught.value.field == "password"


@pytest.mark.parametrize("password", ["old", None])
def test_the_same_or_no_password_changes_nothing(world: World, password: str | None) -> None:
    world.made("old")
    assert world.kinds(world.use(password)) == []


@pytest.mark.parametrize("busy", [[], ["qemu (4711)"]])
def test_another_password_is_proven_kept_and_given_to_the_live_mount(world: World, busy: list[str]) -> None:
    world.made("old")
    world.busy = busy
    part = mount.present(world.use("new"), world.seen())
    assert [type(step).__name__ for step in part.steps] == ["Prove", "WriteCredentials", "RenewSecret"]
    assert (part.before["password"], part.after["password"]) == ("another password", "current")
    assert part.pending == []


def test_a_kernel_that_can_not_renew_mounts_again_when_idle_and_waits_when_not(world: World) -> None:
    world.made("old")
    world.renews = False
    assert world.kinds(world.use("new")) == ["AttachMount", "WriteCredentials"]
    world.busy = ["qemu (4711)"]
    part = mount.present(world.use("new"), world.seen())
    assert [type(step).__name__ for step in part.steps] == ["Prove", "WriteCredentials", "RenewSecret"]
    assert part.pending == ["qemu (4711)"]
    assert "keeps its old password" in part.warnings[0]


def test_a_mount_with_an_old_password_is_mounted_again_when_idle(world: World) -> None:
    world.made("old")
    assert world.row is not None
    world.row["attached"] = dict(world.row["attached"], outdated_password=True)
    assert world.kinds(world.use("old")) == ["AttachMount"]


@pytest.mark.parametrize("how", ["mode", "text"])
def test_a_file_that_was_touched_is_written_again_without_a_login(world: World, how: str) -> None:
    world.made("old")
    path = pathlib.Path(credentials.DIRECTORY, "share:vms")
    if how == "mode":
        path.chmod(0o644)
    else:
        path.write_text(path.read_text() + "# by hand\n")
    assert world.kinds(world.use()) == ["WriteCredentials"]


def test_a_guest_keeps_no_password(world: World) -> None:
    world.made("old")
    steps_planned = world.kinds(world.use(username=None))
    assert steps_planned == ["AttachMount", "RemoveCredentials"]


def test_two_mounts_never_share_a_file(world: World) -> None:
    world.made("old")
    assert world.row is not None
    path = world.row["asked"]["credentials"]
    assert credentials.file_for("share:vms", "other", [path]).startswith(path + "-")


def test_no_step_holds_the_password(world: World) -> None:
    world.made("old")
    planned = mount.present(world.use("s3cret-canary"), world.seen()).steps
    assert "s3cret-canary" not in repr(planned)
    assert "s3cret-canary" not in repr(world.use("s3cret-canary"))


def written(folder: pathlib.Path, replaces: bool) -> credential_steps.WriteCredentials:
    file = str(folder / "etc" / "credentials" / "x")
    makes = [] if replaces else [str(folder / "etc"), str(folder / "etc" / "credentials")]
    return credential_steps.WriteCredentials(file, "svc", "", secret.keep("new"), replaces, makes, "0a0b0c0d")


def test_a_password_that_replaces_one_is_taken_back_whole(tmp_path: pathlib.Path) -> None:
    first = written(tmp_path, False)
    first.apply({})
    first.finish({})
    path = pathlib.Path(first.file)
    path.write_text("the old one\n")
    step = written(tmp_path, True)
    step.apply({})
    assert "password=new" in path.read_text() and path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for dummy in range(2):
        step.undo({})
        assert path.read_text() == "the old one\n"
    assert [each.name for each in path.parent.iterdir()] == ["x"]
    step.apply({})
    step.finish({})
    assert [each.name for each in path.parent.iterdir()] == ["x"] and "password=new" in path.read_text()


def test_a_new_password_is_taken_back_with_its_directories(tmp_path: pathlib.Path) -> None:
    step = written(tmp_path, False)
    step.undo({})
    step.apply({})
    step.undo({})
    assert list(tmp_path.iterdir()) == []


def test_a_kill_between_keeping_and_writing_loses_nothing(tmp_path: pathlib.Path) -> None:
    written(tmp_path, False).apply({})
    step = written(tmp_path, True)
    os.link(step.file, credentials.aside(step.file, step.nonce))
    step.undo({})
    assert [each.name for each in pathlib.Path(step.file).parent.iterdir()] == ["x"]


def test_a_removed_password_is_put_back(tmp_path: pathlib.Path) -> None:
    made = written(tmp_path, False)
    made.apply({})
    step = credential_steps.RemoveCredentials(made.file, "01020304")
    step.apply({})
    assert not os.path.exists(made.file)
    step.undo({})
    assert "password=new" in pathlib.Path(made.file).read_text()
    step.apply({})
    step.finish({})
    assert list(tmp_path.iterdir()) == []


def test_the_journal_reads_every_step_back(world: World) -> None:
    world.made("old")
    for step in mount.present(world.use("new"), world.seen()).steps:
        again = steps.KINDS[type(step).__name__](**dataclasses.asdict(step))
        assert again == step


def test_addresses_are_compared_as_addresses() -> None:
    line = (
        (LINE % "/mnt/x")
        .replace("//nas1/", "//other/")
        .replace("10.77.1.81", "fd77:6d76:0001:0000:0000:0000:0000:0051")
    )
    assert smb.is_mount_of(mounts.parse_line(line), asked(), "fd77:6d76:1::51")
    assert not smb.is_mount_of(mounts.parse_line(line), asked(), "fd77:6d76:1::52")
