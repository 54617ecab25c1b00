# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A password is replaced on two hosts. The tests run in this order, each from where the one before ended."""

from __future__ import annotations

import re
import subprocess

from extensions.molecule.credentials.tests.conftest import Rotation
from extensions.molecule.managed import Managed
from tests.lab.samba import USERS

FIRST = USERS["svc"]
RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+) ", re.MULTILINE)


def changed(done: subprocess.CompletedProcess[str]) -> int:
    """How many tasks have changed something, on all hosts; none has failed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return sum(int(each[1]) for each in RECAP.findall(done.stdout))


def refused(done: subprocess.CompletedProcess[str], text: str) -> None:
    """The run has ended with this, and showed no secret."""
    assert done.returncode != 0, done.stdout
    assert text in " ".join((done.stdout + done.stderr).split()), done.stdout + done.stderr
    assert FIRST not in done.stdout + done.stderr


def test_the_backend_is_there(rotation: Rotation) -> None:
    assert rotation.at_rest() == [FIRST, FIRST]
    assert rotation.secrets() == {"vault_share": FIRST}


def test_a_wrong_secret_changes_nothing_anywhere(rotation: Rotation) -> None:
    before = rotation.state()
    done = rotation.run(secret="wrong")
    refused(done, "refuses the login")
    failures = [int(each[3]) for each in RECAP.findall(done.stdout)]
    assert sorted(failures) == [0, 1], "one login is spent, not one for each host"
    assert rotation.state() == before


def test_no_host_is_left_out(rotation: Rotation) -> None:
    before = rotation.state()
    refused(rotation.run("--limit", "hv1", secret="new-password"), "hv2 would be left with the secret before")
    assert rotation.state() == before


def test_a_dead_host_ends_it_before_the_server_is_touched(rotation: Rotation, hv2: Managed) -> None:
    before = rotation.state()
    hv2.host.cut()
    try:
        refused(rotation.run(server=True), "UNREACHABLE")
    finally:
        hv2.host.join()
    assert rotation.state() == before
    assert changed(rotation.run(secret=FIRST, server=False)) == 0  # the server has the first one still
    assert rotation.state() == before


def test_check_mode_changes_nothing(rotation: Rotation) -> None:
    before = rotation.state()
    assert changed(rotation.run("--check", "--diff", server=True)) == 1  # what it would stage
    assert rotation.state() == before


def test_a_generated_secret_replaces_one_in_use(rotation: Rotation, hv1: Managed) -> None:
    path = hv1.backends()["share"]["path"]
    writing = f"while sleep 0.2; do date +%s.%N >> {path}/beats || exit 1; done"
    hv1.sh(f"systemd-run --collect --unit=writer sh -c '{writing}'")
    assert changed(rotation.run(server=True)) > 0
    count = int(hv1.sh(f"wc -l < {path}/beats"))
    hv1.sh(f"timeout 20 sh -c 'until [ $(wc -l < {path}/beats) -gt {count} ]; do sleep 0.1; done'")
    assert hv1.sh("systemctl is-active writer && systemctl stop writer") == "active\n"
    secrets = rotation.secrets()
    assert set(secrets) == {"vault_share"} and secrets["vault_share"] != FIRST
    assert rotation.at_rest() == [secrets["vault_share"]] * 2


def test_the_new_secret_is_what_hosts_log_in_with(rotation: Rotation, hv1: Managed) -> None:
    """Every connection is cut. The kernel ends what is under way with EREMCHG, and the next call has a new session."""
    path = hv1.backends()["share"]["path"]
    rotation.smb.disconnect()
    for host in rotation.hosts:
        host.sh(f"timeout 20 sh -c 'until ls {path} && stat -f {path}; do sleep 0.2; done'")
        host.sh(f"echo there > {path}/{host.name} && sync {path}/{host.name}")


def test_a_host_that_fails_half_way_is_caught_up(rotation: Rotation, hv2: Managed) -> None:
    """Another run holds the backend on one host: the other one has the new secret already, the vault both."""
    before = rotation.secrets()["vault_share"]
    hv2.sh("systemd-run --collect --unit=holder flock --no-fork /run/microvm/locks/backend-share sleep 600")
    try:
        refused(rotation.run(server=True), "is being changed by process")
    finally:
        hv2.sh("systemctl stop holder")
    secrets = rotation.secrets()
    assert secrets["vault_share"] == before != secrets["vault_share_next"]
    assert rotation.at_rest() == [secrets["vault_share_next"], before]
    changed(rotation.run(server=True))
    assert rotation.secrets() == {"vault_share": secrets["vault_share_next"]}
    assert rotation.at_rest() == [secrets["vault_share_next"]] * 2


def test_a_rotation_to_what_is_in_use_changes_nothing(rotation: Rotation) -> None:
    before = rotation.state()
    assert changed(rotation.run(secret=rotation.secrets()["vault_share"])) == 0
    assert rotation.state() == before
