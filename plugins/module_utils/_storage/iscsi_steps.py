# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that a LUN with a volume group is made of. Private to microvm.host."""

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
    disk,
    files,
    iscsi,
    iscsi_login,
    locks,
    lvm,
    names,
    secret,
    systemd,
)
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import credentials, iscsi_lvm

Asked = iscsi_lvm.Asked

UNDO_SECONDS = 60.0
MARGIN = 1.0
"""What a command is given less than the child that runs it, s: its own error tells more."""
POLL_SECONDS = 0.3
CLAIM_HOLDS = 15.0
"""How long a claim of another host on a blank LUN is respected after its last beat, s: that host is dead then."""
FORMAT_SECONDS = 600.0
"""How long hosts may compete for a LUN before one gives up, s."""
POOL_SHARE = "95%FREE"
"""Of an empty group, for its thin pool; the rest is for the pool's metadata to grow."""


@contextlib.contextmanager
def _target(asked: Asked, seconds: float) -> t.Iterator[None]:
    """Be the only one to log in to a target or out of it: its LUNs share one session and one record."""
    with locks.holding("login", names.hash8(asked["iqn"]), seconds):
        yield


def _session(asked: Asked, known: Known) -> iscsi.Session | None:
    """The session for a LUN: the one at the proven address, else the oldest to that target."""
    found = iscsi.sessions(asked["iqn"])
    at = [each for each in found if (each.address, each.port) == (known.get("address"), known.get("port"))]
    holding = [each for each in found if iscsi.disk(each, asked["lun"])]
    return next(iter(holding or at or found), None)


def _disk(asked: Asked, known: Known) -> iscsi.Disk:
    session = _session(asked, known)
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
        with _target(self.asked, self.seconds):
            where = (self.asked["iqn"], known["address"], known["port"])
            path = iscsi.record(*where)
            files.make_directories(credentials.DIRECTORY, credentials.DIRECTORY_MODE)
            before = files.text_of(path) if path else None
            files.write(self._backup, os.fsencode(before or ""), 0o600, self.nonce)
            if path is None:
                path = iscsi.new_record(*where, known["tag"])
            text = files.text_of(path) or ""
            wanted = iscsi_lvm.settings(self.asked, proof)
            files.write(path, os.fsencode(iscsi.changed(text, wanted)), 0o600, self.nonce)
        return {}

    def undo(self, known: Known) -> None:
        backup = files.text_of(self._backup)
        if backup is not None and "address" in known:
            where = (self.asked["iqn"], known["address"], known["port"])
            with _target(self.asked, UNDO_SECONDS):
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
        return deadline.Child(lambda send: self._login(where), self.seconds, doing)

    def _login(self, where: Known) -> Known:
        until = time.monotonic() + self.seconds - MARGIN
        with _target(self.asked, self.seconds):
            session = _session(self.asked, where)
            if session is None:
                iscsi.login(self.asked["iqn"], where["address"], where["port"], where["tag"], self.seconds - MARGIN)
                session = _session(self.asked, where)
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
        with _target(self.asked, UNDO_SECONDS):
            session = _session(self.asked, {**self.facts, **known})
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
        with _target(self.asked, self.seconds):
            session = _session(self.asked, self.facts)
            if session is not None:
                _leave(self.asked, session)
        return {}

    def undo(self, known: Known) -> None:
        again = Login(self.asked, self.facts, False, UNDO_SECONDS)
        deadline.call(lambda: again._login(self.facts), UNDO_SECONDS, "logging in to %s" % self.asked["iqn"])


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
    with _target(asked, UNDO_SECONDS):
        used += [(each.address, each.port) for each in iscsi.sessions(asked["iqn"])]
        for address, port, tag in iscsi_lvm.places(facts):
            if (address, port) not in used and iscsi.record(asked["iqn"], address, port):
                iscsi.remove_record(asked["iqn"], address, port, tag)


def _activation(vg: str) -> str:
    """The unit that LVM's udev rule starts for a group that appears (69-dm-lvm.rules)."""
    return os.path.join(systemd.DIRECTORY, "lvm-activate-%s.service" % vg)


def is_masked(vg: str) -> bool:
    """Whether LVM's own activation of a group is masked."""
    return os.path.islink(_activation(vg)) and os.readlink(_activation(vg)) == os.devnull


@dataclasses.dataclass(frozen=True)
class MaskActivation(Step):
    """Mask LVM's own activation of the group at the sight of its disk.

    It would fail, as the group is not the host's but ours, and leave a failed unit for people to wonder about.
    """

    vg: str

    def describe(self) -> str:
        return "mask lvm-activate-%s.service" % self.vg

    def apply(self, known: Known) -> None:
        if not os.path.lexists(_activation(self.vg)):
            files.link(os.devnull, _activation(self.vg))

    def undo(self, known: Known) -> None:
        if is_masked(self.vg):
            files.remove(_activation(self.vg))


