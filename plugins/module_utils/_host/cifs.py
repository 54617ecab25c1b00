# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SMB shares: their names and mount options, as the kernel and systemd get them. Private to microvm.host.

Pure text. The options are those of mount.cifs(8), with the ranges that the kernel's parser takes
(fs/smb/client/fs_context.c); what is shown is written by fs/smb/client/cifsfs.c.
"""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import mount_options
from ansible_collections.microvm.host.plugins.module_utils._host.mount_options import Pair
from ansible_collections.microvm.host.plugins.module_utils._host.names import absolute_path, refuse, shown

VERSIONS = ("default", "2.0", "2.1", "3", "3.0", "3.11", "3.1.1")
"""What a user may ask for; ``default`` and ``3`` leave the dialect to negotiation, ``3.11`` is ``3.1.1``."""
_SPEAKS = {
    "default": ("2.1", "3.0", "3.02", "3.1.1"),
    "2.0": ("2.0",),
    "2.1": ("2.1",),
    "3": ("3.0", "3.02", "3.1.1"),
    "3.0": ("3.0",),
    "3.1.1": ("3.1.1",),
}
PORT = 445
LONGEST_SHARE = 80
"""Characters of a share's name ([MS-SRVS] 2.2.4.23)."""
LONGEST_NAME = 104
"""Characters of a user's name (UNLEN is 256 and sAMAccountName at most 104)."""

_ORDER = (
    *("hard", "port", "sec", "cache", "iocharset", "netbiosname", "servern", "reparse", "rsize", "wsize", "bsize"),
    *("rasize", "actimeo", "acregmax", "acdirmax", "closetimeo", "echo_interval", "max_credits", "max_channels"),
    *("max_cached_dirs", "handletimeout", "retrans", "multichannel", "nomultichannel", "nobrl", "noperm"),
    *("nohandlecache", "nostrictsync", "serverino", "noserverino", "nolease", "mfsymlinks", "nosharesock"),
    *("persistenthandles", "nopersistenthandles", "resilienthandles", "noresilienthandles", "nosparse", "nocase"),
    *("mapposix", "mapchars", "nomapchars", "nodfs", "user_xattr", "nouser_xattr", "modefromsid", "cifsacl", "noacl"),
    *("forcemandatorylock", "rwpidforward", "tcpnodelay", "compress", "rdma", "fsc", "noposix", "context"),
)
_INTEGERS = {
    "port": (1, 65535),
    "rsize": (4096, 2**24),
    "wsize": (4096, 2**24),
    "bsize": (4096, 2**24),
    "rasize": (4096, 2**30),
    "actimeo": (0, 10**6),
    "acregmax": (0, 10**6),
    "acdirmax": (0, 10**6),
    "closetimeo": (0, 600),
    "echo_interval": (1, 600),
    "max_credits": (20, 60000),
    "max_channels": (1, 16),
    "max_cached_dirs": (0, 65000),
    "handletimeout": (0, 960000),
    "retrans": (0, 100),
    mount_options.TIMEOUT: (1, 3600),
}
_CHOICES = {
    "cache": ("strict", "none", "loose", "ro", "singleclient"),
    "sec": ("ntlmssp", "ntlmsspi"),
    "reparse": ("default", "nfs", "wsl"),
}
_OWNED = {
    **mount_options.OWNED,
    "soft": "a server that is away for a moment would give I/O errors to virtual machines; hard is always passed",
    **dict.fromkeys(("user", "username"), "use the option username"),
    **dict.fromkeys(("pass", "password", "pass2", "password2"), "use the option password"),
    **dict.fromkeys(("credentials", "cred"), "use the options username and password; the module writes the file"),
    **dict.fromkeys(("domain", "dom", "workgroup", "domainauto"), "use the option domain"),
    "guest": "leave out username",
    **dict.fromkeys(("vers", "ver"), "use the option version"),
    **dict.fromkeys(("ip", "addr"), "use the option server"),
    **dict.fromkeys(("source", "unc"), "use the options server and share"),
    "prefixpath": "use the option subdir",
    **dict.fromkeys(("uid", "gid", "file_mode", "dir_mode", "seal", "sign"), "use the option of that name"),
    "dirmode": "use the option dir_mode",
    **dict.fromkeys(("forceuid", "noforceuid"), "it goes with the option uid"),
    **dict.fromkeys(("forcegid", "noforcegid"), "it goes with the option gid"),
    **dict.fromkeys(("multiuser", "cruid"), "all of the share is used by one user here"),
    **dict.fromkeys(("unix", "posix", "linux", "nounix", "nolinux"), "SMB 1 is not spoken here"),
}
_CONFLICTS = (
    *((kind, "no" + kind) for kind in ("multichannel", "serverino", "persistenthandles", "resilienthandles")),
    ("persistenthandles", "resilienthandles"),
    ("user_xattr", "nouser_xattr"),
    ("mapposix", "mapchars", "nomapchars"),
    ("actimeo", "acregmax"),
    ("actimeo", "acdirmax"),
)
_NEUTRAL = frozenset(("cache=strict", "serverino", "mapposix", "reparse=default", "sec=ntlmssp", "user_xattr"))

