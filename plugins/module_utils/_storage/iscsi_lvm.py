# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A LUN with a volume group on it: what is asked, and what is there. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._host import (
    deadline,
    disk,
    files,
    iscsi,
    iscsi_login,
    lvm,
    secret,
)
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.iscsi_login import Chap, Portal

POOL = "microvm-pool"
"""The thin pool of a group, when none is named."""
UNOWNED = "none"
"""What takeover calls the owner of a group that has none."""
DOWN = {
    "logged_out": "is not logged in to",
    "unreachable": "does not answer",
    "standby": "belongs to another host",
    "foreign": "is not the disk that was registered",
}
"""What is wrong with a LUN that is not ok, in words."""
WAIT_SECONDS = 120
"""How long who uses a LUN waits for a lost session to come back, s."""
FULL_PERCENT = 80.0
"""From here on a thin pool is warned of."""

Asked = dict[str, t.Any]
"""A LUN as asked, without secrets: portals (texts), iqn, lun, initiator_name, username, mutual_username, vg, layout,
thin_pool, access, saferemove. JSON-able; kept in the registry."""

IDENTITY = ("iqn", "lun", "vg", "layout", "thin_pool")
"""What a registered LUN never changes."""


@dataclasses.dataclass(frozen=True)
class Secrets:
    """The CHAP secrets of an item; None: keep what the node record has."""

    password: str | None = dataclasses.field(default=None, repr=False)
    mutual_password: str | None = dataclasses.field(default=None, repr=False)


def asked(item: dict[str, t.Any], prefix: str) -> Asked:
    """The asked LUN of validated options. Raises ``invalid`` or ``unsupported`` naming the option."""
    for key in ("portal", "iqn", "vg"):
        if item.get(key) is None:
            raise HostError("invalid", "%s%s is required" % (prefix, key), field=prefix + key)
    portals = [str(Portal(*iscsi_login.split(item["portal"], prefix + "portal")))]
    for index, each in enumerate(item.get("portals") or ()):
        text = str(Portal(*iscsi_login.split(each, "%sportals[%d]" % (prefix, index))))
        if text not in portals:
            portals.append(text)
    lun = 0 if item.get("lun") is None else item["lun"]
    if not 0 <= lun <= iscsi.LARGEST_LUN:
        message = "%slun: %d is not within 0 to %d" % (prefix, lun, iscsi.LARGEST_LUN)
        raise HostError("invalid", message, field=prefix + "lun")
    if item.get("access") == "shared":
        text = "%saccess: shared needs a lock manager, which this version does not set up" % prefix
        raise HostError("unsupported", text, "leave it out: one host uses the group", field=prefix + "access")
    vg = lvm.name(item["vg"], prefix + "vg")
    if item.get("initialize") not in (None, vg):
        text = "%sinitialize: it must be the name of the volume group, %s, to confirm that the LUN may be formatted"
        raise HostError("invalid", text % (prefix, vg), "write initialize: %s" % vg, field=prefix + "initialize")
    layout = item.get("layout") or "linear"
    if layout != "thin" and item.get("thin_pool") is not None:
        raise HostError(
            "invalid", "%sthin_pool is for layout thin" % prefix, "leave it out", field=prefix + "thin_pool"
        )
    own = item.get("initiator_name")
    found: Asked = {
        "portals": portals,
        "iqn": iscsi.name(item["iqn"], prefix + "iqn"),
        "lun": lun,
        "initiator_name": iscsi.name(own, prefix + "initiator_name") if own is not None else "",
        "vg": vg,
        "layout": layout,
        "thin_pool": lvm.name(item.get("thin_pool") or POOL, prefix + "thin_pool") if layout == "thin" else "",
        "access": "exclusive",
        "saferemove": bool(item.get("saferemove")),
    }
    for key in ("username", "mutual_username"):
        given = item.get(key)
        found[key] = secret.value(given, prefix + key, iscsi.LONGEST_VALUE) if given is not None else ""
    if found["mutual_username"] and not found["username"]:
        hint = "mutual CHAP is CHAP both ways: give username and password too"
        raise HostError(
            "invalid", "%smutual_username without username" % prefix, hint, field=prefix + "mutual_username"
        )
    return found


