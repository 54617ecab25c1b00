# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a host, an NFS, an SMB and an iSCSI server, site.yml twice, and a machine that runs."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time

from tests.gates.mirror import mirror
from tests.gates.paths import VENV, environment
from tests.lab import Host, Lab, LabError, NfsServer
from tests.machines import guests

LAB = "demo"
SAN = {"portal": "san1", "iqn": "{{ lab_servers.san1.targets.open }}", "lun": 1}
USER = {"username": "svc", "password": "{{ lab_servers.smb1.users.svc }}"}
BACKENDS = [
    {"name": "nas", "kind": "nfs", "server": "nas1", "export": "/export/rw", "default": True},
    {"name": "files", "kind": "smb", "server": "smb1", "share": "vms", **USER},
    {"name": "san", "kind": "iscsi_lvm", **SAN, "vg": "vg_demo", "initialize": "vg_demo", "layout": "thin"},
]
"""What the demo asks for. The role adds the backend `local`; the lab's inventory has the password."""
HOME = {"name": "home", "server": "nas1", "export": "/export/rw2", "path": "/srv/home"}
MACHINE = {
    "name": "web1",
    "memory": "64MiB",
    "kernel": guests.TOY,
    "wait_for": "TOY-GUEST-READY",
    "root": {"size": "1GiB", "backend": "nas"},
    "shares": [{"tag": "home", "source": HOME["path"], "proto": "9p"}],
}
"""Its disk and its share are on the NFS server. The guest is no Linux: that would take longer than all the rest."""
WANTED = {"storage_backends": BACKENDS, "storage_nfs_mounts": [HOME], "microvm_machines": [MACHINE]}
FILE = "hello from a file on the NFS server"
CONSOLE = "/var/lib/microvm/machines/web1/log/console.log"

RECAP = re.compile(r"^\S+ +: ok=\d+ +changed=(\d+) ", re.MULTILINE)


def say(text: str) -> None:
    """A line of the demo itself among those of the programs that it runs."""
    print(f"\n[demo] {text}", flush=True)


def play(lab: Lab, playbook: str) -> int:
    """Run a playbook of the collection on the lab, showing what it prints; the number of tasks that changed something.

    Raises LabError when it fails or reports on no host.
    """
    command = [str(VENV / "bin" / "ansible-playbook"), "-i", str(lab.inventory), "-e", json.dumps(WANTED), playbook]
    say(f"ansible-playbook {playbook}")
    printed = ""
    with subprocess.Popen(
        command, env={**environment(), "ANSIBLE_PIPELINING": "true"}, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            printed += line
    changes = [int(count) for count in RECAP.findall(printed)]
    if process.returncode or not changes:
        raise LabError(f"{playbook} failed with exit code {process.returncode}")
    return sum(changes)


def prepare(host: Host, nas: NfsServer) -> None:
    """Have the guest on the host, and the file that it reads on the server."""
    guests.install(host)
    (nas.data("rw2") / "hello").write_text(FILE + "\n")


def spoken(host: Host) -> str:
    """What the guest said at last. LabError when it is not what is in the file."""
    text = host.ssh(f"cat {CONSOLE}").stdout
    said = text[text.rfind("TOY-GUEST-READS") :]
    if f"TOY-GUEST-READS {FILE}" not in said.splitlines():
        raise LabError(f"the guest did not read the file of its share:\n{text}")
    return said


def show() -> None:
    """Bring the lab up and put storage and a machine into service; LabError when the second run changes anything."""
    started = time.monotonic()
    mirror()
    lab = Lab.up(LAB, hosts=1, servers=["nfs", "smb", "iscsi"], machines=True)
    host, nas = lab.hosts["hv1"], lab.servers["nas1"]
    assert isinstance(nas, NfsServer)
    prepare(host, nas)
    first = play(lab, "microvm.host.site")
    second = play(lab, "microvm.host.site")
    if second:
        raise LabError(f"the second run of site.yml changed {second} things; it must change none")
    say(f"the console of web1, {CONSOLE}:")
    print(spoken(host))
    say(f"first run changed={first}, second run changed=0; {time.monotonic() - started:.0f} s in all")
    say(f"look around: {VENV.name}/bin/python -m tests.lab ssh --name {LAB} hv1; take it away: make demo-clean")


def main() -> int:
    """Show the demo, or take it away with --clean; 0 when it went as it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clean", action="store_true", help="take the demo away")
    try:
        if parser.parse_args().clean:
            say("the lab is gone" if Lab.take_down(LAB) else "there is no lab")
        else:
            show()
    except LabError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
