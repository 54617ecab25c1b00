# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host tool as bytes: one zipapp, made of the sources this very module runs from. Private to microvm.host.

They are read through the loader, so it is the same from a payload (zipimport) and from plain files. Equal sources
give equal bytes with one Python from 3.11 on: nothing is compressed, times are fixed, files are sorted.

Beside each source is what this Python has compiled of it: compiling takes most of the time of a short run, and each
start of a machine has several. Another Python that finds it takes the source, as zipimport does by itself.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import typing as t

HERE = "ansible_collections.microvm.host.plugins.module_utils"
START = HERE + "._tool.main"
INTERPRETER = b"#!/usr/bin/env python3\n"
EPOCH = (1980, 1, 1, 0, 0, 0)
IMPORT = re.compile(r"from (%s[\w.]*) import (?:\(([^)]*)\)|(.+))" % re.escape(HERE))
"""Imports of this collection, inside functions too. Each call looks for them: what begins with a fixed text is found
fastest, and a parser of Python would take a hundred times as long. A unit test holds what this finds against one."""


@functools.cache  # a call that changes something asks twice, and it is a tenth of that call
def sources() -> dict[str, bytes]:
    """What the tool needs: source by path inside the archive, from its start and all that it imports."""
    found: dict[str, bytes] = {}
    asked = set()
    todo = [START]
    while todo:
        name = todo.pop()
        if name in asked:
            continue
        asked.add(name)
        data = _read(name)
        if data is None:
            continue  # a package, or a name defined in a module that is on the list by itself
        found[name.replace(".", "/") + ".py"] = data
        for package, bracketed, plain in IMPORT.findall(data.decode()):
            todo.append(package)
            todo += ["%s.%s" % (package, each.split()[0]) for each in (bracketed or plain).split(",") if each.strip()]
    return found


def _read(name: str) -> bytes | None:
    folder = os.path.dirname(os.path.dirname(__file__))
    path = os.path.join(folder, *name[len(HERE) + 1 :].split(".")) + ".py"
    try:
        # A global of every module, of which mypy does not know.
        return t.cast(bytes, __loader__.get_data(path))  # type: ignore[name-defined]
    except OSError:
        return None


def _compiled(path: str, source: bytes) -> bytes:
    """The byte code of a source, as a .pyc."""
    import marshal

    from ansible_collections.microvm.host.plugins.module_utils._core.archive import head

    code = compile(source, path, "exec", dont_inherit=True)
    # Version 2 of marshal: later ones write down what objects the compiler happened to share.
    return head(source) + marshal.dumps(code, 2)


def digest(files: t.Mapping[str, bytes]) -> str:
    """Eight hex digits that change with any of the sources."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(b"%s %d\n" % (path.encode(), len(files[path])))
        total.update(files[path])
    return total.hexdigest()[:8]


def archive(files: t.Mapping[str, bytes]) -> bytes:
    """The zipapp of ``files``."""
    import io
    import zipfile

    from ansible_collections.microvm.host.plugins.module_utils._tool import main

    start = "from %s import main\n\nraise SystemExit(main(%r))\n" % (main.__name__, digest(files))
    content = dict(files)
    for path in files:
        while "/" in path:
            path = path.rpartition("/")[0]
            content[path + "/__init__.py"] = b""
    content["__main__.py"] = start.encode()
    content.update({path + "c": _compiled(path, source) for path, source in files.items()})
    out = io.BytesIO(INTERPRETER)
    out.seek(0, os.SEEK_END)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as file:
        for path in sorted(content):
            info = zipfile.ZipInfo(path, EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            file.writestr(info, content[path])
    return out.getvalue()
