# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that mounts and directories of backends are made of. Private to microvm.host."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import glob
import os
import shutil
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Record, ReloadUnits, Step
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, files, holders, mounts, secret
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import credential_steps, filesystems, probe, units

UNDO_SECONDS = 15.0
STALE_SHARE = 1 / 3
"""Of the time that a mount may take: how long a stale root is tried again."""
STALE_PAUSE = 0.5
DIRECTORY_MODE = 0o711
"""Of a directory made for volumes: root lists them, and machines open by name what is given to them."""


@dataclasses.dataclass(frozen=True)
class AttachMount(Step):
    """Try a file system where nobody sees it, then put that very mount in place.

    ``path`` empty: ``<base>/<prefix>-<first 8 of the marker's UUID>``. ``marker``: "" for none, "any", or the UUID
    the backend must carry. ``place`` false: only try. ``makes``: the directories that were missing before. ``secret``:
    the key of a password that is to be proven, "" for the one at rest.
    """

    asked: dict[str, t.Any]
    path: str
    base: str
    prefix: str
    replaces: bool
    place: bool
    probe: str
    marker: str
    seconds: float
    makes: list[str]
    secret: str = ""

    def describe(self) -> str:
        system, source = filesystems.of(self.asked), _source(self.asked)
        marks = _marks() if self.marker == "any" and not system.parsed(self.asked).read_only else ""
        if not self.place:
            return "try %s%s" % (source, marks)
        verb = "mount again" if self.replaces else "mount"
        where = "on %s" % self.path if self.path else "below %s" % self.base
        return "%s %s %s%s" % (verb, source, where, marks)

    def apply(self, known: Known) -> deadline.Child:
        doing = "mounting %s" % _source(self.asked)
        return deadline.Child(lambda send: self._attach(), self.seconds, doing)

    def _tried(self) -> tuple[int, int, Known]:
        """A mount that nobody sees yet, its root, and what it can do."""
        system, what = filesystems.of(self.asked), _source(self.asked)
        with contextlib.ExitStack() as opened:
            mount, known = filesystems.detached(self.asked, self.seconds, secret.of(self.secret))
            opened.callback(os.close, mount)
            # fsmount gives an O_PATH descriptor: good to move the mount, not to read it.
            root = os.open(".", probe.DIRECTORY, dir_fd=mount)
            opened.callback(os.close, root)
            known.update(probe.examine(root, self.probe, what))
            if "locks" in known:
                known["locks"] = known["locks"] and system.shares_locks(self.asked, known["version"])
            if self.marker:
                known.update(probe.identify(root, self.marker, not system.parsed(self.asked).read_only, what))
            opened.pop_all()
        return mount, root, known

    def _fresh(self) -> tuple[int, int, Known]:
        """As ``_tried``, again for a while when the root is stale: mount.nfs(8) takes that for temporary too.

        nfs-ganesha gives such handles now and then to the first mounts after its start.
        """
        until = time.monotonic() + self.seconds * STALE_SHARE
        while True:
            try:
                return self._tried()
            except HostError as error:
                if error.kind != "stale" or time.monotonic() >= until:
                    raise
            time.sleep(STALE_PAUSE)  # a server tells nobody that it knows its exports now

    def _attach(self) -> Known:
        system = filesystems.of(self.asked)
        mount, root, known = self._fresh()
        path = self.path or os.path.join(self.base, "%s-%s" % (self.prefix, known["uuid"].split(":")[-1][:8]))
        known["path"] = path
        if not self.place:
            return known
        files.make_directories(path)
        stack = mounts.stack_at(path, mounts.table())
        if stack and not self.replaces:
            raise HostError("conflict", "%s is a mount point already, of %s" % (path, stack[-1].source), field="path")
        _detach_all(path, len(stack))
        if any(old.device == _device(root) for old in stack):
            # One superblock for both: its options stay those of the first mount until that and all trials are gone.
            os.close(root)
            os.close(mount)
            mount, again = filesystems.detached(self.asked, self.seconds, secret.of(self.secret))
            known.update(again)
        mounts.attach(mount, path)
        top = mounts.stack_at(path, mounts.table())[-1]
        known["shown"] = system.shown(top, self.asked)
        known["version"] = system.negotiated(top) or known["version"]
        return known

    def undo(self, known: Known) -> None:
        if self.replaces or not self.place:
            return  # an exchanged mount is drift: the next run sees it in mountinfo and puts it right
        for path in self._places(known):
            top = mounts.stack_at(path, mounts.table())
            if top and filesystems.of(self.asked).same_export(top[-1], self.asked):
                deadline.call(functools.partial(_detach_all, path, 1), UNDO_SECONDS, "unmounting %s" % path)
            if path in self.makes or not self.path:
                files.remove_empty(path)
        for folder in reversed(self.makes):
            files.remove_empty(folder)

    def _places(self, known: Known) -> list[str]:
        """Where the mount may be: when the run was killed before it said so, all it could have chosen."""
        if self.path or "path" in known:
            return [self.path or known["path"]]
        pattern = os.path.join(glob.escape(self.base), glob.escape(self.prefix) + "-" + "[0-9a-f]" * 8)
        with registry.reading() as connection:
            taken = {row["path"] for row in registry.rows(connection, "SELECT path FROM mounts")}
        return sorted(set(glob.glob(pattern)) - taken)


