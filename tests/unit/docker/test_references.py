# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has a volume: Docker's calls as they really come, kills, and answers that do not arrive."""

from __future__ import annotations

import json
import os
import time
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._docker import namespaces, state, volumes
from tests.unit.docker.driver import Driver, answer_of, request_of

NAS = {"server": "nas", "path": "/data"}


@pytest.fixture
def used(driver: Driver) -> Driver:
    """A driver with a volume v, mounted for a."""
    driver.call("Create", Name="v", Opts=NAS)
    driver.call("Mount", Name="v", ID="a")
    return driver


def references(driver: Driver) -> int:
    """How many the volume v has."""
    found: int = driver.call("Get", Name="v")[1]["Volume"]["Status"]["references"]
    return found


def test_an_id_that_mounts_twice_unmounts_twice(used: Driver) -> None:
    # docker cp sends the ID of the running container.
    used.kernel.hold("v")
    used.call("Mount", Name="v", ID="a")
    used.call("Unmount", Name="v", ID="a")
    assert (references(used), used.kernel.mounted()) == (1, ["v"])
    used.kernel.release("v")
    used.call("Unmount", Name="v", ID="a")
    assert (references(used), used.kernel.mounted()) == (0, [])


def test_what_a_killed_docker_counted_twice_ends_with_its_container(used: Driver) -> None:
    used.call("Mount", Name="v", ID="a")
    used.call("Unmount", Name="v", ID="a")
    assert (references(used), used.kernel.mounted()) == (0, [])


def test_a_reference_that_is_young_stays_though_no_container_shows_it(used: Driver) -> None:
    used.call("Mount", Name="v", ID="b")
    used.call("Unmount", Name="v", ID="a")
    assert (references(used), used.kernel.mounted()) == (1, ["v"])


def test_ten_at_once(driver: Driver) -> None:
    driver.call("Create", Name="v", Opts=dict(NAS, server="slow"))
    clients = [driver.connect() for dummy in range(10)]
    for number, client in enumerate(clients):
        client.sendall(request_of("/VolumeDriver.Mount", json.dumps({"Name": "v", "ID": str(number)}).encode()))
    assert {answer_of(client)[0] for client in clients} == {200}
    assert (references(driver), driver.kernel.mounted()) == (10, ["v"])
    assert [line["event"] for line in driver.log()].count("mounted") == 1
    for number in range(10):
        assert driver.call("Unmount", Name="v", ID=str(number)) == (200, {})
    assert (references(driver), driver.kernel.mounted()) == (0, [])


def test_volumes_do_not_wait_for_each_other(driver: Driver) -> None:
    clients = [driver.connect() for dummy in range(10)]
    begun = time.monotonic()
    for number, client in enumerate(clients):
        driver.call("Create", Name="v%d" % number, Opts=dict(NAS, server="slow"))
        client.sendall(request_of("/VolumeDriver.Mount", json.dumps({"Name": "v%d" % number, "ID": "a"}).encode()))
    assert {answer_of(client)[0] for client in clients} == {200}
    assert time.monotonic() - begun < 10 * 0.5, "one after the other"


@pytest.mark.parametrize("ident", ["a", "x"])
def test_unmount_of_what_is_not_there(driver: Driver, ident: str) -> None:
    assert driver.call("Unmount", Name="none", ID=ident) == (200, {})
    driver.call("Create", Name="v", Opts=NAS)
    assert driver.call("Unmount", Name="v", ID=ident) == (200, {})
    assert driver.call("Remove", Name="none") == (200, {})
    assert driver.call("Mount", Name="none", ID=ident)[0] == 500


def test_remove_unmounts_whatever_the_references(used: Driver) -> None:
    (used.folder / "busy").touch()
    assert used.call("Remove", Name="v") == (200, {})
    assert used.kernel.mounted() == []
    assert "let go" in [line["event"] for line in used.log()]
    assert os.listdir(used.folder / "volumes") == []
    assert os.listdir(used.folder / "run") == []


def test_an_answer_that_nobody_waits_for_is_undone(driver: Driver) -> None:
    driver.call("Create", Name="v", Opts=dict(NAS, server="slow"))
    with driver.connect() as client:
        client.sendall(request_of("/VolumeDriver.Mount", b'{"Name": "v", "ID": "a"}'))
    driver.until(lambda: "undelivered" in [line["event"] for line in driver.log()])
    driver.until(lambda: driver.kernel.mounted() == [])
    assert references(driver) == 0


def test_an_answer_that_was_not_read_is_undone(used: Driver) -> None:
    with used.connect() as client:
        client.sendall(request_of("/VolumeDriver.Mount", b'{"Name": "v", "ID": "b"}'))
        used.until(lambda: references(used) == 2)
    used.until(lambda: references(used) == 1)
    assert used.kernel.mounted() == ["v"]


