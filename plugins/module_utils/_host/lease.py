# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One writer per disk: a lock file beside the disks, and who holds it written in it. Private to microvm.host.

The lock is an OFD lock (fcntl(2)) on a file of its own, never on the disk: that would lock out our own virtual machine
on NFS and CIFS. Where locks are not seen by other hosts, what is written in the file keeps them out, and of those that
find nothing in it one gets a second file, the claim, by link(2). All of it may hang on a dead server: call it in a
child, or in a process of its own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
import time
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._host import files
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

F_OFD_GETLK = 36
F_OFD_SETLK = 37
BEAT_SECONDS = 10.0
"""How often a holder that stays writes to its lock: that shows it is alive, and that the server still knows it."""
WATCH_SECONDS = 2.5 * BEAT_SECONDS
"""How long a holder whose lock shall be taken over must have been silent."""
RECORD = 512
"""Bytes of what is written, so that no reader sees a part of it."""
UNSEEN = "; its locks are not seen here, so nobody can tell whether it is alive"
HOLDER = 160
"""Characters of who holds it, so that a record has room for it."""
LOCKED = 1 << 30
"""The byte that is locked, far behind what is written: on SMB nobody else can read what is locked."""


class Lease:
    """The lock of one disk. ``folder``: the lock directory. ``holder``: who wants it, in words.

    ``crosses``: whether the file system shows locks to other hosts. ``host``: eight digits that are this host's.
    """

    def __init__(self, folder: str, name: str, holder: str, host: str, crosses: bool) -> None:
        self.path = os.path.join(folder, name)
        self.name = name
        self.crosses = crosses
        self.record: dict[str, t.Any] = {
            "nonce": uuid.uuid4().hex,
            "host": host,
            "hostname": os.uname().nodename,
            "holder": holder[:HOLDER],
            "pid": os.getpid(),
            "boot": _boot(),
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "beat": 0,
        }
        self.descriptor = -1
        self.shared = False

    def take(self, takeover: bool = False, seconds: float = 0.0, shared: bool = False) -> None:
        """Get the lock, waiting up to ``seconds``. Raises ``in_use`` naming who has it.

        ``shared``: only to read the disk, beside others who do. It is not written down who they are.

        ``takeover``: the holder's host is known dead; it is watched, and refused all the same when it is heard of.
        """
        folder = os.path.dirname(self.path)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except FileExistsError:
            files.make_directory(folder, 0o700)
        until = time.monotonic() + seconds
        self.shared = shared
        while not self._locked():
            if time.monotonic() >= until:
                raise self._kept(read(self.path)) if takeover else self._refusal(read(self.path), "")
            time.sleep(0.1)  # fcntl(2) can wait only without a limit: the wait is for the lock, up to the deadline
        found = _parsed(os.pread(self.descriptor, RECORD, 0))
        if found and not self.crosses and found["host"] != self.record["host"]:
            if not takeover:
                error = self._refusal(found, UNSEEN)
                self._close()
                raise error
            self._watch(found)
        if not shared:
            if not self.crosses:
                self._claim(takeover)
            self._write()

    @property
    def claim(self) -> str:
        """The second file; no volume's name begins so."""
        return os.path.join(os.path.dirname(self.path), "." + self.name)

    def _claim(self, takeover: bool) -> None:
        """Be the one host of those that found the lock free at the same time. What this host has left counts not."""
        own = "%s.%s" % (self.claim, self.record["nonce"][:8])
        try:
            with open(own, "x", encoding="ascii") as file:
                file.write(json.dumps(self.record))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(own, self.claim)
            except FileExistsError:
                found = read(self.claim)
                if found.get("host") != self.record["host"] and not takeover:
                    raise self._refusal(found, UNSEEN) from None
                os.replace(own, self.claim)
        except (OSError, HostError):
            self._close()
            raise
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(own)

    def _locked(self) -> bool:
        """Open and lock the file that has the name now: a holder removes it together with its disk."""
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        kind = fcntl.F_RDLCK if self.shared else fcntl.F_WRLCK
        try:
            fcntl.fcntl(self.descriptor, F_OFD_SETLK, struct.pack("hhqqi", kind, os.SEEK_SET, LOCKED, 1, 0))
        except OSError as error:
            self._close()
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        if files.inode(self.path) == os.fstat(self.descriptor).st_ino:
            return True
        self._close()
        return self._locked()

    def _watch(self, found: dict[str, t.Any]) -> None:
        until = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < until:
            time.sleep(1.0)  # a holder that lives writes to the file, and nothing tells this host of it
            if self._written() != found:
                self._close()
                raise self._kept(found)

    def _refusal(self, found: dict[str, t.Any], more: str) -> HostError:
        if not found:
            text = "volume %s is being copied, or taken, by another process" % self.name
            return HostError("in_use", text, "run it again")
        text = "volume %s is held by %s%s" % (self.name, describe(found), more)
        here = found["host"] == self.record["host"]
        hint = "" if here else "; if that host is dead for certain: takeover: true"
        return HostError("in_use", text, "stop what uses it" + hint)

    def _kept(self, found: dict[str, t.Any]) -> HostError:
        """The refusal of a takeover: the lock shows that the holder lives, or that its server has not given it up."""
        if not found or found["host"] == self.record["host"]:
            return self._refusal(found, "")
        heard = ""
        with contextlib.suppress(OSError):
            heard = ", heard of %d s ago" % max(time.time() - os.stat(self.path).st_mtime, 0)
        text = "volume %s is held by %s%s: a holder that lives is left in possession"
        later = " when the server has given its locks up" if self.crosses else ""
        hint = "stop what uses it on %s; if that host is dead, run it again%s" % (found["hostname"], later)
        return HostError("in_use", text % (self.name, describe(found), heard), hint)

    def _written(self) -> dict[str, t.Any]:
        """What is in the file now. Without locks NFS asks the server only when a file is opened (nfs(5), coherence)."""
        if not self.crosses:
            return read(self.path)
        # The kernel's CIFS client keeps what it has read when it logs in again (seen on 7.2): the record of a lock that
        # was given to another host meanwhile.
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return _parsed(os.pread(self.descriptor, RECORD, 0))

    def beat(self) -> None:
        """Show that the holder lives. Raises OSError when the server no longer knows it, ``in_use`` when taken over."""
        found = self._written()
        if found.get("nonce") != self.record["nonce"]:
            text = "volume %s was taken over by %s" % (self.name, describe(found) if found else "another host")
            raise HostError("in_use", text, "this host must not write to it any more")
        self.record["beat"] += 1
        self._write()

    def _write(self) -> None:
        os.pwrite(self.descriptor, json.dumps(self.record).encode().ljust(RECORD), 0)
        os.fsync(self.descriptor)

    def release(self, forget: bool = False) -> None:
        """Give the lock back; ``forget``: the disk is gone, and so shall the file be."""
        if self.descriptor < 0:
            return
        try:
            if self.shared:
                return
            if forget:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path)
            else:
                os.ftruncate(self.descriptor, 0)
            if not self.crosses and read(self.claim).get("nonce") == self.record["nonce"]:
                os.unlink(self.claim)
        finally:
            self._close()

    def _close(self) -> None:
        os.close(self.descriptor)
        self.descriptor = -1


