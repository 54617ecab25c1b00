# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NFS mount options: as asked, as the kernel and systemd get them, as mountinfo shows them. Private to microvm.host.

Pure text. The options are those of nfs(5) and mount(8), with the ranges that the kernel's parser takes
(fs/nfs/fs_context.c); what is shown is written by fs/nfs/super.c.
"""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.names import refuse, shown
from ansible_collections.microvm.host.plugins.module_utils._host.net import bracketed

VERSIONS = ("default", "3", "4", "4.0", "4.1", "4.2")
"""What a user may ask for; ``default`` and ``4`` leave the (minor) version to negotiation."""

LONGEST_VALUE = 255
"""Bytes in one value that fsconfig(2) takes."""
LONGEST_LIST = 3072
"""Bytes in all options together: mount(2), used at boot, has one page for them and for what mount.nfs adds."""

_WALK = {
    "default": ("4.2", "4.1", "4.0", "3"),
    "4.1+": ("4.2", "4.1"),  # what Docker volumes get; the modules do not offer it
    "3": ("3",),
    "4": ("4.2", "4.1", "4.0"),
    "4.0": ("4.0",),
    "4.1": ("4.1",),
    "4.2": ("4.2",),
}

# The options of the superblock, in the order in which they are passed: `hard` undoes `softreval` and comes first.
_ORDER = (
    *("hard", "soft", "softerr", "softreval", "timeo", "retrans", "proto", "port", "nconnect", "max_connect"),
    *("resvport", "noresvport", "sec", "xprtsec", "trunkdiscovery", "notrunkdiscovery", "migration", "nomigration"),
    *("mountproto", "mountport", "mountvers", "lock", "nolock", "local_lock", "acl", "noacl", "rsize", "wsize"),
    *("alignwrite", "noalignwrite", "write", "sync", "async", "ac", "noac", "actimeo", "acregmin", "acregmax"),
    *("acdirmin", "acdirmax", "cto", "nocto", "lookupcache", "rdirplus", "nordirplus", "sharecache", "nosharecache"),
    *("fsc", "nofsc", "nosoftreval", "fatal_neterrors", "context"),
)
_INTEGERS = {
    "timeo": (1, 2**31 - 1),
    "retrans": (0, 2**31 - 1),
    "port": (1, 65535),
    "nconnect": (1, 16),
    "max_connect": (1, 16),
    "mountport": (1, 65535),
    "mountvers": (1, 3),
    "rsize": (1024, 2**24),
    "wsize": (1024, 2**24),
    "actimeo": (0, 10**6),
    "acregmin": (0, 10**6),
    "acregmax": (0, 10**6),
    "acdirmin": (0, 10**6),
    "acdirmax": (0, 10**6),
    "retry": (0, 10**6),
    "x-systemd.mount-timeout": (1, 3600),
}
_CHOICES = {
    "proto": ("tcp", "tcp6", "rdma", "rdma6"),
    "mountproto": ("tcp", "tcp6", "udp", "udp6"),
    "xprtsec": ("none", "tls", "mtls"),
    "local_lock": ("none", "flock", "posix", "all"),
    "lookupcache": ("all", "none", "pos"),
    "write": ("lazy", "eager", "wait"),
    "rdirplus": ("none", "force"),
    "fatal_neterrors": ("default", "none", "ENETDOWN:ENETUNREACH", "ENETUNREACH:ENETDOWN"),
}
_TEXTS = frozenset(("context", "fsc"))
_VALUE_OPTIONAL = frozenset(("fsc", "rdirplus"))
_SECURITY = ("sys", "krb5", "krb5i", "krb5p", "none")
_ALIASES = {"tcp": ("proto", "tcp"), "rdma": ("proto", "rdma")}
_VALUE_ALIASES = {
    ("lookupcache", "positive"): "pos",
    ("fatal_neterrors", "ENETUNREACH:ENETDOWN"): "ENETDOWN:ENETUNREACH",
}

# What the kernel does anyway: asking for it is the same as not asking, and mountinfo does not show it or always does.
_NEUTRAL = frozenset(
    (
        *("ac", "cto", "acl", "lock", "async", "alignwrite", "sharecache", "resvport", "rdirplus", "nofsc"),
        *("nomigration", "nosoftreval", "notrunkdiscovery", "xprtsec=none", "local_lock=none", "lookupcache=all"),
        *("write=lazy", "fatal_neterrors=default", "fatal_neterrors=none"),
    )
)
_ONLY_3 = frozenset(("mountproto", "mountport", "mountvers", "lock", "nolock", "local_lock", "acl", "noacl"))
_ONLY_4 = frozenset(("max_connect", "trunkdiscovery", "migration"))

# Per-mount flags, by the names of mountinfo; of each group the first is what a mount gets unless asked otherwise.
_FLAG_GROUPS = (
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noexec", "exec"),
    ("relatime", "atime", "noatime", "strictatime"),
    ("diratime", "nodiratime"),
    ("rw", "ro"),
)
_FLAGS = ("nosuid", "nodev", "noexec", "relatime", "noatime", "strictatime", "nodiratime", "ro")
_SHOWN_FLAGS = frozenset(_FLAGS)

_UNIT_LINES = {
    "x-systemd.after": ("After",),
    "x-systemd.before": ("Before",),
    "x-systemd.requires": ("Requires", "After"),
    "x-systemd.wants": ("Wants", "After"),
    "x-systemd.requires-mounts-for": ("RequiresMountsFor",),
}
_WITHOUT_EFFECT = {
    "_netdev": "",
    "nofail": "",
    "auto": "",
    "defaults": "",
    "fg": "",
    "bg": "the module waits at most its timeout, and at boot nothing waits for this mount",
    "retry": "the module waits at most its timeout, and at boot microvm-recover retries",
    "intr": "Linux ignores it since 2.6.25",
    "nointr": "Linux ignores it since 2.6.25",
}
"""Understood and left out; those with a text are reported, for the others it is how every mount is made."""

_OWNED = {
    "vers": "use the option version",
    "nfsvers": "use the option version",
    "minorversion": "use the option version",
    "v2": "NFS version 2 is gone from Linux; use the option version",
    "v3": "use the option version",
    "v4": "use the option version",
    "v4.0": "use the option version",
    "v4.1": "use the option version",
    "v4.2": "use the option version",
    "addr": "use the option server",
    "mountaddr": "use the option server",
    "mounthost": "use the option server",
    "clientaddr": "it is found out for each mount",
    "source": "use the options server and export",
    "noauto": "use the option persistent, set to false",
    "x-systemd.automount": "the mount is made at once, and at boot by a mount unit",
    "x-systemd.idle-timeout": "mounts are not taken away when idle",
    "remount": "the module decides when to remount",
    "bind": "only NFS exports are mounted here",
    "rbind": "only NFS exports are mounted here",
    "move": "only NFS exports are mounted here",
    "loop": "only NFS exports are mounted here",
    "user": "only root mounts here",
    "users": "only root mounts here",
    "owner": "only root mounts here",
    "group": "only root mounts here",
    "sloppy": "it would hide options that the kernel does not know",
    "udp": "Linux no longer speaks NFS over UDP; leave it out",
}
"""Options of mount(8) and nfs(5) that are refused, with what to do instead."""

_CONFLICTS = (
    *_FLAG_GROUPS,
    ("hard", "soft", "softerr"),
    ("softreval", "nosoftreval"),
    ("softerr", "nosoftreval"),
    *((kind, "no" + kind) for kind in ("ac", "acl", "cto", "lock", "fsc", "rdirplus", "resvport", "sharecache")),
    *((kind, "no" + kind) for kind in ("alignwrite", "migration", "trunkdiscovery", "intr")),
    *(("noac", kind) for kind in ("actimeo", "acregmin", "acregmax", "acdirmin", "acdirmax")),
    *(("actimeo", kind) for kind in ("acregmin", "acregmax", "acdirmin", "acdirmax")),
    ("sync", "async"),
    ("bg", "fg"),
    ("lock", "local_lock"),
    ("nolock", "local_lock"),
)
_ORDERED = (("acregmin", "acregmax"), ("acdirmin", "acdirmax"))

_TEXT = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@+-")
_KEY = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_KNOWN_FLAGS = frozenset(flag for group in _FLAG_GROUPS for flag in group)

Pair = tuple[str, t.Optional[str]]


class Options(t.NamedTuple):
    """Parsed mount options, each where it belongs and in one order.

    ``superblock``: (key, value) for fsconfig(2), None for a flag; always one of hard, soft, softerr.
    ``flags``: flags of the mount itself, by the names of mountinfo. ``unit``: what only systemd and mount(8) read.
    ``ignored``: asked for and understood but without effect here, each with the reason, for a warning.
    """

    superblock: tuple[Pair, ...]
    flags: tuple[str, ...]
    unit: tuple[str, ...]
    ignored: tuple[str, ...]

    def canonical(self) -> list[str]:
        """As asked, in one spelling and with the defaults filled in; parse() reads all of it back but ``ignored``."""
        opened = [negative[2:] for negative in ("nosuid", "nodev", "noexec") if negative not in self.flags]
        return [*map(_joined, self.superblock), *opened, *self.flags, *self.unit]

    def has(self, key: str) -> bool:
        """True when the superblock option was asked for (or is hard, by default)."""
        return any(key == known for known, _value in self.superblock)

    def get(self, key: str) -> str | None:
        """The value of a superblock option; None when it has none or was not asked for."""
        return dict(self.superblock).get(key)

    @property
    def read_only(self) -> bool:
        """Mounted read-only."""
        return "ro" in self.flags

    @property
    def family(self) -> int | None:
        """4 or 6 when ``proto`` decides the family of the server's address (nfs(5)), else None."""
        proto = self.get("proto")
        return None if proto is None else 6 if proto.endswith("6") else 4

    @property
    def port(self) -> int:
        """The TCP port of the NFS service (20049 is that of RDMA)."""
        asked = self.get("port")
        return int(asked) if asked else 20049 if (self.get("proto") or "").startswith("rdma") else 2049

    @property
    def local_locks(self) -> bool:
        """With NFSv3: locks are not sent to the server, so no other host sees them."""
        return self.has("nolock") or self.has("local_lock")

    @property
    def mount_timeout(self) -> int | None:
        """Seconds of ``x-systemd.mount-timeout``, for TimeoutSec= of the unit."""
        for option in self.unit:
            key, _equals, value = option.partition("=")
            if key == "x-systemd.mount-timeout":
                return int(value)
        return None

    def unit_lines(self) -> list[str]:
        """Lines for the [Unit] section: what systemd's fstab generator makes of ``x-systemd.*`` (systemd.mount(5))."""
        lines = []
        for option in self.unit:
            key, _equals, value = option.partition("=")
            lines += ["%s=%s" % (setting, value) for setting in _UNIT_LINES.get(key, ())]
        return list(dict.fromkeys(lines))


