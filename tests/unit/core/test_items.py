# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of the options of a call."""

from __future__ import annotations

import typing as t

import pytest

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


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"things": 5}, "things is not a list of dictionaries", "write it as things: [{name: ..., ...}]"),
        ({"one": 5}, "one is not a dictionary", "write it as one: {type: ..., ...}"),
        ({"things": [{"any": 5}]}, "things[0].any is not a dictionary", "write it as any: {KEY: ..., ...}"),
    ],
)
def test_what_is_no_dictionary_is_told_how_to_be_one(given: dict[str, t.Any], message: str, hint: str) -> None:
    inner = {"label": {"type": "str"}, "type": {"type": "str", "required": True}}
    thing: dict[str, dict[str, t.Any]] = {**ITEM, "any": {"type": "dict"}}
    spec: dict[str, dict[str, t.Any]] = {
        "one": {"type": "dict", "options": inner},
        "things": {"type": "list", "elements": "dict", "options": thing},
    }
    error = items.inconvertible(given, spec)
    assert error is not None
    assert (error.kind, error.message, error.hint) == ("invalid", message, hint)


@pytest.mark.parametrize(
    ("given", "message", "hint", "field"),
    [
        (
            {"things": [{"name": "a"}, {"name": "b", "state": "absnt"}]},
            "b: things[1].state is not one of present, absent: 'absnt'",
            "did you mean absent?",
            "things[1].state",
        ),
        ({"state": "x"}, "state is not one of present, absent: 'x'", "choose one of these", "state"),
        (
            {"things": [{"name": "a", "parts": [{"name": "no item", "kind": "rond"}]}]},
            "a: things[0].parts[0].kind is not one of round: 'rond'",
            "did you mean round?",
            "things[0].parts[0].kind",
        ),
        ({"things": [{"state": True}, None, 5], "state": "absent"}, "", "", ""),
    ],
)
def test_a_choice_that_there_is_not(given: dict[str, t.Any], message: str, hint: str, field: str) -> None:
    part: dict[str, dict[str, t.Any]] = {"kind": {"choices": ["round"]}, "name": {"type": "str"}}
    thing: dict[str, dict[str, t.Any]] = {
        **ITEM,
        "state": {"type": "str", "choices": ["present", "absent"]},
        "parts": {"type": "list", "elements": "dict", "options": part},
        "root": {"type": "dict", "options": part},
    }
    spec: dict[str, dict[str, t.Any]] = {**thing, "things": {"type": "list", "elements": "dict", "options": thing}}
    error = items.no_choice(given, spec)
    assert (error.message, error.hint, error.field) == (message, hint, field) if error else not message
    unknown = items.unknown({"things": [{"name": "a", "root": {"knd": "round"}}]}, spec)
    assert unknown is not None and unknown.hint == "did you mean kind?"
    assert (unknown.message, unknown.field) == ("a: things[0].root.knd is not an option", "things[0].root.knd")