def read(path: str) -> dict[str, t.Any]:
    """What is written in a lock file; empty when nobody holds it."""
    try:
        with open(path, "rb") as file:
            return _parsed(file.read(RECORD))
    except FileNotFoundError:
        return {}


def holder(path: str, host: str, crosses: bool) -> dict[str, t.Any]:
    """Who holds a lock: what is written, unless the lock shows that nobody does; empty then. Takes no lock."""
    found = read(path)
    if not found or (not crosses and found["host"] != host):
        return found
    try:
        # Not opened as the holder does, which may be this process: what one process opens twice in one way is one file
        # to the kernel's CIFS client, and closing it once gives the lock back (cifs_open takes the cached handle).
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    try:
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, LOCKED, 1, 0)
        answer = struct.unpack("hhqqi", fcntl.fcntl(descriptor, F_OFD_GETLK, asked))
    finally:
        os.close(descriptor)
    return {} if answer[0] == fcntl.F_UNLCK else found


def describe(record: dict[str, t.Any]) -> str:
    """A holder in words."""
    return "%s on %s (process %d, since %s)" % (record["holder"], record["hostname"], record["pid"], record["since"])


def _parsed(data: bytes) -> dict[str, t.Any]:
    """A record, empty for anything else: the file is on shared storage, where others may write."""
    kinds = {"nonce": str, "host": str, "hostname": str, "holder": str, "pid": int, "since": str, "beat": int}
    try:
        found = json.loads(data.strip(b" \0") or b"{}")
    except ValueError:
        return {}
    if not isinstance(found, dict) or any(not isinstance(found.get(key), kind) for key, kind in kinds.items()):
        return {}
    return found


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
