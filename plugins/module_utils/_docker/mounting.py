# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the volume driver does to mounts and to files of a server. Private to microvm.host.

All of it may hang on a dead server: it runs in a child that is killed at its deadline. No program is run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._docker import units
from ansible_collections.microvm.host.plugins.module_utils._docker.definition import Definition
from ansible_collections.microvm.host.plugins.module_utils._host import files, mounts
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import filesystems, probe
from ansible_collections.microvm.host.plugins.module_utils._storage.filesystems import Asked

BASE_MODE = 0o711
"""Containers of a remapped root may pass, and nobody may list."""
STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def path_of(volume: str) -> str:
    """Where a volume is mounted."""
    return os.path.join(units.BASE, volume)


def root_asked(wanted: Definition, backend: Asked | None) -> Asked:
    """The export or share that a volume is on; ``backend``: what its backend mounts. Raises ``unsupported``."""
    if backend is None:
        root = {"server": wanted.server, "export": wanted.path, "version": wanted.version}
        return dict(root, kind="nfs", options=list(wanted.options))
    try:
        return filesystems.of(backend).alone(backend, wanted.read_only)
    except HostError as error:
        error.message = "backend %s: %s" % (wanted.backend, error.message)
        raise error.in_field("backend") from None


def asked_of(wanted: Definition, root: Asked) -> Asked:
    """The mount of a volume: its subdir itself, so that a container has no way up."""
    return filesystems.of(root).below(root, wanted.subdir)


def source(asked: Asked) -> str:
    """What is mounted, as mountinfo shows it."""
    return filesystems.of(asked).source(asked)


def perform(function: str, arguments: list[t.Any]) -> dict[str, t.Any]:
    """Call ``attach``, ``detach`` or ``put_away`` with arguments that came as JSON. Raises HostError."""
    if function == "detach":
        return detach(*arguments)
    wanted, *more = arguments
    return {"attach": attach, "put_away": put_away}[function](Definition.of_json(wanted), *more)


def attach(wanted: Definition, root: Asked, marker: str, end: float) -> dict[str, t.Any]:
    """Mount a volume in its place, making its subdir when there is none; answers version, address and asked.

    ``marker``: the UUID that the export must carry, "" for none; ``end``: a reading of time.monotonic(). The mount
    appears when all of it succeeded.
    """
    asked = asked_of(wanted, root)
    if marker:
        with _opened(root, end) as top:
            probe.identify(top, marker, False, source(root))
    try:
        mount, known = filesystems.detached(asked, end - time.monotonic())
    except HostError as error:
        if error.kind != "not_found" or not wanted.subdir or wanted.read_only:
            raise
        with _opened(root, end) as top:
            _make(top, wanted, source(root))
        mount, known = filesystems.detached(asked, end - time.monotonic())
    try:
        path = path_of(wanted.name)
        files.make_directories(units.BASE, BASE_MODE)
        files.make_directories(path)
        mounts.attach(mount, path)
    finally:
        os.close(mount)
    spoken = filesystems.of(asked).negotiated(mounts.stack_at(path, mounts.table())[-1])
    return dict(known, asked=asked, version=spoken or known["version"])


def detach(path: str, lazily: bool) -> dict[str, t.Any]:
    """Unmount what is on top at ``path``; answers nothing. ``lazily``: even under its users, who keep what they have.

    Raises HostError ``in_use``.
    """
    try:
        if lazily:
            mounts.let_go(path)
        else:
            mounts.detach(path)
    except mounts.KernelRefused as refused:
        if refused.errno == errno.EBUSY:
            raise HostError("in_use", "%s is in use" % path, "stop what uses it") from None
        if refused.errno not in (errno.EINVAL, errno.ENOENT):  # else it is gone by itself
            raise HostError("internal", "unmounting %s: %s" % (path, refused)) from None
    return {}


def put_away(wanted: Definition, root: Asked, stamp: str, end: float) -> dict[str, t.Any]:
    """Archive (rename) or delete the subdir of a volume, as on_remove says; answers ``told``. It may be done again.

    What is to be deleted first gets a name of its own, so that one that was stopped goes on where it was.
    """
    folder, last = posixpath.split(wanted.subdir)
    what = "%s/%s" % (source(root), wanted.subdir)
    with _opened(root, end) as top:
        try:
            parent = _walk(top, folder)
        except FileNotFoundError:
            return {"told": "%s is not there" % what}
        except OSError as error:
            raise probe.explained(error, what) from None
        try:
            if wanted.on_remove == "archive":
                kept = "archived-%s-%s" % (last, stamp)
                return {"told": "%s is now %s" % (what, kept) if _rename(parent, last, kept) else "%s is gone" % what}
            doomed = ".deleted-" + last
            device = os.fstat(parent).st_dev
            _delete(parent, doomed, device)
            if _rename(parent, last, doomed):
                _delete(parent, doomed, device)
        except OSError as error:
            raise probe.explained(error, what) from None
        finally:
            os.close(parent)
    return {"told": "%s was deleted" % what}


@contextlib.contextmanager
def _opened(root: Asked, end: float) -> t.Iterator[int]:
    """The root of an export, mounted where nobody sees it."""
    mount, dummy = filesystems.detached(root, end - time.monotonic())
    try:
        top = os.open(".", probe.DIRECTORY, dir_fd=mount)
    except OSError as error:
        raise probe.explained(error, source(root)) from None
    finally:
        os.close(mount)
    try:
        yield top
    finally:
        os.close(top)


def _make(top: int, wanted: Definition, what: str) -> None:
    """Make the subdir; mode and owner are those of what is made, what was there is left as it is."""
    parent = os.dup(top)
    try:
        for name in wanted.subdir.split("/"):
            made = files.make_directory(name, 0o755, dir_fd=parent)
            child = os.open(name, STEP, dir_fd=parent)
            os.close(parent)
            parent = child
        if made:
            if (wanted.uid, wanted.gid) != (0, 0):
                os.fchown(parent, wanted.uid, wanted.gid)
            os.fchmod(parent, wanted.mode)  # whatever the umask; after the chown, which takes set-id bits away
    except OSError as error:
        raise probe.explained(error, "making %s/%s" % (what, wanted.subdir)) from None
    finally:
        os.close(parent)


def _walk(top: int, folder: str) -> int:
    """A descriptor of a directory below ``top``; no link is followed."""
    at = os.dup(top)
    for name in folder.split("/") if folder else ():
        try:
            below = os.open(name, STEP, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


def _rename(parent: int, name: str, to: str) -> bool:
    """Rename a directory; False when it is not there."""
    try:
        os.rename(name, to, src_dir_fd=parent, dst_dir_fd=parent)
    except FileNotFoundError:
        return False
    return True


def _delete(parent: int, name: str, device: int) -> None:
    """Remove a directory and all below it on ``device``; another file system in it stops this."""
    try:
        folder = os.open(name, STEP, dir_fd=parent)
    except FileNotFoundError:
        return
    try:
        if os.fstat(folder).st_dev != device:
            raise HostError("refused", "%s is another file system" % name, "unexport it on the server")
        # Names first: a directory that is changed while it is read may skip some.
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for inner, is_folder in found:
            if is_folder:
                _delete(folder, inner, device)
            else:
                os.unlink(inner, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=parent)
