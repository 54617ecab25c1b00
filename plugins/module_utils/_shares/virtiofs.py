# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""virtiofs shares: one virtiofsd each, started by systemd when a machine connects. Private to microvm.host.

There are two daemons: the C one that QEMU brought until version 7.2 (Debian 12), and the Rust one (Debian 13 and all
that is newer). A daemon serves one connection and ends with it; the socket stays, so the next boot starts the next one.
"""

from __future__ import annotations

import glob
import json
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import files, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._shares.definition import OF_VIRTIOFS, Share

DESCRIPTIONS = "/usr/share/qemu/vhost-user/*.json"
"""Where vhost-user daemons say what they are (docs/interop/vhost-user.json of QEMU)."""
C_DAEMON = "/usr/lib/qemu/virtiofsd"
"""The C daemon of Debian and Ubuntu; that of other distributions is found by its description."""
USUAL = ("/usr/libexec/virtiofsd", C_DAEMON)
SEPARATE = "separate-options"
"""A feature that the Rust daemon's description lists and the C daemon's does not: options as --cache and --readonly."""
CAPABILITIES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_MKNOD CAP_SETFCAP CAP_SETGID CAP_SETPCAP"
    " CAP_SETUID CAP_SYS_ADMIN CAP_SYS_RESOURCE"
)
"""What it does in the guest's name, and what it locks itself up with (namespaces, pivot_root)."""


class Daemon(t.NamedTuple):
    """A virtiofsd of the host; ``rust`` says which of the two."""

    path: str
    rust: bool


def find(exists: t.Callable[[str], bool]) -> Daemon:
    """The daemon of this host. Raises HostError ``unsupported`` when there is none."""
    for path in sorted(glob.glob(DESCRIPTIONS)):
        described = read_description(files.text_of(path) or "")
        if described is not None and exists(described.path):
            return described
    for path in USUAL:
        if exists(path):
            return Daemon(path, path != C_DAEMON)
    raise HostError("unsupported", "virtiofsd is not installed", "the role prepare_host installs it, or use proto: 9p")


def read_description(text: str) -> Daemon | None:
    """What a description says, None when it is not one of a file-system daemon."""
    try:
        found = json.loads(text)
        if found["type"] != "fs":
            return None
        path = str(found["binary"])
    except (ValueError, KeyError, TypeError):
        return None
    return Daemon(path, SEPARATE in found.get("features", ()) or path != C_DAEMON)


def arguments(daemon: Daemon, share: Share) -> list[str]:
    """The daemon's command line; it takes the listening socket as descriptor 3. Raises ``unsupported``."""
    return _rust(daemon, share) if daemon.rust else _c(daemon, share)


def _rust(daemon: Daemon, share: Share) -> list[str]:
    found = [daemon.path, "--fd=3", "--shared-dir=" + share["source"], "--cache=" + share["cache"]]
    found += ["--sandbox=" + share["sandbox"], "--announce-submounts"]
    found.append("--inode-file-handles=" + share["inode_file_handles"])
    if share["thread_pool_size"]:
        found.append("--thread-pool-size=%d" % share["thread_pool_size"])
    if share["posix_acl"]:
        found += ["--xattr", "--posix-acl"]
    for option in ("translate_uid", "translate_gid"):
        found += ["--%s=%s" % (option.replace("_", "-"), each) for each in share[option]]
    return [*found, *share["extra_args"]]


def _c(daemon: Daemon, share: Share) -> list[str]:
    lacks = [key for key in ("translate_uid", "translate_gid", "inode_file_handles") if share[key] != OF_VIRTIOFS[key]]
    if share["cache"] == "metadata":
        lacks.append("cache: metadata")
    if "," in share["source"]:
        lacks.append("a source with a comma")
    if lacks:
        hint = "leave it out, or install the Rust virtiofsd"
        raise HostError("unsupported", "the C virtiofsd %s has no %s" % (daemon.path, ", ".join(lacks)), hint)
    options = ["source=" + share["source"], "cache=" + ("none" if share["cache"] == "never" else share["cache"])]
    # no_killpriv_v2 as with the Rust daemon: with it writes to NFS are refused.
    options += ["sandbox=" + share["sandbox"], "announce_submounts", "no_killpriv_v2"]
    if share["posix_acl"]:
        options += ["xattr", "posix_acl"]
    found = [daemon.path, "--fd=3", "-f", "-o", ",".join(options)]
    if share["thread_pool_size"]:
        found.append("--thread-pool-size=%d" % share["thread_pool_size"])
    return [*found, *share["extra_args"]]


def socket_text(machine_unit: str, listen: str, user: str, tag: str) -> str:
    """The socket of a share. It goes with the machine, and comes with it: the machine's unit wants it."""
    return systemd.MADE + "\n".join(
        [
            "[Unit]",
            "Description=Socket of the share %s of %s" % (tag, machine_unit),
            "PartOf=" + machine_unit,
            "",
            "[Socket]",
            "ListenStream=" + listen,
            "SocketUser=" + user,
            "SocketMode=0600",
            "DirectoryMode=0755",
            "RemoveOnStop=yes",
            # For a daemon that can't start: the socket is closed, the machine ends, and both are tried again later.
            "TriggerLimitIntervalSec=30s",
            "TriggerLimitBurst=5",
            "",
        ]
    )


def service_text(machine_unit: str, argv: t.Sequence[str], share: Share, after: t.Sequence[str]) -> str:
    """The daemon of a share. ``after``: mount units its source needs. Read-only is the mount namespace's doing."""
    lines = [
        "[Unit]",
        "Description=virtiofsd of the share %s of %s" % (share["tag"], machine_unit),
        "PartOf=" + machine_unit,
        "Before=" + machine_unit,  # so it ends behind it: a guest that is asked to stop still writes to its share
        *["Wants=" + each for each in after],
        *["After=" + each for each in after],
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        "ExecStart=" + systemd.command_line(argv),
        "Slice=microvm.slice",
        "LimitNOFILE=1048576",
        "UMask=0000",
        "CapabilityBoundingSet=" + CAPABILITIES,
        "NoNewPrivileges=yes",
        "RestrictAddressFamilies=AF_UNIX",
        "RestrictRealtime=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "DevicePolicy=closed",
    ]
    if share["read_only"]:
        lines.append("ReadOnlyPaths=" + systemd.quoted(share["source"]))
    return systemd.MADE + "\n".join([*lines, ""])
