# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host, in every Python as it starts: what comes out of a zip archive is compiled once per boot.

A module arrives as an archive of sources, which Python compiles anew in each call: a quarter of what a call costs here.
With this the same sources give the code that they gave before. It lies in memory, by the hash by which Python's own
checked .pyc files know their sources; whoever may not write there compiles. Not for measurements.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
import zipimport

TYPE_CHECKING = False  # typing itself would cost each Python more than most archives
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

KEPT = "/run/lab-bytecode"
compile_source: Callable[[str, bytes], CodeType] = zipimport._compile_source  # type: ignore[attr-defined]


def keep(path: str, code: CodeType) -> None:
    """Write the code for the next process; a half of it is never seen."""
    fresh = f"{path}.{os.getpid()}"
    try:
        os.makedirs(KEPT, exist_ok=True)
        with open(fresh, "wb") as file:
            file.write(marshal.dumps(code))
        os.rename(fresh, path)
    except OSError:  # not root, or a service that may write nowhere
        return


def compiled(pathname: str, source: bytes) -> CodeType:
    """What zipimport's own function returns, with ``pathname`` as the file's name in tracebacks."""
    path = f"{KEPT}/{_imp.source_hash(sys.hexversion, source).hex()}"
    try:
        with open(path, "rb") as file:
            code: CodeType = marshal.loads(file.read())
    except OSError:
        code = compile_source(pathname, source)
        keep(path, code)
        return code
    _imp._fix_co_filename(code, pathname)  # type: ignore[attr-defined]
    return code


zipimport._compile_source = compiled  # type: ignore[attr-defined]
