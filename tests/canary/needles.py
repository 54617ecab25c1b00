# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms in which a secret may be met."""

from __future__ import annotations

import base64
from collections.abc import Iterable


def needles(secrets: Iterable[str]) -> list[bytes]:
    """Each secret as it is, as the kernel and SMB have it (UTF-16), in hexadecimal, and in base64 at any offset."""
    found = set()
    for secret in secrets:
        raw = secret.encode()
        found |= {raw, secret.encode("utf-16-le"), raw.hex().encode(), raw.hex().upper().encode()}
        for offset in range(3):
            text = base64.b64encode(b"\0" * offset + raw)
            # The first and the last characters also depend on what stands beside the secret.
            found.add(text[4 if offset else 0 : (offset + len(raw)) // 3 * 4])
    return sorted(found)


def where(data: bytes, wanted: Iterable[bytes]) -> list[str]:
    """What stands around the needles in some data."""
    found = []
    for needle in wanted:
        at = data.find(needle)
        if at >= 0:
            found.append(data[max(0, at - 120) : at + 60].decode(errors="replace"))
    return found
