# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a vars file, edited in place: comments, order and other values stay as they are.

A vars file is one YAML mapping in block style, as Ansible reads it. Private to microvm.host.
"""

from __future__ import annotations

import re
import typing as t

import yaml

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

BLOCK_INDENT = 10
"""Of the lines of a block scalar below its key; as ansible-vault writes it."""

COMMENT = re.compile(r"[ \t]+#[^\r\n]*")


class VarsFile:
    """The text and where in it the variables are. All methods raise HostError ``conflict`` naming ``path``."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.nodes = self._parse(text)

    def node(self, name: str) -> yaml.ScalarNode | None:
        """The value of a variable; None when there is none or it is null."""
        value = self.nodes[name][1] if name in self.nodes else None
        if value is None or value.tag == "tag:yaml.org,2002:null":
            return None
        if not isinstance(value, yaml.ScalarNode):
            raise self._conflict("%s is not a text" % name)
        return value

    def put(self, name: str, value: str, after: str | None = None) -> None:
        """Give a variable the value whose YAML is ``value``: one line, or a block whose lines are not indented yet.

        A new variable goes below ``after``, or to the end.
        """
        if name in self.nodes:
            self._edit(name, self._replaced(name, value))
            return
        below = after if after in self.nodes else next(reversed(self.nodes), None)
        place = self._end_of_line(self._end(below)) if below else len(self.text)
        column = self.nodes[below][0].start_mark.column if below else 0
        gap = "" if self.text[:place].endswith("\n") or not place else self._newline()
        line = "%s%s%s: %s%s" % (gap, " " * column, name, self._indented(value, column), self._newline())
        self._edit(name, self.text[:place] + line + self.text[place:])

    def remove(self, name: str) -> None:
        """Take a variable out with its value; comments above it stay."""
        start = self.nodes[name][0].start_mark.index
        begin = self.text.rfind("\n", 0, start) + 1
        self._edit(name, self.text[:begin] + self.text[self._end_of_line(self._end(name)) :])

    def _replaced(self, name: str, value: str) -> str:
        key, node = self.nodes[name]
        start, end = node.start_mark.index, self._end(name)
        if start < key.end_mark.index:
            raise self._conflict("%s is an alias of another value" % name)
        head, old, tail = self.text[:start], self.text[start:end], self.text[end:]
        block = getattr(node, "style", None) in ("|", ">")
        found = COMMENT.search(old.splitlines()[0]) if block else COMMENT.match(tail)
        comment = found.group() if found else ""
        if comment and not block:
            tail = tail[len(comment) :]
        first, *rest = self._indented(value, key.start_mark.column).split(self._newline())
        gap = " " if head.endswith(":") else ""
        return head + gap + self._newline().join([first + comment, *rest]) + tail

    def _end(self, name: str) -> int:
        """Where the text of a value ends, without the blank lines that belong to a block."""
        key, node = self.nodes[name]
        start = max(key.end_mark.index, node.start_mark.index)
        return start + len(self.text[start : node.end_mark.index].rstrip())

    def _end_of_line(self, place: int) -> int:
        found = self.text.find("\n", place)
        return len(self.text) if found < 0 else found + 1

    def _newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def _indented(self, value: str, column: int) -> str:
        return (self._newline() + " " * (column + BLOCK_INDENT)).join(value.splitlines())

    def _edit(self, name: str, text: str) -> None:
        """Take ``text``, if all other variables are in it as they were: YAML has forms that are not edited this way."""
        try:
            nodes = self._parse(text)
        except HostError:
            nodes = {}
        others = [
            {key: _content(node) for key, (dummy, node) in each.items() if key != name} for each in (self.nodes, nodes)
        ]
        if others[0] != others[1] or list(others[0]) != list(others[1]):
            raise self._conflict("%s can't be changed without touching other variables" % name)
        self.text, self.nodes = text, nodes

    def _parse(self, text: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            # Not the parser's own words: they quote the text.
            raise self._conflict(
                "it is not one YAML document" + (", see line %d" % (mark.line + 1) if mark else "")
            ) from None
        if root is None or (root.tag == "tag:yaml.org,2002:null" and root.value == ""):
            return {}
        if not isinstance(root, yaml.MappingNode) or root.flow_style:
            raise self._conflict("it is not a list of variables, one per line")
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in root.value:
            name = str(key.value)
            if name in found:
                raise self._conflict("it has %s twice" % name)
            found[name] = (key, value)
        return found

    def _conflict(self, why: str) -> HostError:
        return HostError("conflict", "%s: %s" % (self.path, why), "edit it by hand: ansible-vault edit")


def quoted(text: str, unsafe: bool = False) -> str:
    """A text as a YAML scalar in double quotes, on one line; ``unsafe``: Ansible shall not take it for a template."""
    line: str = yaml.safe_dump(text, default_style='"', width=float("inf"), allow_unicode=True).rstrip("\n")
    return "!unsafe " + line if unsafe else line


def is_template(text: str) -> bool:
    """Whether Ansible would evaluate a text."""
    return any(mark in text for mark in ("{{", "{%", "{#"))


def _content(node: yaml.Node) -> t.Any:
    """What a node says, whatever its form and place."""
    if isinstance(node, yaml.MappingNode):
        return (node.tag, [(_content(key), _content(value)) for key, value in node.value])
    if isinstance(node, yaml.SequenceNode):
        return (node.tag, [_content(each) for each in node.value])
    return (node.tag, node.value)
