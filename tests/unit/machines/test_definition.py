# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a definition is, and what is refused before anything of the host is looked at."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import definition, places
from tests.unit.machines.given import KERNEL, asked

HOME = {"tag": "home", "source": "/srv/home"}


def test_what_a_machine_gets_unless_asked_otherwise() -> None:
    config = asked()
    assert config == {**definition.DEFAULTS, "kernel": KERNEL}
    assert config.keys() == definition.SPEC.keys()
    assert config["memory"] == 512 << 20


def test_disks_and_interfaces_have_a_stable_identity() -> None:
    config = asked(disks=[{"path": "/a"}, {"path": "/b", "serial": "data"}], interfaces=[{}, {"bridge": "br0"}])
    assert [disk["serial"] for disk in config["disks"]] == ["disk0", "data"]
    first, second = config["interfaces"]
    assert first["mac"] != second["mac"] and first["mac"].startswith("02:")
    assert asked(interfaces=[{}])["interfaces"][0]["mac"] == first["mac"]
    assert asked("web2", interfaces=[{}])["interfaces"][0]["mac"] != first["mac"]
    assert len(places.tap("a" * places.LONGEST_NAME, 23)) <= 15
    assert len(places.user("a" * places.LONGEST_NAME)) <= 31


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"memory": 64}, "write 64MiB or 64GiB"),
        ({"memory": "64"}, "write 64MiB or 64GiB"),
        ({"vcpus": -1}, "choose one of these"),
        ({"disks": [{"path": "/a", "serial": "a"}, {"path": "/b", "serial": "a"}]}, "its own serial"),
        ({"interfaces": [{"mac": "02:00:00:00:00:01"}, {"mac": "02:00:00:00:00:01"}]}, "its own mac"),
        ({"shares": [HOME, HOME]}, "its own tag"),
        ({"interfaces": [{"bridge": "no bridge"}]}, "'ip link'"),
    ],
)
def test_what_to_do_next(options: dict[str, t.Any], hint: str) -> None:
    with pytest.raises(HostError) as refused:
        asked(**options)
    assert refused.value.kind == "invalid" and hint in refused.value.hint


def test_a_relative_source_is_below_the_machine() -> None:
    (share,) = asked(shares=[{"tag": "home", "source": "home"}])["shares"]
    assert share["source"] == "/var/lib/microvm/machines/web1/home"


def test_the_root_disk_is_the_first_and_the_kernel_is_told() -> None:
    config = asked(
        root={"size": "1GiB", "backend": "nas"}, disks=[{"path": "/a"}, {"volume": "data", "read_only": True}]
    )
    first, second, third = config["disks"]
    assert (first["volume"], first["serial"], first["make"]) == (
        "web1-root",
        "root",
        {"backend": "nas", "size": 1 << 30},
    )
    assert (second["path"], second["volume"], second["make"], second["serial"]) == ("/a", "", {}, "disk0")
    assert (third["path"], third["volume"], third["serial"]) == ("", "data", "disk1")
    assert definition.guest_args(config) == ["root=/dev/vda", "rw"]
    assert definition.guest_args(asked(root={"path": "/a", "read_only": True})) == ["root=/dev/vda", "ro"]
    assert definition.guest_args(asked(root={}, kernel_args="quiet root=/dev/vda1")) == ["quiet", "root=/dev/vda1"]
    assert (
        definition.disk_field(config, 0, "m.") == "m.root." and definition.disk_field(config, 2, "m.") == "m.disks[1]."
    )
    wanted = definition.volume_of(first, 7, "root.")
    assert (wanted.name, wanted.backend, wanted.size, wanted.timeout) == ("web1-root", "nas", 1 << 30, 7)


def test_the_digest_is_that_of_what_a_machine_is_started_with() -> None:
    config = asked()
    assert definition.digest(asked(stop_timeout=5, autostart=False, cpu_limit=50)) == definition.digest(config)
    assert definition.digest(asked(vcpus=2)) != definition.digest(config)
    live: dict[str, t.Any] = {"balloon": True, "root": {"size": "2M"}}
    assert definition.digest(asked(**{**live, "root": {"size": "1M"}}, balloon_target="64M", wait_for="login:")) == (
        definition.digest(asked(**live))
    )
    assert definition.digest(asked(shares=[HOME])) != definition.digest(config)


