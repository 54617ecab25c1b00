# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each file of an archive is compiled once, and knows where it is."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import archive

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
    source = Path(archive.__file__).read_text().replace("from __future__ import annotations", "")
    program = f"{source}\nimport types\narchive = types.SimpleNamespace(compile_once=compile_once)\n" if quick else ""
    program += PROGRAM.format(quick=quick)
    done = subprocess.run([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True, check=True)
    counts, names, lacks = json.loads(done.stdout)
    assert counts == [times] * len(files)
    assert names == [str(path / name) for name in files]
    assert lacks == "pack.nothing"
