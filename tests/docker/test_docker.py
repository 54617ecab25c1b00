# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume driver under a real Docker Engine and podman, with real servers: good days and bad ones."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker.conftest import Engine
from tests.lab import counts
from tests.lab.samba import USERS

RUN = "docker run --network none"
LOOP = "sh -c 'trap exit TERM; while true; do date +%s > /data/$HOSTNAME; sync; sleep 0.2 & wait; done'"


def test_the_two_lines_of_the_readme(engine: Engine) -> None:
    engine.run("docker volume create -d nfsd --opt server=nas1 --opt path=/export/rw myvolume")
    shown = engine.run("docker run --rm -v myvolume:/mnt alpine df -h /mnt").stdout
    assert shown.splitlines()[1].split()[0] == "nas1:/export/rw"
    assert engine.mounted() == []


def test_ten_containers_on_one_volume(engine: Engine) -> None:
    engine.volume("vol")
    for number in range(10):
        engine.run(f"{RUN} -d --name c{number} --hostname c{number} -v vol:/data alpine {LOOP}")
    status = engine.status("vol")
    assert (status["references"], status["health"], status["version"]) == (10, "mounted", "4.2")
    engine.until(lambda: {f"c{number}" for number in range(10)} <= {p.name for p in engine.nas.data("rw").iterdir()})
    engine.run("docker rm -f c0 c1 c2 c3 c4 c5 c6 c7 c8")
    assert engine.status("vol")["references"] == 1
    engine.run("docker exec c9 touch /data/still")
    engine.run("docker rm -f c9")
    assert engine.status("vol")["references"] == 0
    assert engine.mounted() == []


def test_20_volumes_at_once_while_a_server_is_dead(engine: Engine) -> None:
    for number in range(1, 21):
        engine.volume(f"v{number}", path=f"/export/e{number:02}")
    for number in range(5):
        engine.volume(f"dead{number}", server="nas2", timeout="110" if number else "10")
    engine.other.pause()

    def begin(names: list[str]) -> None:
        starts = "".join(
            f"({RUN} -d --name {name} -v {name}:/data alpine sleep 600 > /tmp/{name} 2>&1) & " for name in names
        )
        engine.run(f"nohup sh -c '{starts} wait' > /dev/null 2>&1 &")

    begin(["dead0", *(f"v{n}" for n in range(1, 21))])
    engine.until(lambda: len(engine.mounted()) >= 10, 300)
    begin([f"dead{n}" for n in range(1, 5)])  # in the middle: they wait for 110 s only
    engine.until(lambda: len(engine.mounted()) == 20, 100)
    assert "dead4" in engine.run("docker volume ls -q; docker volume inspect dead0 v1; docker ps").stdout
    told = engine.run("cat /tmp/dead1 /tmp/dead2 /tmp/dead3 /tmp/dead4").stdout
    assert "Error" not in told, "the dead ones are still waiting: nobody waited for them"
    engine.until(lambda: "timed out after 10 s while mounting nas2:/export/rw" in engine.run("cat /tmp/dead0").stdout)
    assert "ETIMEDOUT" in engine.run("cat /tmp/dead0").stdout
    assert len(engine.mounted()) == 20
    engine.other.resume()
    engine.until(lambda: len(engine.mounted()) == 24)
    engine.until(lambda: engine.run("docker ps -q").stdout.count("\n") == 24, 180)
    engine.run("docker rm -f $(docker ps -aq)")
    assert engine.mounted() == []


def test_a_server_that_is_restarted_is_waited_for(engine: Engine) -> None:
    engine.volume("vol", server="nas2", timeout="110")
    engine.other.stop()
    try:
        engine.run(f"nohup {RUN} --rm -v vol:/data alpine touch /data/made > /tmp/told 2>&1 &")
        engine.until(lambda: engine.status("vol").get("error"))
        assert engine.status("vol")["health"] == "mounting"
    finally:
        engine.other.start()
    engine.until((engine.other.data("rw") / "made").exists)
    engine.until(lambda: engine.mounted() == [])
    assert engine.run("cat /tmp/told").stdout == ""