@dataclasses.dataclass(frozen=True)
class UnmaskActivation(Step):
    """Leave a group that is no longer ours to LVM's own rules."""

    vg: str

    def describe(self) -> str:
        return "unmask lvm-activate-%s.service" % self.vg

    def finish(self, known: Known) -> None:
        if is_masked(self.vg):
            files.remove(_activation(self.vg))


@dataclasses.dataclass(frozen=True)
class OpenGroup(Step):
    """Make sure of the volume group on the LUN: that it is the one, whose it is, and when it is ours activate it.

    ``facts``: of a registered LUN, which must still be that disk and is never formatted. ``initialize``: a LUN
    without any sign of data may be formatted; ``pv`` is the UUID it gets then, so that an undo knows its own.
    ``takeover``: the owner from whom the group may be taken. While it is formatted, ``seconds`` are those without
    progress: of hosts that want to format one LUN all but one wait, for as long as that one is at it.
    """

    asked: Asked
    facts: dict[str, t.Any]
    initialize: bool
    takeover: str
    pv: str
    seconds: float

    def describe(self) -> str:
        where = "volume group %s on LUN %d" % (self.asked["vg"], self.asked["lun"])
        if self.takeover and self.facts:
            return "take over %s from %s" % (where, self.takeover)
        if self.takeover:
            return "open %s, take it over if it is of %s" % (where, self.takeover)
        if self.initialize:
            return "open %s, make it when the LUN is blank" % where
        return "open %s" % where

    def apply(self, known: Known) -> deadline.Child:
        doing = "opening volume group %s" % self.asked["vg"]
        return deadline.Child(lambda send: self._open(known, deadline.Progress(send)), self.seconds, doing)

    def _open(self, known: Known, progress: deadline.Progress) -> Known:
        lvm.require()
        until = time.monotonic() + self.seconds - MARGIN
        found = _disk(self.asked, {**self.facts, **known})
        if disk.multipath(found.name):
            text = "%s is a path of a multipath device" % found.node
            raise HostError("unsupported", text, "exclude it in multipath.conf: one session is used at a time")
        own, seen = lvm.system_id(), lvm.look(found.node)
        if not self.facts.get("vg_uuid"):
            self._refuse_namesake(found)
            if seen.group is None:
                try:
                    seen = self._initialize(found, own, seen, progress)
                except OSError as error:
                    raise files.from_os(error, "formatting %s" % found.node) from None
                until = time.monotonic() + self.seconds - MARGIN
            self._refuse_other(found, seen)
        group = t.cast("lvm.Group", seen.group)
        answer: Known = {"wwid": found.wwid, "pv_uuid": seen.pv, "vg_uuid": group and group.uuid}
        answer.update(uuid=answer["vg_uuid"], identity="marker", capacity={})
        expected = {key: self.facts[key] for key in iscsi_lvm.FACTS if self.facts.get("vg_uuid")}
        if any(answer[key] != value for key, value in expected.items()):
            look = iscsi_lvm.Look(None, False, found, seen, "foreign")
            raise iscsi_lvm.swapped({"asked": self.asked, "facts": self.facts}, look)
        if not lvm.is_own(group.system_id, own):
            if self.takeover != (group.system_id or iscsi_lvm.UNOWNED):
                return self._standby(answer, group)
            self._take(found.node, own, group, until)
        else:
            self._activate(found.node, group.system_id, group, until)
        return answer

    def _take(self, node: str, own: str, group: lvm.Group, until: float) -> None:
        """Make the group this host's and activate it; one that can't be activated is given back."""
        words = ["vgchange", "--yes", "--systemid"]
        lvm.change(node, own, [*words, own, group.name], _left(until), formerly=group.system_id)
        try:
            self._activate(node, own, group, until)
        except HostError:
            lvm.change(node, own, ["vgchange", "--activate", "n", group.name], UNDO_SECONDS / 2)
            lvm.change(node, own, [*words, group.system_id, group.name], UNDO_SECONDS / 2)
            raise

    def _refuse_namesake(self, found: iscsi.Disk) -> None:
        """Raise for a group of that name on other disks of this host: their volumes would have one name."""
        vg = self.asked["vg"]
        if os.path.lexists(os.path.join("/dev", vg)) and not disk.holders(found.name):
            text = "there is /dev/%s on this host already, and it is not on %s" % (vg, iscsi_lvm.shown(self.asked))
            raise HostError("conflict", text, "choose another vg, or rename one of the groups (vgrename)", field="vg")

    def _standby(self, answer: Known, group: lvm.Group) -> Known:
        """Another host's group is left alone; one of nobody may be in use anywhere, so it is not taken silently."""
        if group.system_id:
            return answer
        raise HostError(
            "conflict",
            "volume group %s has no owner (system ID): any host may be using it" % group.name,
            "make sure that none does, then give takeover: %s" % iscsi_lvm.UNOWNED,
            field="takeover",
        )

    def _refuse_other(self, found: iscsi.Disk, seen: lvm.Found) -> None:
        """Raise for what is on a LUN that is not registered yet and is not the group that was asked for."""
        vg = self.asked["vg"]
        if seen.group is None:
            text = "%s (%s) carries an LVM physical volume without a group" % (iscsi_lvm.shown(self.asked), found.node)
            raise HostError("conflict", text, "remove it with pvremove if nobody needs it", field="lun")
        if seen.group.name != vg:
            text = "%s carries volume group %s, not %s" % (iscsi_lvm.shown(self.asked), seen.group.name, vg)
            raise HostError("conflict", text, "check lun and vg", field="vg")
        if seen.group.devices != 1:
            text = "volume group %s has %d disks" % (vg, seen.group.devices)
            raise HostError("unsupported", text, "a group must lie on its one LUN alone", field="vg")

    def _initialize(self, found: iscsi.Disk, own: str, seen: lvm.Found, progress: deadline.Progress) -> lvm.Found:
        """Format a blank LUN. Another host may want the same now: who loses finds the winner's group."""
        where = "%s (%s)" % (iscsi_lvm.shown(self.asked), found.node)
        signs, there = _signs(found, progress), disk.claimed(found.node)
        if self.initialize and there.who and not lvm.is_own(there.host, own):
            seen, there = self._wait_for(found, progress)
            signs = [] if seen.pv else _signs(found, progress)
        elif signs:  # perhaps another host's, made since it was looked at
            seen = lvm.look(found.node)
        if seen.pv:
            return seen
        if signs:
            text = "%s is not blank: %s" % (where, "; ".join(signs))
            raise HostError("conflict", text, "check lun; wipe it by hand (wipefs -a) if that may go", field="lun")
        if not self.initialize:
            text = "%s carries no volume group" % where
            hint = "to format it, which destroys what is on it, give initialize: %s" % self.asked["vg"]
            raise HostError("not_found", text, hint, field="initialize")
        mine = "%s %s" % (own, self.pv)
        while not (
            disk.claim(found.node, mine, there) and not _signs(found, progress) and disk.renew(found.node, mine)
        ):
            seen, there = self._wait_for(found, progress)
            if seen.pv:
                return seen
        self._format(found, own, mine, progress)
        progress.alive()
        seen = lvm.look(found.node)
        if seen.pv != self.pv or seen.group is None or not lvm.is_own(seen.group.system_id, own):
            text = "%s was formatted by another host at the same time" % where
            raise HostError("conflict", text, "run this again: it will be on standby")
        return seen

    def _format(self, found: iscsi.Disk, own: str, mine: str, progress: deadline.Progress) -> None:
        def at_it() -> None:
            progress.alive()
            with contextlib.suppress(OSError):  # what is wrong with the disk the command itself tells better
                disk.renew(found.node, mine)

        for words in (
            ["pvcreate", "--uuid", self.pv, "--norestorefile", found.node],
            ["vgcreate", "--setautoactivation", "n", self.asked["vg"], found.node],
        ):
            progress.alive()
            if not disk.renew(found.node, mine):
                text = "%s is being formatted by another host too" % iscsi_lvm.shown(self.asked)
                raise HostError("busy", text, "run this again")
            lvm.change(found.node, own, words, self.seconds - MARGIN, alive=at_it)

    def _wait_for(self, found: iscsi.Disk, progress: deadline.Progress) -> tuple[lvm.Found, disk.Claim]:
        """The group that another host makes; without it when that host has given up, or its claim stands still."""
        head, seen = b"", lvm.Found("", None)
        there, since = disk.claimed(found.node), time.monotonic()
        until = since + FORMAT_SECONDS
        while True:
            now = disk.head(found.node)
            if now != head:
                head, seen = now, lvm.look(found.node)
            claim = disk.claimed(found.node)
            if claim != there:
                there, since = claim, time.monotonic()
            still = time.monotonic() - since
            if seen.group or still >= (CLAIM_HOLDS if there.who else disk.CLAIM_SECONDS):
                return seen, there
            if time.monotonic() >= until:
                text = "%s is being formatted by %s" % (iscsi_lvm.shown(self.asked), there.host)
                raise HostError("busy", text, "run this again")
            progress.alive()
            time.sleep(POLL_SECONDS)  # the other host tells nobody when it is done

    def _activate(self, node: str, own: str, group: lvm.Group, until: float) -> None:
        if group.autoactivation:
            lvm.change(node, own, ["vgchange", "--setautoactivation", "n", group.name], _left(until))
        pool = self.asked["thin_pool"]
        there = group.volume(pool) if pool else None
        if there is not None and "pool" not in there.layout:
            text = "%s/%s is no thin pool" % (group.name, pool)
            raise HostError("conflict", text, "choose another thin_pool", field="thin_pool")
        if pool and there is None:
            words = ["lvcreate", "--type", "thin-pool", "--extents", POOL_SHARE, "--name", pool, group.name]
            lvm.change(node, own, words, _left(until))
        if any(not each.skipped and not each.active for each in group.volumes):
            lvm.change(node, own, ["vgchange", "--activate", "y", group.name], _left(until))

    def undo(self, known: Known) -> None:
        """Unmake what this very intent formatted; of a group that was there, deactivate what it activated."""
        if "wwid" not in known:
            return  # this intent did not log in
        if self.facts.get("vg_uuid") or not self.initialize:
            doing, work = "deactivating volume group %s", self._close
        else:
            doing, work = "taking back volume group %s", self._unmake
        deadline.call(lambda: work(known), UNDO_SECONDS, doing % self.asked["vg"])

    def _close(self, known: Known) -> bool:
        session = _session(self.asked, known)
        if session is not None and iscsi.disk(session, self.asked["lun"]) is not None:
            CloseGroup(self.asked, known, UNDO_SECONDS)._close("n")
        return True

    def _unmake(self, known: Known) -> bool:
        until = time.monotonic() + UNDO_SECONDS - MARGIN
        session = _session(self.asked, known)
        # The host may have lost power in between: what it formatted is still there then, and the session is not.
        # attach gives at once what is attached.
        again = Login(self.asked, known, session is not None, UNDO_SECONDS - MARGIN)
        node = str(again._login(known)["node"])
        own, seen = lvm.system_id(), lvm.look(node)
        if seen.pv == self.pv:
            group = seen.group
            if group is not None:
                if {each.name for each in group.volumes} - {self.asked["thin_pool"]}:
                    text = "volume group %s has volumes that this run did not make" % group.name
                    raise HostError("conflict", text, "it is left as it is: look at it by hand")
                lvm.change(node, group.system_id, ["vgchange", "--activate", "n", group.name], _left(until))
                lvm.change(node, group.system_id, ["vgremove", "--force", "--yes", group.name], _left(until))
            lvm.change(node, own, ["pvremove", node], _left(until))
            seen = lvm.look(node)
        if not seen.pv and disk.claimed(node).who == "%s %s" % (own, self.pv):
            disk.forget_claim(node)
        return True