def test_a_killed_driver_knows_volumes_and_references(used: Driver) -> None:
    used.kill()
    used.start()
    assert (references(used), used.kernel.mounted()) == (1, ["v"])
    assert used.call("Mount", Name="v", ID="b")[0] == 200
    used.kernel.hold("v")
    used.call("Unmount", Name="v", ID="a")
    assert references(used) == 1
    used.call("Unmount", Name="v", ID="b")
    assert (references(used), used.kernel.mounted()) == (0, [])


def test_requests_wait_while_the_driver_is_restarted(used: Driver) -> None:
    assert used.stop() == 0
    with used.connect() as client:
        client.sendall(request_of("/VolumeDriver.Get", b'{"Name": "v"}'))
        used.start()
        assert answer_of(client)[0] == 200


def test_a_stop_finishes_what_is_under_way(driver: Driver) -> None:
    driver.call("Create", Name="v", Opts=dict(NAS, server="slow"))
    with driver.connect() as client:
        client.sendall(request_of("/VolumeDriver.Mount", b'{"Name": "v", "ID": "a"}'))
        driver.until(driver.children)
        assert driver.stop() == 0
        assert answer_of(client)[0] == 200
    driver.start()
    assert references(driver) == 1


def test_what_a_killed_driver_mounted_and_did_not_note_is_unmounted(used: Driver) -> None:
    used.kill()
    (used.folder / "run" / "v.json").unlink()
    used.start()
    used.until(lambda: used.kernel.mounted() == [])
    assert references(used) == 0


def test_a_mount_that_was_not_noted_is_taken_over(used: Driver) -> None:
    used.kill()
    (used.folder / "run" / "v.json").write_text(json.dumps({"references": {"a": [1, time.time()]}}))
    used.start()
    assert used.call("Mount", Name="v", ID="b")[0] == 200
    assert (references(used), used.kernel.mounted()) == (2, ["v"])


def test_what_no_volume_has_is_cleared_away(used: Driver) -> None:
    used.kill()
    (used.folder / "volumes" / "left").mkdir()
    path = str(used.folder / "volumes" / "orphan")
    os.mkdir(path)
    (used.kernel.folder / path.replace("/", "|")).write_text("nas:/other")
    used.start()
    used.until(lambda: used.kernel.mounted() == ["v"])
    used.until(lambda: os.listdir(used.folder / "volumes") == ["v"])


def test_a_foreign_mount_in_the_place_is_left_alone(driver: Driver) -> None:
    driver.call("Create", Name="v", Opts=NAS)
    path = str(driver.folder / "volumes" / "v")
    (driver.kernel.folder / path.replace("/", "|")).write_text("other:/else")
    for method in ("Mount", "Remove"):
        status, found = driver.call(method, Name="v", ID="a")
        assert status == 500 and "other:/else is mounted on %s already" % path in found["Err"]
    assert driver.kernel.mounted() == ["v"]


def test_a_volume_that_is_busy_is_unmounted_later(used: Driver) -> None:
    (used.folder / "busy").touch()
    assert used.call("Unmount", Name="v", ID="a") == (200, {})
    assert used.call("Get", Name="v")[1]["Volume"]["Status"]["health"] == "failed"
    (used.folder / "busy").unlink()
    used.kill()
    used.start()
    used.until(lambda: used.kernel.mounted() == [])


class Tasks:
    """Tasks that end at once: none here needs a child."""

    def __init__(self) -> None:
        self.added: list[str] = []

    def busy(self, name: str) -> bool:
        """Nothing is."""
        return False

    def add(self, name: str, task: t.Any, done: t.Any) -> None:
        """Note whose it is."""
        self.added.append(name)


@pytest.mark.parametrize(("age", "held", "left"), [(301, False, []), (301, True, ["a"]), (299, False, ["a"])])
def test_old_references_are_dropped_when_no_container_has_the_volume(
    used: Driver, monkeypatch: pytest.MonkeyPatch, age: int, held: bool, left: list[str]
) -> None:
    used.kill()
    place = namespaces.place_of(used.kernel.table()[0])
    monkeypatch.setattr(namespaces, "in_use", lambda: {place} if held else set())
    tasks = Tasks()
    found = volumes.Volumes(t.cast(t.Any, tasks), lambda *dummy, **more: None)
    found.volumes["v"].references["a"].since = time.time() - age
    found.reconcile()
    assert list(found.volumes["v"].references) == left
    assert list(state.load()["v"].references) == (left or [])
    assert tasks.added == ([] if left else ["v"])


def test_references_do_not_outlive_a_boot(used: Driver) -> None:
    used.kill()
    for file in (used.folder / "run").iterdir():
        file.unlink()
    for file in used.kernel.folder.iterdir():
        file.unlink()
    used.start()
    assert (references(used), used.kernel.mounted()) == (0, [])
    assert used.call("Mount", Name="v", ID="a")[0] == 200
