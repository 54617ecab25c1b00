# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that are files in the directory of a backend. Private to microvm.host.

The disk is NAME.raw, beside it is its label NAME.json; snapshots are NAME@SNAPSHOT.raw. Images that the backend keeps
to clone from, and the locks, are in .microvm.
"""

from __future__ import annotations

import contextlib
import glob
import grp
import json
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import copy, deadline, files, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import disks, probe
from ansible_collections.microvm.host.plugins.module_utils._storage.disks import Label, Place

DATA, LABEL, MADE = ".raw", ".json", ".made"
IMAGES = os.path.join(probe.FOLDER, "images")
LOCKS = os.path.join(probe.FOLDER, "locks")
LABEL_BYTES = 65536
GIVEN_UP_SECONDS = 5.0
"""How long a name may be neither there nor free: on SMB a deleted file has it until the last host has closed it, which
CIFS puts off for a second."""
NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_CLOEXEC


class FileDisks:
    """See Disks. Names are paths below the backend's. ``place`` has its ``path`` and ``marker`` too."""

    zeroed = keeps = True

    def __init__(self, place: Place) -> None:
        self.place = place
        self.top: str = place["path"]

    @property
    def locks(self) -> str:
        """See Disks."""
        return self.path(LOCKS)

    def data(self, volume: str) -> str:
        """See Disks."""
        return volume + DATA

    def kept(self, volume: str, snapshot: str) -> str:
        """See Disks."""
        return "%s@%s%s" % (volume, snapshot, DATA)

    def image(self, key: str) -> str:
        """See Disks."""
        return os.path.join(IMAGES, key + DATA)

    def aside(self, disk: str, nonce: str) -> str:
        """See Disks."""
        folder, name = os.path.split(disk)
        return os.path.join(folder, disks.hidden(name, nonce))

    def path(self, disk: str) -> str:
        """See Disks."""
        return os.path.join(self.top, disk)

    @contextlib.contextmanager
    def entered(self, progress: deadline.Progress, seconds: float) -> t.Iterator[None]:
        """See Disks."""
        root = os.open(self.top, probe.DIRECTORY)  # open: nobody unmounts it meanwhile
        try:
            if probe.read_marker(root, self.top) != self.place["marker"]:
                text = "%s does not carry the marker of backend %s" % (self.top, self.place["backend"])
                raise HostError("conflict", text, "is it mounted? run storage_backend")
            yield
        finally:
            os.close(root)

    def keep(self, lock: int) -> None:
        """See Disks: nothing that runs outlives the process."""

    def there(self, disk: str) -> bool:
        """See Disks."""
        return os.path.lexists(self.path(disk))

    def size(self, disk: str) -> int:
        """See Disks."""
        return os.stat(self.path(disk)).st_size

    def claimed(self, volume: str) -> bool:
        """See Disks."""
        return self.there(volume + LABEL)

    def snapshots(self, volume: str) -> list[str]:
        """See Disks."""
        return [os.path.basename(path) for path in glob.glob(self.path(glob.escape(volume) + "@*" + DATA))]

    def label(self, volume: str, hidden: str = "") -> Label | None:
        """See Disks."""
        return read_label(self.top, volume)

    def claim(self, volume: str, label: Label) -> None:
        """See Disks: made whole and linked, of all hosts that want the name one gets it."""
        data = self.path(self.data(volume))
        what = "volume %s on %s" % (volume, self.place["backend"])
        if files.inode(data) is not None:
            raise HostError("conflict", "%s: there is a file %s already" % (what, data), "adopt: true takes it")
        temporary = self.path(self.aside(volume + LABEL, label["uuid"]))
        _write_label(temporary, label)
        until = time.monotonic() + GIVEN_UP_SECONDS
        try:
            while not self._linked(temporary, volume):
                found = self.label(volume)
                if found is not None or time.monotonic() >= until:
                    text = "%s is that of %s" % (what, found["hostname"] if found else "another host")
                    raise HostError("conflict", text, "choose another name, or take it with adopt: true")
                time.sleep(0.1)  # a server tells nobody when the last has closed what is deleted
        finally:
            files.remove(temporary)

    def _linked(self, temporary: str, volume: str) -> bool:
        try:
            os.link(temporary, self.path(volume + LABEL))
        except FileExistsError:
            return False
        return True

    def relabel(self, volume: str, nonce: str, label: Label | None) -> None:
        """See Disks."""
        if label is None:
            files.remove(self.path(volume + LABEL))
        else:
            temporary = self.aside(volume + LABEL, nonce)
            _write_label(self.path(temporary), label)
            self.publish(temporary, volume + LABEL)

    def tidy(self, volume: str, nonce: str) -> None:
        """See Disks."""
        self.remove(self.aside(volume + LABEL, nonce))

    def untidy(self, volume: str, nonce: str) -> bool:
        """See Disks."""
        return self.there(self.aside(volume + LABEL, nonce))

    def free(self) -> int | None:
        """See Disks."""
        return None

    @contextlib.contextmanager
    def made(self, disk: str, size: int, label: Label) -> t.Iterator[int]:
        """See Disks."""
        path = self.path(disk)
        files.make_directories(os.path.dirname(path), 0o750)
        descriptor = os.open(path, NEW, 0o600)
        try:
            if "uuid" in label:
                _usable(descriptor)  # first: one sync is for this and the data
            yield descriptor
            if copy.size_of(descriptor) < size:
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def copied(self, source: str, disk: str, size: int, label: Label | None, progress: deadline.Progress) -> None:
        """See Disks."""
        with self.opened(source, write=False) as found, self.made(disk, size, label or {}) as target:
            copy.compared(found, target, disk, progress)

    def at_once(self, source: str, size: int) -> bool:
        """See Disks."""
        return False

    @contextlib.contextmanager
    def opened(self, disk: str, write: bool) -> t.Iterator[int]:
        """See Disks."""
        descriptor = os.open(self.path(disk), OLD if write else READ)
        try:
            copy.refuse_written(descriptor, "%s on %s" % (disk, self.place["backend"]))
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def held(self, disk: str) -> t.Iterator[str]:
        """See Disks: an open file stays, whoever removes its name."""
        descriptor = os.open(self.path(disk), READ)
        try:
            yield "/proc/self/fd/%d" % descriptor
        finally:
            os.close(descriptor)

    def resize(self, disk: str, size: int, progress: deadline.Progress) -> None:
        """See Disks."""
        with self.opened(disk, write=True) as descriptor:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)

    def lengthen(self, disk: str, size: int, progress: deadline.Progress) -> None:
        """See Disks. Also one that is as long is synced: a run that was killed may have made it that."""
        descriptor = os.open(self.path(disk), OLD)
        try:
            if copy.size_of(descriptor) < size:
                os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def half_grown(self, disk: str) -> bool:
        """See Disks: it is at once."""
        return False

    def frozen(self, disk: str) -> None:
        """See Disks."""
        os.chmod(self.path(disk), 0o440)

    def settled(self, disk: str) -> None:
        """See Disks."""
        with self.opened(disk, write=True) as descriptor:
            _usable(descriptor)
            os.fsync(descriptor)

    def publish(self, hidden: str, disk: str, proof: bool = False) -> None:
        """See Disks. The proof is a file that is there before the name is given."""
        if proof:
            os.close(os.open(self.path(hidden) + MADE, NEW, 0o600))
        os.rename(self.path(hidden), self.path(disk))
        files.sync_directory(os.path.dirname(self.path(disk)))
        if not self.place.get("syncs_directories", True):
            with contextlib.suppress(PermissionError):  # an image is frozen; one that is gone is made again
                files.sync(self.path(disk))

    def proven(self, hidden: str, disk: str) -> bool:
        """See Disks."""
        return self.there(hidden + MADE)

    def forget_proof(self, hidden: str) -> None:
        """See Disks."""
        files.remove(self.path(hidden) + MADE)

    def remove(self, *disks: str) -> None:
        """See Disks. What a power loss brought back would take room, and nobody would look for it."""
        folders = set()
        for disk in disks:
            if files.remove(self.path(disk)):
                folders.add(os.path.dirname(self.path(disk)))
        for folder in folders:
            files.sync_directory(folder)

    def forget(self, volume: str, disk: str) -> None:
        """See Disks."""
        self.remove(*self.snapshots(volume), disk, volume + LABEL)

    def written(self, disk: str) -> int:
        """See Disks."""
        try:
            return os.stat(self.path(disk)).st_blocks
        except FileNotFoundError:
            return -1

    def beside(self, hidden: str) -> str:
        """See Disks."""
        return self.path(hidden) + ".lock"


def _usable(descriptor: int) -> None:
    os.fchmod(descriptor, 0o660)
    with contextlib.suppress(KeyError, PermissionError):  # no such group here, or the server does not let us
        os.fchown(descriptor, -1, grp.getgrnam(names.GROUP).gr_gid)


def _write_label(path: str, values: Label) -> None:
    descriptor = os.open(path, NEW, 0o644)
    try:
        os.write(descriptor, json.dumps(values, sort_keys=True).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_label(folder: str, name: str) -> Label | None:
    """The label of a volume, None when there is none. Raises HostError ``conflict`` for one that is none of ours."""
    path = os.path.join(folder, name + LABEL)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = json.loads(os.read(descriptor, LABEL_BYTES))
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    texts = ("name", "uuid", "owner", "hostname")
    if not isinstance(found, dict) or any(not isinstance(found.get(key), str) for key in texts):
        raise HostError("conflict", "%s is not the label of a volume" % path, "move it out of the way, or restore it")
    return found