def versions(asked: str) -> tuple[str, ...]:
    """The protocol versions to try for the asked one, best first. Raises HostError ``invalid``."""
    if asked not in _WALK:
        refuse("version", "%s is not one of %s" % (shown(asked), ", ".join(VERSIONS)))
    return _WALK[asked]


def parse(value: object, field: str, version: str = "default", read_only: bool | None = None) -> Options:
    """Mount options from a list or a comma string.

    ``version`` is the asked version: an option that none of its versions has is refused. ``read_only`` is the user's
    own option of that name, None when it was not given. Raises HostError ``invalid`` that names the option at fault.
    """
    items = tuple(_items(value, field))
    known = (items, version, read_only)
    if known not in _parsed:
        _parsed[known] = _parse(items, field, version, read_only)
    return _parsed[known]


_parsed: dict[tuple[tuple[str, ...], str, bool | None], Options] = {}
"""What parse() found: the items of a call have few sets of options, and each is asked for several times."""


def _parse(items: tuple[str, ...], field: str, version: str, read_only: bool | None) -> Options:
    asked: dict[str, str | None] = {}
    unit: dict[str, None] = {}
    for item in items:
        key, text = _option(item, field)
        if key.startswith("x-") or key == "comment":
            unit[_joined((key, text))] = None
            continue
        if key in asked and asked[key] != text:
            _refuse(field, key, "is given twice, with different values")
        asked[key] = text
    if sum(option.startswith("x-systemd.mount-timeout=") for option in unit) > 1:
        _refuse(field, "x-systemd.mount-timeout", "is given twice, with different values")
    _check_together(asked, field)
    _check_version(asked, field, version)
    if read_only is not None:
        contrary = "rw" if read_only else "ro"
        if contrary in asked:
            _refuse(field, contrary, "contradicts read_only: %s" % str(read_only).lower(), "say it once, by read_only")
        asked["ro" if read_only else "rw"] = None
    if not asked.keys() & {"soft", "softerr"}:
        asked["hard"] = None
    pairs = ((key, asked[key]) for key in _ORDER if key in asked)
    result = Options(
        superblock=tuple(pair for pair in pairs if _joined(pair) not in _NEUTRAL),
        flags=_flags(asked),
        unit=tuple(unit),
        ignored=tuple("%s: %s" % (key, _WITHOUT_EFFECT[key]) for key in asked if _is_ignored(key, asked[key])),
    )
    if len(",".join(result.canonical())) > LONGEST_LIST:
        refuse(field, "the options are longer than %d bytes together" % LONGEST_LIST)
    return result


