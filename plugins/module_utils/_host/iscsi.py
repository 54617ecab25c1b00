# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""open-iscsi on this host: names, sessions and their disks in sysfs, node records. Private to microvm.host."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import command, files
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.names import refuse, shown

INITIATOR_NAME = "/etc/iscsi/initiatorname.iscsi"
NODES = ("/var/lib/iscsi/nodes", "/etc/iscsi/nodes")
"""Where node records lie: open-iscsi from 2.1.9 on and Red Hat's, older ones."""
SESSIONS = "/sys/class/iscsi_session"
HOSTS = "/sys/class/scsi_host"
BLOCK = "/sys/block"

LARGEST_LUN = 255
"""Of the addressing that every target speaks (SAM-5, peripheral device addressing)."""
LONGEST_NAME = 223
"""Bytes of an iSCSI name (RFC 7143, section 4.2.7.1)."""
LONGEST_VALUE = 255
"""Bytes of a value in a node record (open-iscsi, VALUE_MAXVAL less its end)."""
COMMAND_SECONDS = 20.0
POLL_SECONDS = 0.05
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:-_")

Settings = dict[str, str]
"""Lines of a node record, by name: ``node.startup`` to ``manual``."""


class Session(t.NamedTuple):
    """A session of this host as the kernel has it; ``path`` is its directory in /sys/devices, ``host`` scsi's."""

    sid: int
    target: str
    address: str
    port: int
    state: str
    host: int
    path: str


class Disk(t.NamedTuple):
    """A LUN of a session: kernel name (``sda``), WWID, state (``running``)."""

    name: str
    lun: int
    wwid: str
    state: str

    @property
    def node(self) -> str:
        """Its device node."""
        return "/dev/" + self.name


def name(value: object, field: str) -> str:
    """The name of a target or an initiator (RFC 7143, section 4.2.7). Raises ``invalid``."""
    if isinstance(value, str) and 4 < len(value) <= LONGEST_NAME and _NAME.issuperset(value):
        kind, dummy, rest = value.partition(".")
        date, dummy, authority = rest.partition(".")
        if kind == "iqn" and len(date) == 7 and date[4] == "-" and (date[:4] + date[5:]).isdigit() and authority:
            return value
        if len(rest) in {"eui": (16,), "naa": (16, 32)}.get(kind, ()) and _hexadecimal(rest):
            return value
    hint = "as in iqn.2026-01.com.example:vms, eui. with 16 or naa. with 16 or 32 hexadecimal digits"
    refuse(field, "%s is not an iSCSI name" % shown(value), hint)


def _hexadecimal(text: str) -> bool:
    return set(text) <= set("0123456789abcdefABCDEF")


def initiator_name() -> str:
    """The name of this host. Raises ``unsupported`` when it has none."""
    text = files.text_of(INITIATOR_NAME)
    for line in (text or "").splitlines():
        key, equals, value = line.partition("=")
        if key.strip() == "InitiatorName" and equals and value.strip():
            return value.strip()
    if text is None:
        hint = (
            "install open-iscsi (the role prepare_host does) and start iscsid, which makes one; or give initiator_name"
        )
    else:
        hint = "what made it syncs nothing, so a power loss may have emptied it: write InitiatorName=NAME into it, by"
        hint += " which the targets know this host; or remove it and start iscsid, which makes a new one"
    text = "this host has no initiator name in %s" % INITIATOR_NAME
    raise HostError("unsupported", text, hint, field="initiator_name")


def keep_initiator_name() -> None:
    """Make this host's name durable, by which targets know it: what makes it at installation syncs nothing."""
    if os.path.exists(INITIATOR_NAME):
        files.sync(INITIATOR_NAME)
        files.sync_directory(os.path.dirname(INITIATOR_NAME))


