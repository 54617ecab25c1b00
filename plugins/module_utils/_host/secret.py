# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of this call: steps are written into the journal, so they carry a key. Private to microvm.host.

The secret itself stays in the memory of this process and of the children it forks.
"""

from __future__ import annotations

import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

_kept: dict[str, t.Any] = {}


def keep(secret: t.Any) -> str:
    """Keep a secret for the time of this process, and return its key; "" for None."""
    if secret is None:
        return ""
    key = uuid.uuid4().hex
    _kept[key] = secret
    return key


def of(key: str) -> t.Any:
    """The secret of a key; None of "". Raises ``interrupted`` in another process than the one that kept it."""
    if not key:
        return None
    if key not in _kept:
        raise HostError("interrupted", "the secret of a run that ended is gone", "run it again")
    return _kept[key]


def value(given: object, field: str, longest: int, spaces: bool = False) -> str:
    """A secret as the user gave it. Raises ``invalid`` without showing it: empty, a line end or NUL, too long, or
    (unless ``spaces``) a space at an end, which some files lose.
    """
    text = given if isinstance(given, str) else ""
    wrong = None
    if not text:
        wrong = "is empty"
    elif any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        wrong = "has a control character"
    elif not spaces and text != text.strip():
        wrong = "begins or ends with a space"
    elif len(text.encode("utf-8", "surrogatepass")) > longest:
        wrong = "is longer than %d bytes" % longest
    if wrong:
        raise HostError("invalid", "%s %s" % (field, wrong), "set another one on the server", field=field)
    return text