def source(server: str, export: str) -> str:
    """What is mounted, as mountinfo shows it: ``server:export``. HostError ``invalid`` when longer than 255 bytes."""
    text = "%s:%s" % (bracketed(server), export)
    if len(text.encode()) > LONGEST_VALUE:
        refuse("export", "server and export are longer than the %d bytes the kernel takes" % LONGEST_VALUE)
    return text


def superblock_params(
    server: str, address: str, export: str, version: str, options: Options, clientaddr: str | None = None
) -> tuple[str, list[Pair]]:
    """The file-system type and the parameters for fsopen(2) and fsconfig(2).

    ``version`` is one of ``versions()``; ``address`` an address of the server as text, which the kernel wants besides
    the name; ``clientaddr`` our own, for the callbacks of 4.0. Options of the other protocol version are left out.
    The read-only flag is the mount's, not the superblock's: only so it can change in place.
    """
    six = ":" in address
    if options.family not in (None, 6 if six else 4):
        asked = options.get("proto")
        message = "proto=%s does not go with the address %s" % (asked, address)
        raise HostError("invalid", message, "tcp means IPv4, tcp6 IPv6; leave it out for both", field="options")
    params: list[Pair] = [("source", source(server, export)), ("vers", version), ("addr", address)]
    if options.family is None:
        params.append(("proto", "tcp6" if six else "tcp"))
    if version == "4.0" and clientaddr:
        params.append(("clientaddr", clientaddr))
    foreign = _ONLY_4 if version == "3" else _ONLY_3
    params += [pair for pair in options.superblock if pair[0] not in foreign]
    return ("nfs" if version == "3" else "nfs4"), params