GRAMMAR = mount_options.Grammar(
    name="SMB",
    manual="mount.cifs(8)",
    order=_ORDER,
    integers=_INTEGERS,
    choices=_CHOICES,
    texts=frozenset(("iocharset", "netbiosname", "servern", "context")),
    custom={},
    value_optional=frozenset(),
    aliases={"forcemand": ("forcemandatorylock", None), "ignorecase": ("nocase", None)},
    value_aliases={},
    neutral=_NEUTRAL,
    without_effect=mount_options.WITHOUT_EFFECT,
    owned=_OWNED,
    conflicts=_CONFLICTS,
    ordered=(),
)

_OWNERSHIP = ("uid", "gid", "file_mode", "dir_mode")
_CHANGING = frozenset(("rsize", "wsize", "bsize", "max_channels", "max_credits", "port"))
"""What is negotiated, or that of the first mount of the server: compared only when it was asked for."""
_SHOWN = frozenset((*_ORDER, *_OWNERSHIP, "soft", "username", "domain", "seal", "sign", "noforceuid", "noforcegid"))


class Options(mount_options.Options):
    """Parsed SMB options; always hard."""

    @property
    def port(self) -> int:
        """The TCP port of the server."""
        return int(self.get("port") or PORT)


def version(value: object, field: str) -> str:
    """An asked version in its one spelling. Raises HostError ``invalid``."""
    if value is None:
        return "default"
    if value not in VERSIONS:
        refuse(field, "%s is no version of SMB" % shown(value), "one of %s" % ", ".join(VERSIONS))
    return "3.1.1" if value == "3.11" else str(value)


def speaks(asked: str) -> tuple[str, ...]:
    """The dialects that an asked version allows, as mountinfo shows them."""
    return _SPEAKS[asked]


_parsed: dict[tuple[tuple[str, ...], bool | None], Options] = {}
"""What parse() found: the items of a call have few sets of options, and each is asked for several times."""


def parse(value: object, field: str, read_only: bool | None = None) -> Options:
    """Mount options from a list or a comma string; ``read_only`` is the user's own option of that name.

    Raises HostError ``invalid`` that names the option at fault.
    """
    items = mount_options.items(value, field)
    if (items, read_only) not in _parsed:
        asked, unit = GRAMMAR.asked(items, field)
        mount_options.set_read_only(asked, read_only, field)
        asked["hard"] = None
        # Names and passwords are UTF-8 here, whatever the kernel's default (CONFIG_NLS_DEFAULT).
        asked.setdefault("iocharset", "utf8")
        _parsed[items, read_only] = Options(*GRAMMAR.sorted(asked, unit, field))
    return _parsed[items, read_only]


def share(value: object, field: str) -> str:
    """The name of a share, without slashes; it may have spaces. Raises HostError ``invalid``."""
    if not isinstance(value, str) or not value.strip():
        refuse(field, "%s is not the name of a share" % shown(value), "as in //server/SHARE")
    wrong = sorted({letter for letter in value if not letter.isprintable() or letter in '\\/[]:|<>+=;,*?"'})
    if wrong or value in (".", "..") or value != value.strip(" "):
        hint = "a directory in the share goes into the option subdir" if set(wrong) & set("\\/") else ""
        text = "has %s" % ", ".join(map(repr, wrong)) if wrong else "is not the name of a share"
        refuse(field, "%s %s" % (shown(value), text), hint)
    if len(value) > LONGEST_SHARE:
        refuse(field, "%s is longer than %d characters" % (shown(value), LONGEST_SHARE))
    return value


def subdir(value: object, field: str) -> str:
    """A directory in a share, as a relative path; "" for none. Raises HostError ``invalid``."""
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or value.startswith("/"):
        refuse(field, "%s is not relative" % shown(value), "it is below the share: leave out the '/' in front")
    return absolute_path("/" + value, field)[1:]