def takeover(item: dict[str, t.Any], prefix: str) -> str:
    """The owner from whom a group may be taken; "" for nobody. Raises ``invalid``."""
    given = item.get("takeover")
    return lvm.name(given, prefix + "takeover", lvm.LONGEST_ID) if given is not None else ""


def secrets(item: dict[str, t.Any], prefix: str) -> Secrets:
    """The secrets of an item; a blank one is kept. Raises ``invalid``, and shows them to nobody."""
    found: dict[str, str | None] = {}
    for key, name in (("password", "username"), ("mutual_password", "mutual_username")):
        given = item.get(key) or None
        if given is not None and item.get(name) is None:
            raise HostError("invalid", "%s%s without %s" % (prefix, key, name), field=prefix + key)
        found[key] = secret.value(given, prefix + key, iscsi.LONGEST_VALUE) if given is not None else None
    if found["password"] is not None and found["password"] == found["mutual_password"]:
        text = "%smutual_password is the same as password" % prefix
        hint = "who answers with our own secret proves nothing (RFC 7143, section 9.2.1): use two"
        raise HostError("invalid", text, hint, field=prefix + "mutual_password")
    return Secrets(**found)


def identity(wanted: Asked) -> str:
    """What makes it one LUN."""
    return "%s|%d" % (wanted["iqn"], wanted["lun"])


def shown(wanted: Asked) -> str:
    """The LUN in messages."""
    return "LUN %d of %s" % (wanted["lun"], wanted["iqn"])


def portals(wanted: Asked) -> list[Portal]:
    """The portals, in the order in which they are tried."""
    return [Portal(*iscsi_login.split(text, "portal")) for text in wanted["portals"]]


def initiator(wanted: Asked) -> str:
    """The name this host logs in by."""
    return wanted["initiator_name"] or iscsi.initiator_name()


def chap(wanted: Asked, given: Secrets, recorded: iscsi.Settings) -> Chap | None:
    """Who this host is to the target: what was given, and for what was not the record's. Raises ``invalid``."""
    if not wanted["username"]:
        return None
    found: list[str] = []
    for key, way, value in (("username", "", given.password), ("mutual_username", "_in", given.mutual_password)):
        if not wanted[key]:
            continue
        kept = ""
        if recorded.get("node.session.auth.username" + way) == wanted[key]:
            kept = recorded.get("node.session.auth.password" + way, "")
        if not (value or kept):
            name = key.replace("username", "password")
            raise HostError("invalid", "%s is required: this host knows none for %s" % (name, wanted[key]), field=name)
        found += [wanted[key], value or kept]
    return Chap(*found)


def settings(wanted: Asked, proof: Chap | None) -> iscsi.Settings:
    """What the node record must say; all else is as this host's iscsid.conf has it.

    Nobody else logs in by it (startup manual), only our LUN appears (scan manual), the session is one.
    """
    return {
        "node.startup": "manual",
        "node.leading_login": "No",
        "node.conn[0].startup": "manual",
        "node.session.scan": "manual",
        "node.session.nr_sessions": "1",
        "node.session.initial_login_retry_max": "2",
        "node.session.timeo.replacement_timeout": str(WAIT_SECONDS),
        "node.conn[0].timeo.login_timeout": "10",
        "node.conn[0].timeo.noop_out_interval": "5",
        "node.conn[0].timeo.noop_out_timeout": "5",
        "iface.initiatorname": wanted["initiator_name"],
        "node.session.auth.authmethod": "CHAP" if proof else "None",
        "node.session.auth.username": proof.username if proof else "",
        "node.session.auth.password": proof.password if proof else "",
        "node.session.auth.username_in": proof.mutual_username if proof else "",
        "node.session.auth.password_in": proof.mutual_password if proof else "",
    }


