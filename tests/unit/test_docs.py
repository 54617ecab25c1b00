# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documents point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
DOCUMENTS = [TREE / "README.md", *TREE.glob("docs/*.md"), *TREE.glob("roles/*/README.md"), TREE / "tests/lab/README.md"]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
FILE = re.compile(r"`((?:[\w-]+/)+[\w-]+\.(?:py|yml|md))`")
UNDER = ("", "plugins", "plugins/module_utils", "examples/awx", "examples/site")
"""Where a document takes for known that a file lies."""

KINDS_OF_BACKENDS = "_storage/KIND.py"
"""Stands for a file yet to be written."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(TREE).as_posix())
def test_links_and_files_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    named = set(FILE.findall(text)) - {KINDS_OF_BACKENDS}
    missing += [name for name in named if not any((TREE / under / name).exists() for under in UNDER)]
    assert missing == []
    assert text.startswith("<!--\nSPDX-")


def test_all_documents_are_seen() -> None:
    names = {path.relative_to(TREE).as_posix() for path in DOCUMENTS}
    assert {"README.md", "docs/architecture.md", "docs/awx.md", "roles/storage/README.md"} <= names
