# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile values in every option: each is refused, by name, without a traceback, and nothing is written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.input.cases import Case, cases
from tests.input.conftest import TREE
from tests.lab import Host, counts

LEAST = 500

# Change times, not modification times: they also tell of renames, links and permissions. What a quiet host writes by
# itself, and ssh does, is left out by place.
WRITTEN = r"""
find / -xdev \( -path /opt/input -o -path /var/log -o -path /var/lib/systemd -o -path /etc/.pwd.lock \) -prune \
    -o -cnewer /opt/input/begin -print
find /run /tmp /dev/shm -xdev \( -path /run/log -o -path /run/systemd -o -path /run/udev -o -path /run/user \) -prune \
    -o -cnewer /opt/input/begin -print
grep -E ' - (nfs4?|cifs) ' /proc/self/mountinfo || true
"""


def run_all(host: Host, calls: list[Case], scratch: Path) -> list[dict[str, Any]]:
    """The answer to each call, in order."""
    asked, answered = scratch / "calls.jsonl", scratch / "answers.jsonl"
    asked.write_text("".join(json.dumps({"module": case.module, "args": case.args}) + "\n" for case in calls))
    host.put(asked, f"{TREE}/calls.jsonl")
    host.ssh(f"cd {TREE} && PYTHONPATH={TREE} python3 runner.py calls.jsonl answers.jsonl", timeout=1500)
    host.get(f"{TREE}/answers.jsonl", answered)
    return [json.loads(line) for line in answered.read_text().splitlines()]


def complaint(case: Case, answer: dict[str, Any]) -> str | None:
    """What is wrong with the answer to a hostile value; None when it is as it should be."""
    if "Traceback" in answer["stderr"] + answer["stdout"] or answer["rc"] not in (0, 1):
        return f"traceback or crash, rc {answer['rc']}: {answer['stderr'][-400:]}"
    try:
        result = json.loads(answer["stdout"])
    except ValueError:
        return f"no JSON: {answer['stdout'][:200]!r}"
    if not result.get("failed"):
        return "accepted"
    error = result.get("error") or {}
    if error.get("kind") != "invalid":
        return f"{error.get('kind')}: {result.get('msg')}"
    if not re.search(rf"\b{re.escape(case.field)}\b", f"{error.get('field', '')} {result['msg']}"):
        return f"does not name the field: {result['msg'][:300]}"
    if len(answer["stdout"]) > 200_000 + 10 * len(json.dumps(case.args)):
        return f"an answer of {len(answer['stdout'])} characters"
    return None


def test_hostile_values_are_refused_and_nothing_is_written(host: Host, tmp_path: Path) -> None:
    """One run over the whole corpus."""
    calls = list(cases())
    assert len({(case.module, case.field, repr(case.value)) for case in calls}) >= LEAST
    host.ssh(f"touch {TREE}/begin")
    answers = run_all(host, calls, tmp_path)
    assert len(answers) == len(calls)
    counts.add("hostile values", len(calls))
    found = [(case, complaint(case, answer)) for case, answer in zip(calls, answers, strict=True)]
    wrong = [f"{case.module}.{case.field}{case.where} = {case.value!r:.80}: {text}" for case, text in found if text]
    written = host.ssh(WRITTEN, timeout=120).stdout.split("\n")
    assert not wrong, f"{len(wrong)} of {len(calls)}:\n" + "\n".join(wrong)
    assert [line for line in written if line] == []


@pytest.mark.parametrize("argument", ["--help", "-rf", "../../etc/passwd"])
def test_the_bar_sees_what_is_wrong(argument: str) -> None:
    """The judge itself: accepted values, crashes and vague errors are complaints."""
    case = Case("nfs_export_mount", {"name": argument}, "name", argument)

    def answer(**result: Any) -> dict[str, Any]:
        return {"rc": 1, "stderr": "", "stdout": json.dumps(result)}

    error = {"kind": "invalid", "field": "name"}
    assert complaint(case, answer(failed=True, msg="name: no", error=error)) is None
    assert complaint(case, answer(changed=True)) == "accepted"
    assert complaint(case, answer(failed=True, msg="no", error={"kind": "invalid"}))
    assert complaint(case, answer(failed=True, msg="name", error={"kind": "internal"}))
    assert complaint(case, {"rc": 1, "stderr": "Traceback (most recent call last)", "stdout": ""})
