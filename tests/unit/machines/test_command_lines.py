# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command lines and configuration files, against those that were run by hand or that the hypervisors describe."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import (
    cloud_hypervisor,
    definition,
    firecracker,
    hypervisor,
    qemu,
)
from ansible_collections.microvm.host.plugins.module_utils._machines.hypervisor import Chosen
from tests.unit.machines.given import KERNEL, KVM, TCG, asked

FULL: dict[str, t.Any] = {
    "vcpus": 2,
    "memory": "1GiB",
    "initrd": "/boot/initrd.img",
    "kernel_args": "root=/dev/vda  quiet",
    "disks": [{"path": "/srv/a,b.raw"}, {"path": "/srv/c.raw", "read_only": True, "cache": "none", "io": "native"}],
    "interfaces": [{"type": "tap", "mac": "02:00:00:00:00:01"}],
    "vsock": 5,
    "balloon": True,
}
SHARES = [
    {"tag": "home", "source": "/srv/home", "mount_point": "/home"},
    {"tag": "old", "source": "/srv/o,p", "proto": "9p", "read_only": True, "mount_point": "/old"},
]
TAP = "mv278b9fe80"
FIRECRACKER = Chosen("firecracker", "/usr/bin/firecracker", "kvm", "device")
CLOUD = Chosen("cloud_hypervisor", "/usr/bin/cloud-hypervisor", "kvm", "device")


def pairs(words: list[str]) -> list[tuple[str, str]]:
    """Options with their values."""
    return list(zip(words, words[1:]))


def test_qemu_without_anything() -> None:
    run = "/run/microvm/web1/"
    log = "/var/lib/microvm/machines/web1/log/console.log"
    assert qemu.command_line(asked(memory="64MiB"), "web1", TCG) == [
        *"/usr/bin/qemu-system-x86_64 -name web1 -nodefaults -no-user-config -display none".split(),
        *"-M microvm,acpi=on,rtc=on -accel tcg,thread=multi -cpu max -smp 1 -m 64M".split(),
        *["-kernel", KERNEL, "-append", "console=ttyS0 no_timer_check tsc_early_khz=1000000"],
        *f"-chardev socket,id=control,path={run}control.sock,server=on,wait=off".split(),
        *["-mon", "chardev=control,mode=control"],
        *f"-chardev socket,id=stop,path={run}stop.sock,server=on,wait=off -mon chardev=stop,mode=control".split(),
        "-chardev",
        f"socket,id=console,path={run}console.sock,server=on,wait=off,logfile={log},logappend=on",
        *"-serial chardev:console -global virtio-mmio.force-legacy=false -device virtio-rng-device".split(),
    ]


def test_qemu_with_everything() -> None:
    words = qemu.command_line(asked(**FULL, shares=SHARES, extra_args=["-s"]), "web1", KVM)
    found = pairs(words)
    for option, value in (
        ("-accel", "kvm"),
        ("-cpu", "host"),
        ("-smp", "2"),
        ("-m", "1024M"),
        ("-initrd", "/boot/initrd.img"),
        ("-M", "microvm,acpi=on,rtc=on,memory-backend=mem"),
        ("-object", "memory-backend-memfd,id=mem,size=1024M,share=on"),
        ("-drive", "id=disk0,file=/srv/a,,b.raw,format=raw,if=none,cache=writeback,aio=threads,discard=unmap"),
        ("-drive", "id=disk1,file=/srv/c.raw,format=raw,if=none,cache=none,aio=native,read-only=on"),
        ("-device", "virtio-blk-device,drive=disk1,serial=disk1"),
        ("-netdev", f"tap,id=net0,ifname={TAP},script=no,downscript=no"),
        ("-device", "virtio-net-device,netdev=net0,mac=02:00:00:00:00:01"),
        ("-device", "vhost-vsock-device,guest-cid=5"),
        ("-device", "virtio-balloon-device,deflate-on-oom=on"),
        ("-chardev", "socket,id=fs0,path=/run/microvm/web1/fs-home.sock"),
        ("-device", "vhost-user-fs-device,chardev=fs0,tag=home"),
        ("-fsdev", "local,id=fs1,path=/srv/o,,p,security_model=none,readonly=on,multidevs=remap"),
        ("-device", "virtio-9p-device,fsdev=fs1,mount_tag=old"),
    ):
        assert (option, value) in found
    assert words[-1] == "-s"
    assert dict(found)["-append"] == (
        "console=ttyS0 systemd.mount-extra=home:/home:virtiofs:rw"
        " systemd.mount-extra=old:/old:9p:ro,trans=virtio,version=9p2000.L,msize=131072 root=/dev/vda quiet"
    )