def test_docker_cp(engine: Engine) -> None:
    engine.volume("vol")
    engine.run(f"{RUN} -d --name box -v vol:/data alpine {LOOP}")
    engine.run(
        "echo in > /tmp/in; docker cp /tmp/in box:/data/in; docker cp box:/data/in /tmp/out; grep -q in /tmp/out"
    )
    engine.until(lambda: (engine.status("vol")["references"], engine.mounted()) == (1, ["vol"]))
    engine.run("docker exec box cat /data/in; docker stop -t 5 box")
    assert engine.mounted() == []
    engine.run("docker cp /tmp/in box:/data/again; docker cp box:/data/again /tmp/out")
    assert (engine.nas.data("rw") / "again").read_text() == "in\n"
    engine.until(lambda: (engine.status("vol")["references"], engine.mounted()) == (0, []))


def test_a_restart_policy(engine: Engine) -> None:
    engine.volume("vol")
    engine.run(
        f"{RUN} -d --name box --restart always -v vol:/data alpine sh -c 'echo x >> /data/starts; sync; sleep 1'"
    )
    starts = engine.nas.data("rw") / "starts"
    engine.until(lambda: starts.exists() and len(starts.read_text().split()) >= 3)
    engine.run("docker restart -t 0 box; docker stop -t 0 box")
    assert (engine.status("vol")["references"], engine.mounted()) == (0, [])


def test_a_swarm_service(engine: Engine) -> None:
    engine.run("docker swarm init --advertise-addr 127.0.0.1")
    try:
        mount = "type=volume,source=sv,target=/data,volume-driver=nfsd"
        mount += ",volume-opt=server=nas1,volume-opt=path=/export/rw,volume-opt=subdir=swarm"
        engine.run(f"docker service create -d --name s --network host --replicas 2 --mount {mount} alpine {LOOP}")
        engine.until(lambda: engine.run("docker service ps s -q -f desired-state=running").stdout.count("\n") == 2, 60)
        engine.until(lambda: "sv" in engine.mounted(), 60)
        engine.until(lambda: engine.status("sv")["references"] == 2, 60)
        engine.run("docker service rm s")
        engine.until(lambda: engine.mounted() == [], 60)
    finally:
        engine.run("docker swarm leave --force")


def test_docker_is_primed_when_it_starts(engine: Engine) -> None:
    engine.run("systemctl restart docker")
    engine.until(lambda: engine.run("systemctl is-active docker-nfsd-prime", check=False).stdout == "active\n")
    plugins = json.loads(engine.run("docker info -f '{{json .Plugins.Volume}}'").stdout)
    assert "nfsd" in plugins


def test_the_driver_is_restarted_while_it_mounts(engine: Engine) -> None:
    engine.volume("vol", server="nas2")
    engine.other.pause()
    engine.run(f"nohup {RUN} --rm -v vol:/data alpine touch /data/made > /tmp/told 2>&1 &")
    engine.until(lambda: engine.run("pgrep -P $(systemctl show -P MainPID docker-nfsd)", check=False).stdout)
    engine.run("systemctl restart --no-block docker-nfsd")
    engine.other.resume()
    engine.until((engine.other.data("rw") / "made").exists)
    engine.until(lambda: engine.mounted() == [])
    assert engine.run("cat /tmp/told").stdout == ""


def test_the_driver_is_killed_while_it_mounts(engine: Engine) -> None:
    engine.volume("vol", server="nas2")
    engine.other.pause()
    engine.run(f"nohup {RUN} --name box -v vol:/data alpine true > /tmp/told 2>&1 &")
    engine.until(lambda: engine.run("pgrep -P $(systemctl show -P MainPID docker-nfsd)", check=False).stdout)
    engine.run("systemctl kill -s KILL docker-nfsd")
    engine.other.resume()
    engine.until(lambda: "the request is empty" in engine.run("cat /tmp/told").stdout)
    assert (engine.status("vol")["references"], engine.mounted()) == (0, [])
    engine.run("docker start -a box")


