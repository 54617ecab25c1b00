# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets in, by which dialect; what can't be had says why and leaves nothing, no password least of all."""

from __future__ import annotations

from typing import Any

import pytest

from extensions.molecule.calls import call
from extensions.molecule.managed import Managed
from tests.lab import Lab, SmbServer
from tests.lab.daemon import wait_until
from tests.lab.samba import MODERN_PORT, USERS

LOGIN = {"server": "smb1", "share": "s10", "username": "svc", "password": USERS["svc"]}
CREDENTIALS = "/etc/microvm/credentials"


def test_dialects_families_and_rights(hv2: Managed) -> None:
    (info,) = hv2.run(call("host_info", refresh=True))
    shares = {**info.items("backends"), **info.items("shares")}
    shares.pop("local")
    assert {name: item["status"] for name, item in shares.items()} == {
        **dict.fromkeys(("smb", "sealed", "guest", "v21", "literal6"), "ok"),
        "readonly": "read_only",
    }
    assert {name for name, item in shares.items() if item["version_negotiated"] == "2.1"} == {"v21"}
    assert {item["version_negotiated"] for name, item in shares.items() if name != "v21"} == {"3.1.1"}
    shown = {name: hv2.mounted(item["path"])["options"].split(",") for name, item in shares.items()}
    assert all({"hard", "nosuid", "nodev", "noexec"} <= set(options) for options in shown.values())
    assert "seal" in shown["sealed"] and "ro" in shown["readonly"]
    assert not [path for path in hv2.sh(f"ls {CREDENTIALS}").split() if "guest" in path]


def test_hosts_agree_on_what_a_backend_is(hv1: Managed, hv2: Managed) -> None:
    mine, yours = hv1.backends(), hv2.backends()
    assert {name: mine[name]["uuid"] for name in ("smb", "sealed")} == {
        name: yours[name]["uuid"] for name in ("smb", "sealed")
    }
    assert "multi_host" in mine["smb"]["capabilities"]


def test_refusals_are_told_apart_and_leave_nothing(hv1: Managed, lab: Lab) -> None:
    before = (hv1.table(), hv1.sh(f"ls -a {CREDENTIALS}"))
    wrong: dict[str, tuple[dict[str, Any], str, str]] = {
        "password": ({"password": "wrong-canary"}, "auth", "password"),
        "user": ({"username": "nobodyhere"}, "auth", "password"),
        "share": ({"share": "nowhere"}, "not_found", "share"),
        "directory": ({"subdir": "no/where"}, "not_found", "subdir"),
        "dialect": ({"version": "2.1", "options": f"port={MODERN_PORT}"}, "unsupported", "version"),
        "stranger": ({"username": None, "password": None}, "refused", "username"),
        "port": ({"options": "port=4"}, "unreachable", ""),
        "dead": ({"server": lab.dead_addresses(1)[0], "timeout": 3}, "unreachable", ""),
        "newline": ({"password": "a\nusername=root"}, "invalid", "password"),
    }
    answers = hv1.run(*(call("smb_share", **{**LOGIN, **each, "name": name}) for name, (each, *_more) in wrong.items()))
    for (name, (dummy, kind, field)), answer in zip(wrong.items(), answers, strict=True):
        assert answer.failed and answer.kind == kind, (name, answer.result)
        assert answer.result["error"].get("field", "") == field, (name, answer.result)
        assert "wrong-canary" not in str(answer.result)
    assert (hv1.table(), hv1.sh(f"ls -a {CREDENTIALS}")) == before
    assert hv1.remembers("wrong-canary") == ""


def test_a_wrong_password_is_tried_once_and_no_run_logs_in_more_than_twice(hv1: Managed, smb: SmbServer) -> None:
    asked = {**LOGIN, "name": "counted", "username": "other", "password": USERS["other"]}
    before = smb.logins("other")
    assert hv1.run(call("smb_share", **{**asked, "password": "wrong"}))[0].failed
    wait_until(lambda: smb.logins("other") > before, 10, "the server to write its log")
    for options, most in (({"subdir": "no/where"}, 2), ({"share": "nowhere"}, 1)):
        assert smb.logins("other") == before + 1, "the wrong password was tried again"
        assert hv1.run(call("smb_share", **{**asked, **options}))[0].failed
        # none at all where a mount of this user is: the kernel has its session for both
        assert smb.logins("other") - before - 1 <= most, options
        before = smb.logins("other") - 1


@pytest.mark.parametrize("password", ["a,b=c", " $x #'\"\\ ", "pässwörd–名"], ids=["comma", "signs", "unicode"])
def test_passwords_work_now_and_at_boot(hv1: Managed, smb: SmbServer, password: str) -> None:
    smb.set_password("other", password)
    asked = {**LOGIN, "name": "odd", "username": "other", "password": password}
    path = hv1.converges("smb_share", **asked).result["share"]["path"]
    unit = hv1.sh(f"systemd-escape --path --suffix=mount {path}").strip()
    hv1.sh(f"systemctl stop '{unit}' && systemctl start '{unit}'")  # what the boot does: mount.cifs reads the file
    assert hv1.mounted(path)["source"] == "//smb1/s10"
    assert not hv1.run(call("smb_share", check=True, **asked))[0].changed
    assert hv1.sh(f"stat -c %a {CREDENTIALS} {CREDENTIALS}/share:odd").split() == ["700", "600"]
    hv1.converges("smb_share", name="odd", state="absent")
    assert "share:odd" not in hv1.sh(f"ls {CREDENTIALS}")


def test_two_directories_of_one_share_are_two_mounts(hv1: Managed, smb: SmbServer) -> None:
    for name in ("one", "two"):
        folder = smb.data("s11") / name
        folder.mkdir(exist_ok=True)
        (folder / "here").write_text(name)
    shares = [{**LOGIN, "name": name, "share": "s11", "subdir": name} for name in ("one", "two")]
    paths = {item["name"]: item["path"] for item in hv1.converges("smb_share", shares=shares).result["shares"]}
    assert {name: hv1.sh(f"cat {path}/here") for name, path in paths.items()} == {"one": "one", "two": "two"}
    hv1.converges("smb_share", shares=[{"name": name, "state": "absent"} for name in paths])