def sessions(target: str | None = None) -> list[Session]:
    """The sessions of this host, or those to one target, the oldest first."""
    found = []
    for entry in glob.glob(SESSIONS + "/session*"):
        with contextlib.suppress(OSError):  # it ends while it is read
            name = _line(entry, "targetname")
            if target not in (None, name):
                continue
            path = os.path.realpath(os.path.join(entry, "device"))
            sid = int(entry.rpartition("session")[2])
            connection = "%s/connection%d:0/iscsi_connection/connection%d:0" % (path, sid, sid)
            address, port = _line(connection, "persistent_address"), int(_line(connection, "persistent_port"))
            host = int(os.path.basename(os.path.dirname(path))[4:])
            found.append(Session(sid, name, address, port, _line(entry, "state"), host, path))
    return sorted(found)


def credentials(session: Session) -> tuple[str, str, str, str]:
    """User and secret of a session, and the target's; for comparison only. Empty without CHAP."""
    place = "%s/iscsi_session/session%d" % (session.path, session.sid)
    found = [_line(place, key) for key in ("username", "password", "username_in", "password_in")]
    name, secret, target, proof = ("" if value == "(null)" else value for value in found)
    return name, secret, target, proof


def disks(session: Session) -> list[Disk]:
    """The disks of a session."""
    found = []
    for path in glob.glob(session.path + "/target*/*:*:*:*/block/*"):
        device = os.path.dirname(os.path.dirname(path))
        with contextlib.suppress(OSError):
            lun = int(device.rpartition(":")[2])
            wwid = _line(device, "wwid") if os.path.exists(device + "/wwid") else ""
            found.append(Disk(os.path.basename(path), lun, " ".join(wwid.split()), _line(device, "state")))
    return sorted(found, key=lambda disk: disk.lun)


def disk(session: Session, lun: int) -> Disk | None:
    """The disk of one LUN."""
    return next((each for each in disks(session) if each.lun == lun), None)


def attach(session: Session, lun: int, deadline: float) -> Disk:
    """Have the kernel look for one LUN of a session, and wait for the disk. May hang: call it in a child.

    ``deadline`` is a reading of time.monotonic(). Raises ``not_found``.
    """
    try:
        with open("%s/host%d/scan" % (HOSTS, session.host), "w", encoding="ascii") as scan:
            scan.write("0 0 %d" % lun)
    except OSError as error:
        raise HostError("unreachable", "scanning LUN %d: %s" % (lun, os.strerror(error.errno or 0))) from None
    while True:
        found = disk(session, lun)
        if found is not None and os.path.exists(found.node):
            return found
        if time.monotonic() >= deadline or (found is None and not glob.glob(_unit(session, lun))):
            text = "%s has no disk with LUN %d for this host" % (session.target, lun)
            hint = "check lun, and that the server maps that LUN to this initiator"
            raise HostError("not_found", text, hint, field="lun")
        time.sleep(POLL_SECONDS)  # the disk driver and udev tell nobody that they are done


def _unit(session: Session, lun: int) -> str:
    """Where a logical unit is in sysfs, whether its driver has made a disk of it yet or not."""
    return "%s/target*/*:*:*:%d" % (session.path, lun)


def detach(session: Session, lun: int) -> None:
    """Take one disk from this host; what was written to it is on the server then. May hang: call it in a child.

    Raises ``in_use`` for one that is mounted, or that device-mapper or another program of the system has claimed.
    """
    found = disk(session, lun)
    if found is None:
        return
    with contextlib.suppress(FileNotFoundError):  # it goes by itself
        try:
            descriptor = os.open(found.node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)  # of a disk: if nobody has it
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            text = "%s (LUN %d of %s) is in use on this host" % (found.node, lun, session.target)
            raise HostError(
                "in_use", text, "lsblk and dmsetup ls show by what; stop that, then run this again"
            ) from None
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with open("%s/%s/device/delete" % (BLOCK, found.name), "w", encoding="ascii") as delete:
            delete.write("1")


def require() -> None:
    """Raise ``unsupported`` on a host without open-iscsi."""
    if command.find("iscsiadm") is None:
        raise HostError("unsupported", "iscsiadm is not installed", "install open-iscsi; the role prepare_host does")


