# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of the options of a call."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core import items

ITEM: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str"},
    "state": {"type": "str", "default": "present"},
    "tags": {"type": "list"},
}
SPEC: dict[str, dict[str, t.Any]] = {**ITEM, "things": {"type": "list", "elements": "dict", "options": ITEM}}


def test_options_as_they_are_by_default_are_left_out() -> None:
    nothing: dict[str, t.Any] = {"name": None, "state": "present", "tags": None}
    listed: list[t.Any] = [{**nothing, "name": "a"}, {**nothing, "name": "b", "state": "absent", "tags": ["x"]}, None]
    told = items.beside_defaults({**nothing, "things": listed}, SPEC)
    assert told == {"things": [{"name": "a"}, {"name": "b", "state": "absent", "tags": ["x"]}, None]}
    assert items.beside_defaults({**nothing, "name": "a", "things": None}, SPEC) == {"name": "a"}
