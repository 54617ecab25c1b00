# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file system smb: a share, tried on a detached mount. Private to microvm.host."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import cifs, kmsg, mounts, names, net, secret, systemd
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.mount_options import Pair
from ansible_collections.microvm.host.plugins.module_utils._storage import credentials

FSTYPES = ("cifs", "smb3")
PROGRAM = ("/usr/sbin/mount.cifs", "cifs-utils")
KEYS = ("server", "share")
FILE_MODE, DIR_MODE = "0660", "0770"
"""For root and the machines' group."""

Asked = dict[str, t.Any]
"""A share as asked, JSON-able, kept in the registry. ``username`` "" is a guest. ``credentials`` is the file with the
password, chosen when the mount is first made; the password itself is nowhere else."""

LONGEST_PASSWORD = 255
"""Bytes; what fsconfig(2) takes."""


def asked(item: dict[str, t.Any], prefix: str, read_only: bool | None) -> Asked:
    """The asked mount of validated options. Raises HostError ``invalid`` naming the option."""
    for key in KEYS:
        if item.get(key) is None:
            raise HostError("invalid", "%s%s is required" % (prefix, key), field=prefix + key)
    found: Asked = {
        "kind": "smb",
        "server": net.server(item["server"], prefix + "server"),
        "share": cifs.share(item["share"], prefix + "share"),
        "subdir": cifs.subdir(item.get("subdir"), prefix + "subdir"),
        "username": "",
        "domain": "",
        "version": cifs.version(item.get("version"), prefix + "version"),
        "options": cifs.parse(item.get("options"), prefix + "options", read_only).canonical(),
        "uid": cifs.number(0 if item.get("uid") is None else item["uid"], prefix + "uid"),
        "gid": machines_group() if item.get("gid") is None else cifs.number(item["gid"], prefix + "gid"),
        "file_mode": cifs.mode(FILE_MODE if item.get("file_mode") is None else item["file_mode"], prefix + "file_mode"),
        "dir_mode": cifs.mode(DIR_MODE if item.get("dir_mode") is None else item["dir_mode"], prefix + "dir_mode"),
        "seal": bool(item.get("seal")),
        "sign": bool(item.get("sign")),
        "credentials": "",
    }
    for key in ("username", "domain"):
        if item.get(key):
            found[key] = cifs.account(item[key], prefix + key)
    for key in ("password", "domain"):
        if item.get(key) and not found["username"]:
            text = "%s%s is given without a username" % (prefix, key)
            raise HostError("invalid", text, "give username too, or leave both out to be a guest", prefix + key)
    try:
        source(found)
    except HostError as error:
        error.field = prefix + "share"
        raise
    return found


def machines_group() -> int:
    """The group of virtual machines; that of root where there is none. No chown reaches files on a share later."""
    try:
        return grp.getgrnam(names.GROUP).gr_gid
    except KeyError:
        return 0


def given(item: dict[str, t.Any], prefix: str) -> str | None:
    """The password of validated options, None to keep the one there is. Raises HostError ``invalid``."""
    if not item.get("password"):
        return None
    return secret.value(item["password"], prefix + "password", LONGEST_PASSWORD, spaces=True)


def login(wanted: Asked) -> credentials.Login | None:
    """Who logs in and where the password is; None for a guest."""
    if not wanted["username"]:
        return None
    return credentials.Login(wanted["credentials"], wanted["username"], wanted["domain"])


def placed(wanted: Asked, file: str) -> Asked:
    """The asked mount with its credentials file."""
    return dict(wanted, credentials=file if wanted["username"] else "")


def described(wanted: Asked) -> dict[str, t.Any]:
    """The configuration part of a returned mount."""
    shown = ("server", "share", "subdir", "username", "domain", "version", "options", "uid", "gid")
    more = ("file_mode", "dir_mode", "seal", "sign")
    read_only = parsed(wanted).read_only
    return {"source": source(wanted), **{key: wanted[key] for key in (*shown, *more)}, "read_only": read_only}


def parsed(wanted: Asked) -> cifs.Options:
    """The options of an asked mount."""
    return cifs.parse(wanted["options"], "options")


def source(wanted: Asked) -> str:
    """The source as mountinfo shows it."""
    return cifs.source(wanted["server"], wanted["share"], wanted["subdir"])


def place(wanted: Asked) -> str:
    """What it is on the server, in words."""
    return "the share %s" % _path(wanted)


def alone(wanted: Asked, read_only: bool) -> Asked:
    """The same mount as a process makes it that starts no program."""
    return dict(wanted, options=cifs.parse(wanted["options"], "options", True if read_only else None).canonical())


