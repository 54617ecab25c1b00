# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One call of a resource module, from validated options to the outcome. Private to microvm.host."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import journal
from ansible_collections.microvm.host.plugins.module_utils._core.result import Outcome, sentence
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Resource


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

    @property
    def idle(self) -> bool:
        """Nothing is to be done to it."""
        return self.error is None and self.plan is not None and not self.plan.steps and self.plan.proof is None

    def make_plan(self, resource: Resource, seen: t.Any) -> None:
        """From what was ``seen``: the plan, or the error that there is none."""
        self.error = None
        try:
            self.plan = resource.plan(self.wanted, seen)
        except HostError as error:
            self.error = error
            return
        if self.plan.assumes and self.check:
            told = [error.message for error in self.plan.assumes]
            self.plan.notes["assumes"] = told
            self.plan.warnings.append("planned as if an earlier task had seen to this: %s" % "; ".join(told))
        elif self.plan.assumes:
            self.error = self.plan.assumes[0]


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
    wanted = [_validated(resource, *each) for each in zip(options, given, prefixes)]
    refuse_duplicates(wanted, prefixes)
    resource.together(wanted)
    if purge:
        listed = {each.name for each in wanted}
        wanted += [resource.removal(name) for name in resource.registered() if name not in listed]
    items = [Item(each, check) for each in wanted]
    seen = resource.observe(wanted)
    for item in items:
        item.make_plan(resource, seen)
    open_intents = {row["name"]: row for row in journal.left_open() if row["resource"] == resource.name}
    if check or open_intents or not all(item.idle for item in items):
        from ansible_collections.microvm.host.plugins.module_utils._core import acting

        seen = acting.act(resource, items, open_intents, seen, check, begun)
    return outcome_of(resource, items, seen)


def _validated(resource: Resource, options: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> t.Any:
    """The item, or the error with the name of an item of a list: who reads it would have to count."""
    try:
        return resource.validate(options, given, prefix)
    except HostError as error:
        if prefix:
            from ansible_collections.microvm.host.plugins.module_utils._core.items import named

            error.message = named(sentence(error, with_hint=False), options)
        raise


def refuse_duplicates(wanted: t.Sequence[t.Any], prefixes: t.Sequence[str]) -> None:
    """Refuse a call that names a resource twice."""
    names: dict[str, str] = {}
    for each, prefix in zip(wanted, prefixes):
        if each.name in names:
            message = "%sname: %s is listed twice, first as %sname" % (prefix, each.name, names[each.name])
            raise HostError("invalid", message, "name each resource once", field=prefix + "name")
        names[each.name] = prefix


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
            if item.error is None:  # else nothing of what they foresee comes
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
