# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a backend after its first day. The tests run in this order, each from where the one before ended."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from extensions.molecule.calls import Answer, Call, call, refused
from extensions.molecule.managed import Managed
from tests.lab import NfsServer

NAS: dict[str, Any] = {"name": "nas", "kind": "nfs", "server": "nas1", "export": "/export/e01"}
LOCAL: dict[str, Any] = {"name": "local", "kind": "local_file"}


@pytest.fixture(scope="module")
def path(hv1: Managed) -> str:
    """Where the backend is mounted: no edit ever moves it."""
    found = hv1.backends()["nas"]["path"]
    assert isinstance(found, str)
    return found


LOOK = call("host_info", refresh=True)


def edit(check: bool = False, **options: Any) -> Call:
    """An edit of the backend: its first options, but for those given."""
    return call("storage_backend", check, **NAS | options)


def converged(done: Answer, check: Answer) -> None:
    """The run has changed something, and left nothing to do."""
    assert not done.failed and not check.failed, (done, check)
    assert (done.changed, check.changed) == (True, False), (done, check)


def works_as_before(hv1: Managed, path: str, source: str, info: Answer) -> None:
    """The backend is mounted from this source, takes files, and is in good order."""
    assert hv1.mounted(path)["source"] == source
    hv1.sh(f"echo hello > {path}/hello && rm {path}/hello")
    backend = info.items("backends")["nas"]
    assert (backend["status"], backend["path"]) == ("ok", path)
    assert "pending_remount" not in backend


def test_options(hv1: Managed, path: str) -> None:
    done = hv1.converges("storage_backend", **NAS, options=["rsize=65536", "noatime"])
    assert {"rsize=65536", "noatime"} <= set(hv1.mounted(path)["options"].split(","))
    assert done.result["backend"]["path"] == path


def test_version(hv1: Managed, path: str) -> None:
    done = hv1.converges("storage_backend", **NAS, version="4.1")
    assert "vers=4.1" in hv1.mounted(path)["options"].split(",")
    assert done.result["backend"]["version_negotiated"] == "4.1"
    assert "rsize=65536" not in hv1.mounted(path)["options"]


def test_read_only_and_back(hv1: Managed, path: str) -> None:
    done = hv1.converges("storage_backend", **NAS, read_only=True)
    assert done.result["backend"]["status"] == "read_only"
    assert hv1.sh(f"touch {path}/x 2>&1 || true").strip().endswith("Read-only file system")
    back, check, info = hv1.run(edit(), edit(check=True), LOOK)
    converged(back, check)
    works_as_before(hv1, path, "nas1:/export/e01", info)


def test_edit_of_a_mount_in_use_waits(hv1: Managed, path: str) -> None:
    before = hv1.mounted(path)
    hv1.sh(f"systemd-run --unit=holder --working-directory={path} sleep infinity")
    try:
        done = hv1.works("storage_backend", **NAS, version="4.0")
        assert any("sleep" in holder for holder in done.result["backend"]["pending_remount"]), done.result
        assert hv1.mounted(path) == before
        assert hv1.sh("systemctl is-active holder") == "active\n"
    finally:
        hv1.sh("systemctl stop holder")
    hv1.converges("storage_backend", **NAS, version="4.0")
    assert "vers=4.0" in hv1.mounted(path)["options"]
    back, check, info = hv1.run(edit(), edit(check=True), LOOK)
    converged(back, check)
    works_as_before(hv1, path, "nas1:/export/e01", info)


def test_failed_edit_leaves_the_old_backend_working(hv1: Managed, path: str, nas: NfsServer) -> None:
    dead = nas.network.dead_addresses(1)[0]
    edits: list[tuple[str, dict[str, Any]]] = [
        ("not_found", {"export": "/export/nowhere"}),
        ("refused", {"export": "/export/squash"}),
        ("refused", {"export": "/export/ro"}),
        ("unreachable", {"server": "nobody.invalid"}),
        ("unreachable", {"server": dead, "timeout": 4}),
        ("invalid", {"options": "rsize=many"}),
        ("conflict", {"kind": "local_file", "server": None, "export": None}),
    ]
    answers = hv1.run(*(each for dummy, options in edits for each in (edit(**options), LOOK)))
    for (kind, dummy), tried, seen in zip(edits, answers[::2], answers[1::2], strict=True):
        refused(tried, kind)
        works_as_before(hv1, path, "nas1:/export/e01", seen)
    assert [hv1.remembers(text) for text in ("nowhere", dead)] == ["", ""]