def test_qemu_with_huge_pages_and_limits() -> None:
    limited = {"path": "/srv/a.raw", "bandwidth_limit": "1MiB", "iops_limit": 50}
    found = pairs(qemu.command_line(asked(memory="64MiB", hugepages=True, disks=[limited]), "web1", TCG))
    drive = "id=disk0,file=/srv/a.raw,format=raw,if=none,cache=writeback,aio=threads"
    for option, value in (
        ("-M", "microvm,acpi=on,rtc=on,memory-backend=mem"),
        ("-object", "memory-backend-memfd,id=mem,size=64M,share=off,hugetlb=on,hugetlbsize=2M"),
        ("-drive", f"{drive},throttling.bps-total=1048576,throttling.iops-total=50,discard=unmap"),
    ):
        assert (option, value) in found


def test_qemu_with_several_queues() -> None:
    config = asked(vcpus=2, interfaces=[{"mac": "02:00:00:00:00:01", "queues": 2}])
    for chosen, more in ((TCG, ""), (TCG._replace(bus="pci"), ",vectors=6")):
        found = pairs(qemu.command_line(config, "web1", chosen))
        device = f"virtio-net-{chosen.bus},netdev=net0,mac=02:00:00:00:00:01,mq=on{more}"
        assert ("-netdev", f"tap,id=net0,ifname={TAP},script=no,downscript=no,queues=2") in found
        assert ("-device", device) in found


def test_qemu_of_red_hat_has_pci() -> None:
    config = asked(disks=[{"path": "/srv/a.raw"}], interfaces=[{"type": "user"}], shares=SHARES[:1])
    words = qemu.command_line(config, "web1", KVM._replace(binary="/usr/libexec/qemu-kvm", bus="pci"))
    assert ("-M", "q35,usb=off,memory-backend=mem") in pairs(words)
    assert ("-device", "virtio-blk-pci,drive=disk0,serial=disk0") in pairs(words)
    assert ("-netdev", "user,id=net0") in pairs(words)
    assert ("-device", "vhost-user-fs-pci,chardev=fs0,tag=home") in pairs(words)
    assert not any("virtio-mmio" in word for word in words)


def test_credentials_of_a_guest_are_no_words_of_the_command_line() -> None:
    config = asked(credentials={"passwd.hashed-password.root": "/etc/secret"})
    words = qemu.command_line(config, "web1", TCG)
    value = "name=opt/io.systemd.credentials/passwd.hashed-password.root,"
    value += "file=/run/credentials/microvm@web1.service/passwd.hashed-password.root"
    assert ("-fw_cfg", value) in pairs(words)
    assert "/etc/secret" not in " ".join(words)