def unit_options(options: Options, version: str) -> str:
    """The value of Options= in a mount unit of Type=nfs, for mount.nfs.

    ``version`` is the asked one; for ``default`` mount.nfs negotiates. It has no quotes and no backslashes; a percent
    sign does not occur either. ``retry=0``: by default mount.nfs would try for two minutes.
    """
    wanted = [*options.flags, *map(_joined, options.superblock)]
    if version != "default":
        wanted.append("vers=" + version)
    named = [option for option in options.unit if not option.startswith("x-systemd.")]
    return ",".join([*wanted, *named, "_netdev", "nofail", "retry=0"])


def shown_options(super_options: t.Iterable[str], flags: t.Iterable[str], asked: Options) -> dict[str, str | None]:
    """What mountinfo shows, reduced to what changes only when somebody changes the mount; None for a flag.

    Equal results, at attach and now, mean no drift. Left out, because they differ between two mounts of the same
    options: the version (negotiated; compare ``negotiated_version`` with ``versions``), addresses and ports (looked up
    again at each mount; mount.nfs and our own mount fill them in differently), nconnect and max_connect (those of the
    first mount of that server), sizes and security that were not asked for (the server's choice), read-only of the
    superblock (mount(8) sets it there too), and keys this module does not know (a newer kernel may show more).
    """
    negotiated = {"rsize", "wsize", "sec"} - {key for key, _value in asked.superblock}
    left_out = negotiated | _ONLY_3 - {"nolock", "local_lock", "noacl"} | {"port", "nconnect", "max_connect"}
    found: dict[str, str | None] = {}
    for option in super_options:
        key, _equals, text = option.partition("=")
        if key not in _ORDER or key in left_out or option in _NEUTRAL:
            continue
        found[key] = (text[:-1] if key == "proto" and text.endswith("6") else text) or None
    found.update((flag, None) for flag in flags if flag in _SHOWN_FLAGS)
    return found