def _source(asked: filesystems.Asked) -> str:
    return filesystems.of(asked).source(asked)


def _marks() -> str:
    return "; write %s/%s if missing" % (probe.FOLDER, probe.MARKER)


def _device(descriptor: int) -> str:
    """The device of an open file as mountinfo writes it."""
    number = os.fstat(descriptor).st_dev
    return "%d:%d" % (os.major(number), os.minor(number))


@dataclasses.dataclass(frozen=True)
class DetachMount(Step):
    """Unmount what is on ``path``, all of a stack; after the commit the empty directory goes (when ``forget``)."""

    path: str
    forget: bool
    seconds: float

    def describe(self) -> str:
        return "unmount %s" % self.path

    def apply(self, known: Known) -> deadline.Child | None:
        depth = len(mounts.stack_at(self.path, mounts.table()))
        if depth == 0:
            return None
        doing = "unmounting %s" % self.path
        return deadline.Child(lambda send: _detach_all(self.path, depth), self.seconds, doing)

    def finish(self, known: Known) -> None:
        if self.forget:
            files.remove_empty(self.path)


def _detach_all(path: str, depth: int) -> Known:
    """Unmount ``depth`` mounts on ``path``; answers nothing. Raises ``in_use`` naming who holds it."""
    while depth:
        depth -= 1
        try:
            mounts.detach(path)
        except mounts.KernelRefused as refused:
            if refused.errno == errno.EINVAL:
                break  # gone by itself
            if refused.errno != errno.EBUSY:
                raise HostError("internal", "unmounting %s: %s" % (path, refused)) from None
            raise in_use(path) from None
    return {}


def in_use(path: str) -> HostError:
    """The error for a mount that can't be unmounted now, naming who holds it."""
    who = ", ".join(holders.of_mount(path)) or "the kernel"
    return HostError("in_use", "%s is in use by %s" % (path, who), "stop what uses it, then run this again")