def test_move_of_a_backend_with_volumes_needs_its_marker(hv1: Managed, path: str, nas: NfsServer) -> None:
    hv1.row("INSERT INTO volumes VALUES ('web1', 'nas', 1048576, 'u', '{}')")
    moved = {"export": "/export/e02"}
    shutil.rmtree(nas.data("e02") / ".microvm", ignore_errors=True)
    tried, info = hv1.run(edit(**moved), LOOK)
    refused(tried, "conflict")
    works_as_before(hv1, path, "nas1:/export/e01", info)
    shutil.copytree(nas.data("e01") / ".microvm", nas.data("e02") / ".microvm")
    done, check, info = hv1.run(edit(**moved), edit(check=True, **moved), LOOK)
    converged(done, check)
    assert done.result["backend"]["volumes"] == 1
    works_as_before(hv1, path, "nas1:/export/e02", info)


def test_delete_with_volumes_is_refused(hv1: Managed, path: str) -> None:
    tried, info = hv1.run(call("storage_backend", name="nas", state="absent"), LOOK)
    refused(tried, "in_use")
    sentence = "backend has 1 live volume(s); delete or migrate them before removing the backend"
    assert sentence in tried.result["msg"] and "web1" in tried.result["msg"]
    works_as_before(hv1, path, "nas1:/export/e02", info)
    hv1.row("DELETE FROM volumes")


def test_one_default(hv1: Managed) -> None:
    nas = NAS | {"export": "/export/e02"}
    off, away, switched, both, now = hv1.run(
        call("storage_backend", **nas, default=False),
        call("storage_backend", name="nas", state="absent"),
        call("storage_backend", **LOCAL, default=True),
        call("storage_backend", backends=[LOCAL | {"default": True}, nas | {"default": True}]),
        call("host_info"),
    )
    refused(off, "conflict")
    refused(away, "conflict")
    assert switched.changed and not switched.failed, switched
    refused(both, "invalid")
    assert {name: item["default"] for name, item in now.items("backends").items()} == {"local": True, "nas": False}


def test_disabled_backend_is_unmounted_and_kept(hv1: Managed, path: str) -> None:
    moved = {"export": "/export/e02"}
    off, check, info = hv1.run(edit(**moved, enabled=False), edit(check=True, **moved, enabled=False), LOOK)
    converged(off, check)
    assert hv1.mounts_on(path) == []
    assert info.items("backends")["nas"]["status"] == "disabled"
    on, check, info = hv1.run(edit(**moved), edit(check=True, **moved), LOOK)
    converged(on, check)
    works_as_before(hv1, path, "nas1:/export/e02", info)


def test_failed_create_leaves_nothing(hv1: Managed) -> None:
    wrong = {"name": "wrong", "kind": "nfs", "server": "nas1", "export": "/export/nowhere"}
    tried, now = hv1.run(call("storage_backend", **wrong), call("host_info"))
    refused(tried, "not_found")
    assert sorted(now.items("backends")) == ["local", "nas"]
    assert hv1.remembers("nowhere") == ""
    assert hv1.sh("ls -d /var/lib/microvm/mounts/wrong* 2>/dev/null || true") == ""


def test_delete_keeps_the_files(hv1: Managed, path: str, nas: NfsServer) -> None:
    hv1.sh(f"echo kept > {path}/kept")
    hv1.converges("storage_backend", name="nas", state="absent")
    assert (nas.data("e02") / "kept").read_text() == "kept\n"
    assert hv1.mounts_on(path) == []
    assert hv1.remembers("/export/e02") == ""
    assert hv1.sh(f"ls -d {path} 2>/dev/null || true") == ""


def test_the_last_backend_may_go(hv1: Managed) -> None:
    hv1.converges("storage_backend", name="local", state="absent")
    assert hv1.backends() == {}
