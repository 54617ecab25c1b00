# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host under this machine's own kernel, for what needs its KVM: systemd in namespaces, on the disk of an image.

It is no machine of its own: kernel, modules and clock are this machine's, so mounts of network storage are not for it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.lab import images
from tests.lab.daemon import wait_until
from tests.lab.host import Host

KVM = Path("/dev/kvm")
NODES = "null zero full random urandom tty net/tun kvm userfaultfd"
"""What it has of this machine's devices."""

# Mounts are its own and go with it, and so does what it writes: that is in memory. /sys is read-only, so that its udev
# keeps away from this machine's devices.
LAUNCH = """
set -e
image=$1 work=$2 groups=$3 root=$2/root
mkdir -p "$work/lower" "$work/own" "$root"
mount -o loop,ro "$image" "$work/lower"
mount -t tmpfs tmpfs "$work/own"
mkdir "$work/own/upper" "$work/own/work"
mount -t overlay -o "lowerdir=$work/lower,upperdir=$work/own/upper,workdir=$work/own/work" overlay "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm"
for name in $5; do
    if [ -e "/dev/$name" ]; then cp -a "/dev/$name" "$root/dev/$name"; continue; fi
    minor=$(awk -v name="$name" '$2 == name {print $1}' /proc/misc)
    [ -z "$minor" ] || mknod -m 600 "$root/dev/$name" c 10 "$minor"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
for unit in lab-network systemd-sysctl systemd-modules-load lvm2-monitor; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done
printf '127.0.0.1 localhost\\n::1 localhost\\n127.0.1.1 %s\\n' "$4" > "$root/etc/hosts"
mkdir -p "$groups"
echo $$ > "$groups/cgroup.procs"
exec unshare --cgroup --uts --ipc --pid --fork --kill-child --mount sh -c '
set -e
hostname "$2"
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p old
pivot_root . old
umount -l old
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /sbin/init
' sh "$root" "$4"
"""


class KvmHost(Host):
    """As Host; but a power loss loses what is on its disk."""

    def start(self) -> None:
        """Switch the power on; does not wait."""
        network, spec = self.network, self.spec
        network.ensure_namespace(self.name, spec.member)
        namespace = f"--net=/run/netns/{network.namespace(self.name)}"
        work = self.cow.parent / self.name
        work.mkdir(parents=True, exist_ok=True)
        inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", LAUNCH, "sh"]
        arguments = [str(images.CACHE / spec.disk), str(work), str(self._groups()), self.name, NODES]
        self._daemon.start(["nsenter", namespace, *inside, *arguments])

    def kill(self) -> None:
        """Power loss."""
        super().kill()
        wait_until(self._forgotten, 10, f"the control groups of {self.name} to be empty")

    def cut(self) -> None:
        """Pull the network cable: packets vanish both ways."""
        self.network.set_cable(self.network.veth(self.spec.member), False)

    def join(self) -> None:
        """Plug the network cable in again."""
        self.network.set_cable(self.network.veth(self.spec.member), True)

    def _groups(self) -> Path:
        """Its control group on this machine, where version 2 of them is mounted, whatever else is."""
        with open("/proc/self/mountinfo") as table:
            mounted = [line.split() for line in table]
        root = next(fields[4] for fields in mounted if fields[fields.index("-") + 1] == "cgroup2")
        return Path(root, f"{self.network.bridge}-{self.name}")

    def _forgotten(self) -> bool:
        """Remove its control groups, as far as no process is in them any more."""
        with contextlib.suppress(OSError):
            for folder in sorted(self._groups().glob("**/"), reverse=True):
                folder.rmdir()
        return not self._groups().exists()