@dataclasses.dataclass(frozen=True)
class SetFlags(Step):
    """Give a mount other per-mount flags, in place."""

    asked: dict[str, t.Any]
    path: str
    flags: list[str]
    before: list[str]
    seconds: float

    def describe(self) -> str:
        return "set %s on %s" % (",".join(self.flags) or "no flags", self.path)

    def apply(self, known: Known) -> deadline.Child:
        return deadline.Child(lambda send: self._set(self.flags), self.seconds, "changing flags of %s" % self.path)

    def undo(self, known: Known) -> None:
        if mounts.stack_at(self.path, mounts.table()):
            deadline.call(lambda: self._set(self.before), UNDO_SECONDS, "changing flags of %s" % self.path)

    def _set(self, flags: list[str]) -> Known:
        try:
            mounts.set_flags(self.path, flags)
        except mounts.KernelRefused as refused:
            raise HostError("refused", "changing flags of %s: %s" % (self.path, refused)) from None
        top = mounts.stack_at(self.path, mounts.table())[-1]
        return {"shown": filesystems.of(self.asked).shown(top, self.asked)}


@dataclasses.dataclass(frozen=True)
class WriteUnit(Step):
    """The unit that mounts at boot, and the link that has it started then. ``path`` empty: where the mount went."""

    asked: dict[str, t.Any]
    path: str
    previous: str | None
    nonce: str

    def describe(self) -> str:
        return "write the mount unit of %s" % _source(self.asked)

    def apply(self, known: Known) -> None:
        path = self.path or known["path"]
        _write_unit(path, units.unit_text(self.asked, path), self.nonce)

    def undo(self, known: Known) -> None:
        path = self.path or known.get("path")
        if not path:
            return
        files.forget(units.unit_file(path), self.nonce)
        if self.previous is not None:
            _write_unit(path, self.previous, self.nonce)
        elif files.text_of(units.unit_file(path)) in (units.unit_text(self.asked, path), None):
            _remove_unit(path)


@dataclasses.dataclass(frozen=True)
class RemoveUnit(Step):
    """Take the unit and its link away."""

    path: str
    previous: str
    nonce: str

    def describe(self) -> str:
        return "remove the mount unit of %s" % self.path

    def apply(self, known: Known) -> None:
        _remove_unit(self.path)

    def undo(self, known: Known) -> None:
        _write_unit(self.path, self.previous, self.nonce)


@dataclasses.dataclass(frozen=True)
class OpenDirectory(Step):
    """Make the directory when it is missing, try it, and give it the marker that identifies it."""

    path: str
    makes: list[str]
    marker: str
    seconds: float

    def describe(self) -> str:
        marks = _marks() if self.marker == "any" else ""
        return "%s %s%s" % ("make" if self.makes else "try", self.path, marks)

    def apply(self, known: Known) -> deadline.Child:
        return deadline.Child(lambda send: self._open(), self.seconds, "trying %s" % self.path)

    def _open(self) -> Known:
        files.make_directories(self.path, DIRECTORY_MODE)
        try:
            root = os.open(self.path, probe.DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise files.from_os(error, "opening %s" % self.path).in_field("path") from None
        known = probe.examine(root, "write", self.path)
        known.update(probe.identify(root, self.marker, True, self.path), path=self.path)
        return known

    def undo(self, known: Known) -> None:
        """Only what this step made goes, and only when nothing but the marker is in it."""
        deadline.call(self._close, UNDO_SECONDS, "leaving %s" % self.path)

    def _close(self) -> bool:
        if os.path.isdir(self.path):
            probe.sweep(self.path)
            if self.path in self.makes and set(os.listdir(self.path)) <= {probe.FOLDER}:
                shutil.rmtree(self.path)
        for folder in reversed(self.makes):
            files.remove_empty(folder)
        return True


def _write_unit(path: str, text: str, nonce: str) -> None:
    files.write(units.unit_file(path), os.fsencode(text), 0o644, nonce)
    files.link(units.unit_file(path), units.unit_link(path))


def _remove_unit(path: str) -> None:
    files.erase(units.unit_link(path))
    files.erase(units.unit_file(path))


_KINDS = (AttachMount, DetachMount, SetFlags, WriteUnit, RemoveUnit, OpenDirectory, Record, ReloadUnits)
KINDS: dict[str, type[Step]] = {**{kind.__name__: kind for kind in _KINDS}, **credential_steps.KINDS}
