# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that dies, a host that boots, and the collection off again. The last one runs last."""

from __future__ import annotations

import pytest

from extensions.molecule.calls import call
from extensions.molecule.managed import Converge, Managed
from tests.lab import SmbServer
from tests.lab.daemon import wait_until


def mounted(host: Managed) -> list[str]:
    """The paths of all SMB mounts."""
    return sorted(path for path, stack in host.table().items() if stack[-1]["type"] == "cifs")


@pytest.mark.parametrize("how", ["stop", "pause", "cut"])
def test_a_dead_server_does_not_make_a_good_host_red(hv2: Managed, smb: SmbServer, how: str) -> None:
    getattr(smb, how)()
    (info,) = hv2.run(call("host_info", refresh=True, timeout=10))
    assert not info.failed
    assert info.items("backends")["local"]["status"] == "ok"
    assert info.items("backends")["smb"]["status"] == "unreachable"


def test_reboot(hv1: Managed, smb: SmbServer) -> None:
    before = mounted(hv1)
    assert len(before) == 6
    hv1.host.reboot()
    wait_until(lambda: mounted(hv1) == before, 60, "the shares to come back")
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
