# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a Linux guest of Debian's packages: kernel, its configuration and an initial file system. Made once, and kept.

The kernel is the one that has 9p. The guest mounts what ``systemd.mount-extra=`` on its command line says, as systemd
would; looks at its disks; runs the script guest.sh of a share; and powers off when its power button is pressed. All it
does is on its console.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from tests.gates import packages

KERNEL_PACKAGE = "linux-image-amd64"
MODULES = (
    "virtio_ring virtio virtio_mmio virtio_blk fuse virtiofs button evdev failover net_failover virtio_net"
    " netfs fscache 9pnet 9pnet_virtio 9p overlay crc16 crc32c_generic mbcache jbd2 ext4"
).split()
"""In the order in which they are loaded; those that the kernel has built in, or not at all, are left out."""

INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
echo "GUEST-UP $(uname -r)"
mkdir -p /dev/disk/by-id
for disk in /sys/block/vd*; do
    [ -e "$disk" ] && ln -s /dev/${disk##*/} /dev/disk/by-id/virtio-$(cat $disk/serial)
done
for word in $(cat /proc/cmdline); do
    case $word in systemd.mount-extra=*) ;; *) continue ;; esac
    IFS=: read -r what where type options <<EOF
${word#*=}
EOF
    options=$(echo "$options" | tr , '\n' | grep -v '^x-systemd' | tr '\n' ,)  # those are systemd's own
    options=${options%,}
    mkdir -p "$where"
    mount -t "$type" -o "$options" "$what" "$where" && echo "GUEST-MOUNTED $what $where $type $options"
    [ -e "$where/guest.sh" ] && sh "$where/guest.sh" "$where" 2>&1
done
for disk in /sys/block/vd*; do
    [ -e "$disk" ] || continue
    echo "GUEST-DISK ${disk##*/} $(cat $disk/serial) $(cat $disk/size)"
    grep -q "^/dev/disk/by-id/virtio-$(cat $disk/serial) " /proc/mounts && continue
    head -c 4096 /dev/${disk##*/} | tr -d '\000' | head -c 200
    echo
    echo "boot $(cat /proc/sys/kernel/random/boot_id)" | dd of=/dev/${disk##*/} conv=notrunc 2>/dev/null
done
sync
dmesg -n 6  # so the kernel tells of disks that grow
echo GUEST-READY
exec acpid -f -d -M /etc/acpi.map -c /etc/acpi -a /etc/acpid.conf
"""
FILES = {
    "init": (0o755, INIT),
    "etc/acpi.map": (0o644, "EV_KEY 0x01 KEY_POWER 116 1 button/power PBTN 00000080\n"),
    "etc/acpid.conf": (0o644, "button/power PBTN\n"),
    "etc/acpi/PBTN": (0o755, "#!/bin/sh\necho GUEST-OFF\numount -a -t overlay,ext4,virtiofs,9p\nsync\npoweroff -f\n"),
}


def record(name: str, mode: int, data: bytes) -> bytes:
    """One member of a cpio archive in the format newc (kernel: Documentation/driver-api/early-userspace)."""
    head = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    text = b"070701" + b"".join(b"%08X" % value for value in head) + name.encode() + b"\0"
    return text + b"\0" * (-len(text) % 4) + data + b"\0" * (-len(data) % 4)


def unpacked(folder: str, package: str) -> None:
    """Download a package and unpack it into ``folder``."""
    subprocess.run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package], cwd=folder, check=True)
    for path in Path(folder).glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(path), folder], check=True)
        path.unlink()


def build(target: Path) -> None:
    """Make ``vmlinuz-guest``, ``config-guest`` and ``initrd`` in ``target``. CalledProcessError when that fails."""
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    shown = subprocess.run(["apt-cache", "depends", KERNEL_PACKAGE], stdout=subprocess.PIPE, text=True, check=True)
    package = next(line.split()[-1] for line in shown.stdout.splitlines() if "Depends: linux-image" in line)
    with tempfile.TemporaryDirectory(dir=target) as folder:
        for each in (package, "busybox-static"):
            unpacked(folder, each)
        for stem in ("vmlinuz", "config"):
            (path,) = Path(folder, "boot").glob(stem + "-*")
            shutil.copy(path, target / (stem + "-guest"))
        (busybox,) = (path for path in Path(folder).glob("**/bin/busybox") if not path.is_symlink())
        members = [record("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())]
        order = []
        for module in MODULES:
            for path in sorted(Path(folder).glob(f"**/modules/*/kernel/**/{module}.ko*"))[:1]:
                data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
                members.append(record(f"modules/{module}.ko", stat.S_IFREG | 0o644, data))
                order.append(module + ".ko")
        members.append(record("modules/order", stat.S_IFREG | 0o644, " ".join(order).encode()))
    for name, (mode, text) in FILES.items():
        members.append(record(name, stat.S_IFREG | mode, text.encode()))
    folders = "bin modules etc etc/acpi proc sys dev".split()
    made = [record(name, stat.S_IFDIR | 0o755, b"") for name in folders]
    console = bytearray(record("dev/console", stat.S_IFCHR | 0o600, b""))
    console[6 + 8 * 9 : 6 + 8 * 11] = b"%08X%08X" % (5, 1)  # its device number
    # Not compressed: an emulated guest would take a second for that.
    (target / "initrd").write_bytes(b"".join([*made, bytes(console), *members, record("TRAILER!!!", 0, b"")]))


def guest() -> Path:
    """The directory with all three."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "microvm-lab")
    found = cache / f"guest-{recipe}"
    if not found.is_dir():
        packages.require({"dpkg-deb": "dpkg", "apt-get": "apt"})
        with tempfile.TemporaryDirectory(dir=cache, prefix="guest-part-") as part:
            Path(part).chmod(0o755)
            build(Path(part))
            Path(part).rename(found)
            Path(part).mkdir()
    return found
