# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps in to a LUN and out of it: proven login, node record, session. Private to microvm.host."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Step
from ansible_collections.microvm.host.plugins.module_utils._host import (
    deadline,
    files,
    iscsi,
    iscsi_login,
    locks,
    names,
    secret,
)
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import credentials, iscsi_lvm

Asked = iscsi_lvm.Asked

UNDO_SECONDS = 60.0
MARGIN = 1.0
"""What a command is given less than the child that runs it, s: its own error tells more."""


@contextlib.contextmanager
def alone_at(asked: Asked, seconds: float) -> t.Iterator[None]:
    """Be the only one to log in to a target or out of it: its LUNs share one session and one record."""
    with locks.holding("login", names.hash8(asked["iqn"]), seconds):
        yield


def session_of(asked: Asked, known: Known) -> iscsi.Session | None:
    """The session for a LUN: the one at the proven address, else the oldest to that target."""
    found = iscsi.sessions(asked["iqn"])
    at = [each for each in found if (each.address, each.port) == (known.get("address"), known.get("port"))]
    holding = [each for each in found if iscsi.disk(each, asked["lun"])]
    return next(iter(holding or at or found), None)


def disk_of(asked: Asked, known: Known) -> iscsi.Disk:
    session = session_of(asked, known)
    found = iscsi.disk(session, asked["lun"]) if session else None
    if found is None:
        raise HostError("unreachable", "%s is not there any more" % iscsi_lvm.shown(asked), "run this again")
    return found


@dataclasses.dataclass(frozen=True)
class ProveLogin(Step):
    """Prove portal, target and CHAP by a login of our own, which leaves nothing. ``chap``: key of the Chap."""

    asked: Asked
    chap: str
    seconds: float

    def describe(self) -> str:
        return "try a login to %s" % self.asked["iqn"]

    def apply(self, known: Known) -> deadline.Child:
        until = time.monotonic() + self.seconds
        proof = secret.of(self.chap)
        doing = "logging in to %s" % self.asked["iqn"]
        return deadline.Child(lambda send: iscsi_lvm.prove(self.asked, proof, until - MARGIN), self.seconds, doing)


@dataclasses.dataclass(frozen=True)
class WriteRecord(Step):
    """The node record of the proven portal, readable by root alone. What was there is kept beside until the commit."""

    asked: Asked
    chap: str
    nonce: str
    seconds: float

    def describe(self) -> str:
        return "write the node record of %s" % self.asked["iqn"]

    @property
    def _backup(self) -> str:
        return os.path.join(credentials.DIRECTORY, ".record.%s" % self.nonce)

    def apply(self, known: Known) -> deadline.Child:
        proof = secret.of(self.chap)
        doing = "writing the node record of %s" % self.asked["iqn"]
        return deadline.Child(lambda send: self._write(known, proof), self.seconds, doing)

    def _write(self, known: Known, proof: iscsi_login.Chap | None) -> Known:
        iscsi.require()
        iscsi.keep_initiator_name()
        with alone_at(self.asked, self.seconds):
            where = (self.asked["iqn"], known["address"], known["port"])
            path = iscsi.record(*where)
            files.make_directories(credentials.DIRECTORY, credentials.DIRECTORY_MODE)
            before = files.text_of(path) or "" if path else ""
            kept = before if iscsi.whole(before) else ""
            files.write(self._backup, os.fsencode(kept), 0o600, self.nonce)
            if path is None or not kept:
                path = iscsi.new_record(*where, known["tag"])
            text = files.text_of(path) or ""
            wanted = iscsi_lvm.settings(self.asked, proof)
            files.write(path, os.fsencode(iscsi.changed(text, wanted)), 0o600, self.nonce)
        return {}

    def undo(self, known: Known) -> None:
        backup = files.text_of(self._backup)
        if backup is not None and "address" in known:
            where = (self.asked["iqn"], known["address"], known["port"])
            with alone_at(self.asked, UNDO_SECONDS):
                path = iscsi.record(*where)
                if path:
                    files.forget(path, self.nonce)
                if path and backup:
                    files.write(path, os.fsencode(backup), 0o600, self.nonce)
                elif path and not any(iscsi.disks(each) for each in iscsi.sessions(self.asked["iqn"])):
                    iscsi.remove_record(*where, known["tag"])
        self.finish(known)

    def finish(self, known: Known) -> None:
        files.forget(self._backup, self.nonce)
        files.remove(self._backup)
        files.remove_empty(credentials.DIRECTORY)
        files.remove_empty(os.path.dirname(credentials.DIRECTORY))


