# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program gets the devices as open files, in their order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._machines import macvtap

PROGRAM = """
import sys
from ansible_collections.microvm.host.plugins.module_utils._machines import macvtap
macvtap.device = lambda tap: sys.argv[1] + "/" + tap
macvtap.become(["mv0", "mv1"], [sys.executable, "-c", "import os; print(os.read(3, 9), os.read(4, 9)); os.fstat(5)"])
"""


def test_the_devices_are_open_and_nothing_else(tmp_path: Path) -> None:
    for name in ("mv0", "mv1"):
        (tmp_path / name).write_text(name)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "b'mv0' b'mv1'\n" and "Bad file descriptor" in done.stderr


@pytest.mark.parametrize(
    "failed", [lambda: macvtap.become(["mv-none"], ["/bin/true"]), lambda: macvtap.give(["mv-none"], "root")]
)
def test_an_interface_that_is_not_there_is_named(failed: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(failed) and failed() == 1
    assert "/sys/class/net/mv-none/ifindex" in capsys.readouterr().err