def credentials(proof: Chap | None) -> tuple[str, str, str, str]:
    """As ``iscsi.credentials`` has those of a session."""
    if proof is None:
        return ("", "", "", "")
    return (proof.username, proof.password, proof.mutual_username, proof.mutual_password)


def differs(recorded: iscsi.Settings, wanted: iscsi.Settings) -> bool:
    """Whether a record says otherwise."""
    return any(recorded.get(key, "") != value for key, value in wanted.items())


def prove(wanted: Asked, proof: Chap | None, until: float) -> dict[str, t.Any]:
    """Log in at the first portal that answers, by a login of our own: that portal, its address, port and tag.

    Blocks until ``until`` (time.monotonic()): call it in a child. Raises HostError; a refusal ends it at once.
    """
    own, tried = initiator(wanted), portals(wanted)
    silent: list[HostError] = []
    for number, portal in enumerate(tried):
        now = time.monotonic()
        share = now + (until - now) / (len(tried) - number)
        try:
            found = iscsi_login.prove(portal, wanted["iqn"], own, proof, share)
        except HostError as error:
            if error.kind != "unreachable":
                raise
            silent.append(error)
            continue
        return {
            "portal": wanted["portals"][number],
            "address": found.address,
            "port": portal.port,
            "tag": found.tag,
            "chap": found.chap,
        }
    text = "; ".join("%s: %s" % (text, error.message) for text, error in zip(wanted["portals"], silent))
    raise HostError("unreachable", "%s cannot be reached: %s" % (wanted["iqn"], text), silent[0].hint, field="portal")


@dataclasses.dataclass(frozen=True)
class Look:
    """What is there of a LUN. ``found`` None: it was not looked at, or does not answer (``status`` unreachable)."""

    session: iscsi.Session | None
    several: bool
    disk: iscsi.Disk | None
    found: lvm.Found | None
    status: str


def present(row: registry.Row, sessions: t.Sequence[iscsi.Session]) -> Look:
    """What sysfs shows of a registered LUN: its session and disk. ``row``: ``asked`` and ``facts`` of it."""
    wanted, facts = row["asked"], row["facts"]
    mine = [each for each in sessions if each.target == wanted["iqn"]]
    holding = [each for each in mine if iscsi.disk(each, wanted["lun"])]
    at = (facts.get("address"), facts.get("port"))
    session = next(iter([each for each in holding or mine if (each.address, each.port) == at] or holding or mine), None)
    found = iscsi.disk(session, wanted["lun"]) if session else None
    status = "ok"
    if session is None or found is None:
        status = "logged_out"
    if session is not None and (session.state != "LOGGED_IN" or (found and found.state != "running")):
        status = "unreachable"
    return Look(session, len(holding) > 1, found, None, status)


