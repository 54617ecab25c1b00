# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a backend after its first day. The tests run in this order, each from where the one before ended."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from extensions.molecule.calls import call, refused
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


def works_as_before(hv1: Managed, path: str, source: str) -> None:
    """The backend is mounted from this source, takes files, and a run with its old options finds nothing to do."""
    assert hv1.mounted(path)["source"] == source
    hv1.sh(f"echo hello > {path}/hello && rm {path}/hello")
    backend = hv1.backends(refresh=True)["nas"]
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
    hv1.converges("storage_backend", **NAS)
    works_as_before(hv1, path, "nas1:/export/e01")


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
    hv1.works("storage_backend", **NAS)
    works_as_before(hv1, path, "nas1:/export/e01")


def test_failed_edit_leaves_the_old_backend_working(hv1: Managed, path: str) -> None:
    edits: list[tuple[str, dict[str, Any]]] = [
        ("not_found", {"export": "/export/nowhere"}),
        ("refused", {"export": "/export/squash"}),
        ("refused", {"export": "/export/ro"}),
        ("unreachable", {"server": "nobody.invalid"}),
        ("invalid", {"options": "rsize=many"}),
        ("conflict", {"kind": "local_file", "server": None, "export": None}),
    ]
    look = call("host_info", refresh=True)
    answers = hv1.run(*(each for dummy, edit in edits for each in (call("storage_backend", **NAS | edit), look)))
    for (kind, dummy), tried, seen in zip(edits, answers[::2], answers[1::2], strict=True):
        refused(tried, kind)
        assert seen.items("backends")["nas"]["status"] == "ok"
    works_as_before(hv1, path, "nas1:/export/e01")
    assert hv1.remembers("nowhere") == ""


def test_edit_to_a_dead_server_fails_in_time(hv1: Managed, path: str, nas: NfsServer) -> None:
    dead = nas.network.dead_addresses(1)[0]
    (answer,) = hv1.run(call("storage_backend", **NAS | {"server": dead}, timeout=4))
    assert answer.failed and answer.kind in ("unreachable", "timeout"), answer.result
    works_as_before(hv1, path, "nas1:/export/e01")
    assert hv1.remembers(dead) == ""


def test_move_of_a_backend_with_volumes_needs_its_marker(hv1: Managed, path: str, nas: NfsServer) -> None:
    hv1.row("INSERT INTO volumes (backend, name, size) VALUES ('nas', 'web1', 1048576)")
    moved = NAS | {"export": "/export/e02"}
    shutil.rmtree(nas.data("e02") / ".microvm", ignore_errors=True)
    hv1.fails("storage_backend", "conflict", **moved)
    works_as_before(hv1, path, "nas1:/export/e01")
    shutil.copytree(nas.data("e01") / ".microvm", nas.data("e02") / ".microvm")
    done = hv1.converges("storage_backend", **moved)
    assert done.result["backend"]["volumes"] == 1
    works_as_before(hv1, path, "nas1:/export/e02")


def test_delete_with_volumes_is_refused(hv1: Managed, path: str) -> None:
    answer = hv1.fails("storage_backend", "in_use", name="nas", state="absent")
    sentence = "backend has 1 live volume(s); delete or migrate them before removing the backend"
    assert sentence in answer.result["msg"] and "web1" in answer.result["msg"]
    works_as_before(hv1, path, "nas1:/export/e02")
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
    moved = NAS | {"export": "/export/e02"}
    hv1.converges("storage_backend", **moved, enabled=False)
    assert hv1.mounts_on(path) == []
    assert hv1.backends()["nas"]["status"] == "disabled"
    hv1.converges("storage_backend", **moved)
    works_as_before(hv1, path, "nas1:/export/e02")


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
