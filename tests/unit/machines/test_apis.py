# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is generated for Firecracker and Cloud Hypervisor, and what they are told, is what they describe."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._machines import cloud_hypervisor, control, firecracker
from tests.unit.machines import apis
from tests.unit.machines.given import asked
from tests.unit.machines.test_command_lines import CLOUD, FULL, SHARES

LIMITS = {"bandwidth_limit": "50MiB", "iops_limit": 1000}
MORE: dict[str, t.Any] = {
    **FULL,
    "hugepages": True,
    "balloon_target": "512MiB",
    "disks": [{"path": "/srv/a.raw", **LIMITS}, {"path": "/srv/b.raw", "read_only": True}],
    "interfaces": [{"type": "tap", **LIMITS}, {"type": "tap"}],
}


def numbered(words: t.Mapping[str, str]) -> dict[str, t.Any]:
    """Digits as numbers."""
    return {key: int(value) if value.isdigit() else value for key, value in words.items()}


def test_firecracker_s_configuration_is_as_described() -> None:
    for options in ({}, MORE, {**MORE, "metadata": "/srv/web1.json"}):
        found = firecracker.configuration(asked(hypervisor="firecracker", **options), "web1")
        assert apis.wrong(found, apis.FIRECRACKER) == []
    assert found["mmds-config"] == {"version": "V2", "network_interfaces": ["net0", "net1"]}
    assert found["machine-config"]["huge_pages"] == "2M"
    assert found["drives"][0]["rate_limiter"]["bandwidth"] == {"size": 50 << 20, "refill_time": 1000}
    assert found["network-interfaces"][0]["rx_rate_limiter"]["ops"]["size"] == 1000
    assert "rate_limiter" not in found["drives"][1]


def test_what_is_not_described_is_found() -> None:
    right = firecracker.configuration(asked(hypervisor="firecracker", **MORE), "web1")
    wrong = {
        **right,
        "boot-source": {"kernel": "x"},
        "balloon": {"amount_mib": True, "deflate_on_oom": True},
        "more": 1,
    }
    assert apis.wrong(wrong, apis.FIRECRACKER) == [
        ".more is unknown",
        ".boot-source.kernel is unknown",
        ".boot-source.kernel_image_path is missing",
        ".balloon.amount_mib is True",
    ]


def test_cloud_hypervisor_s_command_line_is_as_described() -> None:
    interfaces = [{**MORE["interfaces"][0], "queues": 2}]
    config = asked(hypervisor="cloud_hypervisor", **{**MORE, "interfaces": interfaces}, shares=SHARES[:1])
    words = cloud_hypervisor.command_line(config, "web1", CLOUD)[1:]
    seen = set()
    for at in range(0, len(words), 2):
        option, value = words[at : at + 2]
        seen.add(option)
        if option not in apis.CLOUD_HYPERVISOR_WORDS:
            found = numbered(dict(t.cast("tuple[str, str]", each.split("=", 1)) for each in value.split(",")))
            assert apis.wrong(found, apis.CLOUD_HYPERVISOR[option], option) == []
    assert seen == {*apis.CLOUD_HYPERVISOR, *apis.CLOUD_HYPERVISOR_WORDS}
    assert "path=/srv/a.raw,readonly=off,image_type=raw,serial=disk0,bw_size=52428800" in " ".join(words)
    assert ",num_queues=4," in " ".join(words)


@pytest.mark.parametrize(
    ("kind", "described"),
    [(control.Firecracker, apis.FIRECRACKER_CALLS), (control.CloudHypervisor, apis.CLOUD_HYPERVISOR_CALLS)],
)
def test_orders_are_as_described(
    kind: type[control.Firecracker | control.CloudHypervisor],
    described: dict[tuple[str, str], apis.Fields],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[tuple[str, str], t.Any] = {}

    def order(self: object, method: str, url: str, body: dict[str, t.Any] | None = None) -> dict[str, str]:
        given[method, url] = body or {}
        return {"state": "Running"}

    monkeypatch.setattr(kind, "order", order)
    it = kind("/run/socket")
    it.state()
    it.pause()
    assert kind is control.CloudHypervisor or apis.wrong(given["PATCH", "/vm"], described["PATCH", "/vm"]) == []
    it.resume()
    it.press_power_button()
    it.quit()
    it.grow_disk("disk0", "/srv/a.raw", 1 << 30)
    it.balloon(1 << 30, 1 << 29)
    assert given.keys() == described.keys()
    assert [line for call, body in given.items() for line in apis.wrong(body, described[call], " ".join(call))] == []
