# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may know whom: reads every import of plugins/ and holds it against the order of the layers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

COLLECTION = "ansible_collections.microvm.host"
PLUGINS = Path(__file__).resolve().parents[2] / "plugins"

LAYERS = (
    ("action", "modules"),
    ("plugin_utils",),
    ("_tool",),
    ("_info",),
    ("_machines", "_docker"),
    ("_shares",),
    ("_storage",),
    ("_core",),
    ("_host",),
)
"""Each may import only what stands to its right."""

RANK = {layer: rank for rank, layers in enumerate(LAYERS) for layer in layers}
OTHERS = {"", "doc_fragments"}
"""Directories without code of their own: package markers and shared documentation."""

CONTROLLER = ("action", "plugin_utils")
"""Run on the controller only: may use ansible-core and what it requires."""


@dataclass(frozen=True)
class Import:
    """One name that a file imports: fully qualified, and when."""

    name: str
    line: int
    eager: bool
    """Run as soon as the file is: not inside a function, not for type checkers only."""


@dataclass(frozen=True)
class Source:
    """One file of plugins/."""

    path: Path
    module: str
    layer: str
    imports: tuple[Import, ...]
    has_steps: bool


def for_type_checkers(node: ast.If) -> bool:
    """Whether a block runs only in a type checker."""
    return ast.unparse(node.test) in ("t.TYPE_CHECKING", "typing.TYPE_CHECKING", "TYPE_CHECKING")


