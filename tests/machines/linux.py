# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: makes a Linux guest of Debian's packages, kernel and initial file system. Standard library only.

The guest mounts what ``systemd.mount-extra=`` on its command line says, as systemd would; looks at
its disk; runs the script guest.sh of a share; and powers off when its power button is pressed. All it does
is on its console.
"""

from __future__ import annotations

import glob
import gzip
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tempfile

KERNEL_PACKAGE = "linux-image-cloud-amd64"
MODULES = (
    "virtio_ring virtio virtio_mmio virtio_blk fuse virtiofs button evdev failover net_failover virtio_net"
    " netfs fscache 9pnet 9pnet_virtio 9p"
).split()
"""In the order in which they are loaded; those that the kernel has built in, or not at all, are left out."""

INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
echo "GUEST-UP $(uname -r)"
for word in $(cat /proc/cmdline); do
    case $word in systemd.mount-extra=*) ;; *) continue ;; esac
    IFS=: read -r what where type options <<EOF
${word#*=}
EOF
    mkdir -p "$where"
    mount -t "$type" -o "$options" "$what" "$where" && echo "GUEST-MOUNTED $what $where $type $options"
    [ -e "$where/guest.sh" ] && sh "$where/guest.sh" "$where" 2>&1
done
for disk in /sys/block/vd*; do
    [ -e "$disk" ] || continue
    echo "GUEST-DISK ${disk##*/} $(cat $disk/serial) $(cat $disk/size)"
    tr -d '\000' < /dev/${disk##*/} | head -c 200
    echo
    echo "boot $(cat /proc/sys/kernel/random/boot_id)" | dd of=/dev/${disk##*/} conv=notrunc 2>/dev/null
done
sync
echo GUEST-READY
exec acpid -f -d -M /etc/acpi.map -c /etc/acpi -a /etc/acpid.conf
"""
FILES = {
    "init": (0o755, INIT),
    "etc/acpi.map": (0o644, "EV_KEY 0x01 KEY_POWER 116 1 button/power PBTN 00000080\n"),
    "etc/acpid.conf": (0o644, "button/power PBTN\n"),
    "etc/acpi/PBTN": (0o755, "#!/bin/sh\necho GUEST-OFF\numount -a -t virtiofs,9p\nsync\npoweroff -f\n"),
}


def record(name: str, mode: int, data: bytes) -> bytes:
    """One member of a cpio archive in the format newc (kernel: Documentation/driver-api/early-userspace)."""
    head = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    text = b"070701" + b"".join(b"%08X" % value for value in head) + name.encode() + b"\0"
    return text + b"\0" * (-len(text) % 4) + data + b"\0" * (-len(data) % 4)


def unpacked(folder: str, package: str) -> None:
    """Download a package and unpack it into ``folder``."""
    subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
    for path in glob.glob(os.path.join(folder, "*.deb")):
        subprocess.run(["dpkg-deb", "-x", path, folder], check=True)
        os.unlink(path)


def main(target: str) -> None:
    """Make ``vmlinuz-VERSION``, ``config-VERSION`` and ``initrd`` in ``target``, and links without the version."""
    os.makedirs(target, exist_ok=True)
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    shown = subprocess.run(["apt-cache", "depends", KERNEL_PACKAGE], stdout=subprocess.PIPE, text=True, check=True)
    package = next(line.split()[-1] for line in shown.stdout.splitlines() if "Depends: linux-image" in line)
    with tempfile.TemporaryDirectory(dir=target) as folder:
        for each in (package, "busybox-static"):
            unpacked(folder, each)
        for stem in ("vmlinuz", "config"):
            (path,) = glob.glob(os.path.join(folder, "boot", stem + "-*"))
            shutil.copy(path, target)
            link = os.path.join(target, stem + "-guest")
            if os.path.lexists(link):
                os.unlink(link)
            os.symlink(os.path.basename(path), link)
        with open(os.path.join(folder, "usr/bin/busybox"), "rb") as file:
            members = [record("bin/busybox", stat.S_IFREG | 0o755, file.read())]
        order = []
        for module in MODULES:
            found = glob.glob(os.path.join(folder, "usr/lib/modules/*/kernel/**", module + ".ko*"), recursive=True)
            found += glob.glob(os.path.join(folder, "lib/modules/*/kernel/**", module + ".ko*"), recursive=True)
            if found:
                with open(found[0], "rb") as file:
                    data = lzma.decompress(file.read()) if found[0].endswith(".xz") else file.read()
                members.append(record("modules/%s.ko" % module, stat.S_IFREG | 0o644, data))
                order.append(module + ".ko")
        members.append(record("modules/order", stat.S_IFREG | 0o644, " ".join(order).encode()))
    for name, (mode, text) in FILES.items():
        members.append(record(name, stat.S_IFREG | mode, text.encode()))
    folders = "bin modules etc etc/acpi proc sys dev".split()
    made = [record(name, stat.S_IFDIR | 0o755, b"") for name in folders]
    console = bytearray(record("dev/console", stat.S_IFCHR | 0o600, b""))
    console[6 + 8 * 9 : 6 + 8 * 11] = b"%08X%08X" % (5, 1)  # its device number
    with gzip.open(os.path.join(target, "initrd"), "wb", 1) as archive:
        archive.write(b"".join([*made, bytes(console), *members, record("TRAILER!!!", 0, b"")]))


if __name__ == "__main__":
    main(sys.argv[1])
