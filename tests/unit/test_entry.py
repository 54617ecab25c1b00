# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module starts and fails: the real module in a process of its own, with arguments as Ansible sends them."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

ROOT = pathlib.Path(__file__).parents[5]
"""The directory ansible_collections is in."""
PROGRAM = """
import importlib, json, os, sys, syslog
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = sys.stdin.buffer.read()
basic._ANSIBLE_PROFILE = "legacy"
basic.has_journal = False
syslog.syslog = lambda priority, text: print(text, file=sys.stderr)
os.geteuid = lambda: int(sys.argv[1])
real = os.readlink
os.readlink = lambda path, **more: real(path.replace("/proc/1/", "/proc/self/"), **more)
importlib.import_module("ansible_collections.microvm.host.plugins.modules." + sys.argv[2]).main()
"""


def run(options: dict[str, t.Any], user: int, module: str) -> tuple[dict[str, t.Any], str]:
    """The module's result and what it logs; only who runs it and the namespace of PID 1 are made up."""
    sent = json.dumps({"ANSIBLE_MODULE_ARGS": dict(options, _ansible_check_mode=True)})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(user), module],
        input=sent,
        capture_output=True,
        text=True,
        cwd=str(ROOT),
        check=False,
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
    )
    assert done.stdout, done.stderr
    return t.cast("dict[str, t.Any]", json.loads(done.stdout)), done.stderr


def answer(options: dict[str, t.Any], user: int = 0) -> dict[str, t.Any]:
    """The result of a call of nfs_export_mount that fails."""
    found, dummy = run(options, user, "nfs_export_mount")
    assert found["failed"] is True
    assert set(found["error"]) >= {"kind", "item", "hint"}
    return found


def test_only_root() -> None:
    found = answer({"server": "nas", "export": "/a"}, user=1000)
    assert found["error"]["kind"] == "refused"
    assert "become" in found["error"]["hint"]
    assert (found["changed"], found["mounts"]) == (False, [])


@pytest.mark.parametrize(
    ("options", "field", "text"),
    [
        ({"server": "nas"}, "export", "export is required"),
        ({"mounts": [{"server": "nas", "export": "/a"}, {"export": "/b"}]}, "mounts[1].server", "is required"),
        ({"server": "nas", "mounts": []}, "server", "server can't stand beside mounts"),
        ({"server": "nas", "export": "/a", "purge": True}, "purge", "purge is only for a call with mounts"),
        (
            {"mounts": [{"server": "nas", "export": "/a"}, {"server": "NAS.", "export": "/a/"}]},
            "mounts[1].name",
            "is listed twice, first as mounts[0].name",
        ),
        ({"mounts": [{"server": "nas", "export": "/a", "timeout": 0}]}, "mounts[0].timeout", "1 to 3600"),
        ({"mounts": [{"server": "nas", "export": "/a"}], "timeout": 4000}, "mounts[0].timeout", "1 to 3600"),
    ],
)
def test_what_is_invalid(options: dict[str, t.Any], field: str, text: str) -> None:
    found = answer(options)
    assert found["error"]["kind"] == "invalid"
    assert found["error"]["field"] == field
    assert text in found["msg"]
    assert found["mounts"] == []


@pytest.mark.parametrize(
    ("options", "field", "near"),
    [
        ({"servr": "nas"}, "servr", "server"),
        (
            {"mounts": [{"server": "nas", "export": "/a"}, {"server": "nas", "exprt": "/b"}]},
            "mounts[1].exprt",
            "export",
        ),
        ({"mounts": [{"server": "nas", "optss": "ro"}]}, "mounts[0].optss", "opts"),
    ],
)
def test_an_option_that_does_not_exist(options: dict[str, t.Any], field: str, near: str) -> None:
    found = answer(options)
    assert (found["error"]["kind"], found["error"]["field"]) == ("invalid", field)
    assert found["msg"] == "%s is not an option; did you mean %s?" % (field, near)


def test_an_item_of_a_list_is_named_with_what_is_wrong_with_it() -> None:
    mounts = [{"name": name, "server": "nas", "export": "/a"} for name in ("files", "home")]
    found = answer({"mounts": [mounts[0], {**mounts[1], "timeout": 0}]})
    assert found["msg"].startswith("home: mounts[1].timeout: 0 is not within 1 to 3600"), found["msg"]
    assert (found["error"]["field"], found["error"]["item"]) == ("mounts[1].timeout", None)
    found = answer({"mounts": [mounts[0], {**mounts[1], "state": "presnt"}]})
    assert found["msg"].startswith("home: mounts[1].state is not one of "), found["msg"]
    assert found["msg"].endswith("did you mean present?") and found["error"]["field"] == "mounts[1].state"


@pytest.mark.parametrize("end", ["", "\\x", "'\"", "\n", "\t"], ids=repr)
def test_a_secret_in_a_list_is_not_logged(end: str) -> None:
    """Ansible masks the text that it made of the list: there all of these are escaped."""
    share = {"server": "nas", "share": "a", "username": "u", "password": "hunter2" + end, "timeout": 0}
    found, logged = run({"shares": [share]}, 0, "smb_share")
    assert found["error"]["field"] in ("shares[0].timeout", "shares[0].password")
    assert "Invoked with" in logged and "'username': 'u'" in logged
    assert "hunter2" not in logged + json.dumps(found)
