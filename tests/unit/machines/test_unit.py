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


def test_sockets_that_a_killed_qemu_left_are_taken_away_by_the_next_one_itself() -> None:
    """To run a program in the machine's sandbox takes as long as to start QEMU there; the others need it, see below."""
    assert "rm -f" not in files(asked(vsock=3))["microvm@web1.service"]


def test_a_machine_waits_for_what_it_needs() -> None:
    found = files(full())
    assert sorted(found) == [
        "microvm-fs@web1@home.service",
        "microvm-fs@web1@home.socket",
        "microvm-net@web1.service",
        "microvm@web1.service",
        "run",
        "virtiofsd-run",
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
    lost = found["microvm-lost@web1.service"].splitlines()
    assert "OnFailure=microvm-lost@web1.service" in lock
    assert "ExecStart=-/usr/bin/systemctl kill --signal=KILL microvm@web1.service" in lost
    assert "PartOf=microvm@web1.service" in lock and "After=" + systemd.unit_of_path(NAS) in lock
    assert "Wants=microvm-lock@web1.service" in machine and "After=microvm-lock@web1.service" in machine
    assert any(line.startswith("ExecStartPre=+/bin/sh -c") and "microvm-lock@web1.service" in line for line in machine)
    assert "microvm-tool lock --holder 'machine web1' --volume web1-root -- setpriv" in found["run"]
    reader = asked(disks=[{"volume": "images", "read_only": True}])
    assert not {"microvm-lock@web1.service", "microvm-lost@web1.service"} & set(files(reader))


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
    machine = files(full())["microvm@web1.service"]
    gate = r'ExecStartPre=+/bin/sh -c "/usr/bin/systemctl --quiet is-active \"$$0\" || { '
    assert any(line.startswith(gate) and line.endswith(" microvm-net@web1.service") for line in machine.splitlines())
    assert "Restart=on-failure\nRestartSec=5\n" in machine and "Restart=" not in text, "the machine tries again"


def test_a_tap_with_several_queues_says_so_on_both_sides() -> None:
    text = files(asked(vcpus=2, interfaces=[{"queues": 2}, {}]))["microvm-net@web1.service"]
    first, second = (f"name {places.tap('web1', index)} mode tap user mvm-web1 vnet_hdr" for index in (0, 1))
    assert f"{first} multi_queue\n" in text and f"{second}\n" in text


def test_a_macvtap_is_an_open_file_of_its_hypervisor() -> None:
    macvtap = {"type": "macvtap", "link": "eth0", "mac": "02:00:00:00:00:02"}
    config = asked(interfaces=[{}, macvtap, {**macvtap, "mac": "02:00:00:00:00:03", "mode": "vepa"}])
    found = files(config)
    tap, first, second = (places.tap("web1", index) for index in range(3))
    net, machine = found["microvm-net@web1.service"], found["microvm@web1.service"]
    made = f"link add link eth0 name {second} address 02:00:00:00:00:03 type macvtap mode vepa"
    assert f"ExecStart=/usr/sbin/ip {made}\n" in net and f"ExecStopPost=-/usr/sbin/ip link delete {second}" in net
    assert f"ExecStart={systemd.TOOL} vm-macvtap --tap {first} --give mvm-web1\n" in net
    assert f"ExecStart={systemd.TOOL} vm-macvtap --tap {first} --tap {second} -- {TCG.binary} " in machine
    assert f"ifname={tap}" in machine and "tap,id=net1,fd=3" in machine and "tap,id=net2,fd=4" in machine
    assert "DeviceAllow=char-macvtap rw" in machine and "char-macvtap" not in files(asked())["microvm@web1.service"]
    cloud = Chosen("cloud_hypervisor", "/usr/bin/cloud-hypervisor", "kvm", "device")
    assert "fd=[4],mac=02:00:00:00:00:03" in files(config, cloud)["microvm@web1.service"]


UNJAILED = Chosen("firecracker", "/usr/bin/firecracker", "kvm", "device")
JAILED = UNJAILED._replace(jailer="/usr/bin/jailer")


def test_the_jailer_is_root_with_what_it_needs_and_no_more() -> None:
    found = files(asked(hypervisor="firecracker"), JAILED)
    lines = found["microvm@web1.service"].splitlines()
    assert not any(line.startswith(("User=", "Group=", "SupplementaryGroups=")) for line in lines)
    (capabilities,) = (line for line in lines if line.startswith("CapabilityBoundingSet="))
    assert "CAP_MKNOD" in capabilities and "CAP_NET" not in capabilities and "CAP_SYS_MODULE" not in capabilities
    assert {"NoNewPrivileges=yes", "RestrictNamespaces=mnt", "DeviceAllow=/dev/kvm rwm"} <= set(lines)
    assert "StateDirectory=microvm/machines/web1/jail" in lines
    assert "setpriv" not in found["run"] and "vm-jail --user mvm-web1" in found["run"]
    free = files(asked(hypervisor="firecracker"), UNJAILED)["microvm@web1.service"].splitlines()
    assert {"User=mvm-web1", "CapabilityBoundingSet=", "RestrictNamespaces=yes", "DeviceAllow=/dev/kvm rw"} <= set(free)


def test_firecracker_has_its_configuration() -> None:
    chosen = UNJAILED
    found = files(asked(hypervisor="firecracker"), chosen)
    (config,) = (name for name in found if name.startswith("firecracker-"))
    assert config in found["microvm@web1.service"] and '"kernel_image_path": "/boot/vmlinuz"' in found[config]
    assert "SupplementaryGroups=kvm" in found["microvm@web1.service"]
    assert "rm -f /run/microvm/web1/control.sock /run/microvm/web1/vsock.sock\n" in found["microvm@web1.service"]
    assert "rm -f /run/microvm/web1/control.sock /run/microvm/web1/vsock.sock\n" in found["run"]
    assert "vm-stop firecracker /run/microvm/web1/control.sock 60" in found["microvm@web1.service"]


@pytest.mark.parametrize("chosen", [UNJAILED, JAILED])
def test_firecracker_s_log_is_not_the_console_of_its_guest(chosen: Chosen) -> None:
    found = files(asked(hypervisor="firecracker"), chosen)
    text, log = found["microvm@web1.service"], "/var/lib/microvm/machines/web1/log/firecracker.log"
    made = "install --backup=simple --suffix=.old --group=microvm --mode=0660 /dev/null " + log
    assert f"ExecStartPre=/usr/bin/{made}\n" in text and f" --log-path {log} " in text
    assert "StandardOutput" not in text, "systemd would open a file of the machine's user as root"
    console = log.replace("firecracker.log", "console.log")
    assert f'ExecStart=/bin/sh -c "exec \\"$$@\\" >>\\"$$0\\"" {console} /usr/' in text
    assert log not in found["run"] and "--log-path" not in found["run"] and "--id web1" in found["run"]


def test_metadata_is_read_by_systemd() -> None:
    chosen = UNJAILED
    text = files(asked(hypervisor="firecracker", metadata="/srv/a.json", interfaces=[{}]), chosen)[
        "microvm@web1.service"
    ]
    assert "LoadCredential=metadata:/srv/a.json" in text
    assert "--metadata /run/credentials/microvm@web1.service/metadata" in text


def test_the_script_for_people_has_its_console_on_the_terminal() -> None:
    script = files(full())["run"]
    assert "-serial mon:stdio" in script and "chardev:console" not in script
    assert "microvm-fs@web1@home.socket" in script
    assert "setpriv --reuid mvm-web1 --regid microvm --init-groups -- /usr/bin/qemu-system-x86_64 " in script


def test_the_daemon_of_a_share_runs_by_hand_too() -> None:
    script = files(full())["virtiofsd-run"]
    sock = "--socket-path=/run/microvm/web1/fs-home.sock --socket-group=microvm"
    assert f"{DAEMON.path} {sock} '--shared-dir={NAS}/my home'" in script and "--fd=3" not in script
    assert "systemctl stop microvm-fs@web1@home.socket microvm-fs@web1@home.service" in script
    assert f'sh -c \'mount --bind -o ro "$0" "$0" && exec "$@"\' \'{NAS}/my home\' {DAEMON.path}' in script


@pytest.mark.parametrize("name", ["run", "virtiofsd-run"])
def test_the_shell_takes_the_scripts(name: str) -> None:
    for chosen, config in ((TCG, full()), (JAILED, asked(hypervisor="firecracker", disks=[{"volume": "a"}]))):
        found = files(config, chosen)
        done = subprocess.run(["sh", "-n"], input=found.get(name, ""), text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    usage = subprocess.run(
        ["sh", "-s", "x"],
        input=files(full())["virtiofsd-run"].replace("install ", ": "),
        text=True,
        capture_output=True,
        check=False,
    )
    assert usage.returncode == 2 and usage.stderr.endswith(" home\n")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
@pytest.mark.parametrize("kind", ["qemu", "firecracker", "jailer"])
def test_systemd_takes_the_units(tmp_path: Path, kind: str) -> None:
    chosen, config = (
        (TCG, full(root={"volume": "web1-root"}, balloon=True, balloon_target="64MiB"))
        if kind == "qemu"
        else (JAILED if kind == "jailer" else UNJAILED, asked(hypervisor="firecracker"))
    )
    for disk in config["disks"]:
        disk["path"] = disk["path"] or NAS + "/web1-root.raw"
    for name, text in files(config, chosen).items():
        for program in (UNJAILED.binary, TCG.binary, DAEMON.path, "/usr/sbin/ip", systemd.TOOL):
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
