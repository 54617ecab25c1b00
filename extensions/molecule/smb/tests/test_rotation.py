# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another password: proven first, then kept, then given to the live mount; a wrong one changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from extensions.molecule.calls import call
from extensions.molecule.managed import Managed
from tests.lab import SmbServer
from tests.lab.samba import USERS

FILE = "/etc/microvm/credentials/share:turning"
ASKED = {"name": "turning", "server": "smb1", "share": "s12", "username": "svc"}
WRITER = "writer.service"


@pytest.fixture
def path(hv1: Managed, smb: SmbServer) -> Iterator[str]:
    """Where a share is that a process writes to all the time."""
    made = hv1.works("smb_share", **ASKED, password=USERS["svc"])
    path = made.result["share"]["path"]
    program = f"exec 9>{path}/open; while echo x >&9; do sleep 0.1; done"
    hv1.sh(f"systemd-run --quiet --unit={WRITER} --property=Restart=no sh -c '{program}'")
    yield path
    hv1.sh(f"systemctl stop {WRITER}")
    hv1.works("smb_share", name="turning", state="absent")


def test_a_wrong_one_changes_nothing(hv1: Managed, path: str) -> None:
    before = hv1.sh(f"stat -c '%i %a %Y %s' {FILE}; cat {FILE}")
    hv1.fails("smb_share", "auth", **ASKED, password="wrong")
    hv1.fails("smb_share", "auth", **ASKED, password="wrong", secret_check=True)
    assert hv1.sh(f"stat -c '%i %a %Y %s' {FILE}; cat {FILE}") == before
    assert not hv1.run(call("smb_share", check=True, **ASKED, password=USERS["svc"]))[0].changed


def test_a_live_mount_gets_the_new_one(hv1: Managed, smb: SmbServer, path: str) -> None:
    pid = hv1.sh(f"systemctl show --property=MainPID {WRITER}")
    for password in ("second one", "third, and last"):
        smb.set_password("svc", password)
        done = hv1.works("smb_share", **ASKED, password=password)
        assert done.changed and "pending_remount" not in done.result["share"]
        assert not hv1.run(call("smb_share", **ASKED, password=password))[0].changed
        smb.disconnect()  # every client has to log in again, now with the new one only
        hv1.sh(f"timeout 50 sh -c 'until ls {path}; do sleep 0.2; done'")  # one may begin with the old login
        size = int(hv1.sh(f"stat -c %s {path}/open"))
        hv1.sh(f"timeout 30 sh -c 'until [ $(stat -c %s {path}/open) -gt {size} ]; do sleep 0.2; done'")
    assert hv1.sh(f"systemctl show --property=MainPID {WRITER}") == pid, "the writer saw nothing of it"


def test_a_check_proves_and_changes_nothing(hv1: Managed, smb: SmbServer, path: str) -> None:
    smb.set_password("svc", "the next one")
    new, old = hv1.run(
        call("smb_share", check=True, **ASKED, password="the next one", secret_check=True),
        call("smb_share", **ASKED, secret_check=True),
    )
    assert (new.failed, new.changed, new.result["share"]["secret_checked"]) == (False, False, True)
    assert old.failed and old.kind == "auth"
    assert "password=%s" % USERS["svc"] in hv1.sh(f"cat {FILE}")


def test_a_file_that_was_touched_is_put_right(hv1: Managed, path: str) -> None:
    hv1.sh(f"chmod 644 {FILE}; echo '# mine' >> {FILE}")
    done = hv1.converges("smb_share", **ASKED)
    assert done.result["share"]["actions"] == [f"replace {FILE}"]
    assert hv1.sh(f"stat -c %a {FILE}").strip() == "600" and "# mine" not in hv1.sh(f"cat {FILE}")