class Observed:
    """The registered LUNs and what is there of them: sysfs at once, LVM by a look in children.

    ``refresh`` false: LVM is not asked. Those that do not answer are in ``hung`` and not asked again. Who wants the
    looks waits for them; until then other things can be done.
    """

    def __init__(self, seconds: float, wanted: t.Callable[[str], bool], hung: set[str], refresh: bool = True) -> None:
        with registry.reading() as connection:
            self.rows = {row["user"]: row for row in registry.rows(connection, "SELECT * FROM targets ORDER BY rowid")}
        self.identities = {row["identity"]: row for row in self.rows.values()}
        self.sessions = iscsi.sessions()
        self._looks = {user: present(row, self.sessions) for user, row in self.rows.items()}
        users = [user for user, look in self._looks.items() if look.status == "ok" and wanted(user)] if refresh else []
        self._hung = hung
        self._asked = [user for user in users if user not in hung]
        for user in set(users) & hung:
            self._found(user, None)
        nodes = [t.cast("iscsi.Disk", self._looks[user].disk).node for user in self._asked]
        self._sweep = deadline.Sweep(nodes, _report, seconds, large=True)

    @property
    def looks(self) -> dict[str, Look]:
        """What is there of each, by user."""
        asked, self._asked = self._asked, []
        for index, answer in self._sweep if asked else ():
            if answer is None:
                self._hung.add(asked[index])
            self._found(asked[index], answer)
        return self._looks

    def _found(self, user: str, answer: dict[str, t.Any] | None) -> None:
        look = self._looks[user]
        if answer is None or "error" in answer:
            self._looks[user] = dataclasses.replace(look, status="unreachable")
            return
        found = lvm.parsed(answer["report"], t.cast("iscsi.Disk", look.disk).node)
        status = judged(self.rows[user], look, found)
        self._looks[user] = dataclasses.replace(look, found=found, status=status)

    def others(self, row_or_asked: Asked, user: str) -> list[registry.Row]:
        """The registered LUNs of the same target, of other users."""
        return [row for other, row in self.rows.items() if other != user and row["asked"]["iqn"] == row_or_asked["iqn"]]


def _report(node: str) -> dict[str, t.Any]:
    try:
        return {"report": lvm.report(node)}
    except HostError as error:
        return {"error": error.packed()}


def judged(row: registry.Row, look: Look, found: lvm.Found) -> str:
    """The status of a LUN that was looked at: ok, standby, or foreign when it is not what was registered."""
    facts, group = row["facts"], found.group
    if (
        look.disk is None
        or group is None
        or (facts.get("vg_uuid") and (look.disk.wwid, found.pv, group.uuid) != tuple(facts[key] for key in FACTS))
    ):
        return "foreign"
    return "ok" if lvm.is_own(group.system_id, lvm.system_id()) else "standby"


FACTS = ("wwid", "pv_uuid", "vg_uuid")
"""By which a LUN is known again."""
PLACE = ("portal", "address", "port", "tag")
"""Where the login was proven; with FACTS the facts of a row, and ``former`` places that may have a node record."""


def swapped(row: registry.Row, look: Look) -> HostError:
    """The error of a LUN that is not the one that was registered."""
    facts, found = row["facts"], look.found
    group = found.group if found else None
    is_now = "WWID %s, PV %s, VG %s" % (
        look.disk.wwid if look.disk else "none",
        (found.pv if found else "") or "none",
        "%s (%s)" % (group.name, group.uuid) if group else "none",
    )
    was = "WWID %s, PV %s, VG %s (%s)" % (*[facts.get(key) for key in FACTS[:2]], row["asked"]["vg"], facts["vg_uuid"])
    return HostError(
        "conflict",
        "%s is not the disk that was registered: it has %s, expected %s" % (shown(row["asked"]), is_now, was),
        "another LUN was mapped there, or it was wiped: put the right one back, or remove this and add it again",
    )


def refuse_in_use(group: lvm.Group) -> None:
    """Raise ``in_use`` when volumes of a group are open."""
    if group.opened:
        text = "volumes of %s are in use: %s" % (group.name, ", ".join(group.opened))
        raise HostError("in_use", text, "stop what uses them, then run this again")


def left_active(look: Look) -> tuple[list[str], str]:
    """What this host still has active of a group that is another host's now, and why it must stay so ("": it need not).

    A pool or a snapshot writes to the LUN when it is taken down, which would destroy what its owner has there.
    """
    held = disk.holders(look.disk.name) if look.disk is not None and look.status == "standby" else []
    if not held:
        return [], ""
    devices = lvm.mapped(held)
    names = [each.name for each in devices]
    if not all(each.plain for each in devices):
        return names, "taking them down would write to the LUN: reset this host, do not shut it down"
    used = [each.name for each in devices if each.open]
    return names, "stop what uses %s, then run this again" % ", ".join(used) if used else ""


