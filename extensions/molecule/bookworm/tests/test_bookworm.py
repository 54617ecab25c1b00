# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian 12 host after site.yml, and after a reboot."""

from __future__ import annotations

from extensions.molecule.calls import call
from extensions.molecule.managed import Managed
from tests.lab.daemon import wait_until


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


def test_reboot(hv1: Managed) -> None:
    path = hv1.backends()["nas"]["path"]
    hv1.host.reboot()
    wait_until(lambda: bool(hv1.mounts_on(path)), 40, "the backend to come back")
    works(hv1)
