# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage kind nfs: an export, tried on a detached mount. Private to microvm.host."""

from __future__ import annotations

import errno
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import mounts, names, net, nfs
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

FSTYPES = ("nfs4", "nfs")
TRY_NEXT = (errno.EPROTONOSUPPORT, errno.EINVAL, errno.ENOENT, errno.ESRCH)
"""After these another protocol version may do: ENOENT because NFSv4 has a name space of its own."""

Asked = dict[str, t.Any]
"""An export as asked: kind, server, export, version, options (canonical). JSON-able; kept in the registry."""


def asked(item: dict[str, t.Any], prefix: str, read_only: bool | None) -> Asked:
    """The asked mount of validated options. Raises HostError ``invalid`` naming the option."""
    for key in ("server", "export"):
        if item.get(key) is None:
            raise HostError("invalid", "%s%s is required" % (prefix, key), field=prefix + key)
    version = item.get("version") or "default"
    server = net.server(item["server"], prefix + "server")
    export = names.export_path(item["export"], prefix + "export")
    nfs.source(server, export)
    options = nfs.parse(item.get("options"), prefix + "options", version, read_only)
    return {"kind": "nfs", "server": server, "export": export, "version": version, "options": options.canonical()}


def parsed(wanted: Asked) -> nfs.Options:
    """The options of an asked mount."""
    return nfs.parse(wanted["options"], "options", wanted["version"])


def source(wanted: Asked) -> str:
    """The source as mountinfo shows it."""
    return nfs.source(wanted["server"], wanted["export"])


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


def connections(mount: mounts.Mount, wanted: Asked) -> tuple[str | None, str]:
    """nconnect as asked (None: not) and as the kernel has it, which it keeps once for all mounts of a server.

    mountinfo shows it when it is more than one (fs/nfs/super.c).
    """
    shown = dict(option.partition("=")[::2] for option in mount.options)
    return parsed(wanted).get("nconnect"), shown.get("nconnect", "1")


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
    # Sooner than the whole is given up: a server that does not answer is told as unreachable.
    address = reach(wanted, min(max(1.0, seconds / 2), 0.8 * seconds))
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
    from ansible_collections.microvm.host.plugins.module_utils._host import systemd

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
