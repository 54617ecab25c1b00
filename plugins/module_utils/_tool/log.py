# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host tool says while it works. Private to microvm.host."""

from __future__ import annotations

import json
import sys
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


class Log:
    """One JSON object a line on standard output; what failed as before is not repeated."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}

    def event(self, what: str, **more: t.Any) -> None:
        """Something was done."""
        sys.stdout.write(json.dumps(dict(event=what, **more)) + "\n")
        sys.stdout.flush()

    def failure(self, what: str, of: str, error: HostError) -> None:
        """Something could not be done to the thing ``of``."""
        if self.failed.get(of) != error.message:
            self.event(what, item=of, error=error.as_dict(of), message=error.message)
        self.failed[of] = error.message
