# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or not there: temporary name, fsync, rename, fsync of the directory. Private to microvm.host."""

from __future__ import annotations

import contextlib
import errno
import os
import struct

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_STATX_FORCE_SYNC, STATX_INO = -100, 0x100, 0x2000, 0x100
"""Of statx(2)."""


def from_os(error: OSError, doing: str) -> HostError:
    """An OSError met while ``doing`` something on this host's own file systems, as a HostError."""
    number = error.errno or 0
    text = "%s: %s" % (doing, os.strerror(number))
    if number in (errno.ENOSPC, errno.EDQUOT):
        return HostError("full", text, "make room on that file system")
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return HostError("refused", text, "the file system or its rights do not allow it")
    if number in (errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EISDIR):
        return HostError("conflict", text, "something else is in the way")
    return HostError("internal", text)


def text_of(path: str) -> str | None:
    """The text of a small file, None when there is none; bytes that are no UTF-8 as os.fsdecode gives them."""
    try:
        with open(path, "rb", buffering=0) as file:  # a call reads one per item: half the system calls
            return file.readall().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None


def inode(path: str) -> int | None:
    """The number of the file that has this name on the server now, None when there is none.

    stat(2) may tell what this host remembers: for a second on CIFS, longer on NFS. statx(2) asks.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    found = ctypes.create_string_buffer(256)  # struct statx
    if libc.statx(AT_FDCWD, os.fsencode(path), AT_STATX_FORCE_SYNC | AT_SYMLINK_NOFOLLOW, STATX_INO, found):
        number = ctypes.get_errno()
        if number in (errno.ENOENT, errno.ESTALE):
            return None
        raise OSError(number, os.strerror(number), path)
    return int(struct.unpack_from("=Q", found, 32)[0])


def write(path: str, data: bytes, mode: int, nonce: str, owner: tuple[int, int] | None = None) -> None:
    """Put ``data`` at ``path`` so that after a kill or power loss there is the old file or the new one.

    ``nonce`` makes the temporary name ``.<name>.<nonce>``, which ``forget`` removes after a kill. ``owner``: numbers of
    user and group, if others than those of this process.
    """
    temporary = _temporary(path, nonce)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            os.fchmod(descriptor, mode)
            if owner is not None:
                os.fchown(descriptor, *owner)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        with contextlib.suppress(OSError):  # what stopped the write may stop this too; the first error is the news
            os.unlink(temporary)
        raise from_os(error, "writing %s" % path) from None


def forget(path: str, nonce: str) -> None:
    """Remove the temporary file that a killed ``write`` with this nonce left."""
    remove(_temporary(path, nonce))


def _temporary(path: str, nonce: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, ".%s.%s" % (name, nonce))


def remove(path: str) -> bool:
    """Remove a file or link; False when it is gone already. Not durable by itself: see ``erase``."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def erase(path: str) -> None:
    """Remove a file or link so that no power loss brings it back; nothing to do when it is gone.

    The registry is durable at once. What it has forgotten must not come back on another file system.
    """
    if remove(path):
        sync_directory(os.path.dirname(path))


def link(target: str, path: str) -> None:
    """Have a symbolic link at ``path``, durable, in a directory that is made if need be; a link that is there is left.

    Raises HostError, ``conflict`` when something else is there.
    """
    make_directories(os.path.dirname(path))
    try:
        os.symlink(target, path)
    except OSError as error:
        if not os.path.islink(path):
            raise from_os(error, "linking %s" % path) from None
    sync_directory(os.path.dirname(path))


def sync(path: str) -> None:
    """Make durable what others have written to a file."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: str, mode: int = 0o755) -> list[str]:
    """Make ``path`` and what is missing above it; returns what it made, outermost first.

    Raises HostError ``conflict`` when a component is no directory.
    """
    missing = []
    at = path
    while not os.path.lexists(at):
        missing.append(at)
        at = os.path.dirname(at)
    if not os.path.isdir(at):
        raise HostError("conflict", "%s is not a directory" % at, "choose another path")
    made = []
    for folder in reversed(missing):
        try:
            if not make_directory(folder, mode):
                continue
            os.chmod(folder, mode)  # whatever the umask
        except OSError as error:
            raise from_os(error, "making the directory %s" % folder) from None
        made.append(folder)
    return made


def make_directory(path: str, mode: int, dir_fd: int | None = None) -> bool:
    """Make one directory; False when it is there, made by another host a moment ago perhaps. Raises OSError.

    An NFS client that has found none goes on saying so, also when the server has just told it otherwise, until the
    directory above is opened (measured, Linux 7.2, NFS 4.2).
    """
    try:
        os.mkdir(path, mode, dir_fd=dir_fd)
    except FileExistsError:
        above = os.path.dirname(path) or "."
        with contextlib.suppress(PermissionError):  # who may go through may not be let read
            os.close(os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd))
        return False
    return True


def remove_empty(path: str) -> bool:
    """Remove a directory if it is there and empty; True when it is gone afterwards."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EBUSY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise from_os(error, "removing the directory %s" % path) from None
    return True
