# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module returns. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


@dataclasses.dataclass
class Outcome:
    """``items`` are the returned items in the order of the call; ``errors`` pairs names with what went wrong."""

    items: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    diff: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    errors: list[tuple[str, HostError]] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


def sentence(error: HostError, with_hint: bool = True) -> str:
    """Message and hint as one text, the field in front when the message does not name it."""
    text = error.message
    if error.field and error.field not in text:
        text = "%s: %s" % (error.field, text)
    return text + ("; " + error.hint if error.hint and with_hint else "")


def of_call(outcome: Outcome, plural: str, singular: str | None) -> dict[str, t.Any]:
    """The result of a call: always the list, the one item too when the call had one by top-level options."""
    answer: dict[str, t.Any] = {"changed": any(item["changed"] for item in outcome.items), plural: outcome.items}
    if singular is not None:
        answer[singular] = outcome.items[0] if outcome.items else {}
    return answer


def failure(outcome: Outcome, plural: str) -> dict[str, t.Any]:
    """``msg`` and ``error`` of a call in which some items failed; of a list with a line for each."""
    name, first = outcome.errors[0]
    if len(outcome.items) == 1:
        text = "%s: %s" % (name, sentence(first))
    else:
        each = ", ".join("%s (%s)" % (failed, error.kind) for failed, error in outcome.errors)
        text = "%d of %d %s failed: %s" % (len(outcome.errors), len(outcome.items), plural, each)
        text = "\n".join([text, *("%s: %s" % (failed, sentence(error)) for failed, error in outcome.errors)])
    return {"msg": text, "error": first.as_dict(name)}
