# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that make a volume, and the images that a backend keeps for that. Private to microvm.host."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host import copy, deadline, diskfs, files
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.lease import Lease
from ansible_collections.microvm.host.plugins.module_utils._storage import disks, probe
from ansible_collections.microvm.host.plugins.module_utils._storage.locked_step import VolumeStep

LOOK_SECONDS = 0.2
READ = os.O_RDONLY | os.O_CLOEXEC


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
        inner, source = self.filesystem, self.source
        grows = inner is not None and source is not None and self.size > source["size"]
        with self._reading(), self._origin(progress) as origin:
            # To rename a volume takes LVM as long as to make it.
            whole = origin and not grows and self.disks.at_once(origin, self.size)
            made = self.data if whole else self.hidden
            if origin:
                self.disks.copied(origin, made, self.size, label, progress)
            else:
                with self.disks.made(made, self.size, label) as target:
                    self._fill(source, target, progress)
        if inner is not None and (grows or source is None):
            disk = diskfs.Disk(self.disks.path(made), progress.alive, lease.descriptor)
            if grows:
                disk.grow(inner["type"])
            else:
                disk.make(inner)
            self.disks.settled(made)
        if not whole:
            self.disks.publish(made, self.data)

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
        if not self.disks.there(kept):
            hidden = self._partial(source)
            with _alone(self.disks, hidden, progress):
                if not self.disks.there(kept):
                    self._keep(source, hidden, kept, progress)
        with self.disks.held(kept) as name:
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

    def left(self) -> bool:
        if self.disks.untidy(self.name, self.uuid):
            return True
        if self.foreign(self.hidden):
            return False
        return self.disks.label(self.name, self.hidden) is not None or bool(self._remains())

    def take_back(self) -> None:
        self.disks.tidy(self.name, self.uuid)
        if self.foreign(self.hidden):
            return
        self.disks.remove(self.hidden)
        if self.disks.label(self.name) is not None:
            self.disks.forget(self.name, self.data)
        for hidden in self._remains():
            with _alone(self.disks, hidden, deadline.Progress(lambda *dummy: None)):
                self.disks.remove(hidden)

    def _remains(self) -> list[str]:
        """What is there of disks that are not whole: the volume's, and that of the image."""
        hidden = [self.hidden]
        if self.source is not None and self.source["key"] and self.disks.keeps:
            hidden.append(self._partial(self.source))
        return [each for each in hidden if self.disks.there(each)]


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


KINDS: dict[str, type[Step]] = {kind.__name__: kind for kind in (MakeVolume, PruneImage)}
"""By the names in the journal."""
