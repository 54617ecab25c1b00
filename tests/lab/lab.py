# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab as a whole: what it consists of, bringing it up, taking it away."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.lab import images
from tests.lab.container import Container, ServerSpec
from tests.lab.daemon import Daemon, end_ssh
from tests.lab.filer import Filer
from tests.lab.host import Host, HostSpec
from tests.lab.inventory import write_inventory
from tests.lab.kvm import KvmHost
from tests.lab.machine import LabError, ensure_machine, run, say
from tests.lab.network import Network, free_number
from tests.lab.recipes import PROXY_PORT, Recipe, host_recipe, nas_recipe, samba_recipe, target_recipe
from tests.lab.samba import SmbServer
from tests.lab.server import NfsServer
from tests.lab.target import IscsiServer

RUN = Path("/run/microvm-lab")
WORK = Path("/var/tmp/microvm-lab")
FIRST_HOST, FIRST_FILER = 11, 61
SERVER_KINDS = ("nfs", "smb", "iscsi", "knfsd", "dead")
"""nfs: ganesha in a container (nas1, ...); smb: Samba in a container (smb1, ...); iscsi: tgt in a container (san1,
...); knfsd: a host serving NFS (filer1, ...); dead: always there anyway."""
CONTAINERS: dict[str, tuple[str, int, Recipe, type[Container]]] = {
    "nfs": ("nas", 71, nas_recipe(), NfsServer),
    "smb": ("smb", 81, samba_recipe(), SmbServer),
    "iscsi": ("san", 91, target_recipe(), IscsiServer),
}
"""Of each kind: how its servers' names begin, the number of the first one's address, its image, its class."""

Server = Container | Filer