def _node(target: str, address: str, port: int, tag: int) -> list[str]:
    """The words by which iscsiadm knows a record."""
    where = "[%s]:%d" % (address, port) if ":" in address else "%s:%d" % (address, port)
    return ["iscsiadm", "--mode", "node", "--targetname", target, "--portal", "%s,%d" % (where, tag)]


def record(target: str, address: str, port: int) -> str | None:
    """The path of the node record of one portal, in whichever layout; None when there is none.

    ``nodes/TARGET/ADDRESS,PORT`` is a file, or ``nodes/TARGET/ADDRESS,PORT,TAG`` a directory with a file ``default``.
    """
    for nodes in NODES:
        base = "%s/%s/%s,%d" % (nodes, target, address, port)
        if os.path.isfile(base):
            return base
        for path in sorted(glob.glob(glob.escape(base) + ",*/default")):
            return path
    return None


def settings(text: str) -> Settings:
    """The lines of a node record."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def whole(text: str) -> bool:
    """Whether a node record has its content. open-iscsi syncs none: power that is lost soon after leaves an empty file.

    open-iscsi (2.1.11) cannot make that record then ("iSCSI database failure"), and finds none to delete.
    """
    return "node.name" in settings(text)


def _remove_torn(target: str, address: str, port: int) -> None:
    path = record(target, address, port)
    if path is not None and not whole(files.text_of(path) or ""):
        files.remove(path)


def changed(text: str, wanted: Settings) -> str:
    """A record with other settings: an empty one removes the line, as iscsiadm does."""
    left = dict(wanted)
    lines = []
    for line in text.splitlines():
        key = line.partition("=")[0].strip()
        if line.startswith("# END") or key not in wanted:
            if line.startswith("# END"):
                lines += ["%s = %s" % pair for pair in left.items() if pair[1]]
                left.clear()
            lines.append(line)
        elif left.pop(key):
            lines.append("%s = %s" % (key, wanted[key]))
    lines += ["%s = %s" % pair for pair in left.items() if pair[1]]
    return "\n".join(lines) + "\n"


def new_record(target: str, address: str, port: int, tag: int) -> str:
    """Make a record with the defaults of this host's open-iscsi, and return its path. One that is not whole goes."""
    _remove_torn(target, address, port)
    command.run([*_node(target, address, port, tag), "--op", "new"], COMMAND_SECONDS, writes=True)
    path = record(target, address, port)
    if path is None:
        raise HostError("internal", "iscsiadm made no record of %s in %s" % (target, " or ".join(NODES)))
    return path


def remove_record(target: str, address: str, port: int, tag: int) -> None:
    """Remove a record, whole or not; nothing to do when there is none (iscsiadm's code 21)."""
    _remove_torn(target, address, port)
    command.run([*_node(target, address, port, tag), "--op", "delete"], COMMAND_SECONDS, writes=True, ok=(0, 21))


def login(target: str, address: str, port: int, tag: int, seconds: float) -> None:
    """Log in by a record; nothing to do when that session is there (15). Raises as command.run, and ``auth``."""
    try:
        command.run([*_node(target, address, port, tag), "--login"], seconds, writes=True, ok=(0, 15))
    except HostError as error:
        if error.rc == 24:
            hint = "the login of our own was accepted: the node record has other credentials, or they just changed"
            raise HostError("auth", "%s refuses the credentials" % target, hint, field="password") from None
        if error.rc in (4, 8):
            raise HostError("unreachable", "%s does not answer the login" % target, "check the server") from None
        raise


def logout(session: Session, seconds: float) -> None:
    """End one session; nothing to do when it is gone (21)."""
    argv = ["iscsiadm", "--mode", "session", "--sid", str(session.sid), "--logout"]
    command.run(argv, seconds, writes=True, ok=(0, 21))


def _line(directory: str, name: str) -> str:
    with open(os.path.join(directory, name), encoding="ascii", errors="replace") as file:
        return file.read().strip()
