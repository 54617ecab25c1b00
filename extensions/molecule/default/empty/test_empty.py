# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before anything was done: check mode on a bare host tells what would be, and does nothing of it."""

from __future__ import annotations

from extensions.molecule.managed import Converge, Managed
from tests.lab import NfsServer

PLACES = "/etc /usr /opt /var/lib /srv /mnt"
STATE = f"find {PLACES} -xdev -printf '%p %y %s %T@\\n' | grep -v /var/lib/systemd/ | sort; cat /proc/self/mounts"


def test_check_mode_says_what_it_would_do_and_does_nothing(
    hv1: Managed, hv2: Managed, nas: NfsServer, converge: Converge
) -> None:
    hosts = (hv1, hv2)
    before = [host.sh(STATE) for host in hosts]
    done = converge("--check", "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in ("nfs-common", "nas1", "/export/rw"):
        assert expected in done.stdout
    recap = done.stdout.split("PLAY RECAP")[1]
    assert "changed=0" not in recap and recap.count("failed=0") == 2, recap
    assert [host.sh(STATE) for host in hosts] == before
    assert list(nas.data("rw").iterdir()) == []