def imports_of(node: ast.AST, package: str, eager: bool = True) -> Iterator[Import]:
    """All imports below ``node``, of a file in ``package``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, eager)
        elif isinstance(child, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - child.level + 1] if child.level else []
            for alias in child.names:
                yield Import(
                    ".".join([*base, *([child.module] if child.module else []), alias.name]), child.lineno, eager
                )
        else:
            lazy = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            lazy = lazy or (isinstance(child, ast.If) and for_type_checkers(child))
            yield from imports_of(child, package, eager and not lazy)


def defines_steps(tree: ast.Module) -> bool:
    """Whether a file has step kinds: classes that can be applied and undone."""
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return any({"apply", "undo"} <= {f.name for f in c.body if isinstance(f, ast.FunctionDef)} for c in classes)


def read(root: Path, path: Path) -> Source:
    """Parse one file below ``root`` (plugins/)."""
    parts = path.relative_to(root).with_suffix("").parts
    module = ".".join([COLLECTION, "plugins", *(parts[:-1] if parts[-1] == "__init__" else parts)])
    package = module if parts[-1] == "__init__" else module.rpartition(".")[0]
    inner = parts[1:-1] if parts[0] == "module_utils" else parts[:-1]
    layer = inner[0] if inner else ""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # The contract that all step kinds fulfil is in _core; it costs nothing to load.
    steps = layer != "_core" and defines_steps(tree)
    return Source(path.relative_to(root), module, layer, tuple(imports_of(tree, package)), steps)


def sources(root: Path) -> dict[str, Source]:
    """All files below plugins/, by module name."""
    found = (read(root, path) for path in sorted(root.rglob("*.py")))
    return {source.module: source for source in found}


def target(name: str, tree: dict[str, Source]) -> Source | None:
    """The file that an imported name is in: the module itself, or the one that defines it."""
    return tree.get(name) or tree.get(name.rpartition(".")[0])


def judge(source: Source, each: Import, tree: dict[str, Source]) -> str | None:
    """What is wrong with one import, if anything."""
    if each.name.startswith("ansible_collections."):
        there = target(each.name, tree)
        if there is None:
            return f"{each.name} does not exist"
        if there.layer == "_core" and there.path.stem == "entry" and source.layer not in ("modules", "_core"):
            return "_core/entry is for modules only"
        if source.layer != there.layer and RANK.get(there.layer, -1) <= RANK.get(source.layer, -1):
            return f"{source.layer} must not know {there.layer}"
    elif each.name.startswith("ansible."):
        allowed = source.path.as_posix() == "module_utils/_core/entry.py"
        allowed = allowed or (source.layer in CONTROLLER and not each.name.endswith(".AnsibleModule"))
        if not allowed:
            return f"{each.name}: only _core/entry imports from ansible-core"
    elif each.name == "yaml" and source.layer in CONTROLLER:
        return None
    elif each.name.split(".")[0] not in sys.stdlib_module_names:
        return f"{each.name} is not in the standard library"
    return None


def steps_loaded_by(source: Source, tree: dict[str, Source]) -> list[str]:
    """Files with step kinds that are loaded as soon as ``source`` is."""
    seen: set[str] = set()
    todo = [source]
    while todo:
        for each in todo.pop().imports:
            there = target(each.name, tree)
            if each.eager and there is not None and there.module not in seen:
                seen.add(there.module)
                todo.append(there)
    return sorted(name for name in seen if tree[name].has_steps)


def violations(root: Path) -> list[str]:
    """Everything below ``root`` (plugins/) that breaks the order."""
    tree = sources(root)
    found = []
    for source in tree.values():
        if source.layer not in RANK and source.layer not in OTHERS:
            found.append(f"{source.path}: unknown layer {source.layer}")
        for each in source.imports:
            problem = judge(source, each, tree)
            if problem:
                found.append(f"{source.path}:{each.line}: {problem}")
        if source.layer in ("modules", "_core"):
            found += [f"{source.path}: loads the steps of {name} at once" for name in steps_loaded_by(source, tree)]
    return found


def test_every_import_points_to_the_right() -> None:
    assert violations(PLUGINS) == []


def test_files_are_found() -> None:
    layers = {source.layer for source in sources(PLUGINS).values()}
    assert {"_host", "_core"} <= layers


PACKAGE = f"{COLLECTION}.plugins"
HERE = f"{PACKAGE}.module_utils"
STEP = "class Copy:\n    def apply(self): ...\n    def undo(self): ...\n"


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("module_utils/_host/net.py", f"from {HERE}._core.plan import Plan", "_host must not know _core"),
        ("module_utils/_host/net.py", "from .._core import plan", "_host must not know _core"),
        ("module_utils/_host/net.py", f"def f():\n    import {HERE}._core.plan", "_host must not know _core"),
        ("module_utils/_host/net.py", f"from {HERE}._gone import x", "does not exist"),
        ("module_utils/_machines/a.py", f"from {HERE}._docker import b", "_machines must not know _docker"),
        ("module_utils/_tool/a.py", f"from {HERE}._core.entry import run", "_core/entry is for modules only"),
        ("module_utils/_core/plan.py", "from ansible.module_utils.basic import AnsibleModule", "only _core/entry"),
        ("modules/m.py", "from ansible.module_utils.basic import AnsibleModule", "only _core/entry"),
        ("modules/m.py", "import yaml", "yaml is not in the standard library"),
        ("modules/m.py", f"from {HERE}._storage.steps import Copy", "loads the steps"),
        ("modules/m.py", f"from {HERE}._storage.eager import x", "loads the steps"),
        ("modules/m.py", f"def f():\n    from {HERE}._storage.steps import Copy", ""),
        ("modules/m.py", f"from {HERE}._core.entry import run\nfrom ..module_utils._host import errors", ""),
        ("module_utils/_new/a.py", "import os", "unknown layer _new"),
        ("plugin_utils/_a.py", "import yaml\nfrom ansible.parsing.vault import VaultLib", ""),
        ("plugin_utils/_a.py", f"from {HERE}._core.plan import Plan", ""),
        ("plugin_utils/_a.py", "import requests", "requests is not in the standard library"),
        ("module_utils/_core/plan.py", f"from {PACKAGE}.plugin_utils._a import b", "_core must not know plugin_utils"),
    ],
)
def test_a_wrong_import_is_seen(tmp_path: Path, path: str, text: str, problem: str) -> None:
    tree = {
        "module_utils/_core/plan.py": "",
        "module_utils/_core/entry.py": "from ansible.module_utils.basic import AnsibleModule",
        "module_utils/_docker/b.py": "",
        "module_utils/_host/__init__.py": "",
        "module_utils/_host/errors.py": "",
        "module_utils/_storage/steps.py": STEP,
        "module_utils/_storage/eager.py": "from .steps import Copy\nx = Copy",
        "module_utils/_docker/__init__.py": "",
        "plugin_utils/_a.py": "",
        path: text,
    }
    for name, content in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = violations(tmp_path)
    if problem:
        assert len(found) == 1 and problem in found[0]
    else:
        assert found == []
