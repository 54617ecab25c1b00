# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NFS mount options: as asked, as the kernel and systemd get them, as mountinfo shows them. Private to microvm.host.

Pure text. The options are those of nfs(5) and mount(8), with the ranges that the kernel's parser takes
(fs/nfs/fs_context.c); what is shown is written by fs/nfs/super.c.
"""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import mount_options
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.mount_options import Pair, refuse_option, said
from ansible_collections.microvm.host.plugins.module_utils._host.names import refuse, shown
from ansible_collections.microvm.host.plugins.module_utils._host.net import bracketed

VERSIONS = ("default", "3", "4", "4.0", "4.1", "4.2")
"""What a user may ask for; ``default`` and ``4`` leave the (minor) version to negotiation."""

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
    mount_options.TIMEOUT: (1, 3600),
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
_ALIASES: dict[str, Pair] = {
    "tcp": ("proto", "tcp"),
    "rdma": ("proto", "rdma"),
    "rdirplus=none": ("nordirplus", None),
}
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

_WITHOUT_EFFECT = {
    **mount_options.WITHOUT_EFFECT,
    "fg": "",
    "bg": "the module waits at most its timeout, and at boot nothing waits for this mount",
    "retry": "the module waits at most its timeout, and at boot microvm-recover retries",
}

_OWNED = {
    **mount_options.OWNED,
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
    "udp": "Linux no longer speaks NFS over UDP; leave it out",
}
"""Options that are refused, with what to do instead."""

_CONFLICTS = (
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


class Options(mount_options.Options):
    """Parsed NFS options; always one of hard, soft, softerr."""

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
    items = mount_options.items(value, field)
    known = (items, version, read_only)
    if known not in _parsed:
        _parsed[known] = _parse(items, field, version, read_only)
    return _parsed[known]


_parsed: dict[tuple[tuple[str, ...], str, bool | None], Options] = {}
"""What parse() found: the items of a call have few sets of options, and each is asked for several times."""


def _parse(items: tuple[str, ...], field: str, version: str, read_only: bool | None) -> Options:
    asked, unit = GRAMMAR.asked(items, field)
    _check_version(asked, field, version)
    mount_options.set_read_only(asked, read_only, field)
    if not asked.keys() & {"soft", "softerr"}:
        asked["hard"] = None
    return Options(*GRAMMAR.sorted(asked, unit, field))


def source(server: str, export: str) -> str:
    """What is mounted, as mountinfo shows it: ``server:export``. HostError ``invalid`` when longer than 255 bytes."""
    text = "%s:%s" % (bracketed(server), export)
    if len(text.encode()) > mount_options.LONGEST_VALUE:
        refuse(
            "export", "server and export are longer than the %d bytes the kernel takes" % mount_options.LONGEST_VALUE
        )
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
    return options.unit_options(*(() if version == "default" else ("vers=" + version,))) + ",retry=0"


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
    return {**found, **mount_options.shown_flags(flags)}


def negotiated_version(super_options: t.Iterable[str]) -> str:
    """The protocol version in use, as in ``versions``; empty when the options show none."""
    values = dict(option.partition("=")[::2] for option in super_options)
    version = values.get("vers", "")
    return "4.%s" % values.get("minorversion", "0") if version == "4" else version


def _security(value: str | None, field: str) -> str:
    flavors = ["none" if flavor == "null" else flavor for flavor in (value or "").split(":")]
    if len(set(flavors)) != len(flavors) or not set(flavors).issubset(_SECURITY):
        refuse_option(
            field, "sec", "is %s" % said(value), "it takes %s, or several with ':' between" % ", ".join(_SECURITY)
        )
    return ":".join(flavors)


def _check_version(asked: t.Mapping[str, str | None], field: str, version: str) -> None:
    walk = versions(version)
    if "migration" in asked and walk != ("4.0",):
        refuse_option(field, "migration", "works with NFS 4.0 only", "set version to 4.0 or leave it out")
    foreign = _ONLY_4 if walk == ("3",) else _ONLY_3 if "3" not in walk else frozenset()
    for key in asked:
        if key in foreign:
            refuse_option(field, key, "does not exist in version %s of NFS" % version, "leave it out")


GRAMMAR = mount_options.Grammar(
    name="NFS",
    manual="nfs(5)",
    order=_ORDER,
    integers=_INTEGERS,
    choices=_CHOICES,
    texts=_TEXTS,
    custom={"sec": _security},
    value_optional=_VALUE_OPTIONAL,
    aliases=_ALIASES,
    value_aliases=_VALUE_ALIASES,
    neutral=_NEUTRAL,
    without_effect=_WITHOUT_EFFECT,
    owned=_OWNED,
    conflicts=_CONFLICTS,
    ordered=_ORDERED,
)
