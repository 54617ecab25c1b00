# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vars files edited in place: what was there stays, letter by letter."""

from __future__ import annotations

import pytest
import yaml

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.plugin_utils._vars_file import VarsFile, is_template, quoted

BLOCK = "!vault |\n$ANSIBLE_VAULT;1.1;AES256\n3132\n"
BLOCK_AS_WRITTEN = "!vault |\n          $ANSIBLE_VAULT;1.1;AES256\n          3132"


def put(text: str, name: str = "pw", value: str = '"new"', after: str | None = None) -> str:
    """The text after a variable was given a value."""
    file = VarsFile("vault.yml", text)
    file.put(name, value, after)
    return file.text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("pw: old\n", 'pw: "new"\n'),
        ("pw: old", 'pw: "new"'),
        ("# head\na: 1\npw: old  # why\n\n# foot\n", '# head\na: 1\npw: "new"  # why\n\n# foot\n'),
        ("pw: 'ol''d # no comment'\nb: 2\n", 'pw: "new"\nb: 2\n'),
        ('pw: "ol\\"d"   # yes\n', 'pw: "new"   # yes\n'),
        ("pw:\n  old\nb: 2\n", 'pw:\n  "new"\nb: 2\n'),
        ("pw: old\n  goes on\nb: 2\n", 'pw: "new"\nb: 2\n'),
        ("pw:\nb: 2\n", 'pw: "new"\nb: 2\n'),
        ("pw:   # to be filled in\nb: 2\n", 'pw: "new"   # to be filled in\nb: 2\n'),
        ("pw: ~\n", 'pw: "new"\n'),
        ("pw: |\n  old\n\n\n# foot\nb: 2\n", 'pw: "new"\n\n\n# foot\nb: 2\n'),
        ("pw: |-  # why\n  old\nb: 2\n", 'pw: "new"  # why\nb: 2\n'),
        (f"pw: {BLOCK_AS_WRITTEN}\n\n# foot\nb: 2\n", 'pw: "new"\n\n# foot\nb: 2\n'),
        ("pw: !unsafe 'o{{ld'\n", 'pw: "new"\n'),
        ("'pw': old\n", "'pw': \"new\"\n"),
        (
            "a: {b: [1, 2]}\npw: old\nc:\n  - d\n  # inner\n  - e\n",
            'a: {b: [1, 2]}\npw: "new"\nc:\n  - d\n  # inner\n  - e\n',
        ),
        ("pw: old\r\nb: 2\r\n", 'pw: "new"\r\nb: 2\r\n'),
        ("  pw: old\n  b: 2\n", '  pw: "new"\n  b: 2\n'),
        ("%YAML 1.1\n---\npw: old\n...\n", '%YAML 1.1\n---\npw: "new"\n...\n'),
        ("\ufeffpw: old\n", '\ufeffpw: "new"\n'),
    ],
)
def test_a_value_is_replaced_and_nothing_else(before: str, after: str) -> None:
    assert put(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("pw: old  # why\nb: 2\n", f"pw: {BLOCK_AS_WRITTEN.replace('|', '|  # why', 1)}\nb: 2\n"),
        (f"pw: {BLOCK_AS_WRITTEN}\n\nb: 2\n", f"pw: {BLOCK_AS_WRITTEN}\n\nb: 2\n"),
        ("pw:\nb: 2\n", f"pw: {BLOCK_AS_WRITTEN}\nb: 2\n"),
        ("  pw: old\n", "  pw: !vault |\n            $ANSIBLE_VAULT;1.1;AES256\n            3132\n"),
    ],
)
def test_a_value_is_replaced_by_a_block(before: str, after: str) -> None:
    assert put(before, value=BLOCK) == after


@pytest.mark.parametrize(
    ("before", "below", "after"),
    [
        ("", None, 'pw: "new"\n'),
        ("---\n", None, '---\npw: "new"\n'),
        ("---\n# nothing yet", None, '---\n# nothing yet\npw: "new"\n'),
        ("a: 1\n", None, 'a: 1\npw: "new"\n'),
        ("a: 1", None, 'a: 1\npw: "new"\n'),
        ("a: 1  # why\n\n# foot\n", None, 'a: 1  # why\npw: "new"\n\n# foot\n'),
        ("a: 1\nb: 2\n", "a", 'a: 1\npw: "new"\nb: 2\n'),
        ("a: 1\nb: 2\n", "gone", 'a: 1\nb: 2\npw: "new"\n'),
        ("a: |\n  text\n\nb: 2\n", "a", 'a: |\n  text\npw: "new"\n\nb: 2\n'),
        ("a:\n  - x\n  - y\n", None, 'a:\n  - x\n  - y\npw: "new"\n'),
        ("a: 1\n...\n", None, 'a: 1\npw: "new"\n...\n'),
        ("a: 1\r\n", None, 'a: 1\r\npw: "new"\r\n'),
        ("  a: 1\n", None, '  a: 1\n  pw: "new"\n'),
    ],
)
def test_a_new_variable_goes_below_another_or_to_the_end(before: str, below: str | None, after: str) -> None:
    assert put(before, after=below) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: 1\npw: old  # why\n# of b\nb: 2\n", "a: 1\n# of b\nb: 2\n"),
        (f"a: 1\npw: {BLOCK_AS_WRITTEN}\nb: 2\n", "a: 1\nb: 2\n"),
        ("---\npw: old\n", "---\n"),
        ("pw: old", ""),
        ("pw: |\n  old\n\nb: 2\n", "\nb: 2\n"),
    ],
)
def test_a_variable_is_removed_and_nothing_else(before: str, after: str) -> None:
    file = VarsFile("vault.yml", before)
    file.remove("pw")
    assert file.text == after


@pytest.mark.parametrize(
    "text",
    [
        "{pw: old}\n",
        "- pw\n",
        "just a text\n",
        "pw: old\npw: older\n",
        "pw: &it old\nb: *it\n",
        "b: &it old\npw: *it\n",
        "a: 1\n---\nb: 2\n",
        "pw: [unclosed\n",
        "pw: 'hunter2\n",
        "pw: {a: 1}\n",
        "pw: [1]\n",
        "\tpw: hunter2\n",
    ],
)
def test_what_cannot_be_edited_this_way_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(HostError) as caught:
        file = VarsFile("vault.yml", text)
        file.node("pw")
        file.put("pw", '"new"')
    assert caught.value.kind == "conflict"
    assert caught.value.message.startswith("vault.yml: ")
    assert "hunter2" not in caught.value.message and "ansible-vault edit" in caught.value.hint
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "text", ["plain", "", " a 'b' \"c\" \\ #, = $ ", "no", "1e3", "ä漢😀", "{{ x }}", "\x7f", "a: b"]
)
def test_a_quoted_text_is_read_as_it_was(text: str) -> None:
    line = quoted(text)
    assert "\n" not in line
    assert yaml.safe_load(f"a: {line}") == {"a": text}
    assert quoted(text, unsafe=True) == f"!unsafe {line}"


def test_templates_are_seen() -> None:
    assert [is_template(text) for text in ("{{ a }}", "{% raw %}", "{# c", "{a}", "%}")] == [
        True,
        True,
        True,
        False,
        False,
    ]
