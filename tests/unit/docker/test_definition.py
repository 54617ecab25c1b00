# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a Docker volume."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._docker import definition, mounting
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

NAS = {"server": "nas", "path": "/data"}
ON_BACKEND = {"backend": "nfs-prod"}


def test_what_a_volume_gets_unless_asked_otherwise() -> None:
    found = definition.parse("v", NAS)
    assert found.options == ("hard", "exec", "nosuid", "nodev", "noatime")
    assert (found.version, found.timeout, found.on_remove, found.read_only) == ("4.1+", 30, "retain", False)
    assert found.warnings == []
    assert mounting.root_asked(found, None) == {
        "kind": "nfs",
        "server": "nas",
        "export": "/data",
        "version": "4.1+",
        "options": ["hard", "exec", "nosuid", "nodev", "noatime"],
    }


def test_all_options() -> None:
    opts = {
        "server": "2001:DB8::7",
        "path": "/tank/docker/",
        "vers": "4.2",
        "port": "20490",
        "options": "soft,timeo=50,noexec,relatime",
        "subdir": "team/app",
        "mode": "2770",
        "uid": "1000",
        "gid": "0",
        "on_remove": "archive",
        "timeout": "4",
    }
    found = definition.parse("App_1.data", opts)
    assert found.options == ("soft", "timeo=50", "port=20490", "nosuid", "nodev", "noexec", "relatime")
    assert (found.server, found.path, found.subdir) == ("2001:db8::7", "/tank/docker", "team/app")
    assert (found.mode, found.uid, found.gid, found.timeout) == (0o2770, 1000, 0, 4)
    assert len(found.warnings) == 1
    root = mounting.root_asked(found, None)
    assert mounting.asked_of(found, root)["export"] == "/tank/docker/team/app"


def test_a_volume_on_a_backend_has_a_directory_of_its_own() -> None:
    found = definition.parse("v", ON_BACKEND)
    assert found.subdir == "docker-volumes/v"
    backend = {"kind": "nfs", "server": "nas", "export": "/vms", "version": "default", "options": ["hard", "noexec"]}
    root = mounting.root_asked(found, backend)
    assert root["version"] == "4", "what NFS 3 needs for locks is a program"
    assert mounting.asked_of(found, root)["export"] == "/vms/docker-volumes/v"
    with pytest.raises(HostError) as caught:
        mounting.root_asked(found, dict(backend, version="3"))
    assert caught.value.kind == "unsupported"
    assert mounting.root_asked(found, dict(backend, version="3", options=["nolock"]))["version"] == "3"


def test_a_read_only_volume() -> None:
    assert "ro" in definition.parse("v", dict(NAS, read_only="true")).options
    assert definition.parse("v", dict(NAS, options="ro")).read_only
    found = definition.parse("v", dict(ON_BACKEND, read_only="1"))
    backend = {"kind": "nfs", "server": "nas", "export": "/vms", "version": "4.2", "options": ["hard"]}
    assert "ro" in mounting.root_asked(found, backend)["options"]


@pytest.mark.parametrize(
    ("opts", "field"),
    [
        (None, "server"),
        ({"server": "nas"}, "path"),
        ([], "Opts"),
        (dict(NAS, sever="x"), "'sever'"),
        (dict(NAS, uid=7), "uid"),
        (dict(NAS, server="nas/x"), "server"),
        (dict(NAS, server="$(id)"), "server"),
        (dict(NAS, path="data"), "path"),
        (dict(NAS, path="/data/../.."), "path"),
        (dict(NAS, path="/" + "x" * 251), "path"),
        (dict(NAS, path="/da\nta"), "path"),
        (dict(NAS, vers="default"), "vers"),
        (dict(NAS, vers="2"), "vers"),
        (dict(NAS, vers="3"), "vers"),
        (dict(NAS, port="0"), "port"),
        (dict(NAS, port="٣"), "port"),
        (dict(NAS, options="bogus"), "options"),
        (dict(NAS, options="addr=192.0.2.1"), "options"),
        (dict(NAS, options="ro", read_only="false", on_remove="delete", subdir="x"), "on_remove"),
        (dict(NAS, subdir="/etc"), "subdir"),
        (dict(NAS, subdir="../etc"), "subdir"),
        (dict(NAS, subdir="a//b"), "subdir"),
        (dict(NAS, mode="0755"), "mode"),
        (dict(NAS, subdir="a", mode="rwx"), "mode"),
        (dict(NAS, subdir="a", mode="17777"), "mode"),
        (dict(NAS, subdir="a", uid="-1"), "uid"),
        (dict(NAS, subdir="a", uid="4294967295"), "uid"),
        (dict(NAS, read_only="maybe"), "read_only"),
        (dict(NAS, on_remove="delete"), "on_remove"),
        (dict(NAS, subdir="a", on_remove="burn"), "on_remove"),
        (dict(NAS, timeout="0"), "timeout"),
        (dict(NAS, timeout="111"), "timeout"),
        (dict(NAS, backend="nfs-prod"), "server"),
        ({"backend": "no name"}, "backend"),
    ],
)
def test_what_is_refused(opts: t.Any, field: str) -> None:
    with pytest.raises(HostError) as caught:
        definition.parse("v", opts)
    assert (caught.value.kind, caught.value.field) == ("invalid", field)


def test_nfs_3_without_locks_of_the_server() -> None:
    assert "nolock" in definition.parse("v", dict(NAS, vers="3", options="nolock")).options


def test_differences_are_told_both_ways() -> None:
    one, two = definition.parse("v", NAS), definition.parse("v", dict(NAS, options="soft", timeout="5"))
    assert one.differences(one) == []
    assert one.differences(two) == [
        "options: soft,exec,nosuid,nodev,noatime instead of hard,exec,nosuid,nodev,noatime",
        "timeout: 5 instead of 30",
    ]