def test_a_restart_of_the_driver_is_not_seen(engine: Engine) -> None:
    engine.volume("vol")
    engine.run(f"{RUN} -d --name box -v vol:/data alpine {LOOP}")
    for command in ("restart docker-nfsd", "kill -s KILL docker-nfsd", "stop docker-nfsd"):
        engine.run(f"systemctl {command}")
        assert engine.status("vol")["references"] == 1
        engine.run("docker exec box touch /data/x")
    engine.run("docker rm -f box")
    assert engine.mounted() == []


def test_docker_is_killed(engine: Engine) -> None:
    engine.volume("vol")
    engine.run(f"{RUN} -d --name box --restart always -v vol:/data alpine {LOOP}")
    engine.run("systemctl kill -s KILL docker; systemctl reset-failed docker; systemctl start docker")
    engine.until(lambda: engine.run("docker inspect -f '{{.State.Running}}' box", check=False).stdout == "true\n")
    engine.run("docker exec box touch /data/x")
    engine.run("docker stop -t 5 box")
    assert (engine.status("vol")["references"], engine.mounted()) == (0, [])


def test_docker_is_restarted_with_live_restore(engine: Engine) -> None:
    engine.run("""sed -i 's/^{/{"live-restore": true, /' /etc/docker/daemon.json; systemctl reload docker""")
    try:
        engine.volume("vol")
        engine.run(f"{RUN} -d --name box -v vol:/data alpine {LOOP}")
        engine.run("systemctl restart docker; docker exec box touch /data/x")
        assert (engine.status("vol")["references"], engine.mounted()) == (1, ["vol"])
        engine.run("docker rm -f box")
        assert (engine.status("vol")["references"], engine.mounted()) == (0, [])
    finally:
        engine.run("""sed -i 's/"live-restore": true, //' /etc/docker/daemon.json; systemctl reload docker""")


def test_the_host_is_rebooted(engine: Engine) -> None:
    engine.volume("vol")
    engine.volume("idle", path="/export/rw2")
    engine.run(f"{RUN} -d --name box --hostname box --restart always -v vol:/data alpine {LOOP}")
    engine.run("docker exec box sh -c 'echo kept > /data/kept; sync'")
    engine.host.kill()
    engine.host.boot()
    engine.until(lambda: engine.run("docker inspect -f '{{.State.Running}}' box", check=False).stdout == "true\n", 90)
    assert engine.run("docker exec box cat /data/kept").stdout == "kept\n"
    assert (engine.status("vol")["references"], engine.mounted()) == (1, ["vol"])
    assert engine.status("idle")["references"] == 0
    assert (
        "nfsd" in engine.run("docker volume ls -q -f driver=nfsd; docker volume inspect -f '{{.Driver}}' idle").stdout
    )


def test_a_server_that_does_not_answer_for_a_minute(engine: Engine) -> None:
    engine.volume("vol", server="nas2")
    engine.volume("healthy")
    engine.run(f"{RUN} -d --name box --hostname box -v vol:/data alpine {LOOP}")
    engine.until((engine.other.data("rw") / "box").exists)
    engine.other.pause()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        begun = time.monotonic()
        assert engine.status("vol")["health"] == "mounted"
        engine.run(f"docker volume ls; {RUN} --rm -v healthy:/data alpine true")
        assert time.monotonic() - begun < 45
    before = (engine.other.data("rw") / "box").read_text()
    engine.other.resume()
    engine.until(lambda: (engine.other.data("rw") / "box").read_text() != before, 90)
    engine.run("docker rm -f box")
    assert engine.mounted() == []


