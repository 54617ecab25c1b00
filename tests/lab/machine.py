# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what the lab needs of this machine, and install it where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests import apt

COMMANDS = {
    "mmdebstrap": "mmdebstrap",
    "podman": "podman",
    "runc": "runc",
    "ip": "iproute2",
    "bridge": "iproute2",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
    "chroot": "coreutils",
}
"""Commands the lab calls, each with the Debian package that has it."""

DEVICES = {
    "/dev/net/tun": "load the kernel module: modprobe tun (in a container: run it with --device /dev/net/tun)",
}


class LabError(Exception):
    """The lab cannot do what was asked; the text names the remedy."""


def say(text: str) -> None:
    """Print one progress line on standard error."""
    sys.stderr.write(f"[lab] {text}\n")  # one write: several threads report
    sys.stderr.flush()


def run(*argv: str, timeout: float = 60, check: bool = True, stdin: str | None = None) -> str:
    """Run a command and return its standard output; LabError with its error text when it fails or takes too long."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(argv)}: no end after {timeout:.0f} s") from None
    if check and done.returncode:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def missing_packages() -> list[str]:
    """Debian packages of which a command is not found on this machine."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return sorted({package for command, package in COMMANDS.items() if not shutil.which(command, path=path)})


def ensure_machine() -> None:
    """Make this machine able to run a lab: root, Debian packages, devices.

    Missing packages are installed through apt; everything else that is missing raises LabError with the remedy.
    """
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = missing_packages()
    if os.geteuid() != 0:
        also = f"; it will also need: apt-get install --no-install-recommends {' '.join(missing)}" if missing else ""
        raise LabError(f"the lab must run as root (taps, bridges, chroot): use sudo{also}")
    if missing:
        with apt.turn():
            _install(missing_packages())
    _check_firewall()
    for device, remedy in DEVICES.items():
        if not os.path.exists(device):
            raise LabError(f"{device} is missing: {remedy}")


def _install(missing: list[str]) -> None:
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise LabError(f"there is no apt-get here, and commands of these packages are missing: {' '.join(missing)}")
    say(f"installing Debian packages this machine lacks: {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["install", "-y", "--no-install-recommends", *missing]
    for words in (["update"], install):
        command = ["apt-get", "-qq", *apt.PATIENT, *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            raise LabError(f"{' '.join(command)}: {done.stderr.strip()[-1000:]}")
    still = missing_packages()
    if still:
        raise LabError(f"still missing after apt-get install: {' '.join(still)}")


def _check_firewall() -> None:
    """Bridged packets pass iptables where br_netfilter is loaded, and Docker makes iptables drop what is forwarded."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not switch.exists() or switch.read_text().strip() == "0" or not shutil.which("iptables"):
        return
    rules = run("iptables", "-S", "FORWARD", check=False)
    if "-P FORWARD DROP" in rules and "-i mvlab+" not in rules:
        raise LabError(
            "iptables drops packets between lab hosts (policy of FORWARD is DROP): "
            "iptables -I FORWARD -i mvlab+ -o mvlab+ -j ACCEPT"
        )