class Lab:
    """Hosts and servers on a network of their own. Get one with Lab.up or Lab.load."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.network = Network(number)
        self.directory = RUN / name
        self.work = WORK / name
        self.inventory = self.directory / "inventory" / "hosts.yml"
        self.hosts: dict[str, Host] = {}
        self.servers: dict[str, Server] = {}
        self._proxy = Daemon(self.directory / "proxy.pid", self.directory / "proxy.log")

    # state

    @classmethod
    def load(cls, name: str = "lab") -> Lab:
        """The lab of this name as it was brought up; LabError when there is none."""
        try:
            state = json.loads((RUN / name / "lab.json").read_text())
        except FileNotFoundError:
            raise LabError(f"there is no lab {name}: python3 -m tests.lab up --name {name}") from None
        lab = cls(name, state["number"])
        for spec in state["hosts"]:
            lab._add_host(HostSpec(**spec))
        for spec in state["servers"]:
            lab._add_server(ServerSpec(**spec))
        return lab

    @classmethod
    def names(cls) -> list[str]:
        """Names of all labs of this machine."""
        return sorted(path.parent.name for path in RUN.glob("*/lab.json"))

    def _save(self) -> None:
        filers = [server.host.spec for server in self.servers.values() if isinstance(server, Filer)]
        state = {
            "number": self.network.number,
            "hosts": [asdict(spec) for spec in [host.spec for host in self.hosts.values()] + filers],
            "servers": [asdict(server.spec) for server in self.servers.values() if isinstance(server, Container)],
        }
        fresh = self.directory / "lab.json.new"
        fresh.write_text(json.dumps(state, indent=2))
        fresh.rename(self.directory / "lab.json")

    def _add_host(self, spec: HostSpec) -> None:
        kind = Host if spec.kernel else KvmHost
        host = kind(spec, self.network, self.directory, self.work)
        if spec.variant == "filer":
            self.servers[spec.name] = Filer(host)
        else:
            self.hosts[spec.name] = host

    def _add_server(self, spec: ServerSpec) -> None:
        self.servers[spec.name] = CONTAINERS[spec.kind][3](spec, self.network, self.directory, self.work)

    def is_filer(self, name: str) -> bool:
        """Whether a server is a lab host with a kernel NFS server."""
        return isinstance(self.servers[name], Filer)

    def filer_host(self, name: str) -> Host:
        """The host behind a kernel NFS server; LabError when the server is a container."""
        server = self.servers[name]
        if not isinstance(server, Filer):
            raise LabError(f"{name} is no host")
        return server.host

    def machine(self, name: str) -> Host | Server:
        """Host or server of this name; LabError when the lab has none."""
        try:
            return self.hosts[name] if name in self.hosts else self.servers[name]
        except KeyError:
            raise LabError(f"lab {self.name} has {', '.join([*self.hosts, *self.servers])}, not {name}") from None

    def dead_addresses(self, count: int) -> list[str]:
        """`count` (at most 126) IPv4 addresses that swallow every packet: connections to them time out."""
        return self.network.dead_addresses(count)

    # life

    @classmethod
    def up(
        cls,
        name: str = "lab",
        hosts: int = 1,
        servers: Sequence[str] = (),
        suite: str = "trixie",
        prepared: bool = False,
        memory: int = 1024,
        machines: bool = False,
        kvm: bool = False,
    ) -> Lab:
        """Bring a lab up, or add what a running one lacks; returns when every host answers ssh and every server serves.

        `servers` lists kinds of SERVER_KINDS, one word per server; `memory` is MiB per host; `machines` means
        prepared hosts that have the hypervisor too, `kvm` hosts under this machine's own kernel. When a new lab
        cannot be brought up, nothing of it is left.
        """
        ensure_machine()
        unknown = set(servers) - set(SERVER_KINDS)
        if unknown:
            raise LabError(f"no such server: {', '.join(sorted(unknown))}; there are {', '.join(SERVER_KINDS)}")
        variant = "machines" if machines else "prepared" if prepared else "bare"
        wanted_hosts = [(f"hv{n}", FIRST_HOST + n - 1, host_recipe(suite, variant)) for n in range(1, hosts + 1)]
        filer = host_recipe("trixie", "filer")
        wanted_hosts += [(f"filer{n}", FIRST_FILER + n - 1, filer) for n in range(1, servers.count("knfsd") + 1)]
        containers = [
            (f"{prefix}{n + 1}", first + n, kind, recipe)
            for kind, (prefix, first, recipe, dummy) in CONTAINERS.items()
            for n in range(servers.count(kind))
        ]
        recipes = [recipe for dummy, dummy2, recipe in wanted_hosts] + [each[3] for each in containers]
        with _lock(name):
            fresh = not (RUN / name / "lab.json").exists()
            lab = cls._allocate(name) if fresh else cls.load(name)
            try:
                missing = lab._missing(wanted_hosts)
                kernel, built = images.ensure_images([recipe for recipe in recipes if recipe.kind == "nas" or missing])
                for host_name, member, recipe in missing:
                    files = (built[recipe].name, "" if kvm else kernel.root.name)
                    lab._add_host(HostSpec(host_name, member, recipe.suite, recipe.variant, memory, *files))
                for server_name, member, kind, recipe in containers:
                    if server_name not in lab.servers:
                        lab._add_server(ServerSpec(server_name, member, built[recipe].name, kind))
                lab._save()
                lab._start()
            except BaseException:
                if fresh:
                    say(f"taking away what there is of lab {name}")
                    lab._remove()
                raise
        return lab

    @classmethod
    def _allocate(cls, name: str) -> Lab:
        with (RUN / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            states = []
            for other in cls.names():
                with contextlib.suppress(FileNotFoundError):  # it is being taken down
                    states.append((RUN / other / "lab.json").read_text())
            taken = {json.loads(state)["number"] for state in states}  # of whatever version of this package they are
            lab = cls(name, free_number(taken))
            (lab.directory / "ssh").mkdir(parents=True, exist_ok=True)
            lab._save()
            return lab

    def _missing(self, wanted: list[tuple[str, int, Recipe]]) -> list[tuple[str, int, Recipe]]:
        missing = []
        for name, member, recipe in wanted:
            there = self.hosts.get(name) or (self.filer_host(name) if name in self.servers else None)
            if there is None:
                missing.append((name, member, recipe))
            elif (there.spec.suite, there.spec.variant) != (recipe.suite, recipe.variant):
                raise LabError(
                    f"{name} of lab {self.name} is {there.spec.suite}/{there.spec.variant}, not "
                    f"{recipe.suite}/{recipe.variant}: take the lab down first, or use another --name"
                )
        return missing

    def _start(self) -> None:
        """Start everything that is off, all at once, and wait for it."""
        self.network.ensure_bridge()
        here = Path(__file__).with_name("proxy.py")
        address = (self.network.gateway, str(PROXY_PORT))
        if self._proxy.pid() is None:
            self._proxy.start([sys.executable, str(here), *address, *images.proxy_arguments()])
        members = [*self.hosts.values(), *self.servers.values()]

        def start(member: Host | Server) -> None:
            seconds = member.boot() if isinstance(member, Host) else member.start()
            if seconds > 1:
                say(f"{member.name} is up ({seconds:.0f} s)")

        with concurrent.futures.ThreadPoolExecutor(max(1, len(members))) as pool:
            for future in [pool.submit(start, member) for member in members]:
                future.result()
        self._write_names()
        write_inventory(self, self.inventory)

    def _write_names(self) -> None:
        """Tell every host the names of the others: there is no name server in the lab."""
        everyone = {**self.hosts, **self.servers}
        lines = [f"{member.address} {name}\n{member.address6} {name}\n" for name, member in everyone.items()]
        script = "sed -i '/ # lab$/d' /etc/hosts && sed 's/$/ # lab/' >> /etc/hosts"
        for host in [*self.hosts.values(), *(s.host for s in self.servers.values() if isinstance(s, Filer))]:
            others = [line for line, name in zip(lines, everyone, strict=True) if name != host.name]
            host.ssh(script, stdin="".join(others))

    def down(self) -> None:
        """Take everything away: processes, links, namespaces, containers, mounts, disks, state."""
        self.take_down(self.name)

    @classmethod
    def take_down(cls, name: str) -> bool:
        """Take a lab away as it is now, with what another `up` has added meanwhile; False when there is none."""
        with _lock(name):
            if name not in cls.names():
                return False
            cls.load(name)._remove()
            return True

    def _remove(self) -> None:
        for host in self.hosts.values():
            host.kill()
        for server in self.servers.values():
            server.remove()
        end_ssh(self.directory / "ssh")
        self._proxy.kill()
        self.network.remove()
        with open("/proc/self/mountinfo") as table:
            mounted = [line.split()[4] for line in table]
        for point in reversed(mounted):
            if point.startswith((f"{self.work}/", f"{self.directory}/")):
                run("umount", point)
        for path in (self.work, self.directory):
            if path.exists():
                shutil.rmtree(path)
        for parent in (WORK, RUN):
            with contextlib.suppress(OSError):
                parent.rmdir()  # the last lab's


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    """One `up` or `down` of a lab at a time."""
    if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 20:
        raise LabError(f"lab name {name!r}: letters, digits, - and _, at most 20")
    if os.geteuid() != 0:
        raise LabError("labs belong to root: use sudo")
    RUN.mkdir(mode=0o755, exist_ok=True)
    path = Path("/run/lock") if Path("/run/lock").is_dir() else Path("/run")
    with (path / f"microvm-lab-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
