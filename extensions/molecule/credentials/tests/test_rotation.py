# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets are replaced on two hosts. The tests run in this order, each from where the one before ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from extensions.molecule.calls import call
from extensions.molecule.credentials.tests.conftest import HOST, SHARE, TARGET, Kept, Rotation
from extensions.molecule.managed import Managed
from tests.lab.daemon import wait_until
from tests.lab.samba import USERS
from tests.lab.target import TARGETS

FIRST = USERS["svc"]
CHAP = TARGETS["mutual"].chap
RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+) ", re.MULTILINE)


def changed(done: subprocess.CompletedProcess[str]) -> int:
    """How many tasks have changed something, on all hosts; none has failed."""
    assert done.returncode == 0, done.stdout
    return sum(int(each[1]) for each in RECAP.findall(done.stdout))


def refused(done: subprocess.CompletedProcess[str], text: str) -> None:
    """The run has ended with this, and showed no secret."""
    assert done.returncode != 0, done.stdout
    assert text in " ".join(done.stdout.split()), done.stdout
    assert FIRST not in done.stdout


def in_use(rotation: Rotation, kept: Kept) -> str:
    """The secret that vault and hosts have by now; none waits."""
    secrets = rotation.secrets()
    assert set(secrets) == {"vault_share", "vault_lun", "vault_target"}
    assert rotation.at_rest(kept) == [secrets[kept.variable]] * 2
    return str(secrets[kept.variable])


def session(host: Managed, kept: Kept) -> tuple[str, str]:
    """The number of a host's iSCSI session, and the secret by which it has logged in."""
    name = {"password": "password", "mutual_password": "password_in"}[kept.option]
    number, secret = host.sh(f"cd /sys/class/iscsi_session; ls; cat */{name}").split()
    return number, secret


def test_the_backends_are_there(rotation: Rotation) -> None:
    assert rotation.at_rest() == [FIRST, FIRST]
    firsts = {"vault_share": FIRST, "vault_lun": CHAP["password"], "vault_target": CHAP["mutual_password"]}
    assert rotation.secrets() == firsts
    assert [rotation.at_rest(kept) for kept in (HOST, TARGET)] == [[CHAP[kept.option]] * 2 for kept in (HOST, TARGET)]


@pytest.mark.parametrize(
    ("kept", "text"), [(SHARE, "refuses the login"), (HOST, "refuses these credentials"), (TARGET, "mutual_password")]
)
def test_a_wrong_secret_changes_nothing_anywhere(rotation: Rotation, kept: Kept, text: str) -> None:
    before = rotation.state()
    done = rotation.run(kept=kept, secret="wrong-secret-16")
    refused(done, text)
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
    assert in_use(rotation, SHARE) != FIRST


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
    assert in_use(rotation, SHARE) == secrets["vault_share_next"]


def test_a_killed_run_is_caught_up(rotation: Rotation) -> None:
    """Killed as soon as the new secret is in the vault: it is not lost, and the one before is in use."""
    before = rotation.secrets()["vault_share"]
    with rotation.start(server=True) as process:
        wait_until(lambda: "vault_share_next" in rotation.secrets(), 60, "the new secret in the vault", interval=0.1)
        os.killpg(process.pid, signal.SIGKILL)
    waiting = rotation.secrets()
    assert waiting["vault_share"] == before != waiting["vault_share_next"]
    changed(rotation.run(server=True))
    assert in_use(rotation, SHARE) == waiting["vault_share_next"]


def test_a_rotation_to_what_is_in_use_changes_nothing(rotation: Rotation) -> None:
    before = rotation.state()
    assert changed(rotation.run(secret=rotation.secrets()["vault_share"])) == 0
    assert rotation.state() == before


@pytest.fixture
def volume(rotation: Rotation) -> Iterator[tuple[Managed, str]]:
    """A volume of the LUN's group that a process has opened, on the host that owns the group."""
    found = [(host, host.backends(refresh=True)["lun"]) for host in rotation.hosts]
    ((host, item),) = [each for each in found if each[1]["status"] == "ok"]
    lvm = "--devices %s --config '%s'" % (
        item["device"],
        'global{system_id_source="lvmlocal"}local{system_id="%s"}' % item["owner"],
    )
    host.sh(f"lvm lvcreate {lvm} --yes --wipesignatures n --size 8M --name v vg_turning")
    host.sh("systemd-run --collect --unit=holder sh -c 'exec 9<>/dev/vg_turning/v; sleep 600'")
    host.sh(
        "timeout 20 sh -c 'until [ $(dmsetup info -c --noheadings -o open vg_turning-v) -gt 0 ]; do sleep 0.1; done'"
    )
    yield host, "/dev/vg_turning/v"
    host.sh(f"systemctl stop holder 2>/dev/null; lvm lvremove {lvm} --yes vg_turning/v", check=False)


def test_a_lun_in_use_gets_its_new_secret_when_it_is_free(rotation: Rotation, volume: tuple[Managed, str]) -> None:
    owner, path = volume
    (other,) = [host for host in rotation.hosts if host != owner]
    before = session(owner, HOST)
    assert changed(rotation.run(kept=HOST, server=True)) > 0
    secret = in_use(rotation, HOST)
    assert len(secret) == 16
    assert session(owner, HOST) == before, "the machine's session is left alone"
    assert session(other, HOST)[1] == secret, "nothing uses it on standby"
    owner.sh(f"printf kept | dd of={path} bs=512 conv=sync,fsync oflag=direct status=none")
    waits = owner.works("storage_backend", **rotation.item(HOST))
    assert (waits.changed, waits.result["backend"]["pending_login"]) == (False, ["v"])
    owner.sh("systemctl stop holder")
    owner.converges("storage_backend", **rotation.item(HOST))
    assert session(owner, HOST)[1] == secret
    assert owner.sh(f"head -c 4 {path}") == "kept"


def test_the_target_proves_itself_by_another_secret(rotation: Rotation) -> None:
    statuses = [host.backends(refresh=True)["lun"]["status"] for host in rotation.hosts]
    assert changed(rotation.run(kept=TARGET, server=True)) > 0
    secret = in_use(rotation, TARGET)
    assert [session(host, TARGET)[1] for host in rotation.hosts] == [secret] * 2
    assert [host.backends(refresh=True)["lun"]["status"] for host in rotation.hosts] == statuses


def test_blank_means_keep(rotation: Rotation, hv1: Managed) -> None:
    """Also for an inventory whose vault is lost."""
    before = rotation.state()
    blank = {"password": "", "mutual_password": ""}
    items = [{key: blank.get(key, value) for key, value in rotation.item(kept).items()} for kept in (SHARE, HOST)]
    proven = [{**item, "secret_check": True} for item in items]
    kept, tried = hv1.run(call("storage_backend", backends=items), call("storage_backend", backends=proven))
    assert (kept.failed, kept.changed, tried.failed) == (False, False, False), (kept, tried)
    assert all(item["secret_checked"] for item in tried.result["backends"])
    assert rotation.state() == before
