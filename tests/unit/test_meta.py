# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for every module, role and playbook. They are found by themselves; none can be forgotten."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.gates.paths import ROOT, environment

TREE = Path(__file__).resolve().parents[2]
MODULES = sorted((TREE / "plugins" / "modules").glob("*.py"))
ROLES = sorted(path for path in (TREE / "roles").glob("*") if path.is_dir())
PLAYBOOKS = sorted((TREE / "playbooks").glob("*.yml"))
TASK_FILES = (
    PLAYBOOKS + sorted((TREE / "roles").glob("*/tasks/**/*.yml")) + sorted((TREE / "roles").glob("*/handlers/*"))
)

SUPPORT = {"full", "partial", "none", "N/A"}
"""What an attribute of a module may say."""

BANNED = {
    *("command", "shell", "raw", "script", "expect"),
    *("action", "local_action"),
    *("ignore_errors", "ignore_unreachable"),
}
"""Modules that cannot say what they would change, forms that hide which module runs, keys that hide its failure."""


def load(path: Path) -> Any:
    """The YAML of one file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    """The name of a module or role, as the id of its test."""
    return path.stem


def test_nothing_goes_unseen() -> None:
    # The tests below are made from these lists; an empty one would pass for a good one.
    assert (ROLES and PLAYBOOKS and TASK_FILES) or not MODULES


@pytest.fixture(scope="session")
def documentation() -> dict[str, dict[str, Any]]:
    """What ansible-doc says of every module, shared fragments included."""
    names = [f"microvm.host.{path.stem}" for path in MODULES]
    asked = subprocess.run(["ansible-doc", "--json", *names], env=environment(), stdout=subprocess.PIPE, check=True)
    found: dict[str, dict[str, Any]] = json.loads(asked.stdout)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_documented(path: Path, documentation: dict[str, dict[str, Any]]) -> None:
    name = f"microvm.host.{path.stem}"
    said = documentation[name]
    assert said["doc"]["version_added"]
    for attribute in ("check_mode", "diff_mode", "idempotent"):
        assert said["doc"]["attributes"][attribute]["support"] in SUPPORT, attribute
    assert said["doc"]["attributes"]["check_mode"]["support"] == "full"
    assert f"{name}:" in said["examples"]
    assert said["return"]


def test_the_action_group_has_every_module() -> None:
    group = load(TREE / "meta" / "runtime.yml")["action_groups"]["host"]
    assert group == [path.stem for path in MODULES]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_readme_names_every_module(path: Path) -> None:
    assert re.search(rf"^\|.*`{path.stem}`.*\|$", (TREE / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


def parameters(options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The defaults that argument specs declare."""
    return {name: option["default"] for name, option in options.items() if "default" in option}


@pytest.mark.parametrize("role", ROLES, ids=name_of)
def test_the_defaults_of_a_role_are_those_of_its_argument_specs(role: Path) -> None:
    options = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {})
    defaults = role / "defaults" / "main.yml"
    assert ((load(defaults) if defaults.exists() else None) or {}) == parameters(options)


@pytest.mark.parametrize("role", ROLES, ids=name_of)
def test_a_role_names_every_variable_in_its_readme(role: Path) -> None:
    readme = (role / "README.md").read_text(encoding="utf-8")
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    variables = {name for entry in specs.values() for name in entry.get("options", {})}
    assert {name for name in variables if f"`{name}`" not in readme} == set()


def tasks(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a playbook or task file: plays, blocks and tasks, at any depth."""
    if isinstance(node, list):
        for each in node:
            yield from tasks(each)
    elif isinstance(node, dict):
        yield node
        for value in node.values():
            yield from tasks(value)


def evasions(text: str) -> list[str]:
    """Keys of a playbook or task file by which it leaves declared state or hides a failure."""
    found = []
    for task in tasks(yaml.safe_load(text)):
        for key, value in task.items():
            if str(key).rpartition(".")[2] in BANNED:
                found.append(key)
            elif key == "failed_when" and value in (False, "false"):
                found.append("failed_when: false")
    return found


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: path.relative_to(TREE).as_posix())
def test_tasks_declare_state_and_hide_nothing(path: Path) -> None:
    assert evasions(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("- ansible.builtin.ping:\n", []),
        ("- ansible.builtin.command: uptime\n", ["ansible.builtin.command"]),
        ("- block:\n    - shell: uptime\n      ignore_errors: true\n", ["shell", "ignore_errors"]),
        ("- hosts: all\n  tasks:\n    - ansible.builtin.ping:\n      failed_when: false\n", ["failed_when: false"]),
    ],
)
def test_an_evasion_is_seen(text: str, keys: list[str]) -> None:
    assert evasions(text) == keys


def tracked() -> list[Path]:
    """Text files of the project."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TREE, stdout=subprocess.PIPE, check=True).stdout.decode()
    return [TREE / name for name in listed.split("\0") if name and (TREE / name).is_file()]


def test_no_file_names_the_place_where_it_was_written() -> None:
    # Of one component (/src) the path says too little to be looked for.
    places = [str(place) for place in (ROOT, Path.home()) if len(place.parts) > 2]
    pattern = re.compile("|".join(rf"{re.escape(place)}(?![\w.-])" for place in places) or r"(?!)")
    files = tracked()
    assert TREE / "galaxy.yml" in files
    assert [str(path) for path in files if pattern.search(path.read_text(encoding="utf-8", errors="replace"))] == []
