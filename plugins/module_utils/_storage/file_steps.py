# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that volumes in files are changed by. Private to microvm.host.

Each is one child that holds the lock of the volume. What it makes has a hidden name until it is whole, and what it
takes away has one until the change is committed; both names have the volume's UUID in them or that of the step, so that
an undo touches nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import glob
import grp
import json
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Record, Step
from ansible_collections.microvm.host.plugins.module_utils._host import copy, deadline, diskfs, files, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.lease import Lease
from ansible_collections.microvm.host.plugins.module_utils._storage import probe
from ansible_collections.microvm.host.plugins.module_utils._storage.file_store import (
    DATA,
    IMAGES,
    LABEL,
    LOCKS,
    aside,
    label,
    now,
    read_label,
)

UNDO_SECONDS = 30.0
"""How long an undo may last at most; as long as the step, when that is less."""
NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_CLOEXEC
LOOK_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class VolumeStep(Step):
    """``place`` is FileStore.place. ``uuid`` is what the volume's label has to have. ``seconds`` without progress."""

    place: dict[str, t.Any]
    name: str
    uuid: str
    takeover: bool
    seconds: float

    @property
    def what(self) -> str:
        """The volume in words."""
        return "volume %s on %s" % (self.name, self.place["backend"])

    def path(self, name: str) -> str:
        """A file of the backend."""
        return os.path.join(self.place["path"], name)

    @property
    def data(self) -> str:
        """The disk."""
        return self.path(self.name + DATA)

    def child(self, work: t.Callable[[deadline.Progress, Lease], None], doing: str) -> deadline.Child:
        """Do it in a child that dies with this process; ``work`` has the lock of the volume."""
        parent = os.getpid()

        def guarded(send: t.Callable[[t.Any], None]) -> Known:
            deadline.die_with(parent)
            self.locked(work, deadline.Progress(send), self.takeover, 0.0)
            return {}

        return deadline.Child(guarded, self.seconds, "%s %s" % (doing, self.what))

    def locked(
        self,
        work: t.Callable[[deadline.Progress, Lease], None],
        progress: deadline.Progress,
        takeover: bool,
        patience: float,
    ) -> None:
        """Do something with the lock of the volume, on the backend that is meant and no other."""
        try:
            root = os.open(self.place["path"], probe.DIRECTORY)  # open: nobody unmounts it meanwhile
            try:
                if probe.read_marker(root, self.place["path"]) != self.place["marker"]:
                    text = "%s does not carry the marker of backend %s" % (self.place["path"], self.place["backend"])
                    raise HostError("conflict", text, "is it mounted? run storage_backend")
                lease = self.lease()
                lease.take(takeover, patience)
                try:
                    work(progress, lease)
                finally:
                    lease.release(forget=not os.path.lexists(self.path(self.name + LABEL)))
            finally:
                os.close(root)
        except OSError as error:
            raise probe.explained(error, self.what) from None

    def lease(self) -> Lease:
        """The lock of the volume."""
        doing = "Ansible (%s)" % self.describe()
        return Lease(self.path(LOCKS), self.name, doing, probe.host_mark(), self.place["crosses"])

    def taken_back(self, work: t.Callable[[], None]) -> None:
        """Undo or finish something, after whatever a dead run left running on the disk has ended."""

        seconds = min(UNDO_SECONDS, self.seconds)

        def run() -> bool:
            nobody = deadline.Progress(lambda *dummy: None)
            self.locked(lambda progress, lease: work(), nobody, self.takeover, seconds / 2)
            return True

        deadline.call(run, seconds, "leaving %s" % self.what)

    def refuse_other(self) -> None:
        """Raise ``conflict`` unless the volume is still this host's."""
        found = read_label(self.place["path"], self.name)
        if found is None or found["uuid"] != self.uuid or found["owner"] != probe.host_mark():
            whose = "carries no label" if found is None else "is now that of %s" % found["hostname"]
            raise HostError("conflict", "%s %s" % (self.what, whose), "look at host_info on both hosts")

    @contextlib.contextmanager
    def opened(self, path: str, flags: int, what: str = "") -> t.Iterator[int]:
        """A file, refused while a virtual machine writes to it."""
        descriptor = os.open(path, flags, 0o600)
        try:
            if not flags & os.O_CREAT:
                copy.refuse_written(descriptor, what or self.what)
            yield descriptor
        finally:
            os.close(descriptor)

    def publish(self, hidden: str, name: str) -> None:
        """Give a whole file its name."""
        os.rename(hidden, name)
        files.sync_directory(self.place["path"])


