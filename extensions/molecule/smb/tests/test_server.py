# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that dies, a host that boots, and the collection off again. The last one runs last."""

from __future__ import annotations

import pytest

from extensions.molecule.calls import call
from extensions.molecule.managed import Converge, Managed
from tests.lab import SmbServer
from tests.lab.daemon import wait_until
from tests.lab.samba import USERS

CREDENTIALS = "/etc/microvm/credentials"


def mounted(host: Managed) -> list[str]:
    """The paths of all SMB mounts."""
    return sorted(path for path, stack in host.table().items() if stack[-1]["type"] == "cifs")


def test_a_full_server(hv1: Managed, smb: SmbServer) -> None:
    asked = {"name": "small", "kind": "smb", "server": "smb1", "share": "small", "username": "svc"}
    before = hv1.table(), hv1.sh(f"ls -A {CREDENTIALS}")
    smb.fill()
    hv1.fails("storage_backend", "full", **asked, password=USERS["svc"])
    assert (hv1.table(), hv1.sh(f"ls -A {CREDENTIALS}")) == before
    assert smb.exec("ls", "-A", "/srv/share/small") == "ballast\n"
    smb.clear()
    path = hv1.converges("storage_backend", **asked, password=USERS["svc"]).result["backend"]["path"]
    assert "No space left" in hv1.sh(f"dd if=/dev/zero of={path}/big bs=1M count=1 conv=fsync 2>&1 || true")
    (told,) = hv1.run(call("storage_backend", **asked))
    assert (told.failed, told.changed) == (False, False) and told.result["backend"]["capacity"]["free_bytes"] < 4096
    hv1.converges("storage_backend", name="small", state="absent")
    smb.clear()


@pytest.mark.parametrize("how", ["stop", "pause", "cut"])
def test_a_dead_server_does_not_make_a_good_host_red(hv2: Managed, smb: SmbServer, how: str) -> None:
    getattr(smb, how)()
    (info,) = hv2.run(call("host_info", refresh=True, timeout=10))
    assert not info.failed
    assert info.items("backends")["local"]["status"] == "ok"
    assert info.items("backends")["smb"]["status"] == "unreachable"


@pytest.mark.parametrize(("how", "again"), [("pause", "resume"), ("cut", "join")])
def test_a_change_that_meets_a_dead_server_fails_and_leaves_nothing(
    hv1: Managed, smb: SmbServer, how: str, again: str
) -> None:
    login = {"server": "smb1", "username": "svc", "timeout": 8}
    doomed = {**login, "name": "doomed", "share": "s20"}
    late = {**login, "name": "late", "share": "s21", "password": USERS["svc"]}
    path = hv1.works("smb_share", **{**doomed, "timeout": 120}, password=USERS["svc"]).result["share"]["path"]
    before = hv1.table(), hv1.sh(f"cd {CREDENTIALS}; stat -c '%n %i %Y' *")
    getattr(smb, how)()
    for answer in hv1.run(call("smb_share", **late), call("smb_share", **doomed, password="another")):
        assert answer.failed and answer.kind in ("unreachable", "timeout"), answer.result
    assert (hv1.table(), hv1.sh(f"cd {CREDENTIALS}; stat -c '%n %i %Y' *")) == before
    hv1.run(call("smb_share", name="doomed", state="absent"))  # the kernel may wait for a last answer at the unmounting
    hv1.works("smb_share", name="doomed", state="absent")
    assert path not in hv1.table()
    assert "share:doomed" not in hv1.sh(f"ls {CREDENTIALS}")
    getattr(smb, again)()
    hv1.converges("smb_share", **{**late, "timeout": 120})
    hv1.converges("smb_share", name="late", state="absent")


def test_reboot(hv1: Managed, smb: SmbServer) -> None:
    before = mounted(hv1)
    assert len(before) == 6
    hv1.host.reboot()
    wait_until(lambda: mounted(hv1) == before, 60, "the shares to come back")
    old = hv1.sh("grep ' cifs .*vers=2.1,' /proc/mounts")
    assert [line.split()[0] for line in old.splitlines()] == ["//smb1/s01"], "the others joined the first connection"
    hv1.host.kill()
    smb.stop()
    hv1.host.boot()
    assert mounted(hv1) == []
    smb.start()
    wait_until(lambda: mounted(hv1) == before, 90, "the shares to come back by themselves")


def test_remove(hv1: Managed, smb: SmbServer, remove: Converge) -> None:
    path = hv1.backends()["smb"]["path"]
    hv1.sh(f"echo kept > {path}/kept")
    done = remove("--limit=hv1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (smb.data("vms") / "kept").read_text() == "kept\n"
    assert mounted(hv1) == []
    assert hv1.sh("ls -A /etc/microvm 2>/dev/null || true") == ""