def below(wanted: Asked, subdir: str) -> Asked:
    """The mount of a directory in it."""
    return dict(wanted, subdir="/".join(part for part in (wanted["subdir"], subdir) if part))


def identity(wanted: Asked) -> str:
    """What makes it one mount: two asked mounts of one identity are mounted once. Share names have no case."""
    return "smb|%s" % cifs.source(wanted["server"], wanted["share"].lower(), wanted["subdir"])


def is_mount_of(mount: mounts.Mount, wanted: Asked, address: str | None) -> bool:
    """True when a mountinfo line shows this share, by whatever options; for ``address`` see the protocol."""
    if mount.fstype not in FSTYPES:
        return False
    if mount.source.rstrip("/").lower() == source(wanted).lower():
        return True
    told = dict(option.partition("=")[::2] for option in mount.options).get("addr", "")
    return same_export(mount, wanted) and address is not None and net.same_address(told, address)


def same_export(mount: mounts.Mount, wanted: Asked) -> bool:
    """True when a mountinfo line shows a share of that name and directory, of whatever server."""
    there = mount.source[2:].partition("/")[2].strip("/")
    return mount.fstype in FSTYPES and there.lower() == _path(wanted).lower()


def _path(wanted: Asked) -> str:
    return "/".join(part for part in (wanted["share"], wanted["subdir"]) if part)


def shown(mount: mounts.Mount, wanted: Asked) -> dict[str, t.Any]:
    """The options as the kernel shows them, those left out that may change by themselves."""
    return cifs.shown_options(mount.options, mount.flags, parsed(wanted))


def negotiated(mount: mounts.Mount) -> str:
    """The dialect in use; empty when the mount shows none."""
    return cifs.negotiated_version(mount.options)


def only_flags_differ(one: Asked, two: Asked, top: mounts.Mount) -> bool:
    """Whether per-mount flags make the live mount ``top`` of ``one`` the mount of ``two``."""
    said = ("version", "options", "credentials", "outdated_password")
    same = all(one.get(key) == two.get(key) for key in {**one, **two} if key not in said)
    speaks = negotiated(top) in cifs.speaks(two["version"])
    fresh = "outdated_password" not in one
    return same and speaks and fresh and parsed(one).superblock == parsed(two).superblock


def shares_locks(wanted: Asked, version: str) -> bool:
    """Whether locks taken on such a mount are seen by other hosts."""
    return not parsed(wanted).has("nobrl")


def remarks(mount: mounts.Mount, wanted: Asked) -> list[str]:
    """What to warn of a live mount."""
    return []


def unit_text(wanted: Asked, path: str) -> str:
    """The systemd unit that mounts it at boot."""
    options = parsed(wanted)
    seconds = options.mount_timeout or 30
    lines = options.unit_lines()
    return systemd.mount_unit(source(wanted), path, "cifs", cifs.unit_options(wanted, options), seconds, lines)


def reach(wanted: Asked, seconds: float) -> net.Address:
    """An address of the server that takes connections. Blocks in the resolver: call it in a child."""
    return net.reach(net.resolve(wanted["server"]), parsed(wanted).port, time.monotonic() + seconds)


def detached(wanted: Asked, seconds: float, password: str | None = None) -> tuple[int, dict[str, t.Any]]:
    """Mount the share where nobody sees it: the root's descriptor, and dialect and address that did it.

    ``password`` None: that of the credentials file. It goes from this process to the kernel, by no file and no
    argument. One login; a second one only to tell a missing share from a missing directory. Blocks: call it in a
    child.
    """
    return _detached(wanted, seconds, password, ())


def prove(wanted: Asked, seconds: float, password: str | None = None) -> None:
    """Log in by a connection of our own: a session that is there proves nothing. Raises HostError. In a child."""
    mount, dummy = _detached(wanted, seconds, password, (("nosharesock", None),))
    os.close(mount)


def _detached(
    wanted: Asked, seconds: float, password: str | None, more: tuple[Pair, ...]
) -> tuple[int, dict[str, t.Any]]:
    address = reach(wanted, net.patience(seconds))
    who = login(wanted)
    if who is not None and password is None:
        password = credentials.password(who)
    options = parsed(wanted)
    params = [*cifs.superblock_params(wanted, _numbered(address.text), options, password), *more]
    log = kmsg.Log()
    try:
        mount = mounts.detached("cifs", params, options.flags)
    except mounts.KernelRefused as refused:
        missing = "share"
        if refused.errno == errno.ENOENT and wanted["subdir"]:
            top = cifs.superblock_params(dict(wanted, subdir=""), _numbered(address.text), options, password)
            with contextlib.suppress(mounts.KernelRefused):
                os.close(mounts.detached("cifs", top, options.flags))
                missing = "subdir"
        raise explained(refused, wanted, log.since("CIFS: "), missing) from None
    return mount, {"version": wanted["version"], "address": address.text}