@dataclasses.dataclass(frozen=True)
class CloseGroup(Step):
    """Deactivate the volumes of a group that is this host's; it and its data stay."""

    asked: Asked
    facts: dict[str, t.Any]
    seconds: float

    def describe(self) -> str:
        return "deactivate volume group %s" % self.asked["vg"]

    def apply(self, known: Known) -> deadline.Child:
        doing = "deactivating volume group %s" % self.asked["vg"]
        return deadline.Child(lambda send: self._close("n"), self.seconds, doing)

    def _close(self, active: str) -> Known:
        node = _disk(self.asked, self.facts).node
        seen = lvm.look(node)
        if seen.group is not None and lvm.is_own(seen.group.system_id, lvm.system_id()):
            if active == "n":
                iscsi_lvm.refuse_in_use(seen.group)
            words = ["vgchange", "--activate", active, seen.group.name]
            lvm.change(node, seen.group.system_id, words, self.seconds - MARGIN)
        return {}

    def undo(self, known: Known) -> None:
        deadline.call(lambda: self._close("y"), UNDO_SECONDS, "activating volume group %s" % self.asked["vg"])


@dataclasses.dataclass(frozen=True)
class LetGo(Step):
    """Take down the devices of volumes that are another host's now, as long as nobody uses them."""

    vg: str
    devices: list[str]
    seconds: float

    def describe(self) -> str:
        return "deactivate %s: volume group %s is another host's" % (", ".join(self.devices), self.vg)

    def apply(self, known: Known) -> deadline.Child:
        doing = "deactivating what is left of volume group %s" % self.vg
        return deadline.Child(lambda send: self._let_go(), self.seconds, doing)

    def _let_go(self) -> Known:
        for device in self.devices:
            lvm.unmap(device, self.seconds - MARGIN)
        return {}


def _signs(found: iscsi.Disk, progress: deadline.Progress) -> list[str]:
    progress.alive()
    signs = disk.signs(found.name)
    progress.alive()
    return signs


def _left(until: float) -> float:
    return max(1.0, until - time.monotonic())


KINDS: dict[str, type[Step]] = {
    kind.__name__: kind
    for kind in (
        ProveLogin,
        WriteRecord,
        MaskActivation,
        UnmaskActivation,
        Login,
        Logout,
        RemoveRecord,
        OpenGroup,
        CloseGroup,
        LetGo,
    )
}
