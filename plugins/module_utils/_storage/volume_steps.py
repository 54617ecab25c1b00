# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that volumes are changed by. Private to microvm.host.

Each is one child that holds the lock of the volume. What it makes has a hidden name until it is whole, and what it
takes away has one until the change is committed; both names have the volume's UUID in them or that of the step, so that
an undo touches nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Record, Step
from ansible_collections.microvm.host.plugins.module_utils._host import copy, deadline, diskfs, files
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.lease import Lease
from ansible_collections.microvm.host.plugins.module_utils._storage import disks, probe

UNDO_SECONDS = 30.0
"""How long an undo may stand still at most; as long as the step, when that is less."""
LOOK_SECONDS = 0.2
READ = os.O_RDONLY | os.O_CLOEXEC


@dataclasses.dataclass(frozen=True)
class VolumeStep(Step):
    """``place`` is Store.place. ``uuid`` is what the volume's label has to have. ``seconds`` without progress."""

    place: dict[str, t.Any]
    name: str
    uuid: str
    takeover: bool
    seconds: float

    @property
    def what(self) -> str:
        """The volume in words."""
        return "volume %s on %s" % (self.name, self.place["backend"])

    @functools.cached_property
    def disks(self) -> disks.Disks:
        """The disks of the backend."""
        return disks.of(self.place)

    @property
    def data(self) -> str:
        """The disk."""
        return self.disks.data(self.name)

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
            with self.disks.entered(progress, self.seconds):
                lease = self.lease()
                lease.take(takeover, patience)
                try:
                    self.disks.keep(lease.descriptor)
                    work(progress, lease)
                finally:
                    lease.release(forget=not self.disks.claimed(self.name))
        except OSError as error:
            raise probe.explained(error, self.what) from None

    def lease(self) -> Lease:
        """The lock of the volume."""
        doing = "Ansible (%s)" % self.describe()
        return Lease(self.disks.locks, self.name, doing, probe.host_mark(), self.place["crosses"])

    def taken_back(self, work: t.Callable[[], None]) -> None:
        """Undo or finish something, after whatever a dead run left running on the disk has ended."""

        seconds = min(UNDO_SECONDS, self.seconds)

        def run(send: t.Callable[[t.Any], None]) -> bool:
            progress = deadline.Progress(send)
            self.locked(lambda progress, lease: work(), progress, self.takeover, seconds / 2)
            return True

        child = deadline.Child(run, seconds, "leaving %s" % self.what)
        deadline.wait_any([child])
        child.result()

    def refuse_other(self) -> None:
        """Raise ``conflict`` unless the volume is still this host's."""
        found = self.disks.label(self.name)
        if found is None or found["uuid"] != self.uuid or found["owner"] != probe.host_mark():
            whose = "carries no label" if found is None else "is now that of %s" % found["hostname"]
            raise HostError("conflict", "%s %s" % (self.what, whose), "look at host_info on both hosts")

    def refuse_written(self) -> None:
        """Raise ``in_use`` while a virtual machine has the disk open for writing."""
        with self.disks.opened(self.data, write=True):
            pass  # that is what it does first


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
        return self.disks.aside(self.data, self.uuid)

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._make, "making")

    def _make(self, progress: deadline.Progress, lease: Lease) -> None:
        label = disks.label(self.name, self.uuid, self.about)
        self.disks.claim(self.name, label)
        with self._reading(), self._origin(progress) as origin:
            if origin:
                self.disks.copied(origin, self.hidden, self.size, label, progress)
            else:
                with self.disks.made(self.hidden, self.size, label) as target:
                    self._fill(self.source, target, progress)
        disk = diskfs.Disk(self.disks.path(self.hidden), progress.alive, lease.descriptor)
        if self.filesystem is not None and self.source is None:
            disk.make(self.filesystem)
        elif self.filesystem is not None and self.source is not None and self.size > self.source["size"]:
            disk.grow(self.filesystem["type"])
        self.disks.settled(self.hidden)
        self.disks.publish(self.hidden, self.data)

    @contextlib.contextmanager
    def _reading(self) -> t.Iterator[None]:
        """With the lock of the volume that is copied, if it is one."""
        if self.source is None or not self.source["lock"]:
            yield
            return
        folder, name = os.path.split(self.source["lock"])
        lease = Lease(folder, name, "Ansible (%s)" % self.describe(), probe.host_mark(), self.source["crosses"])
        lease.take(shared=True)
        try:
            yield
        finally:
            lease.release()

    @contextlib.contextmanager
    def _origin(self, progress: deadline.Progress) -> t.Iterator[str]:
        """The disk of this very backend that the new one is a copy of; "" for none."""
        if self.source is not None and self.source["key"] and self.disks.keeps:
            with self._kept(self.source, progress) as kept:
                yield kept
        elif self.source is not None and self.source["backend"] == self.place["backend"]:
            yield str(self.source["disk"])
        else:
            yield ""

    def _fill(self, source: dict[str, t.Any] | None, target: int, progress: deadline.Progress) -> None:
        """Write the source, and zeros behind it where a disk is not zeroed when it is new."""
        zeroed, end = self.disks.zeroed, 0
        if source is not None:
            free, path = self.disks.free(), source["path"]
            with _opened(path) as image:
                if source["format"] == "qcow2":
                    _refuse_checksum(image, copy.size_of(image), source, progress)
                    copy.convert(path, target, progress, free, zeroed)
                    end = source["size"]
                else:
                    if not source["volume"]:
                        refuse_qcow2(image, path)
                    copy.compared(image, target, self.what, progress, free, zeroed)
                    end = copy.size_of(image)
                    _refuse_checksum(target, end, source, progress)  # of what has arrived
        if not zeroed:
            copy.zero(target, end, copy.size_of(target), progress)

    @contextlib.contextmanager
    def _kept(self, source: dict[str, t.Any], progress: deadline.Progress) -> t.Iterator[str]:
        """The backend's own copy of an image, held, made by the first that needs it: volumes are clones of that."""
        kept = self.disks.image(source["key"])
        hidden = self._partial(source)
        with contextlib.ExitStack() as held:
            with _alone(self.disks, hidden, progress):
                if not self.disks.there(kept):
                    self._keep(source, hidden, kept, progress)
                name = held.enter_context(self.disks.held(kept))
            yield name

    def _keep(self, source: dict[str, t.Any], hidden: str, kept: str, progress: deadline.Progress) -> None:
        """Make that copy."""
        self.disks.remove(hidden)
        with self.disks.made(hidden, source["size"], {"key": source["key"]}) as target:
            self._fill(source, target, progress)
        self.disks.frozen(hidden)
        self.disks.publish(hidden, kept)

    def _partial(self, source: dict[str, t.Any]) -> str:
        return self.disks.aside(self.disks.image(source["key"]), probe.host_mark())

    def undo(self, known: Known) -> None:
        self.taken_back(self._unmake)

    def _unmake(self) -> None:
        self.disks.remove(self.hidden)
        self.disks.tidy(self.name, self.uuid)
        found = self.disks.label(self.name)
        if found is not None and found["uuid"] == self.uuid:
            self.disks.forget(self.name, self.data)
        if self.source is not None and self.source["key"] and self.disks.keeps:
            hidden = self._partial(self.source)
            if self.disks.there(hidden):
                with _alone(self.disks, hidden, deadline.Progress(lambda *dummy: None)):
                    self.disks.remove(hidden)


