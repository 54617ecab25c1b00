# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of a machine: what they say, and that systemd takes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import systemd
from ansible_collections.microvm.host.plugins.module_utils._machines import definition, places, unit
from ansible_collections.microvm.host.plugins.module_utils._machines.hypervisor import Chosen
from ansible_collections.microvm.host.plugins.module_utils._shares import virtiofs
from tests.unit.machines.given import TCG, asked

NAS = "/var/lib/microvm/mounts/nas-1"
SHARES: list[dict[str, t.Any]] = [
    {"tag": "home", "source": NAS + "/my home", "read_only": True},
    {"tag": "old", "source": "/srv/old", "proto": "9p"},
]
DAEMON = virtiofs.Daemon("/usr/libexec/virtiofsd", True)


def mounts(path: str) -> list[str]:
    """The mount units of a host with one mount."""
    return [systemd.unit_of_path(NAS)] if path.startswith(NAS) else []


def files(config: definition.Config, chosen: Chosen = TCG) -> dict[str, str]:
    """All of a machine, by the names of its files."""
    found = unit.files(config, "web1", chosen, mounts, DAEMON)
    return {os.path.basename(path): text for path, text in found.items()}


def full(**options: t.Any) -> definition.Config:
    """A machine with everything that makes a unit longer."""
    return asked(
        disks=[{"path": NAS + "/web1.raw"}, {"path": "/dev/vg/web1"}, {"path": "/srv/ro.raw", "read_only": True}],
        interfaces=[{"bridge": "br0"}, {}],
        shares=SHARES,
        credentials={"token": "/etc/to%ken"},
        cpu_limit=150,
        memory_limit="1GiB",
        kernel_args='a=$b "c" 50%',
        **options,
    )


def test_files_of_a_plain_machine() -> None:
    found = files(asked())
    assert sorted(found) == ["microvm@web1.service", "run"]
    assert "Wants=" not in found["microvm@web1.service"]


def test_a_machine_waits_for_what_it_needs() -> None:
    found = files(full())
    assert sorted(found) == [
        "microvm-fs@web1@home.service",
        "microvm-fs@web1@home.socket",
        "microvm-net@web1.service",
        "microvm@web1.service",
        "run",
    ]
    lines = found["microvm@web1.service"].splitlines()
    for need in ("microvm-fs@web1@home.socket", "microvm-net@web1.service", systemd.unit_of_path(NAS)):
        assert f"Wants={need}" in lines and f"After={need}" in lines
    assert not any(line.startswith(("Requires", "BindsTo")) for line in lines)


def test_the_locks_of_volumes_are_held_as_long_as_a_machine_runs() -> None:
    config = full(root={"volume": "web1-root"})
    config["disks"][0]["path"] = NAS + "/web1-root.raw"
    found = files(config)
    lock = found["microvm-lock@web1.service"].splitlines()
    machine = found["microvm@web1.service"].splitlines()
    tool = "ExecStart=/usr/local/libexec/microvm/microvm-tool lock"
    assert f'{tool} --holder "machine web1" --volume web1-root' in lock
    assert "ExecStopPost=-/usr/bin/systemctl kill --signal=KILL microvm@web1.service" in lock
    assert "PartOf=microvm@web1.service" in lock and "After=" + systemd.unit_of_path(NAS) in lock
    assert "Wants=microvm-lock@web1.service" in machine and "After=microvm-lock@web1.service" in machine
    assert "ExecStartPre=+/usr/bin/systemctl --quiet is-active microvm-lock@web1.service" in machine
    assert "microvm-tool lock --holder 'machine web1' --volume web1-root -- setpriv" in found["run"]
    reader = asked(disks=[{"volume": "images", "read_only": True}])
    assert "microvm-lock@web1.service" not in files(reader)


def test_qemu_is_told_of_its_balloon_when_systemd_starts_it() -> None:
    text = files(asked(balloon=True, balloon_target="256MiB"))["microvm@web1.service"]
    assert "ExecStartPost=-" + systemd.TOOL + " vm-balloon /run/microvm/web1/stop.sock 268435456" in text
    assert "ExecStartPost" not in files(asked(balloon=True))["microvm@web1.service"]