def _remove(*paths: str) -> None:
    for path in paths:
        files.remove(path)


def _for_machines(descriptor: int) -> None:
    """Let the group of virtual machines use a disk, where there is one and the server lets us."""
    os.fchmod(descriptor, 0o660)
    with contextlib.suppress(KeyError, PermissionError):
        os.fchown(descriptor, -1, grp.getgrnam(names.GROUP).gr_gid)


def _write_label(hidden: str, values: dict[str, t.Any]) -> None:
    descriptor = os.open(hidden, NEW, 0o644)
    try:
        os.write(descriptor, json.dumps(values, sort_keys=True).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copied(source: int, target: int, what: str, progress: deadline.Progress) -> None:
    shared = copy.contents(source, target, progress) == "reflink"
    copy.refuse_different(source, target, what, copy.SAMPLES_SHARED if shared else copy.SAMPLES)


@dataclasses.dataclass(frozen=True)
class MakeVolume(VolumeStep):
    """Claim the name among all hosts by the label, make the disk under a hidden name, then give it its own.

    ``source`` is a store.Source as a dict.
    """

    size: int
    source: dict[str, t.Any] | None
    filesystem: dict[str, t.Any] | None
    about: dict[str, t.Any]

    def describe(self) -> str:
        made = " from %s" % self.source["path"] if self.source else ""
        return "make %s, %d bytes%s" % (self.what, self.size, made)

    @property
    def hidden(self) -> str:
        """The disk while it is made."""
        return self.path(aside(self.name + DATA, self.uuid))

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._make, "making")

    def _make(self, progress: deadline.Progress, lease: Lease) -> None:
        self._claim()
        with self.opened(self.hidden, NEW) as target:
            if self.source is not None:
                self._fill(self.source, target, progress)
            os.ftruncate(target, self.size)
            disk = diskfs.Disk(self.hidden, progress.alive, lease.descriptor)
            if self.filesystem is not None and self.source is None:
                disk.make(self.filesystem)
            elif self.filesystem is not None and self.source is not None and self.size > self.source["size"]:
                disk.grow(self.filesystem["type"])
            _for_machines(target)
            os.fsync(target)
        self.publish(self.hidden, self.data)

    def _claim(self) -> None:
        """The label, made whole and linked: of all hosts that want the name one gets it."""
        if os.path.lexists(self.data):
            text = "%s: there is a file %s already" % (self.what, self.data)
            raise HostError("conflict", text, "adopt: true takes it as it is")
        hidden = self.path(aside(self.name + LABEL, self.uuid))
        _write_label(hidden, label(self.name, self.uuid, self.about))
        try:
            os.link(hidden, self.path(self.name + LABEL))
        except FileExistsError:
            found = read_label(self.place["path"], self.name) or {"hostname": "another host"}
            text = "%s is that of %s" % (self.what, found["hostname"])
            raise HostError("conflict", text, "choose another name, or take it with adopt: true") from None
        finally:
            _remove(hidden)
        files.sync_directory(self.place["path"])

    def _fill(self, source: dict[str, t.Any], target: int, progress: deadline.Progress) -> None:
        if source["key"]:
            with self._kept(source, progress) as image:
                _copied(image, target, self.what, progress)
        elif source["lock"]:
            folder, name = os.path.split(source["lock"])
            lease = Lease(folder, name, "Ansible (%s)" % self.describe(), probe.host_mark(), source["crosses"])
            lease.take(shared=True)
            try:
                self._fill_from(source, target, progress)
            finally:
                lease.release()
        else:
            self._fill_from(source, target, progress)

    def _fill_from(self, source: dict[str, t.Any], target: int, progress: deadline.Progress) -> None:
        path = source["path"]
        with self.opened(path, READ, path) as image:
            if source["format"] == "qcow2":
                _refuse_checksum(image, source, progress)
                copy.convert(path, target, progress)
            else:
                if not source["volume"]:
                    refuse_qcow2(image, path)
                _copied(image, target, self.what, progress)
                _refuse_checksum(target, source, progress)  # of what has arrived

    @contextlib.contextmanager
    def _kept(self, source: dict[str, t.Any], progress: deadline.Progress) -> t.Iterator[int]:
        """The backend's own copy of an image, open, made by the first that needs it: volumes are clones of that."""
        folder = self.path(IMAGES)
        kept = os.path.join(folder, source["key"] + DATA)
        files.make_directories(folder, 0o750)
        hidden = self._partial(source)
        with _alone(hidden, progress):
            if not os.path.exists(kept):
                with self.opened(hidden, NEW) as target:
                    self._fill_from(source, target, progress)
                    os.fchmod(target, 0o440)
                    os.fsync(target)
                os.rename(hidden, kept)
                files.sync_directory(folder)
            image = os.open(kept, READ)
        try:
            yield image
        finally:
            os.close(image)

    def _partial(self, source: dict[str, t.Any]) -> str:
        return self.path(os.path.join(IMAGES, ".%s.%s" % (source["key"], probe.host_mark())))

    def undo(self, known: Known) -> None:
        self.taken_back(self._unmake)

    def _unmake(self) -> None:
        _remove(self.hidden, self.path(aside(self.name + LABEL, self.uuid)))
        found = read_label(self.place["path"], self.name)
        if found is not None and found["uuid"] == self.uuid:
            _remove(self.data, self.path(self.name + LABEL))
        if self.source is not None and self.source["key"]:
            hidden = self._partial(self.source)
            if os.path.exists(hidden):
                with _alone(hidden, deadline.Progress(lambda *dummy: None)):
                    _remove(hidden)


