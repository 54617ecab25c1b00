# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, paths and sizes as users write them. Private to microvm.host.

Pure text: nothing here looks at the host. Every refusal is a HostError ``invalid`` with the caller's ``field``.
"""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

GROUP = "microvm"
"""The primary group of all machines' users: the disks of volumes belong to it."""
GID = 59971
"""Its number on all hosts: on shared storage the number counts. The role prepare_host can give it another."""
LONGEST_NAME = 63
LONGEST_PATH = 4096
LONGEST_COMPONENT = 255
LONGEST_EXPORT = 1024
LARGEST_SIZE = 2**63 - 1
"""The largest file offset of the kernel (loff_t)."""

_SHOWN = 80
_EDGE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_INNER = _EDGE | frozenset("._-")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}

_SYSTEM_TREES = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lock",
    "/var/run",
)
"""A mount on one of these or below hides what the host needs to boot, to log in or to undo the mount."""

_SYSTEM_DIRECTORIES = ("/", "/tmp", "/var", "/var/lib", "/var/lib/microvm", "/var/log", "/var/tmp")
"""A mount on one of these hides other people's files (or our registry); below them is fine."""


def shown(value: object) -> str:
    """``value`` for a message: its repr, cut to about 80 characters, unprintable ones escaped. Not for secrets."""
    if isinstance(value, str):
        text = repr(value[:_SHOWN])
        if len(value) > _SHOWN or len(text) > _SHOWN + 2:
            return "%s... (%d characters)" % (text[: _SHOWN // 2], len(value))
        return text
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; a structure nested too deep
        text = "a value of type %s" % type(value).__name__
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def refuse(field: str, message: str, hint: str = "") -> t.NoReturn:
    """Raise the HostError of a value that cannot be meant."""
    raise HostError("invalid", "%s: %s" % (field, message), hint, field=field)


def name(value: object, field: str, longest: int = LONGEST_NAME) -> str:
    """A resource name: ``[a-z0-9]([a-z0-9._-]*[a-z0-9])?`` of at most ``longest`` characters, without ``..``."""
    if isinstance(value, str) and is_name(value, longest):
        return value
    allowed = "a-z, 0-9, '.', '_' and '-', first and last a letter or digit, no '..', at most %d characters" % longest
    refuse(field, "%s is not a name" % shown(value), "a name has %s" % allowed)


def is_name(text: str, longest: int = LONGEST_NAME) -> bool:
    """Whether ``name`` takes a text."""
    whole = 0 < len(text) <= longest and _INNER.issuperset(text) and ".." not in text
    return whole and text[0] in _EDGE and text[-1] in _EDGE


def slug(text: str, longest: int = LONGEST_NAME) -> str:
    """A valid name made from ``text``; one that had to be cut ends in a hash, so that two long texts stay two names."""
    letters = "".join(letter if letter in _INNER else "-" for letter in text.lower())
    for doubled in ("-", "."):
        while doubled * 2 in letters:
            letters = letters.replace(doubled * 2, doubled)
    letters = letters.strip("._-") or "unnamed"
    if len(letters) <= longest:
        return letters
    return "%s-%s" % (letters[: longest - 9].rstrip("._-"), hash8(text))


def hash8(*parts: str) -> str:
    """8 hexadecimal digits of the SHA-256 of the parts; ("ab", "c") and ("a", "bc") differ."""
    import hashlib

    encoded = [part.encode("utf-8", "surrogateescape") for part in parts]
    return hashlib.sha256(b"".join(b"%d:%s," % (len(part), part) for part in encoded)).hexdigest()[:8]


def absolute_path(value: object, field: str) -> str:
    """A path on the host, without a trailing slash.

    Refused besides what is no absolute path: ``.``, ``..`` and empty components (the path would not be the text that
    mountinfo shows), unprintable characters, a backslash or a final space (unit files give them a meaning).
    """
    return _path(value, field, LONGEST_PATH)


def export_path(value: object, field: str) -> str:
    """The path of an NFS export, as absolute_path but at most 1024 bytes (NFS_MAXPATHLEN); ``/`` is an export too."""
    return _path(value, field, LONGEST_EXPORT)


def mount_path(value: object, field: str, why: str = "a mount on %s would hide directories of the system") -> str:
    """A path that may be mounted on: an absolute path that is no directory the system itself lives in.

    ``why`` not, for the message.
    Symbolic links are not followed: whoever makes the directory must see that none is in the way.
    """
    path = absolute_path(value, field)
    if path in _SYSTEM_DIRECTORIES or any(under(path, tree) for tree in _SYSTEM_TREES):
        refuse(
            field,
            why % shown(path),
            "choose a path below /mnt, /srv, /opt, /media, /data or /var/lib",
        )
    return path


def under(path: str, base: str) -> bool:
    """True when ``path`` is ``base`` or below it; both as absolute_path returns them."""
    return path == base or path.startswith(base if base.endswith("/") else base + "/")


def size(value: object, field: str, least: int = 1) -> int:
    """Bytes: an integer, or digits and K, M, G, T or P with an optional ``iB``, in powers of 1024."""
    number = _bytes(value, field)
    if number < least:
        alone = number and str(value).isdigit()
        hint = "a number alone is bytes: write %sMiB or %sGiB" % (value, value) if alone else ""
        refuse(field, "%s is less than %d bytes" % (shown(value), least), hint)
    if number > LARGEST_SIZE:
        refuse(field, "%s is more than a file can have (%d bytes)" % (shown(value), LARGEST_SIZE))
    return number


def seconds(value: int, field: str) -> int:
    """A timeout that a user may set: 1 to 3600 seconds."""
    if not 1 <= value <= 3600:
        refuse(field, "%d is not within 1 to 3600 seconds" % value)
    return value


def _bytes(value: object, field: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii():
        digits = value.rstrip("KMGTPiBbkmgtp")
        unit = value[len(digits) :]
        if digits.isdigit() and len(digits) <= 20:
            letter = unit[:-2] if unit.endswith("iB") else unit
            if letter in _POWERS and unit != "iB":
                return int(digits) << 10 * _POWERS[letter]
            if unit[:1].upper() in _POWERS and unit[1:] in ("B", "b"):
                refuse(
                    field,
                    "%s may mean powers of 1000 or of 1024" % shown(value),
                    "write %s%siB for powers of 1024, or the number of bytes" % (digits, unit[0].upper()),
                )
    refuse(field, "%s is not a size" % shown(value), "write a whole number of bytes, or of K, M, G, T or P as in 4GiB")


def _path(value: object, field: str, longest: int) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        refuse(field, "%s is not an absolute path" % shown(value), "a path begins with '/'")
    if not value.isprintable():
        refuse(field, "%s has a character that cannot be seen or is not text" % shown(value))
    if "\\" in value:
        refuse(field, "%s has a backslash" % shown(value), "write a space as a space, not as \\040")
    path = value if value == "/" else value[:-1] if value.endswith("/") else value
    if path.endswith(" "):
        refuse(field, "%s ends in a space" % shown(value))
    if len(path.encode()) > longest:
        refuse(field, "%s is longer than %d bytes" % (shown(value), longest))
    if path == "/":
        return path
    for component in path.split("/")[1:]:
        if component in ("", ".", ".."):
            refuse(field, "%s has an empty, '.' or '..' component" % shown(value), "write the path itself")
        if len(component.encode()) > LONGEST_COMPONENT:
            refuse(field, "%s has a component longer than %d bytes" % (shown(value), LONGEST_COMPONENT))
    return path


def only_checked(item: t.Mapping[str, t.Any], prefix: str) -> bool:
    """Whether the secret of an item is only to be proven. Raises ``invalid`` for an item that is to go."""
    asked = bool(item.get("secret_check"))
    if asked and item["state"] == "absent":
        text = "%ssecret_check changes nothing, and state is absent" % prefix
        raise HostError("invalid", text, "give one of them", field=prefix + "secret_check")
    return asked
