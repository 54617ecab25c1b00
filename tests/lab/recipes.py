# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into each image: packages and files. A change here changes the image's key, so it is built anew."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

HOST_PACKAGES = (
    "systemd,systemd-sysv,dbus,udev,kmod,iproute2,openssh-server,python3,sudo,strace,e2fsprogs,mount,procps,"
    "ca-certificates"
).split(",")
"""A bare host: nothing that the role prepare_host installs."""

PREPARED = [
    *("nfs-common", "cifs-utils", "open-iscsi", "lvm2", "thin-provisioning-tools"),
    *("qemu-utils", "xfsprogs", "btrfs-progs"),
]
VARIANTS: dict[str, list[str]] = {
    "bare": [],
    "prepared": PREPARED,
    "machines": [*PREPARED, "qemu-system-x86", "virtiofsd"],
    "filer": ["nfs-common", "nfs-kernel-server", "rpcbind", "xfsprogs"],
}
"""Packages of a host on top of HOST_PACKAGES."""

NAS_PACKAGES = ["nfs-ganesha", "nfs-ganesha-vfs", "rpcbind", "dbus", "netbase"]
TARGET_PACKAGES = ["tgt"]
SAMBA_PACKAGES = ["samba"]
SUITES = ("trixie", "bookworm")
PROXY_PORT = 3142
PROXY_NAME = "packages.lab"

# Read from the kernel's command line, so that one image serves every host: lab.address, lab.address6, lab.gateway.
NETWORK_SCRIPT = """#!/bin/sh
set -e
for word in $(cat /proc/cmdline); do
    case $word in
        lab.address=*) address=${word#*=} ;;
        lab.address6=*) address6=${word#*=} ;;
        lab.gateway=*) gateway=${word#*=} ;;
        systemd.hostname=*) hostname=${word#*=} ;;
    esac
done
ip link set lo up
ip link set vec0 up
ip address replace "$address" dev vec0
ip -6 address replace "$address6" dev vec0 nodad
ip route replace default via "$gateway"
[ -e /etc/hosts ] || printf '127.0.0.1 localhost\\n::1 localhost\\n127.0.1.1 %s\\n%s packages.lab\\n' \\
    "$hostname" "$gateway" > /etc/hosts
name=/etc/iscsi/initiatorname.iscsi
[ -e $name ] && ! grep -q "^InitiatorName=.*:lab" $name && echo "InitiatorName=iqn.2026-01.lab:lab-$hostname" > $name
true
"""

NETWORK_UNIT = """[Unit]
Description=Network of a lab host
DefaultDependencies=no
After=systemd-remount-fs.service
Before=network-pre.target network.target network-online.target ssh.service
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-network

[Install]
WantedBy=multi-user.target network-online.target
"""

# Hundreds of ttys would be announced at boot, which takes seconds here; disks and network devices are.
UDEV_COLDPLUG = """[Service]
ExecStart=
ExecStart=udevadm trigger --type=all --action=add --subsystem-match=block --subsystem-match=net --subsystem-match=misc
"""

HOST_FILES: dict[str, tuple[int, str]] = {
    "usr/local/sbin/lab-network": (0o755, NETWORK_SCRIPT),
    "etc/systemd/system/lab-network.service": (0o644, NETWORK_UNIT),
    "etc/systemd/system/systemd-udev-trigger.service.d/lab.conf": (0o644, UDEV_COLDPLUG),
    "etc/ssh/sshd_config.d/lab.conf": (
        0o644,
        "UsePAM no\nMaxSessions 200\nMaxStartups 200\nPasswordAuthentication no\n"
        "HostKey /etc/ssh/ssh_host_ed25519_key\n",
    ),
    "etc/apt/apt.conf.d/00lab": (
        0o644,
        f'Acquire::http::Proxy "http://{PROXY_NAME}:{PROXY_PORT}";\nAcquire::Languages "none";\nAcquire::Retries "3";\n'
        'APT::Install-Recommends "false";\nAcquire::Check-Valid-Until "false";\n',
    ),
    "etc/dpkg/dpkg.cfg.d/lab": (
        0o644,
        "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n"
        "path-exclude=/usr/share/locale/*\n",
    ),
    "etc/sudoers.d/lab": (0o440, "admin ALL=(ALL) NOPASSWD: ALL\n"),
    "etc/fstab": (0o644, ""),
    "etc/resolv.conf": (0o644, ""),
    # nfs-ganesha 6 does not know the request for a directory delegation that this kernel sends: EREMOTEIO.
    "etc/modprobe.d/lab.conf": (0o644, "options nfsv4 directory_delegations=0\n"),
    # The disks of an iSCSI session: without a coldplug of everything nobody asks for their driver.
    "etc/modules-load.d/lab.conf": (0o644, "sd_mod\n"),
    "etc/machine-id": (0o444, ""),  # given on the kernel's command line, and no first-boot presets
}
HOST_USER = "admin"
"""An ordinary user with sudo, for tests of privilege escalation."""

