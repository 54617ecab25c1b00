# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host: User Mode Linux on a copy-on-write disk, reached by ssh."""

from __future__ import annotations

import hashlib
import shlex
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import counts, images
from tests.lab.daemon import Daemon, wait_until
from tests.lab.machine import LabError
from tests.lab.network import Network

BOOT_TIMEOUT = 400.0
RESERVED_KIB = 32
"""Of each MiB of memory, for packets that arrive while files fill the rest (the kernel's own is a few MiB). User Mode
Linux's network device never sends again once it found no memory for one: its buffer for packets that are dropped does
not exist, the read fails with EFAULT, and all that is to be sent is tried again for ever, at 100 % CPU."""
PACKAGES = "/usr/lib/python3/dist-packages"
"""Where each of a host's Pythons looks as it starts, whatever its version."""

# In a mount namespace of its own the kernel sees its tree, the machine's /dev and /proc, images and disks; its memory
# is a file on a tmpfs that goes away with it.
LAUNCH = """
set -e
root=$1 cache=$2 work=$3 size=$4; shift 4
mount --rbind /dev "$root/dev"; mount --rbind /proc "$root/proc"
mount -t tmpfs -o "size=${size}m" tmpfs "$root/tmp"
mount --bind -o ro "$cache" "$root/cache"; mount --bind "$work" "$root/disks"
exec env TMPDIR=/tmp HOME=/tmp chroot "$root" "$@"
"""


@dataclass(frozen=True)
class HostSpec:
    """What a host is made of. `member` decides its addresses, `disk` is the base image, `memory` is in MiB."""

    name: str
    member: int
    suite: str
    variant: str
    memory: int
    disk: str
    kernel: str