@contextlib.contextmanager
def _alone(path: str, progress: deadline.Progress) -> t.Iterator[None]:
    """Of all that want to make one image on this host, one at a time; those that wait see whether it goes on."""
    descriptor = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        seen = -1
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            with contextlib.suppress(FileNotFoundError):
                blocks = os.stat(path).st_blocks
                if blocks != seen:
                    seen = blocks
                    progress.alive()
            time.sleep(LOOK_SECONDS)  # the wait is for the lock; the deadline is the parent's
        yield
        _remove(path + ".lock")
    finally:
        os.close(descriptor)


def _refuse_checksum(image: int, source: dict[str, t.Any], progress: deadline.Progress) -> None:
    """Raise ``invalid`` when a checksum was given and is not that of the image, or of its copy."""
    found = copy.sha256(image, progress) if source["checksum"] else ""
    if found != source["checksum"]:
        text = "%s has the SHA-256 %s, not %s" % (source["path"], found, source["checksum"])
        raise HostError("invalid", text, "is the image damaged, or another version?", field="checksum")


def refuse_qcow2(image: int, path: str) -> None:
    """Raise ``invalid`` for a qcow2 image that is said to be a raw one."""
    if copy.is_qcow2(image):
        raise HostError("invalid", "%s is a qcow2 image" % path, "say format: qcow2", field="format")


@dataclasses.dataclass(frozen=True)
class AdoptVolume(VolumeStep):
    """Write a label that says it is this host's. ``previous``: the one it had, None without."""

    previous: dict[str, t.Any] | None

    def describe(self) -> str:
        return "adopt %s%s" % (self.what, " from %s" % self.previous["hostname"] if self.previous else "")

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._adopt, "adopting")

    def _adopt(self, progress: deadline.Progress, lease: Lease) -> None:
        if read_label(self.place["path"], self.name) != self.previous:
            raise HostError("conflict", "%s was taken by another host meanwhile" % self.what, "run it again")
        with self.opened(self.data, OLD) as data:
            _for_machines(data)
        about = dict(self.previous or {}, created=(self.previous or {}).get("created", now()))
        self._write(label(self.name, self.uuid, about))

    def _write(self, values: dict[str, t.Any]) -> None:
        hidden = self.path(aside(self.name + LABEL, self.uuid))
        _write_label(hidden, values)
        self.publish(hidden, self.path(self.name + LABEL))

    def undo(self, known: Known) -> None:
        self.taken_back(self._disown)

    def _disown(self) -> None:
        _remove(self.path(aside(self.name + LABEL, self.uuid)))
        found = read_label(self.place["path"], self.name)
        if found is None or found == self.previous or found["owner"] != probe.host_mark() or found["uuid"] != self.uuid:
            return
        if self.previous is None:
            _remove(self.path(self.name + LABEL))
        else:
            self._write(self.previous)


