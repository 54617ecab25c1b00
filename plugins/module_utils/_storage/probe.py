# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a directory can do, tried through its descriptor. Private to microvm.host.

All of this may hang on a dead server: call it in a child.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import struct
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._host import files, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

F_OFD_SETLK = 37
FICLONE = 0x40049409
FOLDER = ".microvm"
MARKER = "backend.json"
BLOCK = b"microvm.host probe\n" * 64
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
"""To look at what a directory is and holds, not to read it: on NFS that opens it without asking the server."""


def capacity(root: int | str) -> dict[str, int]:
    """Bytes and inodes of a file system, as an unprivileged user may have them (statvfs: f_bavail)."""
    found = os.statvfs(root)
    return {
        "total_bytes": found.f_blocks * found.f_frsize,
        "used_bytes": (found.f_blocks - found.f_bfree) * found.f_frsize,
        "free_bytes": found.f_bavail * found.f_frsize,
        "inodes_total": found.f_files,
        "inodes_free": found.f_favail,
    }


@functools.cache
def host_mark() -> str:
    """Eight digits that are this host's: its files on a shared directory carry them, so it finds what it left."""
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return names.hash8(file.read().strip())
    except OSError:
        return names.hash8(os.uname().nodename)


def examine(root: int, how: str, what: str) -> dict[str, t.Any]:
    """Try the directory ``root``: ``how`` is none, read or write. Returns capacity; for write clone and locks too.

    Raises HostError; ``what`` names the directory in messages.
    """
    try:
        found: dict[str, t.Any] = {"capacity": capacity(root)}
        if how == "read":
            with os.scandir(root) as entries:
                next(entries, None)
        if how == "write":
            found.update(_write(root))
        return found
    except OSError as error:
        raise explained(error, what) from None


def explained(error: OSError, what: str) -> HostError:
    """An error met on a mounted directory, with a remedy."""
    text = "%s: %s" % (what, os.strerror(error.errno or 0))
    if error.errno in (errno.EACCES, errno.EPERM):
        who, hint = "root of this host", "export it with no_root_squash, or anonuid/anongid of the directory's owner"
        if what.startswith("//"):  # how shares are written
            who, hint = "this user", "let the user write to the share and to its directory, or give another user"
        return HostError("refused", "%s: %s may not write there" % (what, who), hint + "; or set read_only: true")
    if error.errno == errno.EROFS:
        return HostError("refused", "%s is read only on the server" % what, "export it rw, or set read_only: true")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostError("full", text, "make room there")
    if error.errno == errno.EFBIG:
        hint = "ask for less, or choose a backend whose file system takes longer files"
        return HostError("invalid", "%s: its file system takes no file of that size" % what, hint, field="size")
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and isinstance(error.filename, str):
        text = "%s: %s is not there" % (what, error.filename)
        return HostError("not_found", text, "host_info with refresh: true tells what is; restore it from a backup")
    if error.errno == errno.ESTALE:
        return HostError("stale", text, "the server has forgotten the export: export it again")
    if error.errno in (errno.EIO, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN):
        return HostError("unreachable", text, "check the server and the network")
    if error.errno == errno.EREMOTEIO:
        return HostError(
            "unsupported",
            "%s: the server answers a request of this kernel with nonsense" % text,
            "with nfs-ganesha and Linux 6.19 or later: options nfsv4 directory_delegations=0 in /etc/modprobe.d",
        )
    return HostError("internal", text)


def _write(root: int) -> dict[str, t.Any]:
    """Write, fsync, read back, lock, clone, unlink. The names are this host's: a killed probe is swept by the next."""
    first, second = _probe_files()
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        one = os.open(first, flags, 0o600, dir_fd=root)
        try:
            os.write(one, BLOCK)
            os.fsync(one)
            if os.pread(one, len(BLOCK), 0) != BLOCK:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            locks = _locks(one)
            two = os.open(second, flags, 0o600, dir_fd=root)
            try:
                clone = _clones(one, two)
            finally:
                os.close(two)
        finally:
            os.close(one)
    finally:
        for name in (first, second):
            _unlink(name, root)
    return {"locks": locks, "fast_clone": clone}


def _probe_files() -> tuple[str, str]:
    first = ".microvm-probe-%s" % host_mark()
    return first, first + ".clone"


def _temporary_marker() -> str:
    return ".%s.%s" % (MARKER, host_mark())


