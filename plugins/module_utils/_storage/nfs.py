# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file system nfs: an export, tried on a detached mount. Private to microvm.host."""

from __future__ import annotations

import errno
import posixpath
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import mounts, names, net, nfs, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

FSTYPES = ("nfs4", "nfs")
KEYS = ("server", "export")
PROGRAM = ("/usr/sbin/mount.nfs", "nfs-common or nfs-utils")
TRY_NEXT = (errno.EPROTONOSUPPORT, errno.EINVAL, errno.ENOENT, errno.ESRCH)
"""After these another protocol version may do: ENOENT because NFSv4 has a name space of its own."""

Asked = dict[str, t.Any]
"""An export as asked: kind, server, export, version, options (canonical). JSON-able; kept in the registry."""


def asked(item: dict[str, t.Any], prefix: str, read_only: bool | None) -> Asked:
    """The asked mount of validated options. Raises HostError ``invalid`` naming the option."""
    for key in KEYS:
        if item.get(key) is None:
            raise HostError("invalid", "%s%s is required" % (prefix, key), field=prefix + key)
    version = item.get("version") or "default"
    if version not in nfs.VERSIONS:
        names.refuse(prefix + "version", "%s is no version of NFS" % version, "one of %s" % ", ".join(nfs.VERSIONS))
    server = net.server(item["server"], prefix + "server")
    export = names.export_path(item["export"], prefix + "export")
    nfs.source(server, export)
    options = nfs.parse(item.get("options"), prefix + "options", version, read_only)
    return {"kind": "nfs", "server": server, "export": export, "version": version, "options": options.canonical()}


def described(wanted: Asked) -> dict[str, t.Any]:
    """The configuration part of a returned mount."""
    return {
        "source": source(wanted),
        **{key: wanted[key] for key in ("server", "export", "version", "options")},
        "read_only": parsed(wanted).read_only,
    }


def parsed(wanted: Asked) -> nfs.Options:
    """The options of an asked mount."""
    return nfs.parse(wanted["options"], "options", wanted["version"])


def source(wanted: Asked) -> str:
    """The source as mountinfo shows it."""
    return nfs.source(wanted["server"], wanted["export"])


def alone(wanted: Asked, read_only: bool) -> Asked:
    """The same mount as a process makes it that starts no program. Raises ``unsupported``: locks of NFS 3 need one."""
    version = wanted["version"]
    options = nfs.parse(wanted["options"], "options", version, True if read_only else None)
    if not options.local_locks:
        if version == "3":
            text = "NFS 3 is asked for, whose locks need a program that is not started here"
            raise HostError("unsupported", text, "use NFS 4")
        if version == "default":
            version = "4"
    return dict(wanted, version=version, options=options.canonical())


def below(wanted: Asked, subdir: str) -> Asked:
    """The mount of a directory in it."""
    return dict(wanted, export=posixpath.join(wanted["export"], subdir)) if subdir else wanted


def identity(wanted: Asked) -> str:
    """What makes it one mount: two asked mounts of one identity are mounted once."""
    return "nfs|%s" % source(wanted)


def is_mount_of(mount: mounts.Mount, wanted: Asked, address: str | None) -> bool:
    """True when a mountinfo line shows this export, by whatever version and options.

    Of a server under two names the kernel shows the one that came first, for the mounts of both: then ``address``
    decides, the one of the server when it was mounted.
    """
    if mount.fstype not in FSTYPES:
        return False
    if mount.source.rstrip("/") == source(wanted).rstrip("/"):
        return True
    return same_export(mount, wanted) and address is not None and "addr=%s" % address in mount.options


def same_export(mount: mounts.Mount, wanted: Asked) -> bool:
    """True when a mountinfo line shows an export of that path, of whatever server."""
    return mount.fstype in FSTYPES and (mount.source.rpartition(":/")[2]).strip("/") == wanted["export"].strip("/")


def shown(mount: mounts.Mount, wanted: Asked) -> dict[str, t.Any]:
    """The options as the kernel shows them, those left out that may change by themselves."""
    return nfs.shown_options(mount.options, mount.flags, parsed(wanted))


def negotiated(mount: mounts.Mount) -> str:
    """The protocol version in use; empty when the mount shows none."""
    return nfs.negotiated_version(mount.options)


def only_flags_differ(one: Asked, two: Asked, top: mounts.Mount) -> bool:
    """Whether per-mount flags make the live mount ``top`` of ``one`` the mount of ``two``."""
    speaks = negotiated(top) in nfs.versions(two["version"])
    return source(one) == source(two) and speaks and parsed(one).superblock == parsed(two).superblock


