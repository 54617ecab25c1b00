# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shares: directories of the host in a machine. What users write, validated. Private to microvm.host."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

Share = dict[str, t.Any]
"""A validated share, JSON-able: tag, source (absolute), mount_point ("" for none), proto, read_only and the options of
its protocol."""

LONGEST_TAG = {"virtiofs": 36, "9p": 31}
"""Bytes of a tag: the field in virtio-fs's configuration (VIRTIO 1.2, 5.11.4); MAX_TAG_LEN of QEMU's 9p."""
OURS = "/var/lib/microvm"
NO_ACLS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "vfat"})
NO_HANDLES = frozenset({"cifs", "smb3", "9p", "vfat", "fuse", "overlay"})
SPEC: dict[str, dict[str, t.Any]] = {
    "tag": {"type": "str", "required": True},
    "source": {"type": "str", "required": True},
    "mount_point": {"type": "str"},
    "proto": {"type": "str", "default": "virtiofs", "choices": ["virtiofs", "9p"]},
    "read_only": {"type": "bool", "default": False},
    "cache": {"type": "str", "choices": ["auto", "always", "metadata", "never"]},
    "posix_acl": {"type": "bool"},
    "translate_uid": {"type": "list", "elements": "str"},
    "translate_gid": {"type": "list", "elements": "str"},
    "thread_pool_size": {"type": "int"},
    "inode_file_handles": {"type": "str", "choices": ["never", "prefer", "mandatory"]},
    "sandbox": {"type": "str", "choices": ["namespace", "chroot"]},
    "security_model": {"type": "str", "choices": ["none", "mapped", "mapped-file"]},
    "extra_args": {"type": "list", "elements": "str"},
    "create": {"type": "bool", "default": False},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "str"},
}
"""The options of one share."""
MAKING = ("owner", "group", "mode")
"""Of a source that is made; ignored when it is there."""
OF_VIRTIOFS: dict[str, t.Any] = {
    "cache": "auto",
    "posix_acl": False,
    "translate_uid": [],
    "translate_gid": [],
    "thread_pool_size": 0,
    "inode_file_handles": "never",
    "sandbox": "namespace",
    "extra_args": [],
}
"""Options of virtiofs only, with what they are when left out (``cache`` and others as virtiofsd itself has them)."""
OF_NINE_P: dict[str, t.Any] = {"security_model": "none"}


def asked(item: dict[str, t.Any], prefix: str, directory: str) -> Share:
    """A share as it is kept. ``directory``: what a relative source begins at. Raises HostError ``invalid``."""
    proto = item["proto"]
    share: Share = {
        "tag": _tag(item["tag"], proto, prefix + "tag"),
        "source": _source(item["source"], prefix + "source", directory),
        "mount_point": _mount_point(item.get("mount_point"), prefix + "mount_point"),
        "proto": proto,
        "read_only": bool(item["read_only"]),
        "create": _create(item, prefix),
    }
    own, other = (OF_VIRTIOFS, OF_NINE_P) if proto == "virtiofs" else (OF_NINE_P, OF_VIRTIOFS)
    for option in other:
        if item.get(option) is not None:
            names.refuse(prefix + option, "%s is no option of %s" % (option, proto), "leave it out")
    for option, default in own.items():
        share[option] = default if item.get(option) is None else item[option]
    if proto == "virtiofs":
        _refuse_contradictions(share, prefix)
    return share


def _create(item: dict[str, t.Any], prefix: str) -> dict[str, str]:
    """Owner, group and mode of a source that shall be made when it is missing; empty when it shall not."""
    given = [option for option in MAKING if item.get(option) is not None]
    if not item["create"]:
        if given:
            names.refuse(prefix + given[0], "it is for a source that is made", "set create: true")
        return {}
    mode = item.get("mode") or "0755"
    if not mode.isdigit() or len(mode) > 4 or not set(mode) <= set("01234567"):
        names.refuse(prefix + "mode", "%s is not a mode in octal digits" % names.shown(mode), "as in '0750'")
    return {"owner": item.get("owner") or "root", "group": item.get("group") or "root", "mode": mode}


