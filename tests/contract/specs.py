# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules say about themselves: found by listing them, read by calling their main()."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from ansible_collections.microvm.host.plugins.module_utils._core import entry
from tests.gates.paths import MIRROR

PLUGINS = "ansible_collections.microvm.host.plugins"
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
    """Every module that runs on hosts."""
    return sorted(_files("modules") - _files("action"))


def controller_names() -> list[str]:
    """Every module that is an action plugin and runs on the controller."""
    return sorted(_files("action"))


def _files(kind: str) -> set[str]:
    """The plugins of one kind, an empty list is an error."""
    found = {path.stem for path in Path(MIRROR, "plugins", kind).glob("*.py") if path.stem != "__init__"}
    if not found:
        raise FileNotFoundError(f"{MIRROR}: no {kind}")
    return found


def read(name: str) -> Spec:
    """The spec of one module, as its main() hands it to the entry, or as its action plugin has it."""
    module = importlib.import_module(f"{PLUGINS}.modules.{name}")
    if name in controller_names():
        action = importlib.import_module(f"{PLUGINS}.action.{name}")
        resource = action.resource_of(os.path.abspath, {})
        return Spec(name, action.ITEM, action.SPEC, action.PLURAL, action.SINGULAR, resource, module.EXAMPLES)
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
    """The specs of all modules that run on hosts."""
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
