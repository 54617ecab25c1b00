# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the lab host: many module calls, each in a fork of one Python that has read the modules already.

Reads one JSON object per line from the file named first, {"module", "args"}, and writes one per line to the second:
{"rc", "stdout", "stderr"}. The module gets its arguments as Ansible's own wrapper gives them. A call that takes more
than LONGEST seconds is killed by SIGALRM, which shows as its exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from typing import Any

from ansible.module_utils import basic

LONGEST = 60
MODULES = "ansible_collections.microvm.host.plugins.modules."


def call(module: Any, args: dict[str, Any]) -> None:
    """In the child: run the module and exit as it does."""
    signal.alarm(LONGEST)
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    code = 0
    try:
        module.main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 250
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(module: Any, args: dict[str, Any]) -> dict[str, Any]:
    """One call in a fork, its output caught in unnamed files."""
    with tempfile.TemporaryFile(dir="/dev/shm") as out, tempfile.TemporaryFile(dir="/dev/shm") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            call(module, args)
        status = os.waitpid(child, 0)[1]
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return {"rc": os.waitstatus_to_exitcode(status), "stdout": texts[0], "stderr": texts[1]}


def main() -> None:
    """All calls in their order."""
    with open(sys.argv[1]) as calls, open(sys.argv[2], "w") as answers:
        for line in calls:
            asked = json.loads(line)
            answer = run(importlib.import_module(MODULES + asked["module"]), asked["args"])
            answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
