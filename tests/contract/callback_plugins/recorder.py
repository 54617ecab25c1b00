# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes every task result of a run to the file named by MICROVM_RESULTS, one JSON object per line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

from tests.contract.served import served

DOCUMENTATION = """
name: recorder
type: aggregate
short_description: Task results as lines of JSON
description:
  - One line for each task that ended on a host, in the order in which they ended; with what the directories in
    MICROVM_EXPORTS held at that moment, before the next task begins.
"""


class CallbackModule(CallbackBase):
    """The results as the module gave them, with the diff that other callbacks drop."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "recorder"
    CALLBACK_NEEDS_ENABLED = True

    def _record(self, result: Any, failed: bool) -> None:
        exports = [Path(name) for name in os.environ["MICROVM_EXPORTS"].split(os.pathsep) if name]
        line = {"result": {**result.result, "failed": failed}, "served": served(exports)}
        with open(os.environ["MICROVM_RESULTS"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task that succeeded."""
        self._record(result, False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task that failed."""
        self._record(result, True)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host that did not answer; no module ran."""
        self._record(result, True)
