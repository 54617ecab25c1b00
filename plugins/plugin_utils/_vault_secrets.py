# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in vars files as a resource: validated, planned, written. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import keyword
import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import run
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan, Step
from ansible_collections.microvm.host.plugins.module_utils._core.result import Outcome
from ansible_collections.microvm.host.plugins.module_utils._host import locks, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.plugin_utils._secret import KINDS, LETTERS, Rule
from ansible_collections.microvm.host.plugins.plugin_utils._vault_file import Keys, VaultFile

LONGEST_NAME = 128
NEXT, PREVIOUS = "_next", "_previous"
SECRET, OTHER = "a secret", "another secret"
"""All that a diff says of a value."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One validated item. ``path`` is the file, ``value`` the secret that was given, if one was."""

    name: str
    state: str
    file: str
    path: str
    value: str | None = dataclasses.field(repr=False)
    rule: Rule
    vault_id: str | None
    whole: bool
    timeout: int

    @property
    def next(self) -> str:
        """The variable of the secret that waits to be proven."""
        return self.name + NEXT

    def touched(self) -> set[str]:
        """The variables that this item may change."""
        if self.state == "staged":
            return {self.next}
        return {self.name, *{"promoted": [self.next], "rotated": [self.name + PREVIOUS]}.get(self.state, [])}