def test_a_volume_is_removed_though_its_server_is_dead(engine: Engine) -> None:
    engine.volume("vol", server="nas2")
    engine.run(f"{RUN} -d --name box -v vol:/data alpine sleep 600")
    engine.other.pause()
    engine.run("docker rm -f box; docker volume rm vol")
    assert engine.mounted() == []


def test_podman(engine: Engine) -> None:
    engine.run("podman volume create --driver nfsd --opt server=nas1 --opt path=/export/rw pv")
    shown = engine.run("podman run --rm --network none -v pv:/mnt alpine df /mnt").stdout
    assert shown.splitlines()[1].split()[0] == "nas1:/export/rw"
    done = engine.run("podman volume create --driver nfsd --opt server=nas1 --opt pth=/x bad", check=False)
    assert done.returncode != 0 and "did you mean path?" in done.stderr
    engine.run("podman volume rm pv")
    assert engine.mounted() == []


def test_podman_waits_longer_than_five_seconds(engine: Engine) -> None:
    engine.run("podman volume create --driver nfsd --opt server=nas2 --opt path=/export/rw pv")
    engine.other.pause()
    engine.run("nohup podman run --rm --network none -v pv:/mnt alpine touch /mnt/made > /tmp/told 2>&1 &")
    engine.until(lambda: engine.run("pgrep -O 6 -P $(systemctl show -P MainPID docker-nfsd)", check=False).stdout)
    engine.other.resume()
    engine.until((engine.other.data("rw") / "made").exists)
    engine.until(lambda: engine.run("podman ps -aq").stdout == "")  # removed too, which follows its end
    engine.run("podman volume rm pv")


@pytest.fixture
def backend(engine: Engine) -> Iterator[dict[str, Any]]:
    found = {"name": "nfs-prod", "kind": "nfs", "server": "nas1", "export": "/export/rw"}
    engine.module("storage_backend", found)
    yield found
    engine.clear()
    engine.module("storage_backend", {"name": "nfs-prod", "state": "absent"})


def test_a_volume_on_a_backend(engine: Engine, backend: dict[str, Any]) -> None:
    engine.run("docker volume create -d nfsd --opt backend=nfs-prod vol")
    engine.run(f"{RUN} --rm -v vol:/data alpine touch /data/file")
    assert (engine.nas.data("rw") / "docker-volumes" / "vol" / "file").exists()
    for change in ({"state": "absent"}, {"options": "timeo=100"}):
        refused = engine.module("storage_backend", {**backend, **change}, check=False)
        assert "docker_volume vol" in refused["msg"], refused
    engine.module("storage_backend", {**backend, "enabled": False})
    for command in (f"{RUN} --rm -v vol:/data alpine true", "docker volume create -d nfsd --opt backend=nfs-prod new"):
        done = engine.run(command, check=False)
        assert done.returncode and "backend nfs-prod is not in service; enable it" in done.stderr, done
    refused = engine.module("docker_volume_driver", {"state": "absent"}, check=False)
    assert refused["error"]["kind"] == "in_use"


@pytest.fixture
def share(engine: Engine) -> Iterator[dict[str, Any]]:
    found = {"name": "smb-lab", "kind": "smb", "server": "smb1", "share": "vms", "username": "svc"}
    engine.module("storage_backend", {**found, "password": USERS["svc"]})
    yield found
    engine.clear()
    engine.smb.start()
    engine.smb.set_password("svc", USERS["svc"])
    engine.module("storage_backend", {"name": "smb-lab", "state": "absent"})


