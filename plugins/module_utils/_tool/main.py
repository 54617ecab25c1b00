# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""microvm-tool: what a host does without Ansible. Private to microvm.host."""

from __future__ import annotations

import argparse

from ansible_collections.microvm.host.plugins.module_utils._core import archive


def main(version: str) -> int:
    """Run the sub-command of the command line; the exit code is 0 when all of it succeeded."""
    archive.compile_once()
    parser = argparse.ArgumentParser(prog="microvm-tool", description="What a microvm.host host does without Ansible.")
    parser.add_argument("--version", action="version", version="microvm-tool %s" % version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "recover",
        help="settle what killed runs left open, check the mounts of backends, mount or log in to what is missing",
    )
    driver = commands.add_parser("nfsd", help="be Docker's volume driver nfsd, on the socket that systemd passes")
    driver.add_argument("--scope", choices=["local", "global"], default="local", help="what Docker is told of volumes")
    driver.add_argument("--prime", action="store_true", help="have Docker look for its volume drivers, and end")
    lock = commands.add_parser("lock", help="hold the locks of volumes while a program uses them, or until a signal")
    lock.add_argument("--holder", default="microvm-tool lock", help="who holds them, for others to read")
    lock.add_argument("--takeover", action="store_true", help="from a holder whose host is dead for certain")
    lock.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="how long to wait for a holder to end")
    lock.add_argument("--volume", action="append", required=True, dest="volumes", help="can be given many times")
    lock.add_argument("program", nargs="*", help="behind --: the program, with its arguments")
    stopper = commands.add_parser("vm-stop", help="stop a microVM: ask its guest to power off, then end its hypervisor")
    stopper.add_argument("kind", choices=["qemu", "firecracker", "cloud_hypervisor"])
    stopper.add_argument("socket", help="where the hypervisor listens")
    stopper.add_argument("seconds", type=float, help="how long the guest may take")
    balloon = commands.add_parser("vm-balloon", help="have the guest of a QEMU that starts do with less memory")
    balloon.add_argument("socket", help="where QEMU listens")
    balloon.add_argument("bytes", type=int, help="what it leaves to its guest")
    fresh = commands.add_parser("vm-fresh", help="make the file system of an overlay's disk anew")
    fresh.add_argument("disk", help="path of the disk, whose lock the caller holds")
    macvtap = commands.add_parser("vm-macvtap", help="run a hypervisor with the devices of macvtaps open")
    macvtap.add_argument("--tap", action="append", required=True, dest="taps", help="can be given many times")
    macvtap.add_argument("--give", metavar="USER", help="only let this user open them")
    macvtap.add_argument("program", nargs="*", help="behind --: the hypervisor, with its arguments")
    jail = commands.add_parser(
        "vm-jail", help="run Firecracker in its jailer, with what it needs of the host in the jail"
    )
    for option in ("jailer", "id", "user", "base"):
        jail.add_argument("--" + option, required=True)
    for option in ("read", "write", "copy"):
        jail.add_argument("--" + option, action="append", default=[], metavar="PATH", help="can be given many times")
    jail.add_argument("program", nargs="+", help="behind --: Firecracker, with its arguments")
    asked = parser.parse_args()
    if asked.command == "lock":
        from ansible_collections.microvm.host.plugins.module_utils._tool import hold

        return hold.run(asked.volumes, asked.holder, asked.takeover, asked.wait, asked.program)
    if asked.command == "vm-stop":
        from ansible_collections.microvm.host.plugins.module_utils._machines import stop

        return stop.run(asked.kind, asked.socket, asked.seconds)
    if asked.command == "vm-balloon":
        from ansible_collections.microvm.host.plugins.module_utils._machines import balloon as balloons

        return balloons.run(asked.socket, asked.bytes)
    if asked.command == "vm-fresh":
        from ansible_collections.microvm.host.plugins.module_utils._machines import fresh as freshly

        return freshly.run(asked.disk)
    if asked.command == "vm-macvtap":
        from ansible_collections.microvm.host.plugins.module_utils._machines import macvtap as macvtaps

        return macvtaps.give(asked.taps, asked.give) if asked.give else macvtaps.become(asked.taps, asked.program)
    if asked.command == "vm-jail":
        from ansible_collections.microvm.host.plugins.module_utils._machines import jail as jails

        paths = (asked.read, asked.write, asked.copy)
        return jails.run(jails.Jail(asked.jailer, asked.id, asked.user, asked.base, *paths), asked.program)
    if asked.command == "nfsd":
        from ansible_collections.microvm.host.plugins.module_utils._docker import daemon, prime

        return prime.run() if asked.prime else daemon.run(version, asked.scope)
    from ansible_collections.microvm.host.plugins.module_utils._tool import recover

    return recover.run()