class Host:
    """One host of a lab; `directory` holds pid file and console, `work` the disk."""

    def __init__(self, spec: HostSpec, network: Network, directory: Path, work: Path) -> None:
        self.spec = spec
        self.name = spec.name
        self.network = network
        self.address = network.address(spec.member)
        self.address6 = network.address6(spec.member)
        self.cow = work / f"{spec.name}.cow"
        self.console = directory / f"{spec.name}.log"
        self._sockets = directory / "ssh"
        self._daemon = Daemon(directory / f"{spec.name}.pid", self.console)

    # power

    def running(self) -> bool:
        """Whether the host's power is on."""
        return self._daemon.pid() is not None

    def start(self) -> None:
        """Switch the power on; does not wait. The disk is created at the first start."""
        spec, network = self.spec, self.network
        network.ensure_tap(spec.member)
        self.cow.parent.mkdir(parents=True, exist_ok=True)
        kernel = images.CACHE / spec.kernel
        arguments = [
            "/usr/bin/linux.uml",
            "seccomp=on",
            f"mem={spec.memory}M",
            f"umid={spec.name}",
            "uml_dir=/tmp",
            f"ubd0=/disks/{self.cow.name},/cache/{spec.disk}",
            "root=/dev/ubda",
            "rw",
            f"vec0:transport=tap,ifname={network.tap(spec.member)},depth=64,gro=1,mac={network.mac(spec.member)}",
            f"lab.address={self.address}/24",
            f"lab.address6={self.address6}/64",
            f"lab.gateway={network.gateway}",
            f"sysctl.vm.min_free_kbytes={spec.memory * RESERVED_KIB}",
            f"systemd.hostname={spec.name}",
            f"systemd.machine_id={hashlib.md5(f'{network.bridge} {spec.name}'.encode()).hexdigest()}",
            "con=null",
            "con0=null,fd:1",
            "ssl=null",
            "systemd.show_status=false",
            "quiet",
        ]
        paths = [str(kernel), str(images.CACHE), str(self.cow.parent), str(spec.memory + 128)]
        self._daemon.start(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", LAUNCH, "sh", *paths, *arguments]
        )

    def wait_for_ssh(self, timeout: float = BOOT_TIMEOUT) -> float:
        """Seconds until ssh answers; LabError with the console's end when the host dies or `timeout` passes."""
        started = time.monotonic()

        def answers() -> bool:
            if not self.running():
                raise LabError(f"{self.name} died while booting; console {self.console} ends:\n{self.console_tail()}")
            try:
                with socket.create_connection((self.address, 22), timeout=1) as connection:
                    connection.settimeout(5)
                    return connection.recv(4) == b"SSH-"
            except OSError:
                return False

        try:
            wait_until(answers, timeout, f"{self.name} to answer ssh")
        except LabError as error:
            raise LabError(f"{error}; console {self.console} ends:\n{self.console_tail()}") from None
        return time.monotonic() - started

    def boot(self, timeout: float = BOOT_TIMEOUT) -> float:
        """Power on and wait for ssh; returns the seconds it took. A running host is left as it is (0.0)."""
        if self.running():
            return 0.0
        self.close_connections()
        started = time.monotonic()
        self.start()
        self.wait_for_ssh(timeout)
        counts.add("hosts booted")
        return time.monotonic() - started

    def kill(self) -> None:
        """Power loss: the host stops at once, its disk keeps what was written."""
        self._daemon.kill()
        self.close_connections()

    def poweroff(self, timeout: float = 240) -> float:
        """Orderly shutdown; returns the seconds it took. LabError when the host is still on after `timeout` seconds."""
        if not self.running():
            return 0.0
        self.ssh("systemctl poweroff", timeout=30, check=False)
        seconds = wait_until(lambda: not self.running(), timeout, f"{self.name} to power off")
        self.kill()
        return seconds

    def reboot(self, timeout: float = BOOT_TIMEOUT) -> float:
        """Orderly shutdown, then boot on the same disk; returns the seconds of the boot alone.

        A reboot from inside would come up without a network: the kernel cannot reopen its tap.
        """
        self.poweroff()
        return self.boot(timeout)

    def signal(self, number: int) -> None:
        """Send a signal to every process of the host, e.g. SIGSTOP to freeze it; LabError when it is off."""
        self._daemon.signal(number)

    # cable

    def cut(self) -> None:
        """Pull the network cable: packets vanish both ways."""
        self.network.set_cable(self.network.tap(self.spec.member), False)

    def join(self) -> None:
        """Plug the network cable in again."""
        self.network.set_cable(self.network.tap(self.spec.member), True)

    # access

    def ssh_options(self) -> list[str]:
        """Options of ssh and scp for this host; one connection is kept open and shared with Ansible."""
        return [
            *("-F", "none", "-i", str(images.KEY)),
            *(word for option in SSH_OPTIONS for word in ("-o", option)),
            *("-o", f"ControlPath={self._sockets}/%C"),
        ]

    def ssh(
        self,
        command: str | Sequence[str],
        timeout: float = 60,
        check: bool = True,
        stdin: str | None = None,
        user: str = "root",
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host.

        `command` is shell text, or words that are quoted for it. `timeout` in seconds: subprocess.TimeoutExpired is
        raised after it. With `check` a non-zero exit raises LabError with the command's error text.
        """
        text = command if isinstance(command, str) else shlex.join(command)
        argv = ["ssh", *self.ssh_options(), f"{user}@{self.address}", "--", text]
        done = subprocess.run(
            argv, input=stdin or "", capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
        if check and done.returncode:
            raise LabError(f"{self.name}: {text}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
        return done

    def put(self, local: str | Path, remote: str, timeout: float = 120) -> None:
        """Copy a local file or directory to the host."""
        self._copy([str(local), f"root@{self.address}:{remote}"], timeout)

    def get(self, remote: str, local: str | Path, timeout: float = 120) -> None:
        """Copy a file or directory of the host here."""
        self._copy([f"root@{self.address}:{remote}", str(local)], timeout)

    def _copy(self, ends: list[str], timeout: float) -> None:
        done = subprocess.run(
            ["scp", "-q", "-r", *self.ssh_options(), *ends],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise LabError(f"{self.name}: copy {' to '.join(ends)}: {done.stderr.strip()}")

    def keep_bytecode(self) -> None:
        """From now on compile each source of a module once per boot; see bytecode.py."""
        self.ssh(f"cat > {PACKAGES}/lab_bytecode.py", stdin=Path(__file__).with_name("bytecode.py").read_text())
        # Run once, which leaves its own byte code there: what looks for changes below /usr sees none later.
        self.ssh(f"echo import lab_bytecode > {PACKAGES}/lab_bytecode.pth && python3 -c pass")

    def close_connections(self) -> None:
        """End the shared ssh connections: those of a dead host would stall the next command."""
        for user in ("root", "admin"):
            subprocess.run(
                ["ssh", *self.ssh_options(), "-O", "exit", f"{user}@{self.address}"],
                capture_output=True,
                timeout=20,
                check=False,
            )

    def console_tail(self, lines: int = 20) -> str:
        """The last lines of the console."""
        if not self.console.exists():
            return ""
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-lines:])

    def journal(self, timeout: float = 60) -> str:
        """The journal of this boot."""
        return self.ssh("journalctl -b --no-pager -o short-monotonic", timeout=timeout).stdout


PATIENCE = 60
"""Seconds for which a host may be silent before ssh gives it up: many of them share few cores."""
SSH_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "GlobalKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    f"ConnectTimeout={PATIENCE}",
    "ServerAliveInterval=5",
    f"ServerAliveCountMax={PATIENCE // 5}",
    "ControlMaster=auto",
    "ControlPersist=600",
)
