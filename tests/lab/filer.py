# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host that serves NFS from its kernel: versions 3 and 4.0-4.2, xfs with reflink, so CLONE works."""

from __future__ import annotations

import signal
import time

from tests.lab.daemon import wait_until
from tests.lab.host import Host
from tests.lab.machine import LabError

EXPORTS = {"rw": "rw,no_root_squash,fsid=1", "ro": "ro,no_root_squash,fsid=2", "squash": "rw,root_squash,fsid=3"}
"""Export name to its rights; the path is /export/NAME."""

# Run at every start: what is there already is left alone. Short grace and lease, or the first open waits 90 s.
SETUP = """
set -e
if [ ! -e /srv/export.xfs ]; then
    truncate -s 6G /srv/export.xfs.new
    mkfs.xfs -q -m reflink=1 /srv/export.xfs.new
    mv /srv/export.xfs.new /srv/export.xfs
    mkdir -p /export
    echo '/srv/export.xfs /export xfs loop 0 0' > /etc/fstab
    printf '[nfsd]\\nvers3=y\\nvers4=y\\nvers4.0=y\\nvers4.1=y\\nvers4.2=y\\ngrace-time=5\\nlease-time=20\\n' \\
        > /etc/nfs.conf.d/lab.conf
    cat > /etc/exports
    systemctl daemon-reload
fi
mountpoint -q /export || mount /export
mkdir -p {directories}
systemctl start rpcbind.socket rpcbind.service nfs-server.service
exportfs -ra
"""


class Filer:
    """The kernel NFS server of a lab; same verbs as server.NfsServer."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.name = host.name
        self.address, self.address6 = host.address, host.address6
        self.exports = {name: f"/export/{name}" for name in EXPORTS}

    @property
    def described(self) -> dict[str, object]:
        """What the inventory says of it."""
        return {"address": self.address, "address6": self.address6, "exports": self.exports}

    def running(self) -> bool:
        """Whether the host's power is on."""
        return self.host.running()

    def start(self, timeout: float = 400) -> float:
        """Boot when it is off, then serve; returns the seconds it took."""
        started = time.monotonic()
        self.host.boot(timeout)
        self.serve()
        return time.monotonic() - started

    def serve(self) -> None:
        """Make the file system and the exports at the first time, and start the NFS services."""
        lines = [f"{self.exports[name]} *({rights},no_subtree_check,sync)\n" for name, rights in EXPORTS.items()]
        self.host.ssh(SETUP.format(directories=" ".join(self.exports.values())), stdin="".join(lines), timeout=120)
        wait_until(lambda: self.host.ssh("rpcinfo -t localhost nfs 4", check=False).returncode == 0, 30, "knfsd")

    def stop(self) -> None:
        """Stop the NFS service; the host stays on, a new connection is refused."""
        self.host.ssh("systemctl stop nfs-server.service", timeout=60)

    def restart(self) -> float:
        """Stop and start the NFS service; returns the seconds of the start."""
        self.stop()
        return self.start()

    def kill(self) -> None:
        """Power loss of the server."""
        self.host.kill()

    def pause(self) -> None:
        """SIGSTOP of the whole host: nothing is answered any more, not even TCP."""
        self.host.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End of a pause."""
        self.host.signal(signal.SIGCONT)

    def cut(self) -> None:
        """Pull the network cable."""
        self.host.cut()

    def join(self) -> None:
        """Plug the network cable in again."""
        self.host.join()

    def data(self, export: str) -> str:
        """Where the files of an export lie: a path on the filer, to be read with `.host.ssh`."""
        if export not in EXPORTS:
            raise LabError(f"{self.name} has no export {export}")
        return self.exports[export]

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the console."""
        return self.host.console_tail(lines)

    def remove(self) -> None:
        """Switch it off."""
        self.host.kill()