def shares_locks(wanted: Asked, version: str) -> bool:
    """Whether locks taken on such a mount are seen by other hosts."""
    return not (version == "3" and parsed(wanted).local_locks)


def unit_text(wanted: Asked, path: str) -> str:
    """The systemd unit that mounts it at boot."""
    options = parsed(wanted)
    return systemd.mount_unit(
        source(wanted),
        path,
        "nfs",
        nfs.unit_options(options, wanted["version"]),
        options.mount_timeout or 30,
        options.unit_lines(),
    )


def place(wanted: Asked) -> str:
    """What it is on the server, in words."""
    return "the export %s" % wanted["export"]


def remarks(mount: mounts.Mount, wanted: Asked) -> list[str]:
    """What to warn of a live mount: nconnect of another mount is in force.

    The kernel keeps it once for all mounts of a server; mountinfo shows it when it is more than one (fs/nfs/super.c).
    """
    asked = parsed(wanted).get("nconnect")
    used = dict(option.partition("=")[::2] for option in mount.options).get("nconnect", "1")
    if asked in (None, used):
        return []
    text = "nconnect=%s is in force, not %s: mounts of %s by one version share connections, the first decides"
    return [text % (used, asked, wanted["server"])]


def reach(wanted: Asked, seconds: float) -> net.Address:
    """An address of the server that takes connections. Blocks in the resolver: call it in a child."""
    options = parsed(wanted)
    addresses = [address for address in net.resolve(wanted["server"]) if options.family in (None, address.family)]
    if not addresses:
        raise HostError(
            "unreachable",
            "%s has no IPv%s address" % (wanted["server"], options.family),
            "choose the other proto, or name an address",
        )
    return net.reach(addresses, options.port, time.monotonic() + seconds)


def detached(wanted: Asked, seconds: float) -> tuple[int, dict[str, t.Any]]:
    """Mount the export where nobody sees it: the root's descriptor, and version and address that did it.

    The newest protocol version that both sides speak is taken. Blocks: call it in a child.
    """
    options = parsed(wanted)
    address = reach(wanted, net.patience(seconds))
    first: HostError | None = None
    for version in nfs.versions(wanted["version"]):
        if version == "3" and not options.local_locks:
            _start_statd(wanted, seconds)
        clientaddr = net.local_address(address) if version.startswith("4") else None
        fstype, parameters = nfs.superblock_params(
            wanted["server"], address.text, wanted["export"], version, options, clientaddr
        )
        try:
            return mounts.detached(fstype, parameters, options.flags), {"version": version, "address": address.text}
        except mounts.KernelRefused as refused:
            failure = explained(refused, wanted, version)
            # Of a version that is not spoken the user learns nothing; keep what an understood one said.
            if first is None or first.kind == "unsupported":
                first = failure
            if refused.errno not in TRY_NEXT:
                break
    raise first or HostError("unsupported", "no NFS version to try")


def _start_statd(wanted: Asked, seconds: float) -> None:
    try:
        systemd.start("rpc-statd.service", seconds)
    except HostError as error:
        raise HostError(
            "unsupported",
            "%s: NFSv3 locks need rpc-statd, which does not start: %s" % (source(wanted), error.message),
            "install nfs-common or nfs-utils (role prepare_host), or use the option nolock (for one host only)",
            field="version",
        ) from None


def explained(refused: mounts.KernelRefused, wanted: Asked, version: str) -> HostError:
    """What the kernel refused, as an error with a remedy."""
    where = "%s (NFS %s)" % (source(wanted), version)
    said = "mounting %s: %s" % (where, refused)
    number = refused.errno
    if number == errno.ENOENT:
        return HostError("not_found", said, "the server has no such export: check the export path", field="export")
    if number in (errno.EACCES, errno.EPERM):
        hint = "the server does not export it to this host: add this host's address to the export"
        return HostError("refused", said, hint, field="export")
    if number in (errno.EPROTONOSUPPORT, errno.ESRCH):
        return HostError("unsupported", said, "the server does not speak this version", field="version")
    if number == errno.ENODEV:
        return HostError("unsupported", said, "this kernel has no NFS client: its module nfs is missing or blocked")
    if number == errno.ENOSYS:
        return HostError("unsupported", said, "Linux 5.12 or later is needed for the mount API")
    if number == errno.EINVAL:
        return HostError("invalid", said, "the kernel does not take these options", field="options")
    if number in (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EIO):
        return HostError("unreachable", said, "check the server and the network")
    if number == errno.ESTALE:
        return HostError("stale", said, "the server has forgotten the export: export it again")
    return HostError("internal", said)
