# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts on one LUN: one owns the group, the other cannot harm it, and takes it only when it is told to."""

from __future__ import annotations

from extensions.molecule.calls import call
from extensions.molecule.iscsi.tests.conftest import Asked, Group, found, statuses
from extensions.molecule.managed import Managed
from tests.lab.daemon import wait_until

Pair = tuple[Managed, Managed]
KEPT = ("kept1", "kept2", "kept3")
"""Volumes that go to another host with their group."""


def metadata(host: Managed, device: str) -> str:
    """The group's sequence number and owner, as the LUN has them."""
    return host.sh(f"lvm vgs --devices {device} --foreign --noheadings -o vg_seqno,vg_systemid,vg_uuid").strip()


def test_one_of_two_that_formatted_at_once_owns_it(pair: Pair, asked: Asked) -> None:
    owner, other = pair
    mine, its = found(asked.run(owner)), found(asked.run(other))
    assert (mine["san"]["status"], its["san"]["status"]) == ("ok", "standby")
    assert sorted((mine["archive"]["status"], its["archive"]["status"])) == ["ok", "standby"]
    for name in ("san", "archive"):
        assert mine[name]["owner"] == its[name]["owner"]
        assert mine[name]["vg_uuid"] == its[name]["vg_uuid"]
    assert mine["san"]["owner"].startswith(f"{owner.name}.")
    assert mine["san"]["capacity"]["data_percent"] == 0.0
    for host in pair:
        assert not any(answer.changed for answer in asked.run(host, check=True))
        assert host.sh("systemctl --failed --no-legend") == ""


def test_the_other_cannot_harm_it(pair: Pair, asked: Asked) -> None:
    owner, other = pair
    device = found(asked.run(other))["san"]["device"]
    before = metadata(other, device)
    for verb, words in (
        ("vgchange", "--activate y vg_san"),
        ("vgremove", "--force --yes vg_san"),
        ("lvcreate", "--size 4M vg_san"),
        ("vgck", "vg_san"),
        ("vgchange", "--yes --systemid mine vg_san"),
    ):
        done = other.host.ssh(f"lvm {verb} --devices {device} {words}", check=False)
        assert done.returncode != 0 and "system ID" in done.stderr, (verb, words)
        assert other.sh("ls /dev/mapper").split() == ["control"], (verb, words)
        assert metadata(other, device) == before, (verb, words)
    assert statuses(asked.run(owner))["san"] == "ok"


def test_neither_can_the_module(pair: Pair, asked: Asked) -> None:
    owner, other = pair
    device = found(asked.run(other))["san"]["device"]
    before = metadata(other, device)
    other.works("storage_backend", **{**asked.san, "takeover": "nobody.00000000"})
    other.fails("iscsi_lvm", "conflict", **{key: value for key, value in asked.san.items() if key != "kind"})
    other.works("storage_backend", name="san", state="absent")
    assert metadata(owner, found(asked.run(owner))["san"]["device"]) == before
    assert statuses(asked.run(other))["san"] == "standby"


def only_forgets(former: Managed, owner: str) -> None:
    """The host that lost the group: it is told whose it is, and gets rid of what it knew of the volumes in it."""
    info = former.works("host_info")
    backend = info.items("backends")["san"]
    assert (backend["status"], backend["owner"]) == ("standby", owner)
    assert {info.items("volumes")[name]["status"] for name in KEPT} == {"standby"}
    refused = former.fails("storage_volume", "in_use", name=KEPT[0], size="64M")
    assert f"belongs to {owner}" in refused.result["msg"]
    for module, plural, options in (
        ("storage_volume", "volumes", {"volumes": [{"name": KEPT[0], "state": "absent"}]}),
        ("storage_backend", "backends", {"backends": [{"name": "san", "state": "absent"}]}),
    ):
        steps = former.run(*(call(module, check, **options) for check in (True, False, False, True)))
        assert [step.changed for step in steps] == [True, True, False, False], steps
        assert not any(step.failed for step in steps) and steps[0].result["diff"] == steps[1].result["diff"]
        assert f"belongs to {owner} now, its data stays" in str(steps[1].result[plural])
    assert former.works("host_info").result["volumes"] == []


def test_a_host_that_died_is_taken_over_from_and_comes_back_on_standby(pair: Pair, asked: Asked, group: Group) -> None:
    owner, other = pair
    for name in KEPT:
        owner.works("storage_volume", name=name, backend="san", size="8M")
    disk = group.make("v", "8M")
    owner.sh(f"printf kept | dd of={disk} bs=512 conv=sync,fsync oflag=direct status=none")
    owner.host.kill()
    try:
        taken = other.works("storage_backend", **{**asked.san, "takeover": group.owner})
        assert taken.changed and "destroy" in taken.warnings
        mine = taken.result["backend"]
        assert mine["owner"].startswith(f"{other.name}.")
        assert other.sh(f"head -c 4 {disk}") == "kept"
    finally:
        owner.host.boot()
    wait_until(lambda: statuses(asked.run(owner))["san"] == "standby", 60, "the former owner to be on standby")
    assert owner.sh("ls /dev/mapper").split() == ["control"]
    assert "vg_san" not in owner.sh("lvm vgs --noheadings -o vg_name 2>/dev/null", check=False)
    before = metadata(other, mine["device"])
    only_forgets(owner, mine["owner"])
    assert metadata(other, mine["device"]) == before
    assert statuses(asked.run(owner))["san"] == "standby"
    Group(other, mine["device"], mine["owner"]).lvm("lvremove", " ".join(f"vg_san/{name}" for name in KEPT))
    Group(other, mine["device"], mine["owner"]).lvm("lvremove", "vg_san/v")


def test_who_lost_a_group_lets_go_of_it_and_gets_it_back(hv1: Managed, hv2: Managed, asked: Asked) -> None:
    target = asked.targets[0]
    items = {host.name: found(asked.run(host))["archive"] for host in (hv1, hv2)}
    owner, other = (hv1, hv2) if items[hv1.name]["status"] == "ok" else (hv2, hv1)
    mine = items[owner.name]
    group = Group(owner, mine["device"], mine["owner"])
    group.lvm("lvcreate", "--size 8M --name v vg_archive")
    owner.sh("systemd-run --unit=user sh -c 'exec 3</dev/vg_archive/v; exec sleep 600'")
    taken = other.works("iscsi_lvm", **{**target, "takeover": mine["owner"]})
    assert taken.changed and "destroy" in taken.warnings

    told = owner.works("iscsi_lvm", **target)
    assert (told.changed, told.result["target"]["status"]) == (False, "standby")
    assert "vg_archive-v" in told.warnings and "stop what uses" in told.warnings
    owner.sh("systemctl stop user")
    owner.converges("iscsi_lvm", **target)
    assert "vg_archive-v" not in owner.sh("ls /dev/mapper")

    assert "nothing is taken over" in owner.works("iscsi_lvm", **{**target, "takeover": "nobody.00000000"}).warnings
    owner.converges("iscsi_lvm", **{**target, "takeover": taken.result["target"]["owner"]})
    group.lvm("lvremove", "vg_archive/v")
    assert statuses(asked.run(other))["archive"] == "standby"


def test_a_host_has_one_group_of_a_name(pair: Pair, asked: Asked) -> None:
    for host in pair:
        answer = host.fails("storage_backend", "conflict", **{**asked.san, "name": "namesake", "lun": 2})
        assert answer.result["error"]["field"] == "vg"
