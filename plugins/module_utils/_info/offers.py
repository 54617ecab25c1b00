# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking one server what it offers: exports, shares or targets, each as a backend would name it.

Each kind validates its options and returns what asks: that blocks, call it in a child. Private to microvm.host.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import (
    cifs,
    command,
    iscsi,
    iscsi_login,
    net,
    secret,
)
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import nfs, probe, smb

Item = dict[str, t.Any]
Offers = list[dict[str, t.Any]]
Ask = t.Callable[[float], Offers]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ENTRIES = 500
"""Of a directory of the server that are looked at."""
DEPTH = 8
"""Of directories that only lead to exports."""
SMB_PORT = 445


def of_nfs(item: Item, prefix: str) -> Ask:
    """NFS exports that this host may mount. Raises ``invalid``."""
    wanted = nfs.asked({"server": item["server"], "export": "/", "version": "4"}, prefix, True)

    def ask(until: float) -> Offers:
        try:
            root, dummy = nfs.detached(wanted, until - time.monotonic())
        except HostError as error:
            if error.kind == "unreachable" or command.find("showmount") is None:
                raise
            return [{"export": path} for path in listed(_showmount(wanted["server"], until))]
        try:
            top = os.open(".", DIRECTORY, dir_fd=root)  # what a mount is made with is only good as a place
            try:
                found = list(exports(top, ""))
            finally:
                os.close(top)
        except OSError as error:
            raise probe.explained(error, "looking through the exports of %s" % wanted["server"]) from None
        finally:
            os.close(root)
        return [{"export": path} for path in found or ["/"]]

    return ask


def exports(directory: int, path: str, inside: bool = False) -> t.Iterator[str]:
    """The exports at and below a directory of an NFSv4 server's name space (RFC 8881, section 7.3).

    Another device number is another file system of the server: there an export begins. knfsd has such borders among
    the directories that only lead to exports, too; those hold nothing of their own. ``inside``: behind a border.
    """
    own = False
    below: list[str] = []
    with os.scandir(directory) as entries:
        some = list(itertools.islice(entries, ENTRIES))
    for entry in sorted(some, key=lambda entry: entry.name):
        own = own or not entry.is_dir(follow_symlinks=False)
        if not entry.is_dir(follow_symlinks=False) or path.count("/") >= DEPTH:
            continue
        try:
            child = os.open(entry.name, DIRECTORY, dir_fd=directory)
        except PermissionError:  # an export for others, or a directory for others
            own = True
            continue
        try:
            border = os.fstat(child).st_dev != os.fstat(directory).st_dev
            if border or not inside:
                below += exports(child, "%s/%s" % (path, entry.name), border)
            own = own or not border
        finally:
            os.close(child)
    if inside and (own or not below):
        yield path
    yield from below


def _showmount(server: str, until: float) -> str:
    return command.run(["showmount", "--no-headers", "--exports", server], until - time.monotonic(), writes=False)


def listed(text: str) -> list[str]:
    """The exports that showmount (nfs-utils 2.8) lists, each with those it is for."""
    return [line.rpartition(" ")[0].rstrip() for line in text.splitlines() if line.startswith("/")]


def of_smb(item: Item, prefix: str) -> Ask:
    """SMB shares of disks that this user, or a guest, is told of. Raises ``invalid``."""
    server = net.server(item["server"], prefix + "server")
    username, domain = (
        cifs.account(item[key], prefix + key) if item.get(key) else "" for key in ("username", "domain")
    )
    password = smb.given(item, prefix)
    if "%" in username:
        text = "%susername has a '%%', behind which smbclient expects a password" % prefix
        raise HostError("invalid", text, "ask as another user", field=prefix + "username")
    if bool(username) != (password is not None):
        missing = "password" if username else "username"
        raise HostError("invalid", "%s%s is required" % (prefix, missing), field=prefix + missing)

    def ask(until: float) -> Offers:
        if command.find("smbclient") is None:
            hint = "install it: Debian has a package of that name, Red Hat samba-client"
            raise HostError("unsupported", "a list of shares needs smbclient, which is not installed", hint)
        net.reach(net.resolve(server), SMB_PORT, min(until, time.monotonic() + (until - time.monotonic()) / 2))
        who = ["--user=" + username] if username else ["--no-pass"]
        who += ["--workgroup=" + domain] if domain else []
        # Nothing of this host's own configuration: the answer is the server's.
        argv = ["smbclient", "--configfile=/dev/null", "--grepable", "--list=" + server, *who]
        with _piped(password or "") as pipe:
            left, env = until - time.monotonic(), {"PASSWD_FD": str(pipe)}
            text = command.run(argv, left, writes=False, ok=(0, 1), keeps=[pipe], env=env)
        found = shares(text)
        refused = re.search("NT_STATUS_[A-Z_]+", text)
        if refused and not found:
            raise _refused(refused[0], server, username or "a guest")
        return found

    return ask


@contextlib.contextmanager
def _piped(secret_text: str) -> t.Iterator[int]:
    """A descriptor from which a program reads a secret: it is in no argv, no environment and no file."""
    reading, writing = os.pipe()
    try:
        os.write(writing, secret_text.encode() + b"\n")  # a pipe holds more than the longest secret
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def shares(text: str) -> Offers:
    """What ``smbclient --grepable --list`` (4.17 to 4.22) says of disks: name and comment."""
    rows = (line.split("|", 2) for line in text.splitlines())
    return [{"share": row[1], "comment": row[2]} for row in rows if len(row) == 3 and row[0] == "Disk"]


def _refused(status: str, server: str, who: str) -> HostError:
    """What smbclient says of a refusal ([MS-ERREF] 2.3), as an error with a remedy."""
    if status == "NT_STATUS_ACCESS_DENIED":
        text = "%s tells %s nothing of its shares" % (server, who)
        return HostError("refused", text, "give username and password of one who may see them", field="username")
    text = "%s refuses the login of %s: %s" % (server, who, status)
    return HostError("auth", text, "check username, password and domain", field="password")


def of_iscsi(item: Item, prefix: str) -> Ask:
    """iSCSI targets that the portal tells this initiator of (SendTargets). Raises ``invalid``."""
    portal = iscsi_login.Portal(*iscsi_login.split(item["portal"], prefix + "portal"))
    own = item.get("initiator_name")
    named = iscsi.name(own, prefix + "initiator_name") if own is not None else ""
    words = []
    for key in ("username", "password", "mutual_username", "mutual_password"):
        given = item.get(key)
        words.append(secret.value(given, prefix + key, iscsi.LONGEST_VALUE) if given is not None else "")
    for one, two in ((0, 1), (1, 0), (2, 3), (3, 2), (2, 0)):
        if words[one] and not words[two]:
            missing = ("username", "password", "mutual_username", "mutual_password")[two]
            raise HostError("invalid", "%s%s is required" % (prefix, missing), field=prefix + missing)
    chap = iscsi_login.Chap(*words) if words[0] else None

    def ask(until: float) -> Offers:
        return iscsi_login.targets(portal, named or iscsi.initiator_name(), chap, until)

    return ask


OF: dict[str, t.Callable[[Item, str], Ask]] = {"nfs": of_nfs, "smb": of_smb, "iscsi_lvm": of_iscsi}