def account(value: object, field: str) -> str:
    """A user's or a domain's name. Raises HostError ``invalid``.

    A comma would end the option when mount.cifs passes it on, and a slash or backslash part domain from user.
    """
    text = value if isinstance(value, str) else ""
    wrong = sorted({letter for letter in text if not letter.isprintable() or letter in '\\/,:"'})
    if wrong:
        hint = "give the domain in the option domain" if set(wrong) & set("\\/") else ""
        refuse(field, "%s has %s" % (shown(value), ", ".join(map(repr, wrong))), hint)
    if not text or text != text.strip() or len(text) > LONGEST_NAME:
        refuse(field, "%s is not a name" % shown(value), "at most %d characters, no space at an end" % LONGEST_NAME)
    return text


def number(value: object, field: str) -> int:
    """A uid or gid. Raises HostError ``invalid``."""
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and int(text) < 2**32 - 1):
        refuse(field, "%s is not a number of a user or group" % shown(value), "0 to 4294967294")
    return int(text)


def mode(value: object, field: str) -> str:
    """File permissions as octal text; a number is taken as what YAML made of 0660. Raises HostError ``invalid``."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = "%04o" % value if 0 <= value <= 0o777 else None
    text = value if isinstance(value, str) else ""
    if not (text and set(text) <= set("01234567") and len(text) <= 5 and int(text, 8) <= 0o777):
        refuse(field, "%s is not permissions" % shown(value), 'write them in octal and in quotes, as "0660"')
    return "%04o" % int(text, 8)


def source(server: str, share: str, subdir: str) -> str:
    """What is mounted, as mountinfo shows it: ``//server/share/subdir``. Raises ``invalid`` when it is too long."""
    text = "//%s/%s" % (server, share) + ("/" + subdir if subdir else "")
    if len(text.encode()) > mount_options.LONGEST_VALUE:
        longest = mount_options.LONGEST_VALUE
        refuse("share", "server, share and subdir are longer than the %d bytes the kernel takes" % longest)
    return text


def ownership(wanted: t.Mapping[str, t.Any]) -> list[Pair]:
    """Whose the files are for this host, and what protects them on the wire; the force options keep the server out."""
    pairs: list[Pair] = [(key, str(wanted[key])) for key in _OWNERSHIP]
    pairs += [("forceuid", None), ("forcegid", None)]
    return pairs + [(key, None) for key in ("seal", "sign") if wanted[key]]


def superblock_params(wanted: t.Mapping[str, t.Any], address: str, options: Options, secret: str | None) -> list[Pair]:
    """The parameters for fsconfig(2); ``secret`` None leaves the password out."""
    params: list[Pair] = [("source", source(wanted["server"], wanted["share"], wanted["subdir"])), ("ip", address)]
    params += _dialect(wanted["version"], options)
    params.append(("user", wanted["username"]))  # empty: nobody logs in
    if wanted["domain"]:
        params.append(("domain", wanted["domain"]))
    if secret is not None:
        params.append(("pass", secret))
    return params + list(options.superblock) + ownership(wanted)


def _dialect(version: str, options: Options) -> list[Pair]:
    """Which versions may be spoken. One that is fixed has a connection of its own.

    The kernel takes other mounts of the server into a connection that is there, in its version (match_server in
    fs/smb/client/connect.c): what is mounted first would decide for all, and after 2.1 none could be sealed.
    """
    if version == "default":
        return []
    alone: list[Pair] = [] if version == "3" or options.has("nosharesock") else [("nosharesock", None)]
    return [("vers", version), *alone]


def unit_options(wanted: t.Mapping[str, t.Any], options: Options) -> str:
    """The value of Options= in a mount unit of Type=cifs: it names the file with the password."""
    who = "credentials=%s" % wanted["credentials"] if wanted["username"] else "guest"
    more = [mount_options.joined(pair) for pair in ownership(wanted)]
    more += [mount_options.joined(pair) for pair in _dialect(wanted["version"], options)]
    return options.unit_options(who, *more)


def shown_options(super_options: t.Iterable[str], flags: t.Iterable[str], asked: Options) -> dict[str, str | None]:
    """What mountinfo shows, reduced to what changes only when somebody changes the mount; None for a flag."""
    left_out = _CHANGING - {key for key, _value in asked.superblock}
    found: dict[str, str | None] = {}
    for option in super_options:
        key, _equals, text = option.partition("=")
        if key in _SHOWN - left_out and option not in _NEUTRAL:
            found[key] = text or None
    return {**found, **mount_options.shown_flags(flags)}


def negotiated_version(super_options: t.Iterable[str]) -> str:
    """The dialect in use; empty when the options show none."""
    return dict(option.partition("=")[::2] for option in super_options).get("vers", "")
