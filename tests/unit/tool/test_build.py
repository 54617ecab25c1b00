# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host tool: the same bytes from everywhere, complete, and it runs without Ansible."""

from __future__ import annotations

import ast
import importlib.util
import io
import subprocess
import sys
import zipfile
from pathlib import Path

from ansible_collections.microvm.host.plugins.module_utils._tool import build

ROOT = Path(build.__file__).parents[2]
IN_A_ZIP = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.microvm.host.plugins.module_utils._tool import build
sys.stdout.buffer.write(build.archive(build.sources()))
"""
LOAD = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def payload(path: Path) -> None:
    """A zip as a module's payload is: all of module_utils below package markers."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        packages = set()
        for source in sorted((ROOT / "module_utils").rglob("*.py")):
            name = "ansible_collections/microvm/host/plugins/" + source.relative_to(ROOT).as_posix()
            file.write(source, name)
            parts = name.split("/")[:-1]
            packages |= {"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
        for package in sorted(packages):
            file.writestr(package + "/__init__.py", "")


def sources_of(archive: bytes) -> dict[str, bytes]:
    """What a tool has of build.sources()."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        names = [name for name in file.namelist() if not name.endswith(("c", "__.py"))]
        return {name: file.read(name) for name in names}


def test_same_bytes_from_files_and_from_a_payload(tmp_path: Path) -> None:
    payload(tmp_path / "payload.zip")
    command = [sys.executable, "-I", "-c", IN_A_ZIP, str(tmp_path / "payload.zip")]
    from_zip = subprocess.run(command, check=True, capture_output=True).stdout
    from_files = build.archive(build.sources())
    assert from_zip.startswith(b"#!/usr/bin/env python3\nPK")
    if sys.version_info >= (3, 11):  # marshal of older ones writes a set as it lies in memory
        assert from_zip == from_files
    assert sources_of(from_zip) == sources_of(from_files) == build.sources()


def test_the_digest_follows_the_sources() -> None:
    files = build.sources()
    changed = dict(files)
    changed[next(iter(changed))] += b"\n"
    assert build.digest(files) == build.digest(dict(reversed(files.items()))) != build.digest(changed)


def test_nothing_is_missing() -> None:
    """What a parser finds of imports is what the tool has."""
    files = build.sources()
    assert "ansible_collections/microvm/host/plugins/module_utils/_tool/recover.py" in files
    for data in files.values():
        for node in ast.walk(ast.parse(data)):
            assert not isinstance(node, ast.ImportFrom) or node.level == 0
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                assert name.split(".")[0] != "ansible"
                path = name.replace(".", "/") + ".py"
                if name.startswith(build.HERE) and (ROOT.parents[3] / path).exists():
                    assert path in files


def test_no_module_of_ansible_comes_along() -> None:
    assert not [path for path in build.sources() if path.endswith("_core/entry.py")]


def test_it_runs_by_itself(tmp_path: Path) -> None:
    files = build.sources()
    tool = tmp_path / "microvm-tool"
    tool.write_bytes(build.archive(files))
    for argument, said in (("--help", "recover"), ("--version", build.digest(files))):
        command = [sys.executable, "-I", str(tool), argument]
        assert said in subprocess.run(command, check=True, capture_output=True, text=True).stdout


FROM = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.microvm.host.plugins.module_utils._tool import main
print(main.main.__code__.co_filename)
"""


def test_what_is_compiled_is_used_by_the_python_that_compiled_it_and_by_no_other(tmp_path: Path) -> None:
    tool = tmp_path / "microvm-tool"
    data = build.archive(build.sources())
    for content, compiled in ((data, True), (data.replace(importlib.util.MAGIC_NUMBER, b"\0\0\r\n"), False)):
        tool.write_bytes(content)
        command = [sys.executable, "-I", "-c", FROM, str(tool)]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert found.startswith("ansible_collections/" if compiled else str(tool)), found


def test_every_part_loads_from_the_archive(tmp_path: Path) -> None:
    files = build.sources()
    tool = tmp_path / "microvm-tool"
    tool.write_bytes(build.archive(files))
    names = [path[:-3].replace("/", ".") for path in files]
    command = [sys.executable, "-I", "-c", LOAD, str(tool), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
