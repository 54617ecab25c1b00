# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions, address families, rights, locks; and what can't be had."""

from __future__ import annotations

from typing import Any

from extensions.molecule.calls import call
from extensions.molecule.managed import Managed
from extensions.molecule.nfs.tests.conftest import healthy
from tests.lab import Lab

VERSIONS = {
    **dict.fromkeys(("nas", "literal6", "readonly", "v42", "v4", "tcp4", "tcp6"), "4.2"),
    **dict.fromkeys(("nolock", "filer"), "3"),
    "v40": "4.0",
    "v41": "4.1",
}


def test_versions_families_flags(hv2: Managed, lab: Lab) -> None:
    (info,) = hv2.run(call("host_info", refresh=True))
    backends, mounts = info.items("backends"), info.items("mounts")
    remote = {name: item for name, item in {**backends, **mounts}.items() if name != "local"}
    assert {name: item["version_negotiated"] for name, item in remote.items()} == VERSIONS
    assert healthy({name: item["status"] for name, item in {**backends, **mounts}.items()})
    table = hv2.table()
    options = {name: table[item["path"]][0]["options"].split(",") for name, item in remote.items()}
    for name, shown in options.items():
        assert {f"vers={VERSIONS[name]}", "hard", "nosuid", "nodev", "noexec"} <= set(shown)
        assert ("ro" in shown) == (name == "readonly")
    nas, filer = lab.servers["nas1"], lab.servers["filer1"]
    assert {"proto=tcp", f"addr={nas.address}"} <= set(options["tcp4"])
    assert {"proto=tcp6", f"addr={nas.address6}"} <= set(options["tcp6"])
    assert f"addr={filer.address6}" in options["literal6"]
    assert table[mounts["literal6"]["path"]][0]["source"] == f"[{filer.address6}]:/export/squash"
    assert {name for name, item in backends.items() if "multi_host" in item["capabilities"]} == {"nas", "filer"}


def test_locks_hold_across_hosts_or_are_not_claimed(hv1: Managed, hv2: Managed) -> None:
    paths = {name: item["path"] for name, item in hv1.backends().items() if name in ("nas", "filer", "nolock")}
    for name, path in paths.items():
        hv1.sh(f"systemd-run --quiet --unit=lock-{name} flock {path}/lock sleep infinity")
    try:
        for path in paths.values():
            hv1.sh(f"timeout 50 sh -c 'while flock --nonblock {path}/lock true; do sleep 0.5; done'")
        got = {name: hv2.sh(f"flock --nonblock {path}/lock echo got || true") for name, path in paths.items()}
        assert got == {"nas": "", "filer": "", "nolock": "got\n"}
    finally:
        hv1.sh("systemctl stop 'lock-*'")
        for path in paths.values():
            hv1.sh(f"rm {path}/lock")


def test_what_cannot_be_mounted_says_why_and_leaves_nothing(hv1: Managed, lab: Lab) -> None:
    dead = lab.dead_addresses(1)[0]
    wrong: dict[str, tuple[dict[str, Any], str, str]] = {
        "nowhere": ({"export": "/export/nowhere"}, "not_found", "no such export"),
        "squashed": ({"export": "/export/squash", "probe": "write"}, "refused", "no_root_squash"),
        "unwritable": ({"server": "filer1", "export": "/export/ro", "probe": "write"}, "refused", "read_only"),
        "dead": ({"server": dead, "timeout": 4}, "unreachable", "firewall"),
        "nobody": ({"server": "nobody.invalid"}, "unreachable", "nobody.invalid"),
        "listed": ({"path": "/srv/listed"}, "conflict", "/etc/fstab line 1"),
        "taken": ({"path": "/srv/taken"}, "conflict", "tmpfs"),
    }
    items = [
        {"name": name, "server": "nas1", "export": "/export/e20", "path": f"/srv/{name}", "timeout": 30, **options}
        for name, (options, dummy, dummy2) in wrong.items()
    ]
    hv1.sh(
        "mkdir -p /srv/taken && mount -t tmpfs tmpfs /srv/taken && echo 'none /srv/listed tmpfs noauto' > /etc/fstab"
    )
    try:
        (answer,) = hv1.run(call("nfs_export_mount", mounts=items))
        assert answer.failed and not answer.changed, answer.result
        for name, item in answer.items("mounts").items():
            dummy, kind, word = wrong[name]
            error = item["error"]
            assert error["kind"] == kind, item
            assert word in f"{error['message']} {error['hint']}", item
        assert sorted(answer.items("mounts")) == sorted(wrong)
        assert hv1.sh("ls /srv; grep /srv /proc/self/mountinfo | cut -d' ' -f5") == "taken\n/srv/taken\n"
        assert hv1.remembers("/srv/") == "/proc/self/mountinfo\n"
        assert [hv1.remembers(text) for text in ("/export/nowhere", dead, "nobody.invalid")] == [""] * 3
    finally:
        hv1.sh("umount /srv/taken; rmdir /srv/taken; : > /etc/fstab")


def test_backends_that_cannot_be_written_or_found(hv1: Managed) -> None:
    squash = {"kind": "nfs", "server": "nas1", "export": "/export/squash"}
    tried, read_only, gone, now = hv1.run(
        call(
            "storage_backend",
            backends=[
                {"name": "squashed", **squash},
                {"name": "unwritable", "kind": "nfs", "server": "filer1", "export": "/export/ro"},
                {"name": "nowhere", "kind": "nfs", "server": "nas1", "export": "/export/nowhere"},
            ],
        ),
        call("storage_backend", name="images", read_only=True, **squash),
        call("storage_backend", name="images", state="absent"),
        call("host_info"),
    )
    assert tried.errors("backends") == {"squashed": "refused", "unwritable": "refused", "nowhere": "not_found"}
    hints = {name: item["error"]["hint"] for name, item in tried.items("backends").items()}
    assert "no_root_squash" in hints["squashed"] and "read_only" in hints["unwritable"], hints
    assert (read_only.result["backend"]["status"], read_only.result["backend"]["identity"]) == ("read_only", "weak")
    assert gone.changed and not gone.failed
    assert sorted(now.items("backends")) == ["filer", "local", "nas", "nolock"]
    assert hv1.sh("grep -l /export/nowhere /etc/systemd/system/*.mount || true") == ""
