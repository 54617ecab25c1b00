# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that are logical volumes of a group on a LUN. Private to microvm.host.

The disk of a volume has its name, a snapshot is NAME+SNAPSHOT, an image +image.KEY. Labels are tags, given together
with the disk. In a thin pool a copy is a snapshot of the pool; elsewhere it is a copy, which takes its size again.
The group is one host's (its system ID), so locks are this host's too, and go with a boot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import grp
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import copy, deadline, files, iscsi, lvm, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import disks, iscsi_lvm, standby
from ansible_collections.microvm.host.plugins.module_utils._storage.disks import Label, Place

LOCKS = "/run/microvm/locks/disks"
IMAGE = "+image."
KEY_DIGITS = 16
"""Of an image's key in the name of its disk; the tag has all."""
MADE, GROWING = "made", "growing"
"""Tags of a disk: what its name was while it was made; that it is being made longer."""
LABEL = ("name", "uuid", "owner", "hostname", "created", "image", "key", "nonce")
CLOSE_SECONDS = 5.0
"""How long it is waited for udev to close a disk that it looks at."""
POLL_SECONDS = 0.1
TURN = ".turn"
"""A lock file beside those of volumes; no volume's name begins so."""


class LvmDisks:
    """See Disks. ``place`` has ``asked`` and ``facts`` of the LUN too, and ``wipe``: before space is given back."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.asked: iscsi_lvm.Asked = place["asked"]
        self.group: str = self.asked["vg"]
        self.pool: str = self.asked["thin_pool"]
        self.seconds = 0.0
        self._progress = deadline.Progress(lambda *dummy: None)
        self._locks: tuple[int, ...] = ()
        self._look = iscsi_lvm.Look(None, False, None, None, "logged_out")
        self._seen: lvm.Group | None = None

    @property
    def locks(self) -> str:
        """See Disks."""
        return os.path.join(LOCKS, self.place["backend"])

    @property
    def zeroed(self) -> bool:
        """See Disks: a thin pool zeroes what it gives out."""
        return bool(self.pool)

    @property
    def keeps(self) -> bool:
        """See Disks: outside of a pool an image would take its room and save nothing."""
        return bool(self.pool)

    def data(self, volume: str) -> str:
        """See Disks."""
        return volume

    def kept(self, volume: str, snapshot: str) -> str:
        """See Disks."""
        return "%s+%s" % (volume, snapshot)

    def image(self, key: str) -> str:
        """See Disks."""
        return IMAGE + key[:KEY_DIGITS]

    def aside(self, disk: str, nonce: str) -> str:
        """See Disks."""
        return disks.hidden(disk, nonce)

    def path(self, disk: str) -> str:
        """See Disks."""
        return "/dev/%s/%s" % (self.group, disk)

    @contextlib.contextmanager
    def entered(self, progress: deadline.Progress, seconds: float) -> t.Iterator[None]:
        """See Disks: the LUN that was registered, by its WWID; what is on it, when it is first looked at."""
        self._look = iscsi_lvm.present(self.place, iscsi.sessions(self.asked["iqn"]))
        self._refuse(self._look.status)
        self.seconds, self._progress, self._locks, self._seen = seconds, progress, (), None
        yield

    def keep(self, lock: int) -> None:
        """See Disks: LVM's programs are not killed."""
        self._locks = (lock,)

    @property
    def node(self) -> str:
        """The LUN's device."""
        return t.cast("iscsi.Disk", self._look.disk).node

    @property
    def seen(self) -> lvm.Group:
        """The group as it is now. Raises HostError ``conflict`` unless it is the one, and this host's."""
        if self._seen is None:
            with self._turn():
                found = lvm.look(self.node, self.seconds)
            status = iscsi_lvm.judged(self.place, self._look, found)
            if status == "standby":
                self._refuse_standby(t.cast("lvm.Group", found.group).system_id)
            self._refuse(status)
            self._seen = t.cast("lvm.Group", found.group)
        return self._seen

    def _refuse(self, status: str) -> None:
        if status != "ok":
            text = "%s of backend %s %s" % (iscsi_lvm.shown(self.asked), self.place["backend"], iscsi_lvm.DOWN[status])
            kind = "unreachable" if status in ("logged_out", "unreachable") else "conflict"
            raise HostError(kind, text, "see to the backend: storage_backend")

    def _refuse_standby(self, owner: str) -> None:
        text = "%s of backend %s %s" % (iscsi_lvm.shown(self.asked), self.place["backend"], standby.told(owner))
        raise HostError("conflict", text, standby.hint(owner))

    @contextlib.contextmanager
    def _turn(self) -> t.Iterator[None]:
        """LVM does one thing at a time in a group. Who waits for others of this host is not standing still."""
        files.make_directories(self.locks, 0o700)
        descriptor = os.open(
            os.path.join(self.locks, TURN), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                self._progress.alive()
                time.sleep(POLL_SECONDS)  # flock(2) can wait only in silence; whoever has it has a deadline of its own
            yield
        finally:
            os.close(descriptor)

    def _change(self, *words: str) -> None:
        seen, self._seen = self.seen, None  # whatever comes of it
        with self._turn():
            lvm.change(self.node, seen.system_id, words, self.seconds, alive=self._progress.alive, keeps=self._locks)
        self._seen = seen

    def _note(self, disk: str, **changes: t.Any) -> None:
        """What became of a disk by a change: LVM need not be asked, which takes as long as the change itself."""
        seen = self.seen
        volumes = (dataclasses.replace(each, **changes) if each.name == disk else each for each in seen.volumes)
        self._seen = dataclasses.replace(seen, volumes=tuple(volumes))

    def _note_new(
        self, disk: str, size: int, tags: t.Iterable[str], active: bool = True, writable: bool = True
    ) -> None:
        seen = self.seen
        whole = -(-size // seen.extent) * seen.extent
        layout = "thin,sparse" if self.pool else "linear"
        state = (active, False, None, None, self.pool, tuple(tags), writable)
        volumes = (*seen.volumes, lvm.Volume(disk, "", whole, layout, *state))
        self._seen = dataclasses.replace(seen, volumes=volumes)

    def _at(self, disk: str) -> str:
        return "%s/%s" % (self.group, disk)

    def _volume(self, disk: str) -> lvm.Volume:
        found = self.seen.volume(disk)
        if found is None:
            raise HostError("not_found", "there is no %s in group %s" % (disk, self.group), "look at host_info")
        return found

    def there(self, disk: str) -> bool:
        """See Disks."""
        return self.seen.volume(disk) is not None

    def size(self, disk: str) -> int:
        """See Disks."""
        return self._volume(disk).bytes

    def claimed(self, volume: str) -> bool:
        """See Disks."""
        return self.there(volume)

    def snapshots(self, volume: str) -> list[str]:
        """See Disks."""
        return [each.name for each in self.seen.volumes if each.name.startswith(volume + "+")]

    def label(self, volume: str, hidden: str = "") -> Label | None:
        """See Disks."""
        found = self.seen.volume(volume) or (self.seen.volume(hidden) if hidden else None)
        return labelled(found) if found else None

    def claim(self, volume: str, label: Label) -> None:
        """See Disks: no other host makes disks here, and none of this host without the lock."""
        if self.there(volume):
            text = "volume %s on %s: there is a logical volume %s already"
            raise HostError(
                "conflict", text % (volume, self.place["backend"], self._at(volume)), "adopt: true takes it"
            )

    def relabel(self, volume: str, nonce: str, label: Label | None) -> None:
        """See Disks."""
        old = {tag for tag in self._volume(volume).tags if set(lvm.tagged([tag])) & set(LABEL)}
        new = set(_tags(label or {}))
        words = [word for tag in sorted(old - new) for word in ("--deltag", tag)]
        words += [word for tag in sorted(new - old) for word in ("--addtag", tag)]
        if words:
            self._change("lvchange", *words, self._at(volume))
            left = tuple(tag for tag in self._volume(volume).tags if tag not in old - new)
            self._note(volume, tags=(*left, *(new - old)))

    def tidy(self, volume: str, nonce: str) -> None:
        """See Disks: tags change at once or not."""

    def untidy(self, volume: str, nonce: str) -> bool:
        """See Disks."""
        return False

    def free(self) -> int | None:
        """See Disks. What is not in a pool has its room from the beginning."""
        if not self.pool:
            return self.seen.bytes
        return t.cast("int | None", iscsi_lvm.capacity(self.asked, self.seen).get("free_bytes", 0))

    @contextlib.contextmanager
    def made(self, disk: str, size: int, label: Label) -> t.Iterator[int]:
        """See Disks."""
        self._make(disk, size, [*_tags(label), lvm.tag(MADE, disk)])
        with self._open(disk, os.O_RDWR) as descriptor:
            yield descriptor
            _use(descriptor)

    def _make(self, disk: str, size: int, tags: t.Sequence[str]) -> None:
        if self.pool:
            kind = ["--type", "thin", "--virtualsize", "%db" % size, "--thinpool", self.pool]
        else:
            kind = ["--type", "linear", "--size", "%db" % size, "--zero", "n"]
        self._change("lvcreate", "--yes", *kind, "--wipesignatures", "n", "--name", disk, *_words(tags), self.group)
        self._note_new(disk, size, tags)

    def copied(self, source: str, disk: str, size: int, label: Label | None, progress: deadline.Progress) -> None:
        """See Disks. A snapshot is not activated, so that nothing on this host takes it for its origin."""
        tags = [*_tags(label or {}), lvm.tag(MADE, disk)]
        origin = self._volume(source)
        size = max(size, origin.bytes)
        if self._shares(origin):
            kept = label is None
            how = ["--setactivationskip", "y" if kept else "n", "--permission", "r" if kept else "rw"]
            self._change("lvcreate", "--yes", "--snapshot", *how, "--name", disk, *_words(tags), self._at(source))
            self._note_new(disk, origin.bytes, tags, not kept, not kept)
            if size > origin.bytes:
                self.resize(disk, size, progress)
            if not kept:
                self.settled(disk)
            return
        self._make(disk, size, tags)
        with self._open(source, os.O_RDONLY) as found, self._open(disk, os.O_RDWR) as target:
            copy.compared(found, target, disk, progress, self.free(), self.zeroed)
            if not self.zeroed:
                copy.zero(target, origin.bytes, copy.size_of(target), progress)
        if label is None:
            self.frozen(disk)
        else:
            self.settled(disk)

    def at_once(self, source: str, size: int) -> bool:
        """See Disks: a snapshot of a pool, when nothing more is to be done to it."""
        origin = self._volume(source)
        return self._shares(origin) and size <= origin.bytes

    def _shares(self, origin: lvm.Volume) -> bool:
        return bool(origin.pool) and origin.pool == self.pool

    @contextlib.contextmanager
    def opened(self, disk: str, write: bool) -> t.Iterator[int]:
        """See Disks. Who has a device open may write to it."""
        until = time.monotonic() + CLOSE_SECONDS
        while self._volume(disk).open:
            if time.monotonic() >= until:
                text = "%s is open, in a virtual machine or another program" % self._at(disk)
                raise HostError("in_use", text, "stop what uses it first")
            time.sleep(POLL_SECONDS)  # udev looks at each disk that appears, and tells nobody when it is done
            self._seen = None
        with self._open(disk, os.O_RDWR if write else os.O_RDONLY) as descriptor:
            copy.refuse_written(descriptor, self._at(disk))
            yield descriptor

    @contextlib.contextmanager
    def _open(self, disk: str, flags: int) -> t.Iterator[int]:
        """A disk; one that is not active is that for as long as it is open."""
        active = self._volume(disk).active
        if not active:
            self._change("lvchange", "--activate", "y", "--ignoreactivationskip", self._at(disk))
            self._note(disk, active=True)
        try:
            descriptor = os.open(self.path(disk), flags | os.O_CLOEXEC)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
        finally:
            if not active:
                self._change("lvchange", "--activate", "n", self._at(disk))
                self._note(disk, active=False)

    @contextlib.contextmanager
    def held(self, disk: str) -> t.Iterator[str]:
        """See Disks: a snapshot of it is made at once, or not at all when it is gone."""
        yield disk

    def resize(self, disk: str, size: int, progress: deadline.Progress) -> None:
        """See Disks. Outside of a pool what it grows by was another's, and is overwritten."""
        before, growing = self._volume(disk).bytes, lvm.tag(GROWING, "yes")
        whole = -(-size // self.seen.extent) * self.seen.extent
        words = ["--yes", "--size", "%db" % size, self._at(disk)]
        if whole < before:
            if self.place["wipe"]:
                with self._open(disk, os.O_RDWR) as descriptor:
                    self._wipe(descriptor, whole, before, progress)
            self._change("lvreduce", "--force", *words)
        elif whole > before:
            if not self.zeroed:
                self._change("lvchange", "--addtag", growing, self._at(disk))
                self._note(disk, tags=(*self._volume(disk).tags, growing))
            self._change("lvextend", *words)
        self._note(disk, bytes=whole)
        if self.half_grown(disk):
            if whole > before:
                with self._open(disk, os.O_RDWR) as descriptor:
                    copy.zero(descriptor, before, whole, progress)
            self._change("lvchange", "--deltag", growing, self._at(disk))
            self._note(disk, tags=tuple(tag for tag in self._volume(disk).tags if tag != growing))

    def lengthen(self, disk: str, size: int, progress: deadline.Progress) -> None:
        """See Disks."""
        if self.size(disk) < size:
            self.resize(disk, size, progress)

    def half_grown(self, disk: str) -> bool:
        """See Disks."""
        return GROWING in lvm.tagged(self._volume(disk).tags)

    def frozen(self, disk: str) -> None:
        """See Disks."""
        self._change("lvchange", "--permission", "r", "--setactivationskip", "y", self._at(disk))
        self._change("lvchange", "--activate", "n", self._at(disk))
        self._note(disk, active=False, writable=False)

    def settled(self, disk: str) -> None:
        """See Disks."""
        with self._open(disk, os.O_RDWR) as descriptor:
            _use(descriptor)

    def publish(self, hidden: str, disk: str, proof: bool = False) -> None:
        """See Disks. The proof is a tag that it has from the beginning."""
        self._change("lvrename", self.group, hidden, disk)
        self._note(hidden, name=disk)

    def proven(self, hidden: str, disk: str) -> bool:
        """See Disks."""
        found = self.seen.volume(disk)
        return found is not None and lvm.tagged(found.tags).get(MADE) == hidden

    def forget_proof(self, hidden: str) -> None:
        """See Disks."""

    def remove(self, *disks: str) -> None:
        """See Disks."""
        for disk in disks:
            if not self.there(disk):
                continue
            if self.place["wipe"]:
                self._overwrite(disk)
            self._change("lvremove", "--yes", self._at(disk))
            left = tuple(each for each in self.seen.volumes if each.name != disk)
            self._seen = dataclasses.replace(self.seen, volumes=left)

    def _overwrite(self, disk: str) -> None:
        found = self._volume(disk)
        if not found.writable:
            self._change("lvchange", "--permission", "rw", self._at(disk))
            self._note(disk, writable=True)
        with self._open(disk, os.O_RDWR) as descriptor:
            self._wipe(descriptor, 0, found.bytes, self._progress)

    def _wipe(self, descriptor: int, begin: int, end: int, progress: deadline.Progress) -> None:
        if self.pool:
            copy.wipe(descriptor, begin, end, progress)
        else:
            copy.zero(descriptor, begin, end, progress)

    def forget(self, volume: str, disk: str) -> None:
        """See Disks."""
        self.remove(*self.snapshots(volume), disk)

    def written(self, disk: str) -> int:
        """See Disks: who writes has a deadline of its own, and holds the lock no longer than it lives."""
        return int(time.monotonic())

    def beside(self, hidden: str) -> str:
        """See Disks."""
        return os.path.join(self.locks, hidden + ".lock")


def _use(descriptor: int) -> None:
    os.fsync(descriptor)
    with contextlib.suppress(KeyError):  # no such group on this host
        os.fchown(descriptor, -1, grp.getgrnam(names.GROUP).gr_gid)
        os.fchmod(descriptor, 0o660)


def labelled(volume: lvm.Volume) -> Label | None:
    """The label of a disk, by its tags; None when it has none, or not a whole one."""
    found = {key: value for key, value in lvm.tagged(volume.tags).items() if key in LABEL}
    return found if all(key in found for key in LABEL[:4]) else None


def _tags(label: Label) -> list[str]:
    """A label as tags; what is too long for one is left out."""
    tags = [lvm.tag(key, str(label[key])) for key in LABEL if label.get(key)]
    return [tag for tag in tags if len(tag) <= lvm.LONGEST_TAG]


def _words(tags: t.Iterable[str]) -> list[str]:
    return [word for tag in tags for word in ("--addtag", tag)]
