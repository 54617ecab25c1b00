# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host and kernel lack is told before a machine is started."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import fit, opening
from tests.unit.machines.given import TCG, asked

CLOUD = "CONFIG_VIRTIO_MMIO=m\nCONFIG_VIRTIO_FS=y\n# CONFIG_NET_9P is not set\nCONFIG_VIRTIO_BLK=m\n"
"""Of Debian's 6.12 cloud kernel."""
SHARE = {"tag": "home", "source": "/usr"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A kernel with its configuration beside it."""
    (tmp_path / "config-6.12").write_text(CLOUD)
    (tmp_path / "vmlinuz-6.12").write_bytes(b"MZ")
    return str(tmp_path / "vmlinuz-6.12")


def test_a_fit_kernel(path: str) -> None:
    assert fit.refuse_unfit(asked(kernel=path, shares=[SHARE]), TCG, "")


def test_a_driver_that_is_missing(path: str) -> None:
    with pytest.raises(HostError, match="no CONFIG_NET_9P_VIRTIO") as refused:
        fit.refuse_unfit(asked(kernel=path, shares=[{**SHARE, "proto": "9p"}]), TCG, "")
    assert (refused.value.field, refused.value.hint) == (
        "shares[0].proto",
        "use proto: virtiofs, or another kernel",
    )


def test_an_overlay_needs_its_driver(path: str, tmp_path: Path) -> None:
    disk = {"volume": "upper", "serial": "upper"}
    overlay = {"lower": "home", "upper": "upper", "mount_point": "/rw"}
    config = asked(kernel=path, shares=[{**SHARE, "mount_point": "/home"}], disks=[disk], overlays=[overlay])
    with pytest.raises(HostError, match="no CONFIG_OVERLAY_FS") as refused:
        fit.refuse_unfit(config, TCG, "m.")
    assert refused.value.field == "m.overlays"
    (tmp_path / "config-6.12").write_text(CLOUD + "CONFIG_OVERLAY_FS=m\n")
    assert fit.refuse_unfit(config, TCG, "m.")


def test_no_virtio_mmio(path: str, tmp_path: Path) -> None:
    (tmp_path / "config-6.12").write_text("CONFIG_VIRTIO_PCI=y\n")
    with pytest.raises(HostError, match="no CONFIG_VIRTIO_MMIO"):
        fit.refuse_unfit(asked(kernel=path), TCG, "")
    assert fit.refuse_unfit(asked(kernel=path), TCG._replace(bus="pci"), "")


def test_unknown_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF")
    config = asked(kernel=str(tmp_path / "vmlinux"), shares=[SHARE])
    assert fit.refuse_unfit(config, TCG, "")


def test_files_that_are_not_there_or_nothing_to_start(path: str) -> None:
    with pytest.raises(HostError, match="there is no file /none") as missing:
        fit.refuse_unfit(asked(kernel=path, initrd="/none"), TCG, "m.")
    assert (missing.value.kind, missing.value.field) == ("not_found", "m.initrd")


def test_huge_pages_that_are_not_there(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "HUGE_PAGES", str(tmp_path / "nr"))
    config = asked(kernel=path, memory="64MiB", hugepages=True)
    (tmp_path / "nr").write_text("32\n")
    assert fit.refuse_unfit(config, TCG, "")
    for said in ("31\n", None):
        (tmp_path / "nr").write_text(said) if said else (tmp_path / "nr").unlink()
        with pytest.raises(HostError, match="needs 32 huge pages of 2 MiB, this host has") as refused:
            fit.refuse_unfit(config, TCG, "m.")
        assert refused.value.field == "m.hugepages" and "vm.nr_hugepages=32" in refused.value.hint


def test_more_memory_than_the_host_has(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  1048576 kB\nSwapTotal:  1024 kB\nHugePages_Total: 0\n")
    monkeypatch.setattr(fit, "MEMORY", str(tmp_path / "meminfo"))
    assert fit.refuse_unfit(asked(kernel=path, memory="1025MiB"), TCG, "m.")
    with pytest.raises(HostError, match="shall have 1026 MiB of memory, this host has 1025 MiB") as refused:
        fit.refuse_unfit(asked(kernel=path, memory="1026MiB"), TCG, "m.")
    assert (refused.value.kind, refused.value.field) == ("unsupported", "m.memory") and refused.value.hint


@pytest.mark.parametrize(
    ("options", "mode", "field"),
    [
        ({"disks": [{"path": "/usr/bin/env", "read_only": True}, {"path": "FILE"}]}, 0o444, "m.disks[1].path"),
        ({"root": {"path": "FILE"}}, 0o444, "m.root.path"),
        ({"root": {"path": "FILE", "read_only": True}}, 0o200, "m.root.path"),
        ({"initrd": "FILE"}, 0o200, "m.initrd"),
        ({"kernel": "FILE"}, 0o200, "m.kernel"),
    ],
)
def test_what_its_user_may_not_open(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any], mode: int, field: str
) -> None:
    def fits() -> bool:
        return deadline.call(lambda: fit.refuse_unfit_for("mvm-none", config, TCG, "m."), 10, "looking")

    if os.geteuid() != 0:
        monkeypatch.setattr(opening, "become", lambda user: None)
    else:
        for folder in (tmp_path, *tmp_path.parents):
            folder.chmod(folder.stat().st_mode | 0o005)
    file = tmp_path / "file"
    file.write_bytes(b"MZ")
    file.chmod(mode)
    config = asked(**json.loads(json.dumps({"kernel": path, **options}).replace("FILE", str(file))))
    with pytest.raises(HostError, match=f"the user mvm-none may not (read|write to) the [a-z]+ {file}") as refused:
        fits()
    assert (refused.value.kind, refused.value.field) == ("refused", field) and "microvm" in refused.value.hint
    file.chmod(0o666)
    assert fits()


def test_qemu_needs_the_host_for_vsock(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = asked(kernel=path, vsock=3)
    monkeypatch.setattr(fit, "VHOST_VSOCK", "/nonexistent")
    with pytest.raises(HostError, match="this host has no /nonexistent") as refused:
        fit.refuse_unfit(config, TCG, "m.")
    assert refused.value.field == "m.vsock" and fit.refuse_unfit(config, TCG._replace(kind="firecracker"), "m.")
    monkeypatch.setattr(fit, "VHOST_VSOCK", path)
    assert fit.refuse_unfit(config, TCG, "m.")


def test_a_source_that_is_missing(path: str) -> None:
    share = {"tag": "home", "source": "/nonexistent/home"}
    with pytest.raises(HostError, match="no directory /nonexistent/home") as missing:
        fit.refuse_unfit(asked(kernel=path, shares=[SHARE | {"tag": "first"}, share]), TCG, "")
    assert (missing.value.kind, missing.value.field) == ("not_found", "shares[1].source")
    assert fit.refuse_unfit(asked(kernel=path, shares=[{**share, "create": True}]), TCG, "")


def test_a_text_is_no_kernel(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_text("# no kernel\n")
    with pytest.raises(HostError, match="vmlinuz is no kernel: it begins with the bytes 23 20 6e 6f") as refused:
        fit.refuse_unfit(asked(kernel=str(tmp_path / "vmlinuz")), TCG, "m.")
    assert (refused.value.kind, refused.value.field) == ("invalid", "m.kernel") and "vmlinux" in refused.value.hint


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"disks": [{"path": "/usr/bin/env"}, {"path": "/nonexistent/web1.raw"}]}, "m.disks[1].path"),
        ({"root": {"path": "/nonexistent/web1.raw"}}, "m.root.path"),
        ({"credentials": {"token": "/nonexistent/token"}}, "m.credentials.token"),
    ],
)
def test_what_a_machine_reads_must_be_there(path: str, options: dict[str, t.Any], field: str) -> None:
    with pytest.raises(HostError, match=r"there is no (disk|file) /nonexistent/") as missing:
        fit.refuse_unfit(asked(kernel=path, **options), TCG, "m.")
    assert (missing.value.kind, missing.value.field) == ("not_found", field) and missing.value.hint


def test_a_directory_is_no_disk(path: str) -> None:
    with pytest.raises(HostError, match="/usr is neither a file nor a block device") as refused:
        fit.refuse_unfit(asked(kernel=path, disks=[{"path": "/usr"}]), TCG, "m.")
    assert (refused.value.kind, refused.value.field) == ("invalid", "m.disks[0].path")


@pytest.mark.parametrize(
    ("interface", "kind", "option"),
    [
        ({"bridge": "br9"}, "not_found", "bridge"),
        ({"bridge": "eth0"}, "invalid", "bridge"),
        ({"type": "macvtap", "link": "eth9"}, "not_found", "link"),
    ],
)
def test_the_network_that_an_interface_is_in(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interface: dict[str, str], kind: str, option: str
) -> None:
    (tmp_path / "br0" / "bridge").mkdir(parents=True)
    (tmp_path / "eth0").mkdir()
    monkeypatch.setattr(fit, "INTERFACES", str(tmp_path))
    fits = [{"bridge": "br0"}, {"type": "macvtap", "link": "eth0"}, {}, {"type": "user"}]
    assert fit.refuse_unfit(asked(kernel=path, interfaces=fits), TCG, "m.")
    with pytest.raises(HostError) as refused:
        fit.refuse_unfit(asked(kernel=path, interfaces=[*fits, interface]), TCG, "m.")
    assert (refused.value.kind, refused.value.field) == (kind, "m.interfaces[4]." + option)
    assert interface[option] in refused.value.message and (kind == "invalid" or "ip link" in refused.value.hint)
