# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VolumeDriver protocol over a real socket, as Docker and podman speak it and as nobody should."""

from __future__ import annotations

import json
import random
import time
import typing as t

import pytest

from tests.unit.docker.driver import Driver, answer_of, request_of

NAS = {"server": "nas", "path": "/data"}
METHODS = ("Create", "Remove", "Mount", "Unmount", "Path", "Get", "List", "Capabilities")


def test_a_volume_from_create_to_remove(driver: Driver) -> None:
    path = "%s/volumes/v" % driver.folder
    assert driver.post("/Plugin.Activate", b"") == (200, {"Implements": ["VolumeDriver"]})
    assert driver.call("Capabilities") == (200, {"Capabilities": {"Scope": "local"}})
    assert driver.call("Get", Name="v")[0] == 500
    assert driver.call("Create", Name="v", Opts=NAS) == (200, {})
    assert driver.call("Path", Name="v") == (200, {"Mountpoint": ""})
    assert driver.call("Mount", Name="v", ID="a" * 64) == (200, {"Mountpoint": path})
    assert driver.call("Path", Name="v") == (200, {"Mountpoint": path})
    assert driver.call("List") == (200, {"Volumes": [{"Name": "v", "Mountpoint": path}]})
    status, found = driver.call("Get", Name="v")
    assert status == 200
    shown = found["Volume"]
    assert (shown["Name"], shown["Mountpoint"]) == ("v", path)
    assert time.strptime(shown["CreatedAt"], "%Y-%m-%dT%H:%M:%SZ")
    told = shown["Status"]
    assert (told["health"], told["references"], told["version"], told["server"]) == ("mounted", 1, "4.2", "nas")
    assert driver.call("Unmount", Name="v", ID="a" * 64) == (200, {})
    assert driver.kernel.mounted() == []
    assert driver.call("Remove", Name="v") == (200, {})
    assert driver.call("List") == (200, {"Volumes": []})
    assert driver.stop() == 0


def test_calls_on_one_connection(driver: Driver) -> None:
    with driver.connect() as client:
        for method, body in (("Create", {"Name": "v", "Opts": NAS}), ("Get", {"Name": "v"}), ("List", {})) * 3:
            client.sendall(request_of("/VolumeDriver." + method, json.dumps(body).encode() + b"\n"))
            assert answer_of(client)[0] == 200


def test_requests_sent_at_once_are_answered_in_turn(driver: Driver) -> None:
    driver.call("Create", Name="v", Opts=NAS)
    with driver.connect() as client:
        client.sendall(request_of("/VolumeDriver.Get", b'{"Name": "v"}') + request_of("/VolumeDriver.List", b""))
        stream = client.makefile("rb")
        for key in ("Volume", "Volumes"):
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            for line in iter(stream.readline, b"\r\n"):
                if line.lower().startswith(b"content-length"):
                    length = int(line.split(b":")[1])
            assert key in json.loads(stream.read(length))


@pytest.mark.parametrize("body", [b"", b"\n", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100000, b'{"Name": 7}'])
@pytest.mark.parametrize("method", METHODS)
def test_a_body_that_is_none(driver: Driver, method: str, body: bytes) -> None:
    status, found = driver.post("/VolumeDriver." + method, body)
    if method in ("List", "Capabilities"):
        assert status == 200 and "Err" not in found
    else:
        assert status == 500 and found["Err"]


@pytest.mark.parametrize("name", ["../../etc", "..", "a/b", "/etc", "a\nb", "a" * 300, "", "\ud800", "-x", ".x", "x y"])
def test_an_unsafe_name_is_refused(driver: Driver, name: str) -> None:
    status, found = driver.call("Create", Name=name, Opts=NAS)
    assert status == 500 and found["Err"]
    assert driver.call("List") == (200, {"Volumes": []})


def test_null_options_are_no_options(driver: Driver) -> None:
    status, found = driver.call("Create", Name="v", Opts=None)
    assert (status, found["Err"]) == (
        500,
        "server is required; docker volume create -d nfsd --opt server=nas --opt path=/exports/data NAME (invalid)",
    )


def test_create_again(driver: Driver) -> None:
    assert driver.call("Create", Name="v", Opts=NAS) == (200, {})
    assert driver.call("Create", Name="v", Opts=dict(NAS, options="hard", path="/data/")) == (200, {})
    status, found = driver.call("Create", Name="v", Opts=dict(NAS, path="/other"))
    assert status == 500
    assert "volume v exists with other options: path: '/other' instead of '/data'" in found["Err"]
    assert driver.call("Get", Name="v")[1]["Volume"]["Status"]["refused"] == ["path: '/other' instead of '/data'"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /VolumeDriver.List HTTP/1.1\r\n\r\n", 405),
        (b"POST /nothing HTTP/1.1\r\n\r\n", 404),
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nno header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nX: " + b"x" * 20000, 431),
        (b"POST /VolumeDriver.List HTTP/1.0\r\n\r\n", 200),
    ],
)
def test_http_that_is_refused(driver: Driver, data: bytes, status: int) -> None:
    head, dummy, body = driver.raw(data).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert ("Err" in json.loads(body)) == (status != 200)