def sweep(path: str) -> None:
    """Remove what a killed probe of this host left in a directory. Raises HostError."""
    try:
        root = os.open(path, DIRECTORY | os.O_NOFOLLOW)
        try:
            for name in (*_probe_files(), os.path.join(FOLDER, _temporary_marker())):
                _unlink(name, root)
        finally:
            os.close(root)
    except OSError as error:
        raise explained(error, path) from None


def _locks(descriptor: int) -> bool:
    lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    try:
        fcntl.fcntl(descriptor, F_OFD_SETLK, lock)
        fcntl.fcntl(descriptor, F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0))
    except OSError:
        return False
    return True


def _clones(one: int, two: int) -> bool:
    try:
        fcntl.ioctl(two, FICLONE, one)
    except OSError:
        return False
    return True


def _unlink(name: str, root: int) -> None:
    try:
        os.unlink(name, dir_fd=root)
    except FileNotFoundError:
        return


def read_marker(root: int, what: str) -> str | None:
    """The UUID that a backend carries, None when it carries none. Raises HostError ``conflict`` for a broken one."""
    try:
        folder = os.open(FOLDER, PLACE | os.O_NOFOLLOW, dir_fd=root)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explained(error, what) from None
    try:
        descriptor = os.open(MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explained(error, what) from None
    finally:
        os.close(folder)
    try:
        return str(uuid.UUID(json.loads(os.read(descriptor, 4096))["uuid"]))
    except (ValueError, KeyError, TypeError):
        hint = "it is not a backend of microvm.host, or the file is damaged: restore or remove it"
        raise HostError("conflict", "%s: %s/%s is no marker" % (what, FOLDER, MARKER), hint) from None
    except OSError as error:
        raise explained(error, what) from None
    finally:
        os.close(descriptor)


def make_marker(root: int, what: str) -> str:
    """The UUID of a backend, made when it has none; of hosts that make it at once all get the same one."""
    try:
        files.make_directory(FOLDER, 0o755, dir_fd=root)
        folder = os.open(FOLDER, DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
        temporary = _temporary_marker()
        try:
            if read_marker(root, what) is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(temporary, flags, 0o644, dir_fd=folder)
                try:
                    os.write(descriptor, json.dumps({"uuid": str(uuid.uuid4())}).encode() + b"\n")
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, MARKER, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
        finally:
            _unlink(temporary, folder)
            os.close(folder)
    except OSError as error:
        raise explained(error, what) from None
    found = read_marker(root, what)
    if found is None:
        raise HostError("internal", "%s: the marker vanished while it was made" % what, "run it again")
    return found


def _tidy(found: str, root: int, what: str) -> str:
    """``found``, its temporary name taken away: this host may have been killed when the marker was just made."""
    temporary = os.path.join(FOLDER, _temporary_marker())
    try:
        os.stat(temporary, dir_fd=root, follow_symlinks=False)  # looked for first: not every user may unlink here
        os.unlink(temporary, dir_fd=root)
    except FileNotFoundError:
        return found
    except OSError as error:
        raise explained(error, what) from None
    return found


def identify(root: int, marker: str, writable: bool, what: str) -> dict[str, str]:
    """``uuid`` and ``identity`` of a backend. ``marker`` is "any", or the UUID it must carry.

    One that can't be written and carries none is known by its file system id and ``what``: identity ``weak``.
    Raises HostError ``conflict`` when it carries another UUID than it must.
    """
    found = read_marker(root, what)
    if found is None and marker != "any" and not marker.startswith("weak:"):
        raise HostError(
            "conflict",
            "%s does not carry the marker of this backend (%s)" % (what, marker),
            "it is another file system, or was emptied: restore %s/%s, or remove the backend and add it again"
            % (FOLDER, MARKER),
        )
    if writable:
        found = make_marker(root, what) if found is None else _tidy(found, root, what)
    kind = "marker" if found else "weak"
    found = found or "weak:%s" % names.hash8(str(os.statvfs(root).f_fsid), what)
    if marker not in ("any", found) and not (marker.startswith("weak:") and kind == "marker"):
        raise HostError(
            "conflict",
            "%s is another backend: it carries %s, not %s" % (what, found, marker),
            "check server and export; to use the other one, add it under a name of its own",
        )
    return {"uuid": found, "identity": kind}
