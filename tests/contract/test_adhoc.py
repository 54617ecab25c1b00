# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may run a module. The README's lines for one module from the command line: test_readme."""

from __future__ import annotations

import pytest

from tests.contract import snapshot
from tests.contract.controller import Controller, Task
from tests.contract.specs import names
from tests.lab import Host, Lab


@pytest.mark.parametrize("module", names())
def test_not_root_is_refused(lab: Lab, host: Host, controller: Controller, module: str) -> None:
    """Without become nothing works, and the hint says so."""
    exports = snapshot.exports(lab)
    start = snapshot.look(host, exports)
    (result,) = controller.run(Task(module, {"timeout": 5}), user="admin")
    assert result["failed"] and result["error"]["kind"] == "refused"
    assert "become" in result["error"]["hint"]
    assert snapshot.look(host, exports) == start