def test_a_volume_on_an_smb_backend(engine: Engine, share: dict[str, Any]) -> None:
    folder = engine.smb.data("vms") / "docker-volumes" / "vol"
    engine.run("docker volume create -d nfsd --opt backend=smb-lab vol")
    engine.run(f"{RUN} -d --name box --hostname box -v vol:/data alpine {LOOP}")
    shown = engine.run("docker exec box df /data").stdout
    assert shown.splitlines()[1].split()[0] == "//smb1/vms/docker-volumes/vol"
    engine.until((folder / "box").exists)
    assert (engine.status("vol")["references"], engine.status("vol")["version"]) == (1, "3.1.1")
    places = "/run/microvm /var/lib/microvm /var/lib/docker/volumes /proc/self/mountinfo"
    told = engine.run("docker volume inspect vol; journalctl -u docker-nfsd -o cat").stdout
    assert USERS["svc"] not in told
    assert engine.run(f"grep -rlaF {USERS['svc']} {places}", check=False).stdout == ""

    engine.smb.set_password("svc", "the second one")
    engine.module("storage_backend", {**share, "password": "the second one"})
    engine.smb.disconnect()
    before = (folder / "box").read_text()
    engine.until(lambda: (folder / "box").read_text() not in ("", before))
    engine.run(f"{RUN} --rm -v vol:/data alpine touch /data/by-another")
    assert (folder / "by-another").exists()

    engine.smb.stop()
    assert engine.status("vol")["health"] == "mounted"
    engine.smb.start()
    before = (folder / "box").read_text()
    engine.until(lambda: (folder / "box").read_text() not in ("", before), 150)
    engine.run("docker rm -f box; docker volume rm vol")
    assert engine.mounted() == []
    assert (folder / "by-another").exists(), "on_remove=retain"


def test_subdir_and_what_becomes_of_it(engine: Engine) -> None:
    engine.volume("vol", subdir="team/app", mode="2770", uid="1000", gid="1001", on_remove="archive")
    engine.run(f"{RUN} --rm -v vol:/data alpine sh -c 'test $(ls /data | wc -l) = 0; echo x > /data/file'")
    made = engine.nas.data("rw") / "team" / "app"
    status = made.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o2770, 1000, 1001)
    engine.volume("other", subdir="team/app/below")
    refused = engine.run("docker volume rm vol", check=False)
    assert "volume other is in nas1:/export/rw/team/app too" in refused.stderr
    engine.run("docker volume rm other; docker volume rm vol")
    (kept,) = (engine.nas.data("rw") / "team").iterdir()
    assert kept.name.startswith("archived-app-") and (kept / "file").read_text() == "x\n"


def test_no_program_is_executed(engine: Engine) -> None:
    engine.volume("vol", subdir="traced", on_remove="delete")
    engine.run("systemctl restart docker-nfsd")  # so that it has no child yet
    pid = engine.run("systemctl show -P MainPID docker-nfsd").stdout.strip()
    engine.run(
        f"nohup strace -f -qq -e trace=execve,execveat,mount,umount2,fsopen -o /tmp/trace -p {pid} > /dev/null 2>&1 &"
    )
    engine.until(lambda: engine.run(f"grep TracerPid: /proc/{pid}/status").stdout.split()[1] != "0")
    engine.run(f"{RUN} --rm -v vol:/data alpine sh -c 'echo x > /data/file'; docker volume rm vol; pkill -INT strace")
    traced = engine.run("cat /tmp/trace").stdout
    assert "fsopen" in traced and "umount2" in traced, "the trace saw nothing"
    assert "execve" not in traced
    assert not (engine.nas.data("rw") / "traced").exists()


def test_the_service_is_small_and_its_socket_closed_to_others(engine: Engine) -> None:
    assert engine.run("stat -c '%a %U' /run/docker/plugins/nfsd.sock").stdout == "600 root\n"
    engine.volume("vol")
    pid = engine.run("systemctl show -P MainPID docker-nfsd").stdout.strip()
    resident = int(engine.run(f"grep VmRSS /proc/{pid}/status").stdout.split()[1])
    assert resident < 30 * 1024, f"{resident} KiB"


def test_the_driver_is_killed_at_many_moments_of_each_call(engine: Engine) -> None:
    engine.host.put(Path(__file__).with_name("kills.py"), "/tmp/kills.py")
    found = json.loads(engine.run("python3 /tmp/kills.py 12", timeout=1800).stdout)
    counts.add("kill points", found["kills"])
    assert found["wrong"] == []
