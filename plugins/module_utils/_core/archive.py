# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles each file of a module's archive once. Private to microvm.host.

importlib asks the loader of each file for its name, and zipimport's get_filename() compiles the file to tell it, which
is compiled again when it is run (CPython, Lib/zipimport.py: get_filename calls _get_module_code). On a host that is
half of what the imports of a call take. This says the same name from the archive's directory alone.
"""

from __future__ import annotations

import os
import zipimport


def file_name(self: zipimport.zipimporter, fullname: str) -> str:
    """Where a module is. Raises ZipImportError when it is not in this archive."""
    path = os.path.join(self.archive, self.prefix, fullname.rpartition(".")[2])
    return os.path.join(path, "__init__.py") if self.is_package(fullname) else path + ".py"


def compile_once() -> None:
    """For all that is imported from now on."""
    zipimport.zipimporter.get_filename = file_name  # type: ignore[method-assign]  # the class's own is what is slow