def _numbered(address: str) -> str:
    """An address as the kernel takes it: the interface of a link-local one by its number."""
    text, percent, zone = address.partition("%")
    return text + percent + (zone if zone.isdigit() or not zone else str(socket.if_nametoindex(zone)))


def renew(wanted: Asked, path: str, address: str, password: str) -> None:
    """Give the live mount at ``path`` another password for its next login; the session it has goes on.

    The kernel keeps two and tries the other one when one is refused (smb3_reconfigure and cifs_setup_session in
    fs/smb/client). All options are said again: what is left out falls back to its default. Raises KernelRefused.
    """
    params = cifs.superblock_params(wanted, _numbered(address), parsed(wanted), None)
    params = [(key, value) for key, value in params if (key, value) != ("ip", "")]
    mounts.reconfigure(path, [*params, ("password2", password)])


def can_renew() -> bool:
    """Whether this kernel takes a second password for a live mount (Linux 6.10 and those it was ported back to)."""
    return mounts.takes("cifs", "password2", "x")


_STATUS = {
    "STATUS_LOGON_FAILURE": "the server does not know this user, or the password is another one",
    "STATUS_WRONG_PASSWORD": "the password is another one",
    "STATUS_NO_SUCH_USER": "the server does not know this user",
    "STATUS_ACCOUNT_LOCKED_OUT": "the server has locked this account",
    "STATUS_ACCOUNT_DISABLED": "the account is disabled on the server",
    "STATUS_ACCOUNT_RESTRICTION": "the server does not let this account in",
    "STATUS_PASSWORD_EXPIRED": "the password has expired",
    "STATUS_PASSWORD_MUST_CHANGE": "the password must be changed first",
    "STATUS_INVALID_LOGON_HOURS": "the account may not log in at this hour",
    "STATUS_INVALID_WORKSTATION": "the account may not log in from this host",
}
"""What the kernel logs of a refused login ([MS-ERREF] 2.3), in words."""


def explained(refused: mounts.KernelRefused, wanted: Asked, logged: t.Sequence[str], missing: str) -> HostError:
    """What the kernel refused, as an error with a remedy. ``logged`` is what it wrote into its log meanwhile.

    ``missing`` is what ENOENT means here: share or subdir.
    """
    said = "mounting %s: %s" % (source(wanted), refused)
    number = refused.errno
    who = "user %s" % wanted["username"] if wanted["username"] else "a guest"
    status = next((name for name in _STATUS if any(name in line for line in logged)), None)
    if status or number in (errno.EKEYEXPIRED, errno.EKEYREVOKED):
        why = _STATUS.get(status or "", "the password has expired")
        text = "mounting %s: the server refuses the login of %s: %s" % (source(wanted), who, why)
        return HostError("auth", text, "check username, password and domain", field="password")
    if number in (errno.EACCES, errno.EPERM):
        hint = "let the user use this share on the server, or give another user"
        if not wanted["username"]:
            hint = "allow guests for this share on the server, or give username and password"
        return HostError("refused", "%s: the server does not let %s use it" % (said, who), hint, field="username")
    if number == errno.ENOENT:
        hint = "the server has no such share: check its name, and whether it is hidden from this user"
        if missing == "subdir":
            hint = "the share is there, the directory in it is not: make it on the server"
        return HostError("not_found", said, hint, field=missing)
    if number == errno.ENXIO:
        return HostError("not_found", said, "the server has no such share", field="share")
    if number in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EPROTO):
        hint = "the server does not speak this version of SMB: choose another, or default"
        return HostError("unsupported", said, hint, field="version")
    if number == errno.ENODEV:
        return HostError("unsupported", said, "this kernel has no SMB client: its module cifs is missing or blocked")
    if number == errno.ENOSYS:
        return HostError("unsupported", said, "Linux 5.12 or later is needed for the mount API")
    if number == errno.EINVAL:
        return HostError("invalid", said, "the kernel does not take these options", field="options")
    if number in (errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EHOSTUNREACH):
        return HostError("unreachable", said, "check the server and the network")
    if number in (errno.ENETUNREACH, errno.EHOSTDOWN, errno.EIO, errno.EAGAIN, errno.ENOTCONN):
        return HostError("unreachable", said, "check the server and the network")
    return HostError("internal", said)