def test_firecracker() -> None:
    options = {**FULL, "disks": [{"path": "/srv/a.raw"}, {"path": "/srv/b.raw", "read_only": True, "io": "io_uring"}]}
    config = asked(hypervisor="firecracker", **options)
    assert firecracker.configuration(config, "web1") == {
        "boot-source": {
            "kernel_image_path": KERNEL,
            "initrd_path": "/boot/initrd.img",
            "boot_args": "console=ttyS0 reboot=k panic=1 i8042.noaux i8042.nomux i8042.dumbkbd root=/dev/vda quiet",
        },
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 1024},
        "drives": [
            {
                "drive_id": "disk0",
                "path_on_host": "/srv/a.raw",
                "is_root_device": False,
                "is_read_only": False,
                "cache_type": "Writeback",
                "io_engine": "Sync",
            },
            {
                "drive_id": "disk1",
                "path_on_host": "/srv/b.raw",
                "is_root_device": False,
                "is_read_only": True,
                "cache_type": "Writeback",
                "io_engine": "Async",
            },
        ],
        "network-interfaces": [{"iface_id": "net0", "host_dev_name": TAP, "guest_mac": "02:00:00:00:00:01"}],
        "entropy": {},
        "vsock": {"guest_cid": 5, "uds_path": "/run/microvm/web1/vsock.sock"},
        "balloon": {"amount_mib": 0, "deflate_on_oom": True},
    }
    file = firecracker.config_file(config, "web1")
    assert firecracker.command_line(config, "web1", FIRECRACKER) == [
        *"/usr/bin/firecracker --id web1 --log-path /var/lib/microvm/machines/web1/log/firecracker.log".split(),
        *"--api-sock /run/microvm/web1/control.sock --config-file".split(),
        file,
    ]
    assert firecracker.config_file(asked(hypervisor="firecracker"), "web1") != file


@pytest.mark.parametrize("kind", ["qemu", "firecracker", "cloud_hypervisor"])
def test_a_guest_is_told_where_to_say_that_it_is_ready(kind: str) -> None:
    config = asked(hypervisor=kind, vsock=5, notify=True, kernel_args="quiet")
    told = "systemd.set_credential=vmm.notify_socket:vsock-stream:2:10005 quiet"
    assert " ".join(definition.guest_args(config)) == told
    assert "systemd." not in " ".join(definition.guest_args(asked(hypervisor=kind, vsock=5)))


def test_firecracker_in_its_jail_is_brought_what_it_needs() -> None:
    disks = [{"path": "/srv/a.raw"}, {"path": "/srv/b.raw", "read_only": True}]
    options = {"disks": disks, "initrd": "/boot/initrd", "interfaces": [{}], "metadata": "/srv/web.json"}
    config = asked("web.1", hypervisor="firecracker", **options)
    assert firecracker.command_line(config, "web.1", FIRECRACKER._replace(jailer="/usr/bin/jailer")) == [
        *"/usr/local/libexec/microvm/microvm-tool vm-jail --user mvm-web.1".split(),
        *"--base /var/lib/microvm/machines/web.1/jail --id web-1 --jailer /usr/bin/jailer".split(),
        *"--write /run/microvm/web.1 --write /var/lib/microvm/machines/web.1/log/firecracker.log".split(),
        *f"--read {KERNEL} --read /boot/initrd".split(),
        *["--read", firecracker.config_file(config, "web.1"), "--write", "/srv/a.raw", "--read", "/srv/b.raw"],
        *"--copy /run/credentials/microvm@web.1.service/metadata -- /usr/bin/firecracker".split(),
        *"--log-path /var/lib/microvm/machines/web.1/log/firecracker.log".split(),
        *"--api-sock /run/microvm/web.1/control.sock --config-file".split(),
        firecracker.config_file(config, "web.1"),
        *"--metadata /run/credentials/microvm@web.1.service/metadata".split(),
    ]


def test_cloud_hypervisor() -> None:
    config = asked(
        hypervisor="cloud_hypervisor", **{**FULL, "disks": [{"path": "/srv/a.raw", "cache": "none"}]}, shares=SHARES[:1]
    )
    assert cloud_hypervisor.command_line(config, "web1", CLOUD) == [
        *"/usr/bin/cloud-hypervisor --api-socket path=/run/microvm/web1/control.sock --cpus boot=2".split(),
        *"--memory size=1024M,shared=on --kernel /boot/vmlinuz --initramfs /boot/initrd.img --cmdline".split(),
        "console=ttyS0 systemd.mount-extra=home:/home:virtiofs:rw root=/dev/vda quiet",
        *"--console off --serial file=/var/lib/microvm/machines/web1/log/console.log".split(),
        *"--disk id=disk0,path=/srv/a.raw,readonly=off,direct=on,image_type=raw,serial=disk0".split(),
        *f"--net tap={TAP},mac=02:00:00:00:00:01 --fs tag=home,socket=/run/microvm/web1/fs-home.sock".split(),
        *"--vsock cid=5,socket=/run/microvm/web1/vsock.sock --balloon size=0M,deflate_on_oom=on".split(),
    ]
    with pytest.raises(HostError, match="can't take the path"):
        cloud_hypervisor.command_line(asked(disks=[{"path": "/a,b"}]), "web1", CLOUD)