def capacity(wanted: Asked, group: lvm.Group) -> dict[str, t.Any]:
    """Bytes of a group, or of its thin pool with the percentages in use; nothing when that pool is not active here."""
    if wanted["layout"] != "thin":
        return {"total_bytes": group.bytes, "used_bytes": group.bytes - group.free, "free_bytes": group.free}
    pool = group.volume(wanted["thin_pool"])
    if pool is None or pool.data_percent is None or pool.metadata_percent is None:
        return {}
    used = int(pool.bytes * pool.data_percent / 100)
    return {
        "total_bytes": pool.bytes,
        "used_bytes": used,
        "free_bytes": pool.bytes - used,
        "data_percent": pool.data_percent,
        "metadata_percent": pool.metadata_percent,
    }


def remarks(wanted: Asked, look: Look) -> list[str]:
    """What should be seen to: a server that does not answer, another host's volumes in use, a thin pool that fills."""
    if look.status == "unreachable":
        text = "%s is unreachable: check the server and the network. What uses it waits up to %d s for it, then fails"
        return [text % (shown(wanted), WAIT_SECONDS)]
    group = look.found.group if look.found else None
    if group is None:
        return []
    left, why = left_active(look)
    if why:
        text = "%s belongs to %s, and this host still has volumes of it active, which may destroy it: %s; %s"
        return [text % (group.name, group.system_id or "nobody", ", ".join(left), why)]
    found = capacity(wanted, group)
    told = []
    for key, what in (("data_percent", "data"), ("metadata_percent", "metadata")):
        if found.get(key, 0.0) >= FULL_PERCENT:
            told.append(
                "thin pool %s/%s: %s is %.0f %% full; machines stop when it is full: extend it or remove volumes"
                % (group.name, wanted["thin_pool"], what, found[key])
            )
    return told


def described(row: registry.Row, look: Look) -> dict[str, t.Any]:
    """The part of a returned target that its row and a look give."""
    wanted, facts = row["asked"], row["facts"]
    found: dict[str, t.Any] = {key: wanted[key] for key in wanted if key != "portals"}
    found.update(portal=wanted["portals"][0], portals=wanted["portals"][1:], status=look.status)
    found.update({key: facts[key] for key in FACTS if facts.get(key)})
    if look.session is not None and look.disk is not None:
        found["session"] = {
            "sid": look.session.sid,
            "portal": str(Portal(look.session.address, look.session.port)),
            "state": look.session.state,
        }
    if look.disk is not None:
        found["device"] = look.disk.node
    group = look.found.group if look.found else None
    if group is not None and look.status in ("ok", "standby"):
        found["owner"] = group.system_id
        space = capacity(wanted, group)
        if space:
            found["capacity"] = space
    return found


def places(facts: dict[str, t.Any]) -> list[tuple[str, int, int]]:
    """Address, port and tag of each portal where a LUN has a node record, or had one before it moved."""
    found = [(facts["address"], facts["port"], facts["tag"])] if facts.get("address") else []
    return found + [tuple(each) for each in facts.get("former", ())]


def learned(facts: dict[str, t.Any], known: dict[str, t.Any]) -> dict[str, t.Any]:
    """The facts of a LUN with what steps have found out."""
    found = {**facts, **{key: known[key] for key in (*PLACE, *FACTS) if known.get(key) is not None}}
    former = [each for each in places(facts) if each[:2] != (found.get("address"), found.get("port"))]
    return {**found, "former": [list(each) for each in former]} if former else found


def recorded(row: registry.Row | None, wanted: Asked) -> tuple[str | None, iscsi.Settings]:
    """Path and settings of the node record that a registered LUN has; (None, {}) for none."""
    facts = row["facts"] if row else {}
    path = iscsi.record(wanted["iqn"], facts["address"], facts["port"]) if facts.get("address") else None
    return path, iscsi.settings(files.text_of(path) or "") if path else {}
