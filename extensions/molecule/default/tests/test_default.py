# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts after site.yml: what is on them, and that there is nothing left to do."""

from __future__ import annotations

import json

import pytest
import testinfra
from testinfra.host import Host

from extensions.molecule.calls import Answer, call
from extensions.molecule.managed import Converge, Managed
from tests.lab import Lab, NfsServer


@pytest.fixture(scope="module", params=["hv1", "hv2"])
def managed(request: pytest.FixtureRequest) -> Managed:
    """Each host, for the collection's modules."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def host(managed: Managed, lab: Lab) -> Host:
    """The same host, for testinfra."""
    return testinfra.get_host(f"ansible://{managed.name}?ansible_inventory={lab.inventory}")


@pytest.fixture(scope="module")
def infos(hv1: Managed, hv2: Managed) -> dict[str, Answer]:
    """What host_info says of each host: nothing here changes anything."""
    running = {host.name: host.start(call("host_info", refresh=True)) for host in (hv1, hv2)}
    return {name: each.answers()[0] for name, each in running.items()}


def test_packages(host: Host) -> None:
    assert host.package("nfs-common").is_installed


def test_backends(managed: Managed, infos: dict[str, Answer]) -> None:
    backends = infos[managed.name].items("backends")
    assert sorted(backends) == ["local", "nas"]
    assert [backends[name]["default"] for name in ("local", "nas")] == [False, True]
    assert {item["status"] for item in backends.values()} == {"ok"}
    assert all(item["capacity"]["total_bytes"] > item["capacity"]["free_bytes"] > 0 for item in backends.values())
    assert backends["nas"]["version_negotiated"] == "4.2"
    assert {"multi_host", "external"} <= set(backends["nas"]["capabilities"])


def test_hosts_agree_on_what_the_backend_is(infos: dict[str, Answer], nas: NfsServer) -> None:
    marker = json.loads((nas.data("rw") / ".microvm" / "backend.json").read_text())
    first, second = (infos[name].items("backends") for name in ("hv1", "hv2"))
    assert first["nas"]["uuid"] == second["nas"]["uuid"] == marker["uuid"]
    assert first["local"]["uuid"] != second["local"]["uuid"]


def test_probes_left_nothing_on_the_server(nas: NfsServer) -> None:
    assert [path.name for path in nas.data("rw").iterdir()] == [".microvm"]
    assert [path.name for path in (nas.data("rw") / ".microvm").iterdir()] == ["backend.json"]
    assert list(nas.data("rw2").iterdir()) == []


def test_mounts_now_and_at_boot(host: Host, managed: Managed, infos: dict[str, Answer]) -> None:
    mounts = infos[managed.name].items("mounts")
    assert list(mounts) == ["media"]
    paths = [infos[managed.name].items("backends")["nas"]["path"], mounts["media"]["path"]]
    for path in paths:
        mount = host.mount_point(path)
        assert mount.exists and mount.filesystem == "nfs4"
        assert {"rw", "nosuid", "nodev", "noexec", "hard"} <= set(mount.options)
        unit = host.check_output("systemd-escape --path --suffix=mount %s", path)
        assert host.check_output("systemctl is-enabled %s", unit) == "enabled"
        assert host.check_output("systemctl is-active %s", unit) == "active"
    assert "noatime" in host.mount_point(paths[1]).options


def test_registry_is_for_root_alone(host: Host) -> None:
    registry = host.file("/var/lib/microvm/registry.db")
    assert (registry.user, registry.group, oct(registry.mode)) == ("root", "root", "0o600")


def test_nothing_is_left_to_do(converge: Converge) -> None:
    done = converge("--check", "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    recap = done.stdout.split("PLAY RECAP")[1]
    assert recap.count("changed=0") == 2 and recap.count("failed=0") == 2, recap
    assert "--- before" not in done.stdout
