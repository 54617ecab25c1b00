# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of a call that acts; in check mode, what it tells of what a run would do. Private to microvm.host.

Loaded when there is something to do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import resource as system
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import journal
from ansible_collections.microvm.host.plugins.module_utils._core.jobs import Job, carry_out, locked
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, locks
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Resource
    from ansible_collections.microvm.host.plugins.module_utils._core.run import Item

DESCRIPTORS_EACH, SPARE_DESCRIPTORS = 4, 512
"""Open files of one item of a call at most, its locks; and those of the rest: children, registry."""


def act(
    resource: Resource,
    items: t.Sequence[Item],
    open_intents: t.Mapping[str, t.Any],
    seen: t.Any,
    check: bool,
    begun: float,
) -> t.Any:
    """Bring the items, which are planned, to their states; returns what is seen then.

    ``open_intents``: those of this resource, by name. ``begun``: when the call began, by time.monotonic().
    """
    wanted = [item.wanted for item in items]
    if not check:
        in_the_way = [item for item in items if item.error is not None and item.name in open_intents]
        if in_the_way:
            settled = _settle(resource, in_the_way)
            seen = resource.observe(wanted)
            for item in settled:
                item.make_plan(resource, seen)
    todo = [
        item for item in items if item.error is None and item.plan and (item.plan.steps or item.name in open_intents)
    ]
    _prove([item for item in items if item.error is None])
    if check:
        _foresee(resource, items, open_intents)
        _contact(todo)
    elif todo:
        _apply(resource, todo, begun)
        seen = resource.observe([item.wanted for item in items])
    failed = {item.name for item in items if item.error is not None}
    if failed and resource.without(failed, seen):
        _make_do(resource, items, seen, check)
        if not check:
            seen = resource.observe([item.wanted for item in items])
    return seen


def _settle(resource: Resource, items: t.Sequence[Item]) -> list[Item]:
    """What a killed run left may itself be why an item can't be planned: undo or finish it first. Those it did."""
    settled = []
    for item in items:
        try:
            with locked(["%s/%s" % (resource.name, item.name)], item.wanted.timeout):
                item.settled = _settled(resource, item)
            settled.append(item)
        except HostError as error:
            item.error = error
    return settled


def _settled(resource: Resource, item: Item) -> list[str]:
    """What was done about open intents. Of what shall be forgotten none may be in the way."""
    forget = bool(getattr(item.wanted, "forget", False))  # an option of few resources
    return journal.settle(resource.name, item.name, resource.kinds, forget)


def _foresee(resource: Resource, items: t.Sequence[Item], open_intents: t.Mapping[str, t.Any]) -> None:
    """Check mode: what a run would do about open intents; one of a run that goes on is not for it to settle."""
    running = {lock["name"]: lock["pid"] for lock in locks.held() if lock["resource"] == resource.name}
    for item in items:
        if item.name in running:
            item.warnings.append("process %d is changing it now" % running[item.name])
        elif item.name in open_intents:
            item.settled = ["settle what process %d left" % open_intents[item.name]["pid"]]
            if item.error is not None:
                item.warnings.append("planned after that is settled; as it is now: %s" % item.error)
                item.error = None


def _prove(items: t.Sequence[Item]) -> None:
    """Both modes: try the secrets that were asked about."""
    proofs = {item: item.plan.proof for item in items if item.plan is not None and item.plan.proof is not None}
    _call(proofs, "logging in")
    for item in proofs:
        if item.plan is not None and item.error is None:
            item.plan.notes["secret_checked"] = True


def _contact(items: t.Sequence[Item]) -> None:
    """Check mode: open the connections the run would open, all at once, and close them."""
    contacts = {item: item.plan.contact for item in items if item.plan is not None and item.plan.contact is not None}
    for item in contacts:
        if item.plan is not None:
            text = "check mode only opened a connection; export, rights and version are not probed"
            item.plan.notes["not_probed"] = text
    _call(contacts, "connecting")


def _call(calls: t.Mapping[Item, t.Callable[[], t.Any]], doing: str) -> None:
    """Do one thing for each item, all at once, each in a child; what fails is the item's error."""
    running = {deadline.Child(_sending(work), item.wanted.timeout, doing): item for item, work in calls.items()}
    while running:
        child = deadline.wait_any(list(running))
        item = running.pop(child)
        try:
            child.result()
        except HostError as error:
            item.error = error


def _make_do(resource: Resource, items: t.Sequence[Item], seen: t.Any, check: bool) -> None:
    """Some items failed, and that changes what others shall be: plan these again, and in a run do what is left."""
    rest = {item: item.plan for item in items if item.error is None and item.plan is not None}
    for item in rest:
        item.make_plan(resource, seen)
    if not check:
        todo = [item for item in rest if item.error is None and item.plan and item.plan.steps]
        _apply(resource, todo, time.monotonic())
    for item, first in rest.items():
        if item.plan is not None:
            item.plan = first.corrected(item.plan) if check else first.then(item.plan)


def _sending(contact: t.Callable[[], t.Any]) -> t.Callable[[t.Any], t.Any]:
    return lambda send: contact()


def _apply(resource: Resource, items: t.Sequence[Item], begun: float) -> None:
    """Lock, settle, look and plan again, carry out: in what is left to each of its timeout since ``begun``."""
    _allow_descriptors(DESCRIPTORS_EACH * len(items))
    with contextlib.ExitStack() as held:
        ready = []
        for item in items:
            names = ("%s/%s" % (resource.name, item.name), *(item.plan.locks if item.plan else ()))
            try:
                held.enter_context(locked(names, _left(item, begun)))
                item.settled += _settled(resource, item)
                ready.append(item)
            except HostError as error:
                item.error = error
        again = resource.observe([item.wanted for item in ready])
        for item in ready:
            item.wanted = dataclasses.replace(item.wanted, timeout=_left(item, begun))
            item.make_plan(resource, again)
        jobs = {
            item: Job(resource.name, item.plan)
            for item in ready
            if item.error is None and item.plan and item.plan.steps
        }
        carry_out(list(jobs.values()))
        for item, job in jobs.items():
            item.error = job.error


def _left(item: Item, begun: float) -> int:
    """Seconds of an item's timeout that are left; half of it at least, for the others of the call take time too."""
    whole = int(item.wanted.timeout)
    return max((whole + 1) // 2, whole - int(time.monotonic() - begun))


def _allow_descriptors(count: int) -> None:
    """A login session may have 1024 open files by default, and each item holds its locks while the call lasts."""
    soft, hard = system.getrlimit(system.RLIMIT_NOFILE)
    wanted = count + SPARE_DESCRIPTORS
    if soft != system.RLIM_INFINITY and soft < wanted:
        system.setrlimit(system.RLIMIT_NOFILE, (wanted if hard == system.RLIM_INFINITY else min(wanted, hard), hard))
