# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server in a podman container with an address of its own; what it serves is for the subclasses."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab import images
from tests.lab.daemon import wait_until
from tests.lab.machine import LabError, run
from tests.lab.network import Network

# A file instead of shared memory for locks, and every directory inside the lab: nothing of podman's stays behind.
# No default ulimits: setting them fails wherever CAP_SYS_RESOURCE is missing. runc and cgroupfs work on every layout
# of control groups, without systemd.
PODMAN = """[containers]
default_ulimits = []
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{run}/podman-tmp"
"""


@dataclass(frozen=True)
class ServerSpec:
    """A server container: `member` decides its addresses, `tree` is the root file system in the image cache."""

    name: str
    member: int
    tree: str
    kind: str = "nfs"


class Container:
    """One server; its data outlive stop, kill and start."""

    port: int
    """The TCP port it serves on."""
    entry: str
    """The program that it runs."""
    capabilities = ""
    """Capabilities beside podman's own."""
    small: Mapping[str, str] = {}
    """Directories in it that have little room, and how much: they are in memory, and empty after each start."""

    def __init__(self, spec: ServerSpec, network: Network, directory: Path, work: Path) -> None:
        self.spec = spec
        self.name = spec.name
        self.network = network
        self.address = network.address(spec.member)
        self.address6 = network.address6(spec.member)
        self.log = directory / f"{spec.name}.log"
        self._directory = directory
        self._work = work
        self._home = work / spec.name

    @property
    def described(self) -> dict[str, object]:
        """What the inventory says of it."""
        return {"address": self.address, "address6": self.address6}

    def prepare(self) -> dict[Path, str]:
        """Write what the container needs; returns directories and files of this machine and where it sees them."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether a server whose port accepts connections serves all that it should."""
        return True

    def running(self) -> bool:
        """Whether the container runs (a paused one does)."""
        return self._pid() is not None

    def start(self, timeout: float = 180) -> float:
        """Start on the same address and data and wait until it serves; returns the seconds it took."""
        started = time.monotonic()
        if not self.running():
            self.network.ensure_namespace(self.name, self.spec.member)
            mounts = self.prepare()
            self._podman("rm", "--force", "--ignore", self.name)
            self._podman(
                *("run", "--detach", "--name", self.name, "--hostname", self.name),
                # no name server: ganesha would wait ten seconds for one to say what its own name means
                *("--dns", "none", "--add-host", f"{self.name}:{self.address}"),
                *("--network", f"ns:/run/netns/{self.network.namespace(self.name)}"),
                *(("--cap-add", self.capabilities) if self.capabilities else ()),
                *("--security-opt", "seccomp=unconfined"),
                *("--log-driver", "k8s-file", "--log-opt", f"path={self.log}"),
                *(word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}")),
                *(word for place, size in self.small.items() for word in ("--tmpfs", f"{place}:size={size}")),
                *("--rootfs", f"{images.CACHE / self.spec.tree}:O"),
                self.entry,
            )
        self.wait_until_serving(timeout)
        return time.monotonic() - started

    def wait_until_serving(self, timeout: float = 180) -> None:
        """Wait until its port accepts; LabError with the log's end when the server dies or `timeout` passes."""

        def accepts() -> bool:
            if not self.running():
                raise LabError(f"{self.name} died; its log ends:\n{self.log_tail()}")
            try:
                with socket.create_connection((self.address, self.port), timeout=1):
                    return self.ready()
            except OSError:
                return False

        try:
            wait_until(accepts, timeout, f"{self.name} to accept connections on port {self.port}")
        except LabError as error:
            raise LabError(f"{error}; its log ends:\n{self.log_tail()}") from None

    def stop(self) -> None:
        """Orderly stop: connections are closed, a new one is refused."""
        if self.running():
            self.resume()
            self._podman("stop", "--time", "5", self.name)
        self._podman("rm", "--force", "--ignore", self.name)

    def kill(self) -> None:
        """SIGKILL: the server is gone without a word, its state stays on disk."""
        self._podman("rm", "--force", "--ignore", "--time", "0", self.name)

    def restart(self) -> float:
        """Stop and start; returns the seconds of the start."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """SIGSTOP: the kernel still accepts connections, the server answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End of a pause."""
        self._signal(signal.SIGCONT)

    def cut(self) -> None:
        """Pull the network cable: packets vanish both ways."""
        self.network.set_cable(self.network.veth(self.spec.member), False)

    def join(self) -> None:
        """Plug the network cable in again."""
        self.network.set_cable(self.network.veth(self.spec.member), True)

    def exec(self, *command: str, stdin: str | None = None, check: bool = True) -> str:
        """Run a command in it and return its standard output; LabError when it fails."""
        interactive = () if stdin is None else ("--interactive",)
        return self._podman("exec", *interactive, self.name, *command, check=check, stdin=stdin)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the server's log."""
        return "\n".join(self.log.read_text().splitlines()[-lines:]) if self.log.exists() else ""

    def remove(self) -> None:
        """Remove the container; data go with the lab's directory."""
        self.kill()

    def _pid(self) -> int | None:
        text = self._podman("inspect", "--format", "{{.State.Pid}}", self.name, check=False).strip()
        pid = int(text) if text.isdigit() else 0
        return pid if pid and os.path.exists(f"/proc/{pid}") else None

    def _signal(self, number: signal.Signals) -> None:
        """All of its processes: a server may have one for each client."""
        first = self._pid()
        if first is None:
            raise LabError(f"{self.name} does not run")
        inside = os.stat(f"/proc/{first}/ns/pid").st_ino
        for pid in [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]:
            with contextlib.suppress(OSError):  # it ended
                if os.stat(f"/proc/{pid}/ns/pid").st_ino == inside:
                    os.kill(pid, number)

    def _podman(self, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        configuration = self._directory / "containers.conf"
        if not configuration.exists():
            configuration.write_text(PODMAN.format(run=self._directory))
        os.environ["CONTAINERS_CONF"] = str(configuration)
        places = ("--root", str(self._work / "podman"), "--runroot", str(self._directory / "podman"))
        return run("podman", *places, *arguments, timeout=60, check=check, stdin=stdin)
