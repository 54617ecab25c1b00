# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules say about themselves: found by listing them, read by calling their main()."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from ansible_collections.microvm.host.plugins.module_utils._core import entry
from tests.gates.paths import MIRROR

PACKAGE = "ansible_collections.microvm.host.plugins.modules"
Option = dict[str, Any]


@dataclass(frozen=True)
class Spec:
    """One module. ``item``: options of one item, ``call``: all options as AnsibleModule gets them.

    ``plural`` is the list option, "" for an info module, which has no ``resource`` either.
    """

    name: str
    item: dict[str, Option]
    call: dict[str, Option]
    plural: str
    singular: str
    resource: Any
    examples: str

    def choices(self, option: str) -> list[str]:
        """The choices of an option; none when the module does not have it."""
        return list(self.item.get(option, {}).get("choices", []))


def names() -> list[str]:
    """Every module of the collection, an empty list is an error."""
    found = sorted(path.stem for path in Path(MIRROR, "plugins", "modules").glob("*.py") if path.stem != "__init__")
    if not found:
        raise FileNotFoundError(f"{MIRROR}: no modules")
    return found


def read(name: str) -> Spec:
    """The spec of one module, as its main() hands it to the entry."""
    module = importlib.import_module(f"{PACKAGE}.{name}")
    with mock.patch.object(entry, "run") as run, mock.patch.object(entry, "inform") as inform:
        module.main()
    if inform.called:
        options = inform.call_args.kwargs["options"]
        return Spec(name, options, options, "", "", None, module.EXAMPLES)
    resource, asked = run.call_args.args[0], run.call_args.kwargs
    item, plural = asked["item"], asked["plural"]
    call = {**item, plural: {"type": "list", "elements": "dict", "options": item}, **(asked.get("call") or {})}
    return Spec(name, item, call, plural, asked["singular"], resource(), module.EXAMPLES)


def read_all() -> list[Spec]:
    """The specs of all modules."""
    return [read(name) for name in names()]


def example_tasks(spec: Spec) -> Iterator[tuple[str, dict[str, Any]]]:
    """Title and arguments of each task in EXAMPLES, blocks included, that calls the module."""

    def walk(tasks: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        for task in tasks:
            if f"microvm.host.{spec.name}" in task:
                yield task["name"], task[f"microvm.host.{spec.name}"] or {}
            for part in ("block", "rescue", "always"):
                yield from walk(task.get(part, []))

    yield from walk(yaml.safe_load(spec.examples))