@dataclasses.dataclass(frozen=True)
class ResizeVolume(VolumeStep):
    """From ``before`` to ``after`` bytes, with the file system in it when one is named."""

    before: int
    after: int
    filesystem: str | None

    def describe(self) -> str:
        verb = "grow" if self.after > self.before else "shrink"
        inner = " and the %s in it" % self.filesystem if self.filesystem else ""
        return "%s %s%s to %d bytes" % (verb, self.what, inner, self.after)

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._resize, "resizing")

    def _resize(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        disk = diskfs.Disk(self.data, progress.alive, lease.descriptor)
        with self.opened(self.data, OLD) as data:
            if self.after >= os.fstat(data).st_size:
                os.ftruncate(data, self.after)
                os.fsync(data)
                if self.filesystem:
                    disk.grow(self.filesystem)
            else:
                if self.filesystem:
                    disk.shrink(self.filesystem, self.after)
                elif _has_data_behind(data, self.after):
                    text = "%s has data behind %d bytes" % (self.what, self.after)
                    raise HostError("conflict", text, "name its filesystem, which is made smaller first", field="size")
                os.ftruncate(data, self.after)
            os.fsync(data)

    def undo(self, known: Known) -> None:
        """The disk becomes as long as it was; not shorter, when something is written behind its old end already."""
        self.taken_back(self._as_before)

    def _as_before(self) -> None:
        with contextlib.suppress(FileNotFoundError), self.opened(self.data, OLD) as data:
            changed = os.fstat(data).st_size == self.after
            if changed and (self.after < self.before or not _has_data_behind(data, self.before)):
                os.ftruncate(data, self.before)


def _has_data_behind(data: int, place: int) -> bool:
    size = os.fstat(data).st_size
    for begin, end in copy.extents(data, size):
        at = max(begin, place)
        while at < end:
            found = os.pread(data, copy.READ, at)
            if found.strip(b"\0"):
                return True
            at += len(found) or copy.READ
    return False


@dataclasses.dataclass(frozen=True)
class TakeSnapshot(VolumeStep):
    """Copy the disk, blocks shared where the file system can."""

    snapshot: str
    nonce: str

    def describe(self) -> str:
        return "take the snapshot %s of %s" % (self.snapshot, self.what)

    @property
    def kept(self) -> str:
        """The snapshot."""
        return "%s@%s%s" % (self.name, self.snapshot, DATA)

    @property
    def hidden(self) -> str:
        """The snapshot while it is made."""
        return self.path(aside(self.kept, self.nonce))

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._take, "taking a snapshot of")

    def _take(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        if os.path.lexists(self.path(self.kept)):
            raise HostError("conflict", "%s has a snapshot %s already" % (self.what, self.snapshot), "run it again")
        with self.opened(self.data, OLD) as data, self.opened(self.hidden, NEW) as target:
            _copied(data, target, self.what, progress)
        # Proof for an undo that the snapshot is of this step: it is there before the snapshot, and goes behind it.
        os.close(os.open(self.hidden + ".made", NEW, 0o600))
        self.publish(self.hidden, self.path(self.kept))

    def undo(self, known: Known) -> None:
        self.taken_back(self._drop)

    def _drop(self) -> None:
        if os.path.lexists(self.hidden + ".made"):
            _remove(self.path(self.kept))
        _remove(self.hidden, self.hidden + ".made")

    def finish(self, known: Known) -> None:
        self.taken_back(lambda: _remove(self.hidden + ".made"))


@dataclasses.dataclass(frozen=True)
class RestoreSnapshot(VolumeStep):
    """Put a copy of a snapshot in the place of the disk, which waits aside until this is committed."""

    snapshot: str
    size: int
    nonce: str

    def describe(self) -> str:
        return "restore the snapshot %s of %s" % (self.snapshot, self.what)

    @property
    def hidden(self) -> str:
        """The new disk while it is made."""
        return self.path(aside(self.name + DATA, self.nonce))

    @property
    def old(self) -> str:
        """The disk that was."""
        return self.hidden + ".old"

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._restore, "restoring")

    def _restore(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        snapshot = self.path("%s@%s%s" % (self.name, self.snapshot, DATA))
        with self.opened(self.data, OLD), self.opened(snapshot, READ) as source:
            with self.opened(self.hidden, NEW) as target:
                _copied(source, target, self.what, progress)
                if os.fstat(target).st_size < self.size:
                    os.ftruncate(target, self.size)
                _for_machines(target)
                os.fsync(target)
        os.rename(self.data, self.old)
        self.publish(self.hidden, self.data)

    def undo(self, known: Known) -> None:
        self.taken_back(self._put_back)

    def _put_back(self) -> None:
        if os.path.lexists(self.old):
            os.rename(self.old, self.data)
        _remove(self.hidden)

    def finish(self, known: Known) -> None:
        self.taken_back(lambda: _remove(self.old))


@dataclasses.dataclass(frozen=True)
class DeleteSnapshot(VolumeStep):
    """Hide a snapshot; it goes when this is committed."""

    snapshot: str

    def describe(self) -> str:
        return "delete the snapshot %s of %s" % (self.snapshot, self.what)

    def _names(self) -> tuple[str, str]:
        kept = "%s@%s%s" % (self.name, self.snapshot, DATA)
        return self.path(kept), self.path(aside(kept, self.uuid))

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._hide, "deleting a snapshot of")

    def _hide(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        kept, hidden = self._names()
        with contextlib.suppress(FileNotFoundError):
            self.publish(kept, hidden)

    def undo(self, known: Known) -> None:
        kept, hidden = self._names()

        def show() -> None:
            if os.path.lexists(hidden) and not os.path.lexists(kept):
                self.publish(hidden, kept)

        self.taken_back(show)

    def finish(self, known: Known) -> None:
        self.taken_back(lambda: _remove(self._names()[1]))


@dataclasses.dataclass(frozen=True)
class DeleteVolume(VolumeStep):
    """Hide the disk, so that nothing can open it; it goes with snapshots and label when this is committed."""

    moves: bool

    def describe(self) -> str:
        return ("move %s away" if self.moves else "delete %s") % self.what

    @property
    def hidden(self) -> str:
        """The disk while it waits for the commit."""
        return self.path(aside(self.name + DATA, self.uuid))

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._hide, "deleting")

    def _hide(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        with contextlib.suppress(FileNotFoundError):
            with self.opened(self.data, OLD):
                self.publish(self.data, self.hidden)

    def undo(self, known: Known) -> None:
        self.taken_back(self._show)

    def _show(self) -> None:
        if os.path.lexists(self.hidden) and not os.path.lexists(self.data):
            self.publish(self.hidden, self.data)

    def finish(self, known: Known) -> None:
        self.taken_back(self._remove)

    def _remove(self) -> None:
        _remove(self.hidden)
        found = read_label(self.place["path"], self.name)
        if found is not None and found["uuid"] == self.uuid and found["owner"] == probe.host_mark():
            _remove(*glob.glob(self.path(glob.escape(self.name) + "@*" + DATA)), self.path(self.name + LABEL))
        files.sync_directory(self.place["path"])


@dataclasses.dataclass(frozen=True)
class PruneImage(Step):
    """Remove the copy of an image that a backend keeps; the volumes that share its blocks keep them."""

    place: dict[str, t.Any]
    key: str
    seconds: float

    def describe(self) -> str:
        return "remove the image %s from %s" % (self.key, self.place["backend"])

    def finish(self, known: Known) -> None:
        """Not before the commit: there is nothing to undo then. Whoever needs it meanwhile puts it there again."""
        path = os.path.join(self.place["path"], IMAGES, self.key + DATA)

        def remove() -> bool:
            _remove(path)
            return True

        deadline.call(remove, self.seconds, "removing %s" % path)


KINDS: dict[str, type[Step]] = {
    kind.__name__: kind
    for kind in (
        MakeVolume,
        AdoptVolume,
        ResizeVolume,
        TakeSnapshot,
        RestoreSnapshot,
        DeleteSnapshot,
        DeleteVolume,
        PruneImage,
        Record,
    )
}