QEMU, RED_HAT = hypervisor.PATHS["qemu"]
CH, FC = hypervisor.PATHS["cloud_hypervisor"][0], hypervisor.PATHS["firecracker"][0]
JAILER = "/usr/bin/jailer"


@pytest.mark.parametrize(
    ("options", "there", "expected"),
    [
        ({}, {QEMU}, ("qemu", QEMU, "tcg", "device")),
        ({}, {QEMU, CH, FC, "/dev/kvm"}, ("qemu", QEMU, "kvm", "device")),
        ({}, {RED_HAT, "/dev/kvm"}, ("qemu", RED_HAT, "kvm", "pci")),
        ({"accelerator": "tcg"}, {QEMU, "/dev/kvm"}, ("qemu", QEMU, "tcg", "device")),
        ({}, {CH, FC, "/dev/kvm"}, ("cloud_hypervisor", CH, "kvm", "device")),
        ({}, {FC, "/dev/kvm"}, ("firecracker", FC, "kvm", "device")),
        ({}, {FC, JAILER, "/dev/kvm"}, ("firecracker", FC, "kvm", "device", "", JAILER)),
        ({}, {QEMU, FC, JAILER, "/dev/kvm"}, ("qemu", QEMU, "kvm", "device")),
        ({"binary": "/opt/q", "hypervisor": "qemu"}, {"/opt/q"}, ("qemu", "/opt/q", "tcg", "device")),
        ({"shares": SHARES[:1]}, {FC, CH, "/dev/kvm"}, ("cloud_hypervisor", CH, "kvm", "device")),
        ({}, set(), "there is no"),
        ({"accelerator": "kvm"}, {QEMU}, "no /dev/kvm"),
        ({"hypervisor": "firecracker"}, {QEMU, FC}, "needs /dev/kvm"),
        ({"shares": SHARES}, {CH, FC, "/dev/kvm"}, "there is no"),
        ({"shares": SHARES}, {RED_HAT}, "without 9p"),
    ],
)
def test_which_hypervisor_is_chosen(options: dict[str, t.Any], there: set[str], expected: t.Any) -> None:
    config = asked(**options)
    if isinstance(expected, tuple):
        assert hypervisor.choose(config, there.__contains__) == Chosen(*expected)
        return
    with pytest.raises(HostError, match=expected) as refused:
        hypervisor.choose(config, there.__contains__)
    assert refused.value.kind == "unsupported" and refused.value.hint


@pytest.mark.parametrize(
    ("kind", "text", "version"),
    [
        ("qemu", "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c) 2003-2022", (7, 2)),
        ("qemu", "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\n", (10, 0)),
        ("firecracker", "Firecracker v1.12.1\n\n2026-11-21 exiting", (1, 12)),
        ("cloud_hypervisor", "cloud-hypervisor v53.0.0\n", (53, 0)),
    ],
)
def test_versions(kind: str, text: str, version: tuple[int, int]) -> None:
    assert hypervisor.parsed_version(kind, text) == version
    with pytest.raises(HostError, match="does not tell its version"):
        hypervisor.parsed_version(kind, "usage:")


def test_a_binary_that_came_after_its_unit_is_looked_at_again(tmp_path: pathlib.Path) -> None:
    binary, unit = tmp_path / "qemu", tmp_path / "microvm@web1.service"
    binary.write_text("")
    unit.write_text("")
    for later, newer in ((1, False), (-1, True)):
        os.utime(unit, (0, os.stat(binary).st_ctime + later))
        assert hypervisor.newer(Chosen("qemu", str(binary), "tcg", "device"), str(unit)) is newer