def test_a_machine_may_touch_what_is_its_own() -> None:
    lines = files(full())["microvm@web1.service"].splitlines()
    assert "User=mvm-web1" in lines and "Group=microvm" in lines
    assert [line for line in lines if line.startswith("ReadWritePaths=")] == [
        "ReadWritePaths=-/srv/old",
        f"ReadWritePaths=-{NAS}",
    ]
    assert "DeviceAllow=/dev/vg/web1 rw" in lines
    assert "ProtectHome=yes" in lines
    assert "LoadCredential=token:/etc/to%%ken" in lines
    assert "CPUQuota=150%" in lines and "MemoryMax=1024M" in lines
    at_home = files(asked(disks=[{"path": "/home/me/a.raw"}]))["microvm@web1.service"]
    assert "ProtectHome" not in at_home and "ReadWritePaths=-/home/me" in at_home


def test_a_device_that_is_a_volume_is_given_to_the_machine_at_each_start() -> None:
    config = asked(disks=[{"volume": "data"}, {"path": "/dev/vg/foreign"}])
    config["disks"][0]["path"] = "/dev/vg_san/data"
    text = files(config)["microvm@web1.service"]
    assert "ExecStartPre=+/usr/bin/chgrp microvm /dev/vg_san/data\n" in text
    assert text.count("chgrp") == 1, "what is no volume is none of our business"


def test_words_are_quoted_for_systemd() -> None:
    text = files(full())["microvm@web1.service"]
    assert '"console=ttyS0 no_timer_check tsc_early_khz=1000000 a=$$b \\"c\\" 50%%"' in text
    home = files(full())["microvm-fs@web1@home.service"]
    assert f'"--shared-dir={NAS}/my home"' in home and f'ReadOnlyPaths="{NAS}/my home"' in home


def test_a_bridge_that_is_late_is_waited_for() -> None:
    text = files(full())["microvm-net@web1.service"]
    first, second = places.tap("web1", 0), places.tap("web1", 1)
    assert f"ExecStart=/usr/sbin/ip link set {first} master br0" in text
    assert f"{second} master" not in text and f"tuntap add name {second} mode tap user mvm-web1" in text
    assert "Restart=on-failure" in text


def test_firecracker_has_its_configuration() -> None:
    chosen = Chosen("firecracker", "/usr/bin/firecracker", "kvm", "device")
    found = files(asked(hypervisor="firecracker"), chosen)
    (config,) = (name for name in found if name.startswith("firecracker-"))
    assert config in found["microvm@web1.service"] and '"kernel_image_path": "/boot/vmlinuz"' in found[config]
    assert "SupplementaryGroups=kvm" in found["microvm@web1.service"]
    assert "vm-stop firecracker /run/microvm/web1/control.sock 60" in found["microvm@web1.service"]


def test_metadata_is_read_by_systemd() -> None:
    chosen = Chosen("firecracker", "/usr/bin/firecracker", "kvm", "device")
    text = files(asked(hypervisor="firecracker", metadata="/srv/a.json", interfaces=[{}]), chosen)[
        "microvm@web1.service"
    ]
    assert "LoadCredential=metadata:/srv/a.json" in text
    assert "--metadata /run/credentials/microvm@web1.service/metadata" in text


def test_the_script_for_people_has_its_console_on_the_terminal() -> None:
    script = files(full())["run"]
    assert "-serial mon:stdio" in script and "chardev:console" not in script
    assert "microvm-fs@web1@home.socket" in script
    done = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
@pytest.mark.parametrize("kind", ["qemu", "firecracker"])
def test_systemd_takes_the_units(tmp_path: Path, kind: str) -> None:
    chosen, config = (
        (TCG, full(root={"volume": "web1-root"}, balloon=True, balloon_target="64MiB"))
        if kind == "qemu"
        else (Chosen(kind, "/bin/true", "kvm", "device"), asked(hypervisor=kind))
    )
    for disk in config["disks"]:
        disk["path"] = disk["path"] or NAS + "/web1-root.raw"
    for name, text in files(config, chosen).items():
        for program in (TCG.binary, DAEMON.path, "/usr/sbin/ip", systemd.TOOL):
            text = text.replace("=" + program + " ", "=/bin/true ").replace("=-" + program + " ", "=-/bin/true ")
        (tmp_path / name).write_text(text)
    units = [str(path) for path in tmp_path.iterdir() if path.name.startswith("microvm")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": os.environ["PATH"], "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "microvm" in line]
    assert (done.returncode, ours) == (0, []), done.stderr