def negotiated_version(super_options: t.Iterable[str]) -> str:
    """The protocol version in use, as in ``versions``; empty when the options show none."""
    values = dict(option.partition("=")[::2] for option in super_options)
    version = values.get("vers", "")
    return "4.%s" % values.get("minorversion", "0") if version == "4" else version


def _items(value: object, field: str) -> list[str]:
    """The single options, stripped of surrounding spaces."""
    if value is None:
        return []
    if isinstance(value, str):
        return [item.strip(" ") for item in value.split(",") if item.strip(" ")]
    if not isinstance(value, (list, tuple)):
        refuse(field, "%s is neither a list nor a string of mount options" % shown(value))
    for item in value:
        if not isinstance(item, str):
            refuse(field, "%s is not a mount option" % shown(item), "write each option as text, as in timeo=100")
        if "," in item:
            refuse(field, "%s has a comma" % shown(item), "make each option an item of its own")
        if not item.strip(" "):
            refuse(field, "an option is empty")
    return [item.strip(" ") for item in value]


def _option(item: str, field: str) -> Pair:
    """One option as (key, value), checked on its own and in its one spelling."""
    key, equals, text = item.partition("=")
    value = text if equals else None
    if not key or not _KEY.issuperset(key):
        refuse(field, "%s is not a mount option" % shown(item), "an option is a word, or a word and =value")
    if len(item.encode("utf-8", "surrogateescape")) > LONGEST_VALUE:
        _refuse(field, key, "is longer than the %d bytes the kernel takes" % LONGEST_VALUE)
    if key in _OWNED:
        _refuse(field, key, "cannot be given here", _OWNED[key])
    if key in _ALIASES and value is None:
        return _ALIASES[key]
    if key.startswith("x-") or key == "comment":
        return key, _unit_value(key, value, field)
    if key in _INTEGERS:
        return key, _integer(key, value, field)
    if key == "sec":
        return key, _security(value, field)
    if key in _CHOICES and not (value is None and key in _VALUE_OPTIONAL):
        value = _VALUE_ALIASES.get((key, value or ""), value)
        if value not in _CHOICES[key]:
            _refuse(field, key, "is %s" % _said(value), "it takes one of %s" % ", ".join(_CHOICES[key]))
        return ("nordirplus", None) if (key, value) == ("rdirplus", "none") else (key, value)
    if key in _TEXTS and not (value is None and key in _VALUE_OPTIONAL):
        if not value or not _TEXT.issuperset(value) or ".." in value:
            _refuse(field, key, "is %s" % _said(value), "it takes letters, digits and ._:/@+-")
        if key == "context" and value.count(":") < 2:
            _refuse(field, key, "is %s" % _said(value), "write user:role:type:level, without quotes")
        return key, value
    if key not in _ORDER and key not in _WITHOUT_EFFECT and key not in _KNOWN_FLAGS:
        _unknown(key, field)
    if value is not None:
        _refuse(field, key, "takes no value")
    return key, None


