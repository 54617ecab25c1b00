# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes of this host: who has a reference, what is mounted for them. Private to microvm.host.

Docker's calls are taken as they really come: several Mounts at once, the same ID twice, an Unmount that never comes, a
Remove while references are left. What is mounted is read from mountinfo; no mount point is ever touched here.
"""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._docker import definition, mounting, namespaces, state, units
from ansible_collections.microvm.host.plugins.module_utils._docker.tasks import Pause, Task, Tasks
from ansible_collections.microvm.host.plugins.module_utils._docker.workers import Job
from ansible_collections.microvm.host.plugins.module_utils._host import files, mounts, names
from ansible_collections.microvm.host.plugins.module_utils._host import nfs as parser
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import nfs

UNMOUNT_SECONDS = 10.0
LET_GO_SECONDS = 5.0
REMOVE_SECONDS = 50.0
"""For a whole Remove, to which Docker gives 60 s."""
GRACE_SECONDS = 300.0
"""Between the answer to Mount and the container's own mount nobody else shows that the volume is in use."""
LEAST_SECONDS = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Between two tries of a mount whose server is not there: it may be starting. Each is twice as long; seconds."""
LEAST_TRY = 1.0

Log = t.Callable[..., None]
"""Called with what happened and, by name, to whom."""


class Volumes:
    """All volumes, as loaded from the registry."""

    def __init__(self, tasks: Tasks, log: Log) -> None:
        self.tasks = tasks
        self.log = log
        self.volumes = state.load()

    # What is asked: answered at once, from memory and mountinfo.

    def get(self, name: object) -> dict[str, t.Any]:
        """A volume as Docker shows it. Raises ``not_found``."""
        volume = self._known(name)
        path = self._path(volume, mounts.table())
        shown = {"Name": volume.name, "Mountpoint": path, "CreatedAt": volume.created}
        return {"Volume": dict(shown, Status=status(volume, bool(path)))}

    def path(self, name: object) -> dict[str, t.Any]:
        """Where a volume is mounted, "" when it is not. Raises ``not_found``."""
        return {"Mountpoint": self._path(self._known(name), mounts.table())}

    def all(self) -> dict[str, t.Any]:
        """All volumes."""
        table = mounts.table()
        found = [self.volumes[name] for name in sorted(self.volumes)]
        return {"Volumes": [{"Name": each.name, "Mountpoint": self._path(each, table)} for each in found]}

    def _known(self, name: object) -> state.Volume:
        volume = self.volumes.get(name) if isinstance(name, str) else None
        if volume is None:
            raise HostError("not_found", "there is no volume %s" % names.shown(name))
        return volume

    def _path(self, volume: state.Volume, table: t.Sequence[mounts.Mount]) -> str:
        path = mounting.path_of(volume.name)
        return path if mounts.stack_at(path, table) else ""

    # What is done: tasks, one at a time for a volume.

    def create(self, name: object, opts: object) -> Task:
        """Keep a volume; the server is not asked. The same again is fine, other options are a ``conflict``."""
        yield from ()  # a task like the others, though no child is needed
        wanted = definition.parse(name, opts)
        known = self.volumes.get(wanted.name)
        if known is not None:
            different = known.wanted.differences(wanted)
            if not different:
                return {}
            known.refused = different
            state.save(known)
            text = "volume %s exists with other options: %s" % (wanted.name, "; ".join(different))
            raise HostError("conflict", text, "remove it first (what is on the server stays), or use another name")
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        given = {key: value for key, value in opts.items() if value != ""} if isinstance(opts, dict) else {}
        volume = state.Volume(wanted, given, created)
        nfs.source(mounting.asked_of(wanted, self._root(wanted)[0]))  # with its subdir it may be too long
        state.add(volume)
        self.volumes[volume.name] = volume
        self.log("created", volume=volume.name, opts=given, warnings=wanted.warnings)
        return {}

    def mount(self, name: object, reference: str) -> Task:
        """Mount a volume for the holder of ``reference``, within the volume's timeout from now."""
        return self._mount(name, reference, time.monotonic())

    def _mount(self, name: object, reference: str, asked_at: float) -> Task:
        volume = self._known(name)
        path = mounting.path_of(volume.name)
        if not self._mounted(volume):
            yield from self._attach(volume, asked_at + volume.wanted.timeout)
        held = volume.references.setdefault(reference, state.Reference(0, 0.0))
        held.count += 1
        held.since = time.time()
        try:
            state.save(volume)
        except HostError:
            yield from self._unmount(volume.name, reference)
            raise
        return {"Mountpoint": path}

    def unmount(self, name: object, reference: str) -> Task:
        """End one use; with the last one the volume is unmounted. What is not known is ended already."""
        return self._unmount(name, reference)

    def _unmount(self, name: object, reference: str) -> Task:
        volume = self.volumes.get(name) if isinstance(name, str) else None
        if volume is None:
            return {}
        held = volume.references.get(reference)
        if held is not None:
            held.count -= 1
            if held.count <= 0:
                del volume.references[reference]
        if volume.references:
            self._drop_stale(volume, reference)
        state.save(volume)
        if not volume.references:
            yield from self._idle(volume)
        return {}

    def remove(self, name: object) -> Task:
        """Unmount, whatever the references: Docker holds none when it asks. Then forget, and do as on_remove says."""
        return self._remove(name, time.monotonic() + REMOVE_SECONDS)

    def _remove(self, name: object, end: float) -> Task:
        volume = self.volumes.get(name) if isinstance(name, str) else None
        if volume is None:
            return {}
        wanted = volume.wanted
        if wanted.on_remove != "retain":
            self._refuse_shared(volume)
        yield from self._take_off(volume, lazily=True)
        if wanted.on_remove != "retain":
            root, dummy = self._root(wanted)
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            end = max(end, time.monotonic() + LEAST_SECONDS)
            doing = "%s of %s" % (wanted.on_remove, nfs.source(mounting.asked_of(wanted, root)))
            arguments = (dataclasses.asdict(wanted), root, stamp, end)
            answer = yield Job(_server_of(wanted), "put_away", arguments, end, REMOVE_SECONDS, doing)
            self.log("put away", volume=volume.name, told=answer["told"])
        state.drop(volume.name)
        del self.volumes[volume.name]
        self.log("removed", volume=volume.name, references=sorted(volume.references))
        return {}

    def undo(self, name: str, reference: str) -> None:
        """The answer to a Mount did not arrive: its reference is nobody's."""
        self.log("undelivered", volume=name, reference=reference)
        self.tasks.add(name, self._unmount(name, reference), self._noted(name))

    # What the driver does by itself.

    def reconcile(self) -> None:
        """Drop references that nobody has, unmount what nobody uses, clear away what no volume has."""
        table = mounts.table()
        held: set[namespaces.Place] | None = None
        for name, volume in list(self.volumes.items()):
            if self.tasks.busy(name):
                continue
            if any(time.time() - each.since > GRACE_SECONDS for each in volume.references.values()):
                held = namespaces.in_use() if held is None else held
                if self._drop_stale(volume, None, held):
                    state.save(volume)
            if not volume.references and mounts.stack_at(mounting.path_of(name), table):
                self.tasks.add(name, self._idle(volume), self._noted(name))
        self._clear_orphans(table)

    def _clear_orphans(self, table: t.Sequence[mounts.Mount]) -> None:
        below = units.BASE + "/"
        found = {mount.path[len(below) :] for mount in table if mount.path.startswith(below)}
        try:
            found.update(os.listdir(units.BASE))
        except FileNotFoundError:
            return
        for name in found - set(self.volumes):
            if not self.tasks.busy(name):
                self.tasks.add(name, self._clear(name), self._noted(name))

    def _clear(self, name: str) -> Task:
        if name not in self.volumes:
            yield from self._detached(name, "orphan " + name, lazily=False)
            self.log("cleared", volume=name)

    def _noted(self, name: str) -> t.Callable[[t.Any, HostError | None], None]:
        def done(dummy: t.Any, error: HostError | None) -> None:
            if error is not None:
                self.log("failed", volume=name, error=error.as_dict(name), message=error.message)

        return done

    # How it is done.

    def _root(self, wanted: definition.Definition, serving: bool = False) -> tuple[nfs.Asked, str]:
        """The export a volume is on, and the UUID it must carry; ``serving``: as state.backend_mount. HostError."""
        if not wanted.backend:
            return mounting.root_asked(wanted, None), ""
        backend, marker = state.backend_mount(wanted.backend, serving)
        return mounting.root_asked(wanted, backend), marker

    def _mounted(self, volume: state.Volume) -> bool:
        """True when it is mounted as it should be. Raises ``conflict`` when another mount is in its place."""
        stack = mounts.stack_at(mounting.path_of(volume.name), mounts.table())
        if not stack:
            return False
        if volume.asked is not None and nfs.is_mount_of(stack[-1], volume.asked, volume.address):
            return True
        asked = mounting.asked_of(volume.wanted, self._root(volume.wanted)[0])
        if nfs.is_mount_of(stack[-1], asked, None):  # made just before the driver was killed
            volume.asked, volume.version = asked, parser.negotiated_version(stack[-1].options)
            return True
        text = "%s is mounted on %s already" % (stack[-1].source, stack[-1].path)
        raise HostError("conflict", text, "unmount it: that place is the volume driver's")

    def _attach(self, volume: state.Volume, end: float) -> Task:
        begun = time.monotonic()
        root, marker = self._root(volume.wanted, serving=True)
        source = nfs.source(mounting.asked_of(volume.wanted, root))
        if end - begun < LEAST_SECONDS:  # those before it in the queue took all of its time
            raise HostError("timeout", volume.error or "no time was left for mounting %s" % source)
        doing = "mounting %s" % source
        arguments = (dataclasses.asdict(volume.wanted), root, marker, end)
        job = Job(_server_of(volume.wanted), "attach", arguments, end, volume.wanted.timeout, doing)
        known = None
        pause = FIRST_PAUSE
        volume.mounting = True
        try:
            while known is None:
                try:
                    known = yield job
                except HostError as error:
                    if source not in error.message:
                        error.message = "%s: %s" % (doing, error.message)
                    volume.error = error.message
                    again = error.kind == "unreachable" and time.monotonic() + pause + LEAST_TRY < end
                    told = {"error": error.as_dict(volume.name), "message": error.message}
                    self.log("not mounted", volume=volume.name, again_in=pause if again else None, **told)
                    if not again:
                        # One that was killed at its deadline may have been at its last step.
                        yield from self._detached(volume.name, job.server, lazily=True)
                        state.save(volume)
                        raise
                    yield Pause(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            volume.mounting = False
        for key in ("asked", "version", "address"):
            setattr(volume, key, known[key])
        volume.error = ""
        took = round(time.monotonic() - begun, 4)
        self.log("mounted", volume=volume.name, source=source, version=volume.version, seconds=took)

    def _idle(self, volume: state.Volume) -> Task:
        """Unmount what nobody has a reference to; what does not succeed is tried again later."""
        try:
            yield from self._take_off(volume, lazily=False)
        except HostError as error:
            volume.error = error.message
            state.save(volume)
            self.log("not unmounted", volume=volume.name, error=error.as_dict(volume.name), message=error.message)

    def _take_off(self, volume: state.Volume, lazily: bool) -> Task:
        begun = time.monotonic()
        path = mounting.path_of(volume.name)
        there = bool(mounts.stack_at(path, mounts.table()))
        if there:
            self._mounted(volume)
        yield from self._detached(volume.name, _server_of(volume.wanted), lazily)
        if there:
            self.log("unmounted", volume=volume.name, seconds=round(time.monotonic() - begun, 4))

    def _detached(self, name: str, server: str, lazily: bool) -> Task:
        """Unmount all that is in a volume's place. Mountinfo tells whether it is gone, not the job."""
        path = mounting.path_of(name)
        depth = len(mounts.stack_at(path, mounts.table()))
        while depth:
            failure = None
            try:
                end = time.monotonic() + UNMOUNT_SECONDS
                yield Job(server, "detach", (path, False), end, UNMOUNT_SECONDS, "unmounting %s" % path)
            except HostError as error:
                failure = error
            if failure is not None and lazily and len(mounts.stack_at(path, mounts.table())) == depth:
                self.log("let go", path=path, why=failure.message)
                end = time.monotonic() + LET_GO_SECONDS
                yield Job(server, "detach", (path, True), end, LET_GO_SECONDS, "letting go of %s" % path)
            left = len(mounts.stack_at(path, mounts.table()))
            if left >= depth:
                raise failure or HostError("internal", "%s is still mounted" % path)
            depth = left
        files.remove_empty(path)

    def _drop_stale(
        self, volume: state.Volume, ended: str | None, held: set[namespaces.Place] | None = None
    ) -> list[str]:
        """Drop what is left of the reference ``ended``, and old ones, when no container has the volume. Which."""
        stack = mounts.stack_at(mounting.path_of(volume.name), mounts.table())
        if stack and namespaces.place_of(stack[-1]) in (namespaces.in_use() if held is None else held):
            return []
        old = time.time() - GRACE_SECONDS
        stale = [key for key, each in volume.references.items() if key == ended or each.since < old]
        for key in stale:
            del volume.references[key]
        if stale:
            self.log("stale references dropped", volume=volume.name, references=stale)
        return stale

    def _refuse_shared(self, volume: state.Volume) -> None:
        """Raise ``in_use`` when another volume has what is to be deleted."""
        own = nfs.source(mounting.asked_of(volume.wanted, self._root(volume.wanted)[0]))
        for other in self.volumes.values():
            if other is not volume:
                theirs = nfs.source(mounting.asked_of(other.wanted, self._root(other.wanted)[0]))
                if theirs == own or theirs.startswith(own + "/"):
                    text = "volume %s is in %s too" % (other.name, own)
                    raise HostError("in_use", text, "remove that volume first")


def _server_of(wanted: definition.Definition) -> str:
    """Whose jobs wait for each other."""
    return wanted.server or "backend " + wanted.backend


def status(volume: state.Volume, mounted: bool) -> dict[str, t.Any]:
    """What ``docker volume inspect`` shows of a volume; no server is asked."""
    wanted = volume.wanted
    health = "mounted" if mounted else "not mounted"
    if volume.error or volume.mounting:
        health = "mounting" if volume.mounting else "failed"
    found: dict[str, t.Any] = {
        "health": health,
        "references": sum(each.count for each in volume.references.values()),
        "version": volume.version if mounted else None,
        "address": volume.address if mounted else None,
        "options": list(wanted.options),
        "read_only": wanted.read_only,
        "on_remove": wanted.on_remove,
        "timeout": wanted.timeout,
    }
    if wanted.backend:
        found["backend"] = wanted.backend
    else:
        found.update(server=wanted.server, path=wanted.path)
    for key, value in (
        ("subdir", wanted.subdir),
        ("error", volume.error),
        ("warnings", wanted.warnings),
        ("refused", volume.refused),
    ):
        if value:
            found[key] = value
    return found
