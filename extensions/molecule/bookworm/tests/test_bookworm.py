# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian 12 host after site.yml, and after a reboot: storage, and a machine whose shares the C virtiofsd serves."""

from __future__ import annotations

from extensions.molecule.calls import call
from extensions.molecule.managed import Converge, Managed
from tests.lab.daemon import wait_until

CONSOLE = "/var/lib/microvm/machines/web1/log/console.log"


def works(host: Managed) -> None:
    """Backends and mount are as asked and take files."""
    (info,) = host.run(call("host_info", refresh=True))
    found = {**info.items("backends"), **info.items("mounts")}
    assert {name: item["status"] for name, item in found.items()} == dict.fromkeys(("nas", "local", "media"), "ok")
    assert (found["nas"]["version_negotiated"], found["media"]["version_negotiated"]) == ("4.2", "3")
    for name in ("nas", "media"):
        path = found[name]["path"]
        assert len(host.mounts_on(path)) == 1
        host.sh(f"echo hello > {path}/hello && rm {path}/hello")


def test_debian_12(hv1: Managed) -> None:
    assert hv1.sh(". /etc/os-release; echo $VERSION_CODENAME") == "bookworm\n"
    assert hv1.sh("python3 --version").startswith("Python 3.11.")
    assert hv1.sh("systemctl --version").startswith("systemd 252 ")
    works(hv1)


def boots(host: Managed) -> int:
    """How often the guest was ready."""
    return int(host.sh(f"grep -c GUEST-READY {CONSOLE}"))


def test_the_older_virtiofsd_serves_its_shares(hv1: Managed) -> None:
    daemons = hv1.sh("ps -C virtiofsd -o args=")
    assert "/usr/lib/qemu/virtiofsd --fd=3 -f -o source=/srv/files," in daemons
    lines = hv1.sh(f"cat {CONSOLE}").split("\n")
    assert "GUEST-WROTE /files" in lines and hv1.sh("cat /srv/files/back") == "from guest\n"
    assert "GUEST-REFUSED /images" in lines, "a guest that mounts it writable can write"


def test_a_host_that_has_everything_is_left_alone(converge: Converge) -> None:
    done = converge("--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " changed=0 " in done.stdout, "its programs lie elsewhere than those of Debian 13"


def test_reboot(hv1: Managed) -> None:
    (info,) = hv1.run(call("host_info"))
    paths = {info.items("backends")["nas"]["path"], info.items("mounts")["media"]["path"]}
    before = boots(hv1)
    hv1.host.reboot()
    wait_until(lambda: paths <= set(hv1.table()), 120, "the mounts to come back")
    works(hv1)
    wait_until(lambda: boots(hv1) > before, 300, "the machine to come back", interval=1)