def test_a_client_that_waits_before_it_sends_its_body(driver: Driver) -> None:
    with driver.connect() as client:
        client.sendall(b"POST /VolumeDriver.List HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"{}")
        assert answer_of(client) == (200, {"Volumes": []})


def test_an_error_names_errno_and_remedy(driver: Driver) -> None:
    driver.call("Create", Name="v", Opts=dict(NAS, server="none", timeout="1"))
    told = (500, {"Err": "mounting none:/data: none:2049: Connection refused; start it (unreachable, ECONNREFUSED)"})
    assert driver.call("Mount", Name="v", ID="a") == told
    assert driver.call("Get", Name="v")[1]["Volume"]["Status"]["error"] == told[1]["Err"].partition(";")[0]


def test_200_connections_and_slow_ones_among_them(driver: Driver) -> None:
    driver.call("Create", Name="v", Opts=NAS)
    before = driver.fds()
    clients = [driver.connect() for dummy in range(200)]
    whole = request_of("/VolumeDriver.Get", b'{"Name": "v"}')
    for index, client in enumerate(clients):
        client.sendall(whole if index % 2 else whole[:40])
    assert {answer_of(client)[0] for client in clients[1::2]} == {200}
    for client in clients[::2]:
        client.sendall(whole[40:])
    assert {answer_of(client)[0] for client in clients[::2]} == {200}
    for client in clients:
        client.close()
    driver.until(lambda: driver.fds() == before)


def test_a_dead_server_delays_nobody(driver: Driver) -> None:
    driver.call("Create", Name="dead", Opts=dict(NAS, server="dead", timeout="3"))
    driver.call("Create", Name="v", Opts=NAS)
    waiting = [driver.connect() for dummy in range(3)]
    begun = time.monotonic()
    for client in waiting:
        client.sendall(request_of("/VolumeDriver.Mount", b'{"Name": "dead", "ID": "a"}'))
    for method, more in (("Get", {"Name": "dead"}), ("List", {}), ("Path", {"Name": "dead"}), ("Capabilities", {})):
        assert driver.call(method, **more)[0] == 200
    assert driver.call("Mount", Name="v", ID="b")[0] == 200
    assert time.monotonic() - begun < 2
    told = [answer_of(client) for client in waiting]
    assert 3 <= time.monotonic() - begun < 4.5, "each has its timeout from when it asked"
    assert [status for status, dummy in told] == [500] * 3
    assert "timed out after 3 s while mounting dead:/data" in told[0][1]["Err"]
    assert driver.kernel.mounted() == ["v"]


def test_a_server_that_is_starting_is_waited_for(driver: Driver) -> None:
    driver.call("Create", Name="v", Opts=dict(NAS, server="none"))
    with driver.connect() as client:
        client.sendall(request_of("/VolumeDriver.Mount", b'{"Name": "v", "ID": "a"}'))
        driver.until(lambda: [line.get("again_in") for line in driver.log()][-2:] == [0.5, 1.0])
        status = driver.call("Get", Name="v")[1]["Volume"]["Status"]
        assert (status["health"], status["error"]) == ("mounting", "mounting none:/data: none:2049: Connection refused")
        (driver.folder / "up").touch()
        assert answer_of(client)[0] == 200
    assert driver.call("Get", Name="v")[1]["Volume"]["Status"]["health"] == "mounted"


def test_a_server_that_does_not_start_is_told_of_within_the_timeout(driver: Driver) -> None:
    driver.call("Create", Name="v", Opts=dict(NAS, server="none", timeout="3"))
    begun = time.monotonic()
    assert "ECONNREFUSED" in driver.call("Mount", Name="v", ID="a")[1]["Err"]
    assert 0.5 <= time.monotonic() - begun < 3
    assert driver.call("Get", Name="v")[1]["Volume"]["Status"]["health"] == "failed"


def random_request(dice: random.Random) -> tuple[bytes, float]:
    """Anything from a proper call to noise, and how long to wait for its answer."""
    values: list[t.Any] = ["v%d" % dice.randrange(8), "", None, 7, [], {}, "x" * 300, "../etc", True, "\u0000"]
    opts: list[t.Any] = [None, NAS, dict(NAS, server="none", timeout="1"), {"x": "y"}, [], "text", {"server": 1}]
    body = {"Name": dice.choice(values[: dice.choice((1, 1, 1, 10))]), "ID": dice.choice(("a", "b", None, 9))}
    if dice.random() < 0.4:
        body["Opts"] = dice.choice(opts)
    data = request_of("/VolumeDriver." + dice.choice(METHODS), json.dumps(body).encode())
    if dice.random() < 0.05:
        at = dice.randrange(len(data))
        return data[:at] + bytes([dice.randrange(256)]) + data[at + dice.randrange(3) :], 0.001
    if dice.random() < 0.05:
        return data[: dice.randrange(len(data))], 0.001
    return data, dice.choice((0.001, 10, 10, 10))


def test_10000_random_requests(driver: Driver) -> None:
    dice = random.Random(6)
    before = driver.fds()
    client = driver.connect()
    for dummy in range(10000):
        data, patience = random_request(dice)
        client.settimeout(patience)
        try:
            client.sendall(data)
            ended = not client.recv(65536)
        except OSError:
            ended = True
        if ended:
            client.close()
            client = driver.connect()
    client.close()
    driver.until(lambda: driver.call("List")[0] == 200)
    for volume in driver.call("List")[1]["Volumes"]:
        assert driver.call("Remove", Name=volume["Name"]) == (200, {})
    driver.until(lambda: driver.fds() == before)
    assert driver.kernel.mounted() == []
    assert [line for line in driver.log() if line.get("error", {}).get("kind") == "internal"] == []
    assert driver.stop() == 0
