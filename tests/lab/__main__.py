# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line of the lab: python3 -m tests.lab COMMAND [--name LAB] ..."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

from tests.lab import counts, images
from tests.lab.filer import Filer
from tests.lab.host import Host
from tests.lab.lab import SERVER_KINDS, Lab
from tests.lab.machine import LabError, say
from tests.lab.recipes import SUITES

# command: (method, what it does)
VERBS = {
    "cut": "pull the network cable",
    "join": "plug the network cable in",
    "kill": "power loss of a host, SIGKILL of a server",
    "boot": "power a host on and wait for it",
    "poweroff": "shut a host down in order",
    "reboot": "shut a host down in order and boot it",
    "start": "start a server",
    "stop": "stop a server in order",
    "pause": "SIGSTOP a server",
    "resume": "SIGCONT a server",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="lab", help="the lab (default: lab)")
    up = commands.add_parser("up", parents=[common], help="bring a lab up, or add what a running one lacks")
    up.add_argument("--hosts", type=int, default=1, metavar="N", help="hosts hv1..hvN (default: 1)")
    up.add_argument("--servers", default="", help=f"comma list of {', '.join(SERVER_KINDS)}; a kind may be repeated")
    up.add_argument("--suite", choices=SUITES, default="trixie", help="userspace of the hosts")
    up.add_argument("--machines", action="store_true", help="prepared hosts with QEMU and virtiofsd")
    up.add_argument("--kvm", action="store_true", help="hosts under this machine's own kernel, for KVM; no storage")
    up.add_argument("--prepared", action="store_true", help="hosts with the NFS client installed already")
    up.add_argument("--bytecode", action="store_true", help="hosts that compile a module's sources once per boot")
    up.add_argument("--mem", type=int, default=1024, metavar="MB", help="memory of a host (default: 1024)")
    down = commands.add_parser("down", parents=[common], help="take a lab away")
    down.add_argument("--all", action="store_true", help="every lab of this machine")
    status = commands.add_parser("status", help="list labs")
    status.add_argument("--name", help="only this lab (default: all)")
    commands.add_parser("clean", help="remove the cached images")
    commands.add_parser("counts", help="print what the last test run did").add_argument("--reset", action="store_true")
    commands.add_parser("inventory", parents=[common], help="print the path of the Ansible inventory")
    ssh = commands.add_parser("ssh", parents=[common], help="shell or command on a host")
    ssh.add_argument("machine", metavar="HOST")
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD")
    logs = commands.add_parser("logs", parents=[common], help="console of a host, log of a server")
    logs.add_argument("machine", metavar="NAME")
    logs.add_argument("--lines", type=int, default=100)
    for verb, text in VERBS.items():
        commands.add_parser(verb, parents=[common], help=text).add_argument("machine", metavar="NAME")
    return parser


def _status(arguments: argparse.Namespace) -> None:
    for name in [arguments.name] if arguments.name else Lab.names():
        lab = Lab.load(name)
        print(f"lab {name}: {lab.network.ipv4}, inventory {lab.inventory}")
        for host in lab.hosts.values():
            made_of = f"{host.spec.suite}/{host.spec.variant} {host.spec.memory} MB"
            print(f"  {host.name:8} {host.address:14} {'on' if host.running() else 'off':4} {made_of}")
        for server in lab.servers.values():
            kind = "knfsd" if isinstance(server, Filer) else server.spec.kind
            print(f"  {server.name:8} {server.address:14} {'on' if server.running() else 'off':4} {kind}")


def _ssh(lab: Lab, name: str, words: list[str]) -> None:
    host = lab.machine(name)
    if isinstance(host, Filer):
        host = host.host
    if not isinstance(host, Host):
        raise LabError(f"{name} is no host")
    words = words[1:] if words[:1] == ["--"] else words
    os.execvp("ssh", ["ssh", *host.ssh_options(), f"root@{host.address}", *words])


def _verb(lab: Lab, verb: str, name: str) -> None:
    action = getattr(lab.machine(name), verb, None)
    if action is None:
        raise LabError(f"{name} cannot {verb}")
    seconds = action()
    say(f"{name}: {verb}" + (f" ({seconds:.1f} s)" if seconds else ""))


def _log(lab: Lab, name: str, lines: int) -> str:
    machine = lab.machine(name)
    return machine.console_tail(lines) if isinstance(machine, Host) else machine.log_tail(lines)


def _up(arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    kinds = [kind for kind in arguments.servers.split(",") if kind]
    lab = Lab.up(
        arguments.name,
        arguments.hosts,
        kinds,
        arguments.suite,
        arguments.prepared,
        arguments.mem,
        machines=arguments.machines or arguments.kvm,
        kvm=arguments.kvm,
    )
    for host in lab.hosts.values():
        if arguments.bytecode:
            host.keep_bytecode()
    say(f"lab {lab.name} is up after {time.monotonic() - started:.0f} s; inventory: {lab.inventory}")


def _down(arguments: argparse.Namespace) -> None:
    for name in Lab.names() if arguments.all else [arguments.name]:
        if Lab.take_down(name):
            say(f"lab {name} is gone")
        else:
            say(f"there is no lab {name}")


def _clean(dummy: argparse.Namespace) -> None:
    if Lab.names():
        raise LabError(f"labs still use the images: {', '.join(Lab.names())}; first: python3 -m tests.lab down --all")
    images.remove_cache()


def _counts(arguments: argparse.Namespace) -> None:
    print(counts.summary())
    if arguments.reset:
        counts.reset()


def _run(arguments: argparse.Namespace) -> None:
    command = arguments.command
    without_lab = {"up": _up, "down": _down, "counts": _counts, "status": _status, "clean": _clean}
    if command in without_lab:
        without_lab[command](arguments)
        return
    lab = Lab.load(arguments.name)
    if command == "inventory":
        print(lab.inventory)
    elif command == "ssh":
        _ssh(lab, arguments.machine, arguments.words)
    elif command == "logs":
        print(_log(lab, arguments.machine, arguments.lines))
    else:
        _verb(lab, command, arguments.machine)


def main() -> int:
    """Run one command; 0 when it did what was asked, 1 with the reason on standard error otherwise."""
    # a killed `up` takes its half-made lab away, as Ctrl-C does
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        _run(_parser().parse_args())
    except LabError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