# Timers and consoles that would only take time from the tests.
MASKED = (
    "apt-daily.timer,apt-daily-upgrade.timer,dpkg-db-backup.timer,e2scrub_all.timer,e2scrub_reap.service,"
    "fstrim.timer,getty.target,getty-static.service,systemd-networkd.service,systemd-timesyncd.service"
).split(",")
KEPT_GENERATOR = "systemd-fstab-generator"
"""The only one of systemd's generators in a prepared host: it makes the units of mounts. With all twenty, reading units
again, which tests do all the time, takes twice as long."""
ENABLED = ("lab-network.service", "ssh.service")

# Without a message bus ganesha waits for one for ten seconds; rpcbind is for NFSv3.
NAS_ENTRY = """#!/bin/sh
set -e
mkdir -p /run/dbus /run/ganesha /run/rpcbind
rm -f /run/dbus/pid
dbus-daemon --system --fork
rpcbind -w
exec ganesha.nfsd -F -L STDOUT -f /etc/ganesha/ganesha.conf
"""
# tgtd is the container's first process, so that a pause stops it. In state ready it takes logins.
TARGET_ENTRY = """#!/bin/sh
tgt() { tgtadm --lld iscsi "$@"; }
(
    until tgt --op show --mode sys >/dev/null 2>&1; do sleep 0.1; done
    . /etc/tgt/setup
) &
exec tgtd -f
"""
# The second one is for clients that are to be refused by its dialect.
SAMBA_ENTRY = """#!/bin/sh
set -e
mkdir -p /run/samba /run/samba-modern
useradd --no-create-home --non-unique --uid 1000 owner
for user in svc other; do useradd --no-create-home $user; done
smbd -D --configfile=/etc/samba/modern.conf
exec smbd -F --no-process-group --debug-stdout --configfile=/etc/samba/smb.conf
"""
NAS_FILES: dict[str, tuple[int, str]] = {
    "etc/machine-id": (0o444, "6d7666737465737400000000000000aa\n"),
    "usr/local/sbin/nas": (0o755, NAS_ENTRY),
}
TARGET_FILES: dict[str, tuple[int, str]] = {"usr/local/sbin/target": (0o755, TARGET_ENTRY)}
SAMBA_FILES: dict[str, tuple[int, str]] = {"usr/local/sbin/samba": (0o755, SAMBA_ENTRY)}
SERVER_FILES = {"ganesha": NAS_FILES, "samba": SAMBA_FILES, "tgt": TARGET_FILES}
"""Files of a server's tree, by variant."""


REVISION = 2
"""Raised when the way images are built changes in images.py."""


@dataclass(frozen=True)
class Recipe:
    """One image. `kind` is host (an ext4 disk) or nas (a directory tree for a container)."""

    kind: str
    suite: str
    variant: str
    packages: tuple[str, ...]

    @property
    def label(self) -> str:
        """Name for people: kind, suite, variant."""
        return f"{self.kind}-{self.suite}-{self.variant}"

    def key(self, *extra: str) -> str:
        """First 12 hex digits of a hash over everything that decides the image's content."""
        parts: list[object] = [asdict(self), SERVER_FILES.get(self.variant)]
        if self.kind == "host":
            parts = [REVISION, KEPT_GENERATOR, asdict(self), HOST_FILES, MASKED, ENABLED, extra]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def host_recipe(suite: str, variant: str) -> Recipe:
    """Recipe of a lab host; `suite` of SUITES, `variant` of VARIANTS."""
    return Recipe("host", suite, variant, tuple(HOST_PACKAGES + VARIANTS[variant]))


def nas_recipe() -> Recipe:
    """Recipe of the user-space NFS server's container."""
    return Recipe("nas", "trixie", "ganesha", tuple(NAS_PACKAGES))


def target_recipe() -> Recipe:
    """Recipe of the iSCSI server's container."""
    return Recipe("nas", "trixie", "tgt", tuple(TARGET_PACKAGES))


def samba_recipe() -> Recipe:
    """Recipe of the SMB server's container."""
    return Recipe("nas", "trixie", "samba", tuple(SAMBA_PACKAGES))
