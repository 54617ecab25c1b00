# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads the files of a module's archive without compiling them twice, or at all. Private to microvm.host.

importlib asks the loader of each file for its name, and zipimport's get_filename() compiles the file to tell it, which
is compiled again when it is run (CPython, Lib/zipimport.py: get_filename calls _get_module_code). On a host that is
half of what the imports of a call take. This says the same name from the archive's directory alone.

The other half is compiling once. The host tool has the byte code of what it is made of, which is nearly all that a
module imports: it is taken from there when it is of this Python and of the very source (PEP 552, hash of the source).
"""

from __future__ import annotations

import functools
import importlib.util
import marshal
import os
import types
import typing as t
import zipimport

TOOL = "/usr/local/libexec/microvm/microvm-tool"
OURS = "ansible_collections.microvm.host."
HEAD = 16
"""Bytes before the code."""


def head(source: bytes) -> bytes:
    """What the byte code of a source begins with: PEP 552, not held against a file by Python itself."""
    return importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)


def file_name(self: zipimport.zipimporter, fullname: str) -> str:
    """Where a module is. Raises ZipImportError when it is not in this archive."""
    path = os.path.join(self.archive, self.prefix, fullname.rpartition(".")[2])
    return os.path.join(path, "__init__.py") if self.is_package(fullname) else path + ".py"


@functools.cache
def _tool() -> zipimport.zipimporter | None:
    try:
        return zipimport.zipimporter(os.path.realpath(TOOL))  # that one stays when this very call puts in another
    except ImportError:
        return None


def compiled(self: zipimport.zipimporter, fullname: str) -> types.CodeType | None:
    """The code of a module of ours when the host tool has it, else None."""
    tool = _tool() if fullname.startswith(OURS) else None
    if tool is None:
        return None
    path = fullname.replace(".", "/") + ".py"
    try:
        found, source = tool.get_data(path + "c"), self.get_data(path)
    except (ImportError, OSError):
        return None
    return t.cast("types.CodeType", marshal.loads(found[HEAD:])) if found[:HEAD] == head(source) else None


def compile_once() -> None:
    """For all that is imported from now on."""
    zipimport.zipimporter.get_filename = file_name  # type: ignore[method-assign]  # the class's own is what is slow


def borrow() -> None:
    """For all that is imported from now on: the byte code of the host tool, where it is that of the same source."""
    compiling = zipimport.zipimporter.get_code

    def get_code(self: zipimport.zipimporter, fullname: str) -> types.CodeType:
        return compiled(self, fullname) or compiling(self, fullname)

    zipimport.zipimporter.get_code = get_code  # type: ignore[method-assign]  # it knows no other place