def _integer(key: str, value: str | None, field: str) -> str:
    low, high = _INTEGERS[key]
    digits = value or ""
    # A leading zero would be octal for the kernel and decimal for people.
    plain = digits.isascii() and digits.isdigit() and len(digits) <= 10 and (digits == "0" or digits[0] != "0")
    if not plain or not low <= int(digits) <= high:
        _refuse(field, key, "is %s" % _said(value), "it takes a whole number from %d to %d" % (low, high))
    return digits


def _security(value: str | None, field: str) -> str:
    flavors = ["none" if flavor == "null" else flavor for flavor in (value or "").split(":")]
    if len(set(flavors)) != len(flavors) or not set(flavors).issubset(_SECURITY):
        _refuse(field, "sec", "is %s" % _said(value), "it takes %s, or several with ':' between" % ", ".join(_SECURITY))
    return ":".join(flavors)


def _unit_value(key: str, value: str | None, field: str) -> str | None:
    if key in _INTEGERS:
        return _integer(key, value, field)
    if key.startswith("x-systemd.") and key not in _UNIT_LINES:
        known = ", ".join(sorted([*_UNIT_LINES, "x-systemd.mount-timeout"]))
        _refuse(field, key, "is not for NFS mounts or not known", "understood are %s" % known)
    if value is None and key not in _UNIT_LINES:
        return None
    if not value or not _TEXT.issuperset(value) or ".." in value:
        _refuse(field, key, "is %s" % _said(value), "it takes letters, digits and ._:/@+-")
    if key == "x-systemd.requires-mounts-for":
        fine = value.startswith("/")
    else:
        fine = key not in _UNIT_LINES or ("." in value and "/" not in value and not value.startswith((".", "-")))
    if not fine:
        _refuse(field, key, "is %s" % _said(value), "it takes the name of a unit, or a path for requires-mounts-for")
    return value


def _check_together(asked: t.Mapping[str, str | None], field: str) -> None:
    for group in _CONFLICTS:
        found = [key for key in group if key in asked]
        if len(found) > 1:
            _refuse(field, found[0], "contradicts %s" % found[1], "give one of them")
    for least, most in _ORDERED:
        low, high = asked.get(least), asked.get(most)
        if low is not None and high is not None and int(low) > int(high):
            _refuse(field, least, "is more than %s" % most)


def _check_version(asked: t.Mapping[str, str | None], field: str, version: str) -> None:
    walk = versions(version)
    if "migration" in asked and walk != ("4.0",):
        _refuse(field, "migration", "works with NFS 4.0 only", "set version to 4.0 or leave it out")
    foreign = _ONLY_4 if walk == ("3",) else _ONLY_3 if "3" not in walk else frozenset()
    for key in asked:
        if key in foreign:
            _refuse(field, key, "does not exist in version %s of NFS" % version, "leave it out")


def _flags(asked: t.Container[str]) -> tuple[str, ...]:
    chosen = []
    for group in _FLAG_GROUPS:
        chosen.append(next((flag for flag in group if flag in asked), group[0]))
    if "atime" in chosen:  # mount(8): only takes noatime back, which leaves the kernel's default
        chosen[chosen.index("atime")] = "relatime"
    return tuple(flag for flag in _FLAGS if flag in chosen)


def _is_ignored(key: str, value: str | None) -> bool:
    return bool(_WITHOUT_EFFECT.get(key)) and (key, value) != ("retry", "0")


def _joined(pair: Pair) -> str:
    key, value = pair
    return key if value is None else "%s=%s" % (key, value)


def _said(value: str | None) -> str:
    return "without a value" if value is None else shown(value)


def _refuse(field: str, key: str, message: str, hint: str = "") -> t.NoReturn:
    refuse(field, "mount option %s %s" % (shown(key), message), hint)


def _unknown(key: str, field: str) -> t.NoReturn:
    import difflib  # only when something is wrong

    near = difflib.get_close_matches(key, [*_ORDER, *_WITHOUT_EFFECT, *_OWNED, *_KNOWN_FLAGS], 1)
    _refuse(field, key, "is not known", "did you mean %s?" % near[0] if near else "see nfs(5) for the options of NFS")
