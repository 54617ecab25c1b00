# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One call of a resource module, from validated options to the outcome. Private to microvm.host."""

from __future__ import annotations

import contextlib
import dataclasses
import resource as system
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import journal
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Job, Plan, carry_out, locked
from ansible_collections.microvm.host.plugins.module_utils._core.resource import Resource
from ansible_collections.microvm.host.plugins.module_utils._core.result import Outcome
from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

DESCRIPTORS_EACH, SPARE_DESCRIPTORS = 4, 512
"""Open files of one item of a call at most, its locks; and those of the rest: children, registry."""


class Reporting(t.Protocol):
    """What the outcome needs of a resource."""

    name: str

    def report(self, wanted: t.Any, seen: t.Any) -> dict[str, t.Any]:
        """One returned item, without name, changed, actions and error."""

    def remarks(self, wanted: t.Any, seen: t.Any) -> list[str]:
        """What to warn of, of an item that did not fail."""


class Item:
    """One item on its way through a call."""

    def __init__(self, wanted: t.Any, check: bool = False) -> None:
        self.wanted = wanted
        self.check = check
        self.plan: Plan | None = None
        self.error: HostError | None = None
        self.settled: list[str] = []
        self.warnings: list[str] = []

    @property
    def name(self) -> str:
        return str(self.wanted.name)


def converge(
    resource: Resource,
    options: t.Sequence[dict[str, t.Any]],
    given: t.Sequence[dict[str, t.Any]],
    prefixes: t.Sequence[str],
    purge: bool,
    check: bool,
) -> Outcome:
    """Validate all items, then bring each to its state; one that fails does not stop the others.

    Raises HostError when an item is invalid: nothing was touched then.
    """
    begun = time.monotonic()
    wanted = [resource.validate(*each) for each in zip(options, given, prefixes)]
    refuse_duplicates(wanted, prefixes)
    resource.together(wanted)
    if purge:
        listed = {each.name for each in wanted}
        wanted += [resource.removal(name) for name in resource.registered() if name not in listed]
    items = [Item(each, check) for each in wanted]
    seen = resource.observe(wanted)
    for item in items:
        _plan(resource, item, seen)
    open_intents = {row["name"]: row for row in journal.left_open() if row["resource"] == resource.name}
    if not check:
        in_the_way = [item for item in items if item.error is not None and item.name in open_intents]
        if in_the_way:
            settled = _settle(resource, in_the_way)
            seen = resource.observe(wanted)
            for item in settled:
                _plan(resource, item, seen)
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
    return outcome_of(resource, items, seen)


def refuse_duplicates(wanted: t.Sequence[t.Any], prefixes: t.Sequence[str]) -> None:
    """Refuse a call that names a resource twice."""
    names: dict[str, str] = {}
    for each, prefix in zip(wanted, prefixes):
        if each.name in names:
            message = "%sname: %s is listed twice, first as %sname" % (prefix, each.name, names[each.name])
            raise HostError("invalid", message, "name each resource once", field=prefix + "name")
        names[each.name] = prefix


def _settle(resource: Resource, items: t.Sequence[Item]) -> list[Item]:
    """What a killed run left may itself be why an item can't be planned: undo or finish it first. Those it did."""
    settled = []
    for item in items:
        try:
            with locked(["%s/%s" % (resource.name, item.name)], item.wanted.timeout):
                item.settled = journal.settle(resource.name, item.name, resource.kinds())
            settled.append(item)
        except HostError as error:
            item.error = error
    return settled


def _foresee(resource: Resource, items: t.Sequence[Item], open_intents: t.Mapping[str, t.Any]) -> None:
    """Check mode: what a run would do about open intents; one of a run that goes on is not for it to settle."""
    from ansible_collections.microvm.host.plugins.module_utils._host import locks

    running = {lock["name"]: lock["pid"] for lock in locks.held() if lock["resource"] == resource.name}
    for item in items:
        if item.name in running:
            item.warnings.append("process %d is changing it now" % running[item.name])
        elif item.name in open_intents:
            item.settled = ["settle what process %d left" % open_intents[item.name]["pid"]]
            if item.error is not None:
                item.warnings.append("planned after that is settled; as it is now: %s" % item.error)
                item.error = None


def _plan(resource: Resource, item: Item, seen: t.Any) -> None:
    item.error = None
    try:
        item.plan = resource.plan(item.wanted, seen)
    except HostError as error:
        item.error = error
        return
    if item.plan.assumes and item.check:
        told = [error.message for error in item.plan.assumes]
        item.plan.notes["assumes"] = told
        item.plan.warnings.append("planned as if an earlier task had seen to this: %s" % "; ".join(told))
    elif item.plan.assumes:
        item.error = item.plan.assumes[0]


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
        _plan(resource, item, seen)
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
                item.settled += journal.settle(resource.name, item.name, resource.kinds())
                ready.append(item)
            except HostError as error:
                item.error = error
        again = resource.observe([item.wanted for item in ready])
        for item in ready:
            item.wanted = dataclasses.replace(item.wanted, timeout=_left(item, begun))
            _plan(resource, item, again)
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


def outcome_of(resource: Reporting, items: t.Sequence[Item], seen: t.Any) -> Outcome:
    """What the call returns of its items, each with its plan or its error."""
    outcome = Outcome()
    for item in items:
        plan = item.plan
        steps = bool(plan and plan.steps) and item.error is None
        answer: dict[str, t.Any] = {
            "name": item.name,
            "changed": steps or bool(item.settled),
            "actions": item.settled + (plan.actions() if plan and steps else []),
        }
        answer.update(resource.report(item.wanted, seen))
        if plan is not None:
            answer.update(plan.notes)
            outcome.warnings += ["%s: %s" % (item.name, text) for text in plan.warnings]
            difference = plan.diff() if steps else None
            if difference:
                header = "%s %s" % (resource.name, item.name)
                outcome.diff.append(dict(difference, before_header=header, after_header=header))
        outcome.warnings += ["%s: %s" % (item.name, text) for text in item.warnings]
        if item.error is None:
            outcome.warnings += ["%s: %s" % (item.name, text) for text in resource.remarks(item.wanted, seen)]
        else:
            answer["error"] = dict(item.error.as_dict(item.name), message=item.error.message)
            outcome.errors.append((item.name, item.error))
        outcome.items.append(answer)
    return outcome