@contextlib.contextmanager
def _opened(path: str) -> t.Iterator[int]:
    """What is copied, refused while a virtual machine writes to it."""
    descriptor = os.open(path, READ)
    try:
        copy.refuse_written(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _alone(at: disks.Disks, disk: str, progress: deadline.Progress) -> t.Iterator[None]:
    """Of all that want to make one image on this host, one at a time; those that wait see whether it goes on."""
    path = at.beside(disk)
    files.make_directories(os.path.dirname(path), 0o750)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        seen = -1
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            written = at.written(disk)
            if written != seen:
                seen = written
                progress.alive()
            time.sleep(LOOK_SECONDS)  # the wait is for the lock; the deadline is the parent's
        yield
        files.remove(path)
    finally:
        os.close(descriptor)


def _refuse_checksum(image: int, size: int, source: dict[str, t.Any], progress: deadline.Progress) -> None:
    """Raise ``invalid`` when a checksum was given and is not that of the image, or of its copy."""
    found = copy.sha256(image, progress, size) if source["checksum"] else ""
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
        if self.disks.label(self.name) != self.previous:
            raise HostError("conflict", "%s was taken by another host meanwhile" % self.what, "run it again")
        self.disks.settled(self.data)
        about = dict(self.previous or {}, created=(self.previous or {}).get("created", disks.now()))
        self.disks.relabel(self.name, self.uuid, disks.label(self.name, self.uuid, about))

    def undo(self, known: Known) -> None:
        self.taken_back(self._disown)

    def _disown(self) -> None:
        self.disks.tidy(self.name, self.uuid)
        found = self.disks.label(self.name)
        own = found is not None and found["owner"] == probe.host_mark() and found["uuid"] == self.uuid
        if own and found != self.previous:
            self.disks.relabel(self.name, self.uuid, self.previous)


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
        with self.disks.opened(self.data, write=True) as data:
            size = copy.size_of(data)
            if self.after < size and not self.filesystem and _has_data_behind(data, self.after):
                text = "%s has data behind %d bytes" % (self.what, self.after)
                raise HostError("conflict", text, "name its filesystem, which is made smaller first", field="size")
        disk = diskfs.Disk(self.disks.path(self.data), progress.alive, lease.descriptor)
        if self.after >= size:
            self.disks.resize(self.data, self.after, progress)
            if self.filesystem:
                disk.grow(self.filesystem)
        else:
            if self.filesystem:
                disk.shrink(self.filesystem, self.after)
            self.disks.resize(self.data, self.after, progress)

    def undo(self, known: Known) -> None:
        """The disk becomes as long as it was; not shorter, when something is written behind its old end already."""
        self.taken_back(self._as_before)

    def _as_before(self) -> None:
        if not self.disks.there(self.data):
            return
        begun = self.disks.half_grown(self.data)
        if self.disks.size(self.data) != self.after and not begun:
            return  # whoever uses it meanwhile is not disturbed
        if self.after > self.before and not begun:
            with self.disks.opened(self.data, write=True) as data:
                if _has_data_behind(data, self.before):
                    return
        self.disks.resize(self.data, self.before, deadline.Progress(lambda *dummy: None))


def _has_data_behind(data: int, place: int) -> bool:
    size = copy.size_of(data)
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
        return self.disks.kept(self.name, self.snapshot)

    @property
    def hidden(self) -> str:
        """The snapshot while it is made."""
        return self.disks.aside(self.kept, self.nonce)

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._take, "taking a snapshot of")

    def _take(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        if self.disks.there(self.kept):
            raise HostError("conflict", "%s has a snapshot %s already" % (self.what, self.snapshot), "run it again")
        self.refuse_written()
        self.disks.copied(self.data, self.hidden, 0, None, progress)
        self.disks.publish(self.hidden, self.kept, proof=True)

    def undo(self, known: Known) -> None:
        self.taken_back(self._drop)

    def _drop(self) -> None:
        if self.disks.proven(self.hidden, self.kept):
            self.disks.remove(self.kept)
        self.disks.remove(self.hidden)
        self.disks.forget_proof(self.hidden)

    def finish(self, known: Known) -> None:
        self.taken_back(lambda: self.disks.forget_proof(self.hidden))


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
        return self.disks.aside(self.data, self.nonce)

    @property
    def old(self) -> str:
        """The disk that was."""
        return self.hidden + ".old"

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._restore, "restoring")

    def _restore(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        self.refuse_written()
        label = self.disks.label(self.name) or {}
        kept = self.disks.kept(self.name, self.snapshot)
        self.disks.copied(kept, self.hidden, self.size, label, progress)
        self.disks.settled(self.hidden)
        self.disks.publish(self.data, self.old)
        self.disks.publish(self.hidden, self.data)

    def undo(self, known: Known) -> None:
        self.taken_back(self._put_back)

    def _put_back(self) -> None:
        if self.disks.there(self.old):
            self.disks.remove(self.data)
            self.disks.publish(self.old, self.data)
        self.disks.remove(self.hidden)

    def finish(self, known: Known) -> None:
        self.taken_back(lambda: self.disks.remove(self.old))


@dataclasses.dataclass(frozen=True)
class DeleteSnapshot(VolumeStep):
    """Hide a snapshot; it goes when this is committed."""

    snapshot: str

    def describe(self) -> str:
        return "delete the snapshot %s of %s" % (self.snapshot, self.what)

    def _names(self) -> tuple[str, str]:
        kept = self.disks.kept(self.name, self.snapshot)
        return kept, self.disks.aside(kept, self.uuid)

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._hide, "deleting a snapshot of")

    def _hide(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        kept, hidden = self._names()
        if self.disks.there(kept):
            self.disks.publish(kept, hidden)

    def undo(self, known: Known) -> None:
        kept, hidden = self._names()

        def show() -> None:
            if self.disks.there(hidden) and not self.disks.there(kept):
                self.disks.publish(hidden, kept)

        self.taken_back(show)

    def finish(self, known: Known) -> None:
        self.taken_back(lambda: self.disks.remove(self._names()[1]))


@dataclasses.dataclass(frozen=True)
class DeleteVolume(VolumeStep):
    """Hide the disk, so that nothing can open it; it goes with snapshots and label when this is committed."""

    moves: bool

    def describe(self) -> str:
        return ("move %s away" if self.moves else "delete %s") % self.what

    @property
    def hidden(self) -> str:
        """The disk while it waits for the commit."""
        return self.disks.aside(self.data, self.uuid)

    def apply(self, known: Known) -> deadline.Child:
        return self.child(self._hide, "deleting")

    def _hide(self, progress: deadline.Progress, lease: Lease) -> None:
        self.refuse_other()
        if self.disks.there(self.data):
            self.refuse_written()
            self.disks.publish(self.data, self.hidden)

    def undo(self, known: Known) -> None:
        self.taken_back(self._show)

    def _show(self) -> None:
        if self.disks.there(self.hidden) and not self.disks.there(self.data):
            self.disks.publish(self.hidden, self.data)

    def finish(self, known: Known) -> None:
        self.taken_back(self._remove)

    def _remove(self) -> None:
        found = self.disks.label(self.name, self.hidden)
        if found is not None and found["uuid"] == self.uuid and found["owner"] == probe.host_mark():
            self.disks.forget(self.name, self.hidden)
        else:
            self.disks.remove(self.hidden)


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

        def remove(send: t.Callable[[t.Any], None]) -> bool:
            at = disks.of(self.place)
            with at.entered(deadline.Progress(send), self.seconds):
                at.remove(at.image(self.key))
            return True

        child = deadline.Child(remove, self.seconds, "removing the image %s" % self.key)
        deadline.wait_any([child])
        child.result()


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
