# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what each task of a play returned to the file named by MICROVM_ANSWERS, one JSON object per line."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: answers
type: aggregate
short_description: Task results as lines of JSON
description:
  - One line for each task that ended, in the order in which they ended.
"""


class CallbackModule(CallbackBase):
    """The results as the modules gave them."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "answers"
    CALLBACK_NEEDS_ENABLED = True

    def _write(self, result: Any, failed: bool) -> None:
        with open(os.environ["MICROVM_ANSWERS"], "a", encoding="utf-8") as file:
            file.write(json.dumps({**result.result, "failed": failed}, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task that succeeded."""
        self._write(result, False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task that failed."""
        self._write(result, True)