@dataclasses.dataclass(frozen=True)
class Login(Step):
    """Log in by the node record and have the one LUN appear. ``facts``: where, when no step before has proven it.

    ``had_session``: there was one, which an undo leaves alone. ``ends``: the one that a step before ends (0: none); as
    long as it is there this step has not begun.
    """

    asked: Asked
    facts: dict[str, t.Any]
    had_session: bool
    seconds: float
    ends: int = 0

    def describe(self) -> str:
        return "log in to %s for LUN %d" % (self.asked["iqn"], self.asked["lun"])

    def apply(self, known: Known) -> deadline.Child:
        where = {**self.facts, **known}
        doing = "logging in to %s" % self.asked["iqn"]
        return deadline.Child(lambda send: self.log_in(where), self.seconds, doing)

    def log_in(self, where: Known) -> Known:
        until = time.monotonic() + self.seconds - MARGIN
        with alone_at(self.asked, self.seconds):
            session = session_of(self.asked, where)
            if session is None:
                iscsi.login(self.asked["iqn"], where["address"], where["port"], where["tag"], self.seconds - MARGIN)
                session = session_of(self.asked, where)
            if session is None:
                raise HostError("internal", "%s: logged in, and there is no session" % self.asked["iqn"])
            found = iscsi.attach(session, self.asked["lun"], until)
        return {"wwid": found.wwid, "node": found.node}  # by wwid an undo knows that it came this far

    def undo(self, known: Known) -> None:
        deadline.call(lambda: self._undo(known), UNDO_SECONDS, "logging out of %s" % self.asked["iqn"])

    def finish(self, known: Known) -> None:
        """Portals where it was before need no record any more."""
        if "address" in self.facts:
            _drop_records(self.asked, self.facts)

    def _undo(self, known: Known) -> bool:
        with alone_at(self.asked, UNDO_SECONDS):
            session = session_of(self.asked, {**self.facts, **known})
            if session is not None and session.sid != self.ends:
                _leave(self.asked, session, self.had_session)
        return True


def _leave(asked: Asked, session: iscsi.Session, stay: bool = False) -> None:
    """Take the LUN's disk away, and end the session when that was its last and it may end."""
    alive = session.state == "LOGGED_IN"
    if alive:  # what a dead server has not got is lost with the session; waiting for it would only hang
        iscsi.detach(session, asked["lun"])
    others = [each for each in iscsi.disks(session) if each.lun != asked["lun"]]
    if not others and not stay:
        iscsi.logout(session, UNDO_SECONDS / 2)


@dataclasses.dataclass(frozen=True)
class Logout(Step):
    """Take the LUN from this host; the session ends with its last LUN. ``facts``: where it was, to undo it."""

    asked: Asked
    facts: dict[str, t.Any]
    seconds: float

    def describe(self) -> str:
        return "log out of %s" % self.asked["iqn"]

    def apply(self, known: Known) -> deadline.Child:
        return deadline.Child(lambda send: self._logout(), self.seconds, "logging out of %s" % self.asked["iqn"])

    def _logout(self) -> Known:
        with alone_at(self.asked, self.seconds):
            session = session_of(self.asked, self.facts)
            if session is not None:
                _leave(self.asked, session)
        return {}

    def undo(self, known: Known) -> None:
        again = Login(self.asked, self.facts, False, UNDO_SECONDS)
        deadline.call(lambda: again.log_in(self.facts), UNDO_SECONDS, "logging in to %s" % self.asked["iqn"])


@dataclasses.dataclass(frozen=True)
class RemoveRecord(Step):
    """Remove the node record, after the commit: until then the way back needs it. Other LUNs of the target keep it."""

    asked: Asked
    facts: dict[str, t.Any]
    shared: bool

    def describe(self) -> str:
        return "%s the node record of %s" % ("leave" if self.shared else "remove", self.asked["iqn"])

    def finish(self, known: Known) -> None:
        _drop_records(self.asked, self.facts)


def _drop_records(asked: Asked, facts: dict[str, t.Any]) -> None:
    """Remove the node records of the portals where a LUN was proven, but those that a LUN or a session has now."""
    with registry.reading() as connection:
        rows = registry.rows(connection, "SELECT asked, facts FROM targets")
    used = [
        (row["facts"].get("address"), row["facts"].get("port")) for row in rows if row["asked"]["iqn"] == asked["iqn"]
    ]
    with alone_at(asked, UNDO_SECONDS):
        used += [(each.address, each.port) for each in iscsi.sessions(asked["iqn"])]
        for address, port, tag in iscsi_lvm.places(facts):
            if (address, port) not in used and iscsi.record(asked["iqn"], address, port):
                iscsi.remove_record(asked["iqn"], address, port, tag)


KINDS: dict[str, type[Step]] = {kind.__name__: kind for kind in (ProveLogin, WriteRecord, Login, Logout, RemoveRecord)}
"""By the names in the journal."""