@dataclasses.dataclass(frozen=True)
class Edit(Step):
    """One change of a file in memory."""

    variable: str

    def edit(self, file: VaultFile, wanted: Wanted) -> None:
        """Do it. Raises HostError."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Put(Edit):
    """Give a variable the secret that the user gave, or a new one."""

    given: bool
    after: str | None = None

    def describe(self) -> str:
        return "%s %s" % ("put in" if self.given else "generate", self.variable)

    def edit(self, file: VaultFile, wanted: Wanted) -> None:
        file.put(self.variable, (wanted.value if self.given else None) or wanted.rule.generate(), self.after)


@dataclasses.dataclass(frozen=True)
class Copy(Edit):
    """Give a variable the secret of another one; of its own: encrypt it."""

    source: str

    def describe(self) -> str:
        return "encrypt %s" % self.source if self._itself() else "copy %s to %s" % (self.source, self.variable)

    def edit(self, file: VaultFile, wanted: Wanted) -> None:
        file.put(self.variable, file.secret(self.source) or "", None if self._itself() else self.source)

    def _itself(self) -> bool:
        return self.source == self.variable


@dataclasses.dataclass(frozen=True)
class Remove(Edit):
    """Take a variable out."""

    def describe(self) -> str:
        return "remove %s" % self.variable

    def edit(self, file: VaultFile, wanted: Wanted) -> None:
        file.remove(self.variable)


class VaultSecrets:
    """``keys`` are Ansible's vault passwords, ``resolve`` makes a path absolute.

    ``keeps`` raises HostError where what is written would be lost; ``locks_in`` is the directory for lock files.
    """

    name = "secret"

    def __init__(self, keys: Keys, resolve: t.Callable[[str], str], keeps: t.Callable[[], None], locks_in: str) -> None:
        self.keys = keys
        self.resolve = resolve
        self.keeps = keeps
        self.locks_in = locks_in

    def validate(self, item: dict[str, t.Any], given: dict[str, t.Any], prefix: str) -> Wanted:
        """An item of the option spec as a Wanted. Raises HostError ``invalid``; no message shows a value."""
        name, kind = _variable(item["name"], prefix + "name"), item["kind"]
        if not item["file"]:
            names.refuse(prefix + "file", "%sfile is required" % prefix)
        rule = Rule(kind, KINDS[kind].length if item["length"] is None else item["length"], item["alphabet"] or LETTERS)
        fault = rule.faults()
        if fault is not None:
            names.refuse(prefix + fault[0], fault[1])
        if isinstance(given.get("value"), (dict, list)):
            names.refuse(prefix + "value", "it is not a text")
        value = item["value"] or None
        if value is not None and item["state"] not in ("present", "staged"):
            names.refuse(prefix + "value", "state=%s takes no value" % item["state"])
        refusal = rule.refusal(value) if value is not None else None
        if refusal is not None:
            names.refuse(prefix + "value", refusal)
        return Wanted(
            name=name,
            state=item["state"],
            file=item["file"],
            path=os.path.realpath(self.resolve(item["file"])),
            value=value,
            rule=rule,
            vault_id=item["vault_id"] or None,
            whole=item["encrypt"] == "file",
            timeout=names.seconds(item["timeout"], prefix + "timeout"),
        )

    def together(self, wanted: t.Sequence[Wanted]) -> None:
        """Refuse items that would change one variable of a file twice."""
        taken: dict[tuple[str, str], str] = {}
        for each in wanted:
            for variable in each.touched():
                other = taken.setdefault((each.path, variable), each.name)
                if other != each.name:
                    message = "%s and %s both change %s" % (other, each.name, variable)
                    raise HostError("invalid", message, "use two tasks", field="name")

    def converge(self, wanted: t.Sequence[Wanted], check: bool) -> Outcome:
        """Bring each item to its state. A file is read and written once; one that fails does not stop the others."""
        items = [run.Item(each) for each in wanted]
        seen: dict[str, VaultFile] = {}
        for path in dict.fromkeys(each.path for each in wanted):
            group = [item for item in items if item.wanted.path == path]
            try:
                seconds = min(item.wanted.timeout for item in group)
                if check:
                    self._edit(path, group, seen, check)
                else:
                    with locks.holding("vault", names.slug(path), seconds, self.locks_in):
                        self._edit(path, group, seen, check)
            except HostError as error:
                for item in group:
                    item.error = item.error or error
        return run.outcome_of(self, items, seen)

    def plan(self, wanted: Wanted, file: VaultFile) -> Plan:
        """What is to be done to one item."""
        steps = list(getattr(self, "_" + wanted.state)(wanted, file))
        plan = Plan(wanted.name, {}, {}, steps)
        for step in steps:
            before = SECRET if file.secret(step.variable) is not None else None
            if isinstance(step, Copy) and step.source == step.variable:
                plan.before[step.variable], plan.after[step.variable] = "not encrypted", "encrypted"
                continue
            if before is not None:
                plan.before[step.variable] = before
            if not isinstance(step, Remove):
                plan.after[step.variable] = OTHER if before else SECRET
        return plan

    def report(self, wanted: Wanted, seen: dict[str, VaultFile]) -> dict[str, t.Any]:
        """One returned item, without name, changed, actions and error."""
        told: dict[str, t.Any] = {"state": wanted.state, "file": wanted.path}
        file = seen.get(wanted.path)
        if file is not None:
            told["encrypt"] = "file" if file.whole else "values"
            told["next"] = file.has(wanted.next)
            if file.vault_id:
                told["vault_id"] = file.vault_id
        return told

    def remarks(self, wanted: Wanted, seen: dict[str, VaultFile]) -> list[str]:
        """Nothing to warn of."""
        return []

    def _edit(self, path: str, items: t.Sequence[run.Item], seen: dict[str, VaultFile], check: bool) -> None:
        first = items[0].wanted
        if not os.path.isdir(os.path.dirname(path)):
            self.keeps()  # where that is the reason, nobody need make a directory
        file = seen[path] = VaultFile(path, self.keys, first.vault_id, first.whole)
        if not check:
            file.forget()
        for item in items:
            before = file.text
            try:
                item.plan = self.plan(item.wanted, file)
                for step in item.plan.steps:
                    self.keeps()
                    t.cast(Edit, step).edit(file, item.wanted)
            except HostError as error:
                item.error = error
                file.text = before
        changed = [item for item in items if item.plan and item.plan.steps and item.error is None]
        if changed and not check:
            try:
                file.save()
            except HostError as error:
                for item in changed:
                    item.error = error

    def _present(self, wanted: Wanted, file: VaultFile) -> t.Iterator[Edit]:
        current = file.secret(wanted.name)
        if current is None or wanted.value not in (None, current):
            yield Put(wanted.name, given=wanted.value is not None)
            return
        refusal = wanted.rule.refusal(current)
        if refusal is not None:
            message = "the secret %s in %s %s" % (wanted.name, wanted.path, refusal)
            raise HostError("conflict", message, "replace it: state=rotated, or give a value")
        if not file.is_encrypted(wanted.name):
            yield Copy(wanted.name, wanted.name)

    def _staged(self, wanted: Wanted, file: VaultFile) -> t.Iterator[Edit]:
        current, waiting = self._there(wanted, file), file.secret(wanted.next)
        if wanted.value is not None and wanted.value == current:
            return  # it is in place already
        if waiting is None or wanted.value not in (None, waiting):
            yield Put(wanted.next, given=wanted.value is not None, after=wanted.name)

    def _promoted(self, wanted: Wanted, file: VaultFile) -> t.Iterator[Edit]:
        if file.secret(wanted.next) is None:
            self._there(wanted, file)
            return
        yield Copy(wanted.name, wanted.next)
        yield Remove(wanted.next)

    def _rotated(self, wanted: Wanted, file: VaultFile) -> t.Iterator[Edit]:
        if file.secret(wanted.name) is not None:
            yield Copy(wanted.name + PREVIOUS, wanted.name)
        yield Put(wanted.name, given=False)

    def _absent(self, wanted: Wanted, file: VaultFile) -> t.Iterator[Edit]:
        if file.has(wanted.name):
            yield Remove(wanted.name)

    def _there(self, wanted: Wanted, file: VaultFile) -> str:
        current = file.secret(wanted.name)
        if current is None:
            message = "there is no secret %s in %s to be replaced" % (wanted.name, wanted.path)
            raise HostError("not_found", message, "make it first: state=present")
        return current


def _variable(value: t.Any, field: str) -> str:
    name = str(value or "")
    if not name:
        names.refuse(field, "%s is required" % field)
    if not (name.isascii() and name.isidentifier() and len(name) <= LONGEST_NAME) or keyword.iskeyword(name):
        hint = "letters, digits and _, not beginning with a digit, at most %d characters" % LONGEST_NAME
        names.refuse(field, "%s is not the name of a variable" % names.shown(name), hint)
    return name
