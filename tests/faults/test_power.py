# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power loss of the host at random points of a change: the registry is whole, boot and next run see to the rest."""

from __future__ import annotations

import json
import random
import threading

import pytest

from tests.faults.killing import Stage
from tests.faults.operations import pairs
from tests.faults.rig import Rig
from tests.lab import Lab, NfsServer, SmbServer, counts

ROUNDS, SAMPLED_ROUNDS = 8, 2
RECOVERED = """
systemctl is-system-running --wait >/dev/null
until ! systemctl --quiet is-active microvm-recover.service; do sleep 0.2; done
test ! -e /etc/systemd/system/microvm-recover.service || echo settled
"""
"""Ends when the boot is complete and what runs then has settled what was left; says so where the tool is."""
RUN_SECONDS = 1.0
"""About what a run takes; the power goes at a random moment of it."""


def test_power_loss(lab: Lab, rig: Rig, request: pytest.FixtureRequest) -> None:
    nas = lab.servers["nas1"]
    smb = lab.servers["smb1"]
    assert isinstance(nas, NfsServer) and isinstance(smb, SmbServer)
    draw = random.Random(request.config.getoption("--seed"))
    rounds = SAMPLED_ROUNDS if request.config.getoption("--sample") else ROUNDS
    rig.start()
    stage = Stage(rig, nas, smb, pairs(nas.address, smb.address)[0])
    stage.prepare()
    for number in range(rounds):
        after = draw.uniform(0.05, RUN_SECONDS)
        stage.blank()
        module, args = stage.pair.call(not stage.away)
        rig.send(do="run", module=module, args=args)
        power = threading.Timer(after, rig.host.kill)
        power.start()
        power.join()
        rig.stop()
        rig.host.boot()
        settled = rig.host.ssh(RECOVERED, timeout=300).stdout.strip() == "settled"
        rig.start()
        found = stage.look()
        where = f"round {number}, {after:.2f} s into {json.dumps(args)}"
        assert found["registry"].get("integrity") == "ok", f"{where}: {found['registry']}"
        assert not (settled and found["registry"]["journal"]), f"{where}: {found['registry']['journal']}"
        stage.away = not stage.away
        stage.run(module, args)
        stage.check(where, stage.away)
        assert stage.run(module, args)["result"]["changed"] is False, where
        counts.add("power losses")