@pytest.mark.parametrize(
    ("options", "field", "text"),
    [
        ({"kernel": None}, "kernel", "required"),
        ({"kernel": "vmlinuz"}, "kernel", "not an absolute path"),
        ({"vcpus": 0}, "vcpus", "0 is not within"),
        ({"memory": "1GB"}, "memory", "powers of 1000 or of 1024"),
        ({"memory": "512KiB"}, "memory", "less than"),
        ({"memory": (64 << 20) + 1}, "memory", "whole number of MiB"),
        ({"memory": "2048MiB"}, "memory", "hangs with exactly 2048"),
        ({"memory_limit": "256MiB"}, "memory_limit", "less than memory"),
        ({"memory": "65MiB", "hugepages": True}, "memory", "huge pages"),
        ({"disks": [{"path": "/a", "bandwidth_limit": "1K"}]}, "disks[0].bandwidth_limit", "less than 4096"),
        ({"disks": [{"path": "/a", "iops_limit": 0}]}, "disks[0].iops_limit", "0 is not within"),
        ({"interfaces": [{"bandwidth_limit": "1M"}]}, "interfaces[0].bandwidth_limit", "QEMU limits disks only"),
        ({"metadata": "/a.json", "interfaces": [{}]}, "metadata", "only Firecracker"),
        ({"hypervisor": "firecracker", "metadata": "/a.json"}, "metadata", "no interface"),
        ({"hypervisor": "firecracker", "metadata": "/a:b", "interfaces": [{}]}, "metadata", "colon"),
        ({"vsock": 2}, "vsock", "2 is not within"),
        ({"notify": True}, "notify", "give vsock too"),
        ({"stop_timeout": 0}, "stop_timeout", "0 is not within"),
        ({"kernel_args": "a\nb"}, "kernel_args", "cannot be seen"),
        ({"disks": [{"path": "/a"}, {"path": "/a"}]}, "disks[1].path", "disks[0].path"),
        ({"disks": [{"path": "/a"}, {"path": "/b", "serial": "disk0"}]}, "disks[1].serial", "disks[0].serial"),
        ({"disks": [{"path": "/a", "serial": "x" * 21}]}, "disks[0].serial", "at most 20"),
        ({"disks": [{"path": "/a", "io": "native"}]}, "disks[0].io", "cache: none"),
        ({"disks": [{"path": "/d%d" % number} for number in range(24)]}, "disks", "25 devices"),
        ({"disks": [{}]}, "disks[0].path", "a path, or else a volume"),
        ({"root": {"path": "/a", "volume": "a"}}, "root.path", "one of the two"),
        ({"root": {"path": "/a", "size": "1G"}}, "root.size", "option of a volume"),
        ({"root": {"volume": "A"}}, "root.volume", "'A'"),
        ({"root": {"size": "1GB"}}, "root.size", "powers of 1000"),
        ({"root": {"checksum": "1" * 64}}, "root.checksum", "give image too"),
        ({"root": {"volume": "a"}, "disks": [{"volume": "a"}]}, "disks[0].volume", "root.volume"),
        ({"balloon_target": "64M"}, "balloon_target", "no balloon"),
        ({"balloon": True, "balloon_target": "1G"}, "balloon_target", "more than memory"),
        ({"wait_for": "a\nb"}, "wait_for", "cannot be seen"),
        ({"interfaces": [{"type": "user", "bridge": "br0"}]}, "interfaces[0].bridge", "only a tap"),
        ({"interfaces": [{"bridge": "b" * 16}]}, "interfaces[0].bridge", "not the name"),
        ({"interfaces": [{"type": "macvtap", "link": "eth0", "bridge": "br0"}]}, "interfaces[0].bridge", "only a tap"),
        ({"interfaces": [{"type": "macvtap"}]}, "interfaces[0].link", "required"),
        ({"interfaces": [{"type": "macvtap", "link": "a b"}]}, "interfaces[0].link", "not the name"),
        ({"interfaces": [{"queues": 2}]}, "interfaces[0].queues", "2 is not within 1 to 1"),
        ({"vcpus": 2, "interfaces": [{"type": "user", "queues": 2}]}, "interfaces[0].queues", "only a tap"),
        (
            {"vcpus": 2, "hypervisor": "firecracker", "interfaces": [{"queues": 2}]},
            "interfaces[0].queues",
            "firecracker has one",
        ),
        ({"interfaces": [{"mode": "vepa"}]}, "interfaces[0].mode", "only a macvtap"),
        (
            {"hypervisor": "firecracker", "interfaces": [{"type": "macvtap", "link": "a"}]},
            "interfaces[0].type",
            "no macvtap",
        ),
        ({"interfaces": [{"mac": "01:00:00:00:00:00"}]}, "interfaces[0].mac", "group address"),
        ({"interfaces": [{"mac": "02:00:00:00:00"}]}, "interfaces[0].mac", "not a MAC"),
        ({"interfaces": [{"mac": "02:00:00:00:00:01"}] * 2}, "interfaces[1].mac", "interfaces[0].mac"),
        ({"shares": [HOME, HOME]}, "shares[1].tag", "shares[0]"),
        ({"shares": [{**HOME, "tag": "home/x"}]}, "shares[0].tag", "not a name"),
        ({"shares": [{**HOME, "source": "../x"}]}, "shares[0].source", "component"),
        ({"shares": [{**HOME, "source": "/var/lib/microvm/registry.db"}]}, "shares[0].source", "belongs to"),
        ({"shares": [{**HOME, "mount_point": "/a:b"}]}, "shares[0].mount_point", "':'"),
        ({"shares": [{**HOME, "security_model": "none"}]}, "shares[0].security_model", "no option of virtiofs"),
        ({"shares": [{**HOME, "proto": "9p", "cache": "auto"}]}, "shares[0].cache", "no option of 9p"),
        ({"shares": [{**HOME, "posix_acl": True, "translate_uid": ["map:0:1:1"]}]}, "shares[0].posix_acl", "ACLs"),
        ({"hypervisor": "firecracker", "shares": [HOME]}, "shares[0].proto", "firecracker has no virtiofs"),
        (
            {"hypervisor": "cloud_hypervisor", "shares": [{**HOME, "proto": "9p"}]},
            "shares[0].proto",
            "cloud_hypervisor has no 9p",
        ),
        ({"hypervisor": "firecracker", "accelerator": "tcg"}, "accelerator", "needs KVM"),
        ({"hypervisor": "firecracker", "interfaces": [{"type": "user"}]}, "interfaces[0].type", "no user network"),
        ({"hypervisor": "firecracker", "vcpus": 33}, "vcpus", "33 is not within"),
        ({"hypervisor": "firecracker", "disks": [{"path": "/a", "cache": "none"}]}, "disks[0].cache", "page cache"),
        ({"hypervisor": "cloud_hypervisor", "credentials": {"a": "/a"}}, "credentials", "fw_cfg"),
        ({"credentials": {"a/b": "/a"}}, "credentials", "not the name"),
        ({"credentials": {"a": "/a:b"}}, "credentials.a", "colon"),
        ({"extra_args": ["-machine"]}, "extra_args[0]", "set by this collection"),
        ({"extra_args": [""]}, "extra_args[0]", "not an argument"),
    ],
)
def test_refused_with_the_field_at_fault(options: dict[str, t.Any], field: str, text: str) -> None:
    with pytest.raises(HostError) as refused:
        asked(**options)
    assert refused.value.kind == "invalid"
    assert refused.value.field == "machines[0]." + field
    assert text in refused.value.message + refused.value.hint


def test_a_socket_path_that_the_kernel_would_not_take_is_refused() -> None:
    longest = places.share_socket("a" * 27, "b" * 36)
    assert len(longest) <= places.LONGEST_SOCKET  # no name and tag of ours come near it
    assert asked("a" * 27, shares=[{**HOME, "tag": "b" * 36}])["shares"][0]["tag"] == "b" * 36


@pytest.mark.parametrize("name", ["a" * 28, "Web", "locks", "docker-volumes", "a..b", ""])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(HostError, match="name"):
        definition.name_of(name, "name")
