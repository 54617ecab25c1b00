# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ONE LUN with a volume group as a resource: the steps from what is to what should be. Private to microvm.host.

Its user is a target resource (``target:NAME``) or a backend (``backend:NAME``); a LUN has one.
"""

from __future__ import annotations

import dataclasses
import sqlite3
import time
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, Plan, Record, Step
from ansible_collections.microvm.host.plugins.module_utils._host import disk, iscsi, lvm, names, net, secret
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import iscsi_lvm

DANGER = "if that host still runs and uses it, both will write to it and destroy it"


@dataclasses.dataclass(frozen=True)
class Use:
    """What one user wants of a LUN. ``logged_in`` False: known to this host, and not in use."""

    name: str
    user: str
    asked: iscsi_lvm.Asked
    secrets: iscsi_lvm.Secrets
    initialize: bool
    takeover: str
    logged_in: bool
    seconds: int
    prefix: str = ""


def facets(wanted: iscsi_lvm.Asked, logged_in: bool) -> dict[str, t.Any]:
    """What a diff shows of it."""
    found = {key: value for key, value in wanted.items() if key != "portals"}
    found.update(portal=wanted["portals"][0], portals=wanted["portals"][1:], logged_in=logged_in)
    return found


def present(use: Use, seen: iscsi_lvm.Observed) -> Plan:
    """The plan that brings a LUN to where ``use`` wants it. Raises HostError."""
    row = seen.rows.get(use.user)
    if row is None:
        _refuse_taken(use, seen)
        return _new(use, seen)
    _refuse_change(row["asked"], use)
    return _existing(use, seen, row)


def _refuse_taken(use: Use, seen: iscsi_lvm.Observed) -> None:
    taken = seen.identities.get(iscsi_lvm.identity(use.asked))
    if taken is not None:
        text = "%s is already %s" % (iscsi_lvm.shown(use.asked), taken["user"].replace(":", " ", 1))
        raise HostError("conflict", text, "use that, or remove it first", field=use.prefix + "lun")
    for other in seen.rows.values():
        if other["asked"]["vg"] == use.asked["vg"]:
            owner = other["user"].partition(":")[2]
            text = "%s has a volume group %s on this host already, on another LUN" % (owner, use.asked["vg"])
            hint = "their volumes would have one name: choose another vg, or rename one where it is in use (vgrename)"
            raise HostError("conflict", text, hint, field=use.prefix + "vg")
    for other in seen.others(use.asked, use.user):
        for key in ("initiator_name", "username", "mutual_username"):
            if other["asked"][key] != use.asked[key]:
                text = "%s is another LUN of this target, with another %s" % (other["user"].partition(":")[2], key)
                raise HostError("conflict", text, "they share one session: use the same", field=use.prefix + key)


def _refuse_change(before: iscsi_lvm.Asked, use: Use) -> None:
    for key in iscsi_lvm.IDENTITY:
        if before[key] != use.asked[key]:
            text = "the %s of %s can't change from %s to %s" % (key, use.name, before[key] or "none", use.asked[key])
            raise HostError("conflict", text, "remove it and add it again; its data stays", field=use.prefix + key)


def _new(use: Use, seen: iscsi_lvm.Observed) -> Plan:
    plan = _plan(use, {}, facets(use.asked, use.logged_in))
    proof = iscsi_lvm.chap(use.asked, use.secrets, _shared_record(use, seen))
    plan.steps = [*_approach(use, proof), *(_enter(use, {}, seen) if use.logged_in else [])]
    _warn_of_takeover(use, plan)
    plan.contact = _contact(use.asked, use.seconds)
    plan.commit = _storing(use, {})
    return plan


def _existing(use: Use, seen: iscsi_lvm.Observed, row: registry.Row) -> Plan:
    look, facts = seen.looks[use.user], row["facts"]
    plan = _plan(use, facets(row["asked"], bool(row["logged_in"])), facets(use.asked, use.logged_in))
    plan.commit = _storing(use, facts)
    if look.several:
        text = "%s is on this host by several sessions" % iscsi_lvm.shown(use.asked)
        raise HostError("unsupported", text, "log out of all but one: multipath is not set up by this version")
    if look.status == "foreign":
        raise iscsi_lvm.swapped(row, look)
    path, recorded = iscsi_lvm.recorded(row, use.asked)
    proof = iscsi_lvm.chap(use.asked, use.secrets, recorded)
    moved = facts.get("portal") not in use.asked["portals"]
    stale = path is None or moved or iscsi_lvm.differs(recorded, iscsi_lvm.settings(use.asked, proof))
    if not use.logged_in:
        _leave(use, look, facts, plan)
        if stale:
            plan.steps[:0] = _approach(use, proof)
    else:
        if stale:
            plan.steps += _approach(use, proof)
        _return(use, seen, look, facts, plan)
    if stale:
        if row["asked"] == use.asked:
            plan.before["record"], plan.after["record"] = "missing" if path is None else "differs", "as asked"
        plan.contact = _contact(use.asked, use.seconds)
    if use.logged_in and look.session is not None and look.disk is not None and not any(map(_logs_in, plan.steps)):
        _renew(use, seen, look, facts, proof, plan)
    if not plan.steps and plan.diff():
        plan.steps.append(Record("update %s" % iscsi_lvm.shown(use.asked)))
    return plan


def _return(use: Use, seen: iscsi_lvm.Observed, look: iscsi_lvm.Look, facts: dict[str, t.Any], plan: Plan) -> None:
    """The steps back into use of a registered LUN."""
    group = look.found.group if look.found else None
    if look.status == "logged_out":
        plan.before["logged_in"] = False
        if not any(_proves(step) for step in plan.steps):
            _path, recorded = iscsi_lvm.recorded(seen.rows[use.user], use.asked)
            proof = iscsi_lvm.chap(use.asked, use.secrets, recorded)
            plan.steps += _approach(use, proof)  # the portal that answers may be another than last time
        plan.contact = _contact(use.asked, use.seconds)
        plan.steps += _enter(use, facts, seen)
        _warn_of_takeover(use, plan)
    elif group is not None and look.status == "ok" and group.closed:
        plan.before["active"], plan.after["active"] = False, True
        plan.steps += _enter(dataclasses.replace(use, takeover=""), facts, seen)[-1:]
    elif group is not None and look.status == "standby" and use.takeover == (group.system_id or iscsi_lvm.UNOWNED):
        plan.before["owner"], plan.after["owner"] = group.system_id, lvm.system_id()
        _let_go(use, look, plan)  # LVM gives no group another owner whose volumes are active
        plan.steps += _enter(use, facts, seen)[-1:]
        plan.warnings.append("%s is taken from %s: %s" % (group.name, use.takeover, DANGER))
    elif group is not None and look.status == "standby":
        if use.takeover:
            text = "nothing is taken over: %s belongs to %s, not to %s"
            plan.warnings.append(text % (group.name, group.system_id or "nobody", use.takeover))
        _let_go(use, look, plan)


def _warn_of_takeover(use: Use, plan: Plan) -> None:
    """Whose the group is turns out after the login."""
    if use.takeover and use.logged_in:
        text = "%s is taken from %s if it is the owner: %s"
        plan.warnings.append(text % (use.asked["vg"], use.takeover, DANGER))


def _let_go(use: Use, look: iscsi_lvm.Look, plan: Plan) -> None:
    """Deactivate what this host still has active of a group that another one has taken over."""
    left, why = iscsi_lvm.left_active(look)
    if why and look.found and look.found.group and use.takeover == (look.found.group.system_id or iscsi_lvm.UNOWNED):
        raise _still_active(use, left, why)
    if left and not why:
        from ansible_collections.microvm.host.plugins.module_utils._storage import group_steps

        plan.before["active"], plan.after["active"] = left, []
        plan.steps.append(group_steps.LetGo(use.asked["vg"], left, use.seconds))


def _still_active(use: Use, left: list[str], why: str) -> HostError:
    text = "%s belongs to another host, and this one still has of it: %s" % (use.asked["vg"], ", ".join(left))
    return HostError("in_use", text, why, field=use.prefix + "vg")


def _renew(
    use: Use, seen: iscsi_lvm.Observed, look: iscsi_lvm.Look, facts: dict[str, t.Any], proof: t.Any, plan: Plan
) -> None:
    """A session keeps the credentials that it began with: begin another one, as soon as nobody uses the group.

    open-iscsi takes them from the running session even when its daemon is started again (measured with 2.1.11).
    """
    session = t.cast("iscsi.Session", look.session)
    began = iscsi.credentials(session)
    if began == iscsi_lvm.credentials(proof):
        return
    group = look.found.group if look.found else None
    using = group.opened if group else ["an unknown user"]
    using += ["LUN %d" % other.lun for other in iscsi.disks(session) if other.lun != use.asked["lun"]]
    if using:
        plan.notes["pending_login"] = using
        plan.warnings.append(
            "the session began with other credentials and is in use by %s: until a run finds it idle, it cannot come"
            " back after a break of the network if the server refuses the old ones" % ", ".join(using)
        )
        return
    plan.before["login"], plan.after["login"] = "other credentials", "as asked"
    plan.steps = [step for step in plan.steps if not _opens(step)]  # after the login
    _leave(use, look, facts, plan)
    plan.before.pop("logged_in", None)
    plan.after.pop("logged_in", None)
    plan.steps += _enter(use, facts, seen, session.sid)


def _leave(use: Use, look: iscsi_lvm.Look, facts: dict[str, t.Any], plan: Plan) -> None:
    """The steps out of use; nothing to do where there is no disk. Raises ``in_use`` and ``unreachable``."""
    if look.disk is None:
        return
    if look.found is not None and look.found.group is not None:
        iscsi_lvm.refuse_in_use(look.found.group)
    if look.status == "unreachable" and disk.holders(look.disk.name):
        text = "%s does not answer: its volumes can neither be flushed nor deactivated" % iscsi_lvm.shown(use.asked)
        hint = "bring the server back; or, if it is gone for good, run this again after a restart of this host"
        raise HostError("unreachable", text, hint, field=use.prefix + "portal")
    from ansible_collections.microvm.host.plugins.module_utils._storage import group_steps, login_steps

    plan.before["logged_in"] = True
    left, why = iscsi_lvm.left_active(look)
    if why:
        raise _still_active(use, left, why)
    if left:
        plan.steps.append(group_steps.LetGo(use.asked["vg"], left, use.seconds))
    elif disk.holders(look.disk.name):
        plan.steps.append(group_steps.CloseGroup(use.asked, facts, use.seconds))
    plan.steps.append(login_steps.Logout(use.asked, facts, use.seconds))


def proven(use: Use, seen: iscsi_lvm.Observed) -> Plan:
    """The plan of an item whose secret is only tried: one login that leaves nothing, and no change."""
    row = seen.rows.get(use.user)
    proof = iscsi_lvm.chap(use.asked, use.secrets, iscsi_lvm.recorded(row, use.asked)[1])
    if proof is None:
        text = "there is no password to check: nobody logs in by one"
        raise HostError("invalid", text, "give username and password", field=use.prefix + "secret_check")

    def prove() -> dict[str, t.Any]:
        found = iscsi_lvm.prove(use.asked, proof, time.monotonic() + use.seconds * 0.9)
        if not found["chap"]:
            text = "%s admits this host without CHAP: the password proves nothing" % use.asked["iqn"]
            raise HostError("refused", text, "switch CHAP on there, or leave username out", field="username")
        return {}

    return Plan(use.name, {}, {}, proof=prove, seconds=use.seconds)


def absent(name: str, user: str, seen: iscsi_lvm.Observed, seconds: int) -> Plan:
    """The plan that takes a LUN from this host: deactivate, flush, log out, forget. The group and its data stay."""
    row = seen.rows.get(user)
    if row is None:
        return Plan(name, {}, {})
    use = Use(name, user, row["asked"], iscsi_lvm.Secrets(), False, "", False, seconds)
    plan = _plan(use, facets(row["asked"], bool(row["logged_in"])), {})
    _leave(use, seen.looks[user], row["facts"], plan)
    facts = row["facts"]
    if facts.get("address"):
        from ansible_collections.microvm.host.plugins.module_utils._storage import login_steps

        plan.steps.append(login_steps.RemoveRecord(use.asked, facts, bool(seen.others(use.asked, user))))
    plan.steps += _unmask(use.asked["vg"])
    plan.steps.append(Record("forget %s, its volume group stays" % iscsi_lvm.shown(use.asked)))
    plan.commit = lambda connection, known: _forget(connection, user)
    return plan


def _forget(connection: sqlite3.Connection, user: str) -> None:
    connection.execute("DELETE FROM targets WHERE user = ?", (user,))


def tried(use: Use, seen: iscsi_lvm.Observed) -> list[Step]:
    """Log in, open the group, and leave it again: what a backend is known by is found out."""
    from ansible_collections.microvm.host.plugins.module_utils._storage import group_steps, login_steps

    return [
        *_enter(use, {}, seen),
        group_steps.CloseGroup(use.asked, {}, use.seconds),
        login_steps.Logout(use.asked, {}, use.seconds),
    ]


def _plan(use: Use, before: dict[str, t.Any], after: dict[str, t.Any]) -> Plan:
    lock = "lun/" + names.hash8(iscsi_lvm.identity(use.asked))
    return Plan(use.name, before, after, locks=(lock,), seconds=use.seconds)


def _storing(use: Use, facts: dict[str, t.Any]) -> t.Callable[[sqlite3.Connection, Known], None]:
    def store(connection: sqlite3.Connection, known: Known) -> None:
        values = {
            "user": use.user,
            "identity": iscsi_lvm.identity(use.asked),
            "asked": use.asked,
            "facts": iscsi_lvm.learned(facts, known),
            "logged_in": int(use.logged_in),
        }
        registry.put(connection, "targets", values)

    return store


def _shared_record(use: Use, seen: iscsi_lvm.Observed) -> iscsi.Settings:
    """The node record of another LUN of the same target: its secrets hold here too."""
    for other in seen.others(use.asked, use.user):
        return iscsi_lvm.recorded(other, use.asked)[1]
    return {}


def _approach(use: Use, proof: t.Any) -> list[Step]:
    """A proven login, and the record that repeats it."""
    from ansible_collections.microvm.host.plugins.module_utils._storage import login_steps

    return [
        login_steps.ProveLogin(use.asked, secret.keep(proof), use.seconds),
        login_steps.WriteRecord(use.asked, secret.keep(proof), uuid.uuid4().hex[:8], use.seconds),
    ]


def _enter(use: Use, facts: dict[str, t.Any], seen: iscsi_lvm.Observed, ends: int = 0) -> list[Step]:
    """Log in and open the group; ``ends`` is the session that steps before have ended."""
    from ansible_collections.microvm.host.plugins.module_utils._storage import group_steps, login_steps

    had = any(each.target == use.asked["iqn"] and each.sid != ends for each in seen.sessions)
    initialize = use.initialize and not facts.get("vg_uuid")
    quiet = [] if group_steps.is_masked(use.asked["vg"]) else [group_steps.MaskActivation(use.asked["vg"])]
    return [
        *quiet,
        login_steps.Login(use.asked, facts, had, use.seconds, ends),
        group_steps.OpenGroup(use.asked, facts, initialize, use.takeover, lvm.new_uuid(), use.seconds),
    ]


def _unmask(vg: str) -> list[Step]:
    from ansible_collections.microvm.host.plugins.module_utils._storage import group_steps

    return [group_steps.UnmaskActivation(vg)] if group_steps.is_masked(vg) else []


def _proves(step: Step) -> bool:
    return type(step).__name__ == "ProveLogin"


def _logs_in(step: Step) -> bool:
    return type(step).__name__ == "Login"


def _opens(step: Step) -> bool:
    return type(step).__name__ == "OpenGroup"


def _contact(wanted: iscsi_lvm.Asked, seconds: float) -> t.Callable[[], dict[str, t.Any]]:
    """What check mode does of it: open a connection to a portal."""

    def contact() -> dict[str, t.Any]:
        until = time.monotonic() + seconds * 0.9
        failures = []
        tried = iscsi_lvm.portals(wanted)
        for number, portal in enumerate(tried):
            share = time.monotonic() + (until - time.monotonic()) / (len(tried) - number)
            try:
                net.reach(net.resolve(portal.server, "portal"), portal.port, share)
                return {}
            except HostError as error:
                failures.append(error)
        raise failures[0].in_field("portal")

    return contact
