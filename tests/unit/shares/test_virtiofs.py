# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""virtiofsd: which one, with which options, in which units."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._shares import definition, virtiofs
from ansible_collections.microvm.host.plugins.module_utils._shares.virtiofs import Daemon

C = Daemon("/usr/lib/qemu/virtiofsd", False)
RUST = Daemon("/usr/libexec/virtiofsd", True)
DEBIAN_12 = json.dumps(
    {"description": "QEMU virtiofsd vhost-user-fs", "type": "fs", "binary": "/usr/lib/qemu/virtiofsd"}
)
DEBIAN_13 = json.dumps(
    {
        "description": "virtiofsd vhost-user-fs",
        "type": "fs",
        "binary": "/usr/libexec/virtiofsd",
        "features": ["migrate-precopy", "separate-options"],
    }
)


def share(**options: t.Any) -> definition.Share:
    """A validated share."""
    given = {"tag": "home", "source": "/srv/home", **options}
    item = {key: given.get(key, option.get("default")) for key, option in definition.SPEC.items()}
    return definition.asked(item, "", "/var/lib/microvm/machines/web1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEBIAN_12, C),
        (DEBIAN_13, RUST),
        ('{"type": "gpu", "binary": "/usr/libexec/vhost-user-gpu"}', None),
        ("[]", None),
        ("", None),
    ],
)
def test_descriptions_tell_which_daemon_it_is(text: str, expected: Daemon | None) -> None:
    assert virtiofs.read_description(text) == expected


def test_a_daemon_without_description_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtiofs, "DESCRIPTIONS", "/nonexistent/*.json")
    assert virtiofs.find(lambda path: path == C.path) == C
    assert virtiofs.find(lambda path: True) == RUST
    with pytest.raises(HostError, match="virtiofsd is not installed"):
        virtiofs.find(lambda path: False)


def test_the_rust_daemon() -> None:
    assert virtiofs.arguments(RUST, share()) == [
        *"/usr/libexec/virtiofsd --fd=3 --shared-dir=/srv/home --cache=auto --sandbox=namespace".split(),
        *"--announce-submounts --inode-file-handles=never".split(),
    ]
    asked = share(
        cache="never", posix_acl=True, thread_pool_size=4, inode_file_handles="prefer", extra_args=["--writeback"]
    )
    words = virtiofs.arguments(RUST, asked)
    for word in ("--cache=never", "--xattr", "--posix-acl", "--thread-pool-size=4", "--inode-file-handles=prefer"):
        assert word in words
    assert words[-1] == "--writeback"
    assert "--translate-uid=squash-guest:0:1000:1" in virtiofs.arguments(
        RUST, share(translate_uid=["squash-guest:0:1000:1"])
    )


def test_the_c_daemon() -> None:
    assert virtiofs.arguments(C, share(cache="never", posix_acl=True, thread_pool_size=2)) == [
        *"/usr/lib/qemu/virtiofsd --fd=3 -f -o".split(),
        "source=/srv/home,cache=none,sandbox=namespace,announce_submounts,no_killpriv_v2,xattr,posix_acl",
        "--thread-pool-size=2",
    ]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"translate_uid": ["map:0:1:1"]}, "translate_uid"),
        ({"inode_file_handles": "prefer"}, "inode_file_handles"),
        ({"cache": "metadata"}, "cache: metadata"),
        ({"source": "/a,b"}, "a source with a comma"),
    ],
)
def test_what_the_c_daemon_lacks_is_refused(options: dict[str, t.Any], text: str) -> None:
    with pytest.raises(HostError, match=text) as refused:
        virtiofs.arguments(C, share(**options))
    assert refused.value.kind == "unsupported"


@pytest.mark.parametrize("daemon", [C, RUST])
def test_read_only_is_for_the_host_to_keep(daemon: Daemon) -> None:
    asked = share(read_only=True)
    text = virtiofs.service_text("microvm@web1.service", virtiofs.arguments(daemon, asked), asked, ["srv.mount"])
    assert "ReadOnlyPaths=/srv/home" in text.splitlines()
    assert "After=srv.mount" in text.splitlines() and "PartOf=microvm@web1.service" in text.splitlines()
    assert "Before=microvm@web1.service" in text.splitlines(), "it would stop while its guest still writes"
    writable = virtiofs.service_text("m", ["x"], share(), [])
    assert "ReadOnlyPaths" not in writable


@pytest.mark.parametrize(
    ("options", "fstype", "flags", "refused"),
    [
        ({"posix_acl": True}, "ext4", ["rw"], None),
        ({"posix_acl": True}, "nfs4", ["rw"], "no POSIX ACLs on nfs4"),
        ({"posix_acl": True}, "zfs", ["rw", "xattr", "noacl"], "no POSIX ACLs on zfs"),
        ({"posix_acl": True}, "zfs", ["rw", "xattr", "posixacl"], None),
        ({"inode_file_handles": "prefer"}, "nfs4", ["rw"], None),
        ({"inode_file_handles": "prefer"}, "cifs", ["rw"], "no handles that last on cifs"),
        ({"proto": "9p"}, "cifs", ["rw"], None),
    ],
)
def test_what_a_file_system_lacks_is_refused(
    options: dict[str, t.Any], fstype: str, flags: list[str], refused: str | None
) -> None:
    if refused is None:
        definition.refuse_file_system(share(**options), fstype, flags, "")
        return
    with pytest.raises(HostError, match=refused) as error:
        definition.refuse_file_system(share(**options), fstype, flags, "")
    assert error.value.hint


def test_a_source_that_is_made_has_an_owner() -> None:
    assert share()["create"] == {}
    assert share(create=True)["create"] == {"owner": "root", "group": "root", "mode": "0755"}
    assert share(create=True, owner="www", mode="0700")["create"]["owner"] == "www"
    for options, text in (({"owner": "www"}, "create: true"), ({"create": True, "mode": "u=rwx"}, "octal")):
        with pytest.raises(HostError) as error:
            share(**options)
        assert text in error.value.message + error.value.hint


def test_guests_mount_by_their_kernels_command_line() -> None:
    asked = [share(mount_point="/home", read_only=True), share(tag="x"), share(tag="y", proto="9p", mount_point="/y")]
    assert definition.kernel_arguments(asked) == [
        "systemd.mount-extra=home:/home:virtiofs:ro",
        "systemd.mount-extra=y:/y:9p:rw,trans=virtio,version=9p2000.L,msize=131072",
    ]
