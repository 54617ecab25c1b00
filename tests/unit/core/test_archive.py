# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each file of an archive is compiled once, and knows where it is."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import archive
from ansible_collections.microvm.host.plugins.module_utils._tool import build

PROGRAM = """
import json, runpy, sys, zipimport
count = {{}}
real = zipimport._compile_source
def counted(path, source):
    count[path] = count.get(path, 0) + 1
    return real(path, source)
zipimport._compile_source = counted
{quick}
sys.path.insert(0, sys.argv[1])
import pack.sub.leaf
import top
try:
    import pack.nothing
except ModuleNotFoundError as error:
    lacks = error.name
names = [module.__file__ for module in (pack, pack.sub, pack.sub.leaf, top)]
print(json.dumps([sorted(count.values()), names, lacks]))
"""


@pytest.mark.parametrize(("quick", "times"), [("", 2), ("archive.compile_once()", 1)])
def test_each_file_is_compiled_once(tmp_path: Path, quick: str, times: int) -> None:
    path = tmp_path / "x.zip"
    files = ["pack/__init__.py", "pack/sub/__init__.py", "pack/sub/leaf.py", "top.py"]
    with zipfile.ZipFile(path, "w") as made:
        for name in files:
            made.writestr(name, "")
    source = Path(archive.__file__).read_text()
    program = f"{source}\nimport types\narchive = types.SimpleNamespace(compile_once=compile_once)\n" if quick else ""
    program += PROGRAM.format(quick=quick)
    done = subprocess.run([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True, check=True)
    counts, names, lacks = json.loads(done.stdout)
    assert counts == [times] * len(files)
    assert names == [str(path / name) for name in files]
    assert lacks == "pack.nothing"


BORROW = """
import json, sys, zipimport
sys.path.insert(0, sys.argv[1])
from ansible_collections.microvm.host.plugins.module_utils._core import archive
archive.TOOL = sys.argv[2]
archive.compile_once()
archive.borrow()
count = []
real = zipimport._compile_source
def counted(path, source):
    count.append(path)
    return real(path, source)
zipimport._compile_source = counted
from ansible_collections.microvm.host.plugins.module_utils._host import errors, names
print(json.dumps([[path.rpartition("/")[2] for path in count], names.__file__, hasattr(names, "ADDED")]))
"""


@pytest.mark.parametrize("tool", ["there", "of another Python", "no archive", "missing"])
def test_the_byte_code_of_the_tool_is_taken_for_equal_sources(tmp_path: Path, tool: str) -> None:
    files = build.sources()
    data = build.archive(files)
    if tool == "of another Python":
        data = data.replace(importlib.util.MAGIC_NUMBER, b"\0\0\r\n")
    if tool != "missing":
        (tmp_path / "tool").write_bytes(b"text" if tool == "no archive" else data)
    changed = next(path for path in files if path.endswith("_host/names.py"))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        for path, source in files.items():
            made.writestr(path, source + b"ADDED = 1\n" if path == changed else source)
        for folder in {parent.as_posix() for path in files for parent in Path(path).parents} - {"."}:
            made.writestr(folder + "/__init__.py", "")
    command = [sys.executable, "-I", "-c", BORROW, str(tmp_path / "x.zip"), str(tmp_path / "tool")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    compiled, name, added = json.loads(done.stdout)
    own = [path for path in compiled if path != "__init__.py"]
    # zipimport of Python 3.9 asks nobody for the code.
    borrowed = tool == "there" and sys.version_info >= (3, 10)
    assert own == ["names.py"] if borrowed else {"errors.py", "names.py"} <= set(own)
    assert added, "the payload's own source is what runs"
    assert name == str(tmp_path / "x.zip" / changed)
