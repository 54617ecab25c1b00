# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the lab host: many module calls, one after the other in a fork of a Python that has read the modules already.

Reads one JSON object per line from the file named first, {"module", "args"}, and writes one per line to the second:
{"rc", "stdout", "stderr"}. The module gets its arguments as Ansible's own wrapper gives them. A call that kills its
process, or takes more than LONGEST seconds and is killed by SIGALRM, shows that as its exit code; a new fork goes on
with the next call. A fork for every call would take twenty times as long here.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils import basic

LONGEST = 60
MODULES = "ansible_collections.microvm.host.plugins.modules."


def call(module: Any, args: dict[str, Any]) -> int:
    """Run the module and return the exit code that it ends with."""
    signal.alarm(LONGEST)
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    try:
        module.main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 250
    finally:
        signal.alarm(0)
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


class Caught:
    """Standard output and error of this process and its forks, in unnamed files."""

    def __init__(self) -> None:
        self._files = [tempfile.TemporaryFile(dir="/dev/shm") for dummy in range(2)]

    def begin(self) -> None:
        """In the child: what is printed from now on is caught."""
        for number, file in enumerate(self._files, 1):
            os.dup2(file.fileno(), number)

    def take(self, code: int) -> str:
        """The answer of a call that ended with ``code``: what it printed, which is forgotten."""
        texts = []
        for file in self._files:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.seek(0)
            file.truncate()
        return json.dumps({"rc": code, "stdout": texts[0], "stderr": texts[1]}) + "\n"


def answer_all(asked: list[dict[str, Any]], caught: Caught, path: Path) -> None:
    """In the child: make the calls, add their answers to the file and exit."""
    this = os.getpid()
    caught.begin()
    for each in asked:
        code = call(importlib.import_module(MODULES + each["module"]), each["args"])
        if os.getpid() != this:  # a fork of the module's own that forgot to exit
            os._exit(code)
        with path.open("a") as answers:
            answers.write(caught.take(code))
    os._exit(0)


def main() -> None:
    """All calls in their order."""
    asked = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    for name in {each["module"] for each in asked}:
        importlib.import_module(MODULES + name)
    path = Path(sys.argv[2])
    path.write_text("")
    caught = Caught()
    while (done := path.read_text().count("\n")) < len(asked):
        child = os.fork()
        if child == 0:
            answer_all(asked[done:], caught, path)
        status = os.waitpid(child, 0)[1]
        if path.read_text().count("\n") < len(asked):  # the call that was running has ended its process
            with path.open("a") as answers:
                answers.write(caught.take(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    main()
