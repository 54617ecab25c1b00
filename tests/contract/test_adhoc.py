# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One module from the command line, as the README shows it; and who may run it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.contract import snapshot
from tests.contract.controller import Controller, Task
from tests.contract.specs import names
from tests.gates.paths import MIRROR
from tests.lab import Host, Lab, NfsServer, counts

LINE = re.compile(r"^\s*(ansible .*-m microvm\.host\.nfs_export_mount .*)$", re.MULTILINE)


def readme_commands() -> list[list[str]]:
    """The words of each ad-hoc line in the README, lines continued by a backslash joined."""
    text = (MIRROR / "README.md").read_text().replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in LINE.findall(text)]


def test_readme_line_runs(host: Host, nas: NfsServer, controller: Controller, tmp_path: Path) -> None:
    """The lines of the README in their order: only the names in them are made to mean the lab's host and server."""
    commands = readme_commands()
    assert commands, "the README shows no ad-hoc run of nfs_export_mount"
    inventory = json.loads(controller.inventory.read_text())["all"]["children"]["microvm_hosts"]["hosts"]["hv1"]
    hosts = {words[1]: inventory for words in commands}
    controller.inventory = tmp_path / "hosts.yml"
    controller.inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    for words in commands:
        words = [words[0], *without_inventory(words[1:])]
        at = words.index("-a") + 1
        words[at] = re.sub(r"\bserver=\S+", f"server={nas.address}", words[at])
        words[at] = re.sub(r"\bexport=\S+", "export=/export/rw", words[at])
        done = controller.command(words)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
        assert "CHANGED" in done.stdout or "changed" in done.stdout
        mounts = snapshot.look(host).mounts
        wanted = "--check" not in words and "state=absent" not in words[at]
        assert list(mounts.values()) == ([f"{nas.address}:/export/rw"] if wanted else [])
        counts.add("real mounts", len(mounts))


def without_inventory(words: list[str]) -> list[str]:
    """The words without -i FILE."""
    kept = list(words)
    while "-i" in kept:
        at = kept.index("-i")
        del kept[at : at + 2]
    return kept


@pytest.mark.parametrize("module", names())
def test_not_root_is_refused(lab: Lab, host: Host, controller: Controller, module: str) -> None:
    """Without become nothing works, and the hint says so."""
    exports = snapshot.exports(lab)
    start = snapshot.look(host, exports)
    (result,) = controller.run(Task(module, {"timeout": 5}), user="admin")
    assert result["failed"] and result["error"]["kind"] == "refused"
    assert "become" in result["error"]["hint"]
    assert snapshot.look(host, exports) == start