def _tag(value: t.Any, proto: str, field: str) -> str:
    return names.name(value, field, LONGEST_TAG[proto])


def _source(value: t.Any, field: str, directory: str) -> str:
    if isinstance(value, str) and value and not value.startswith("/"):
        value = os.path.join(directory, value)
    path = names.absolute_path(value, field)
    if path == "/":
        names.refuse(field, "the whole host is no share", "name a directory")
    if names.under(path, OURS) and not any(path.startswith("%s/%s/" % (OURS, each)) for each in ("machines", "mounts")):
        names.refuse(field, "%s belongs to this collection" % names.shown(path), "name another directory")
    return path


def _mount_point(value: t.Any, field: str) -> str:
    if value is None:
        return ""
    path = names.absolute_path(value, field)
    bad = sorted(set(path) & set(" \"':"))
    if path == "/" or bad:
        why = "the root is not a share" if path == "/" else "%s has %s" % (names.shown(path), names.shown(bad[0]))
        names.refuse(field, why, "it stands on the kernel's command line, between colons")
    return path


def _refuse_contradictions(share: Share, prefix: str) -> None:
    if share["posix_acl"] and (share["translate_uid"] or share["translate_gid"]):
        text = "ACLs hold user ids that nobody translates"
        names.refuse(prefix + "posix_acl", text, "use posix_acl or translate_uid and translate_gid")
    if not 0 <= share["thread_pool_size"] <= 64:
        names.refuse(prefix + "thread_pool_size", "%d is not within 0 to 64" % share["thread_pool_size"])
    for option in ("translate_uid", "translate_gid", "extra_args"):
        for index, value in enumerate(share[option]):
            if not value.isprintable() or not value:
                names.refuse("%s%s[%d]" % (prefix, option, index), "%s is not an argument" % names.shown(value))


def refuse_file_system(share: Share, fstype: str, options: t.Collection[str], field: str) -> None:
    """Refuse what the file system below a source can't do, as mountinfo names it. Raises HostError ``unsupported``."""
    if share["proto"] != "virtiofs":
        return
    if share["posix_acl"] and (fstype in NO_ACLS or (fstype == "zfs" and "posixacl" not in options)):
        hint = "leave posix_acl out"
        if fstype == "zfs":
            hint = "zfs set acltype=posixacl xattr=sa DATASET, and mount it again; or leave posix_acl out"
        text = "%s has no POSIX ACLs on %s" % (share["source"], fstype)
        raise HostError("unsupported", text, hint, field=field + "posix_acl")
    if share["inode_file_handles"] != "never" and fstype in NO_HANDLES:
        text = "files below %s have no handles that last on %s" % (share["source"], fstype)
        raise HostError("unsupported", text, "leave inode_file_handles out", field=field + "inode_file_handles")


def refuse_duplicates(shares: t.Sequence[Share], prefix: str) -> None:
    """Refuse two shares of one machine with one tag or one mount point."""
    for key in ("tag", "mount_point"):
        seen: dict[str, int] = {}
        for index, share in enumerate(shares):
            if share[key] and share[key] in seen:
                field = "%sshares[%d].%s" % (prefix, index, key)
                text = "%s is that of shares[%d] too" % (share[key], seen[share[key]])
                names.refuse(field, text, "give each its own %s" % key)
            seen[share[key]] = index


def kernel_arguments(shares: t.Sequence[Share]) -> list[str]:
    """What has the guest's systemd (254 or newer) mount its shares: systemd-fstab-generator(8)."""
    found = []
    for share in shares:
        if share["mount_point"]:
            options = ["ro" if share["read_only"] else "rw"]
            if share["proto"] == "9p":
                options += ["trans=virtio", "version=9p2000.L", "msize=131072"]
            what = "%s:%s:%s:%s" % (share["tag"], share["mount_point"], share["proto"], ",".join(options))
            found.append("systemd.mount-extra=" + what)
    return found
