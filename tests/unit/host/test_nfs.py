# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NFS options: what is taken and where it goes, what is refused and why, and what mountinfo says about drift."""

from __future__ import annotations

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import nfs
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

DEFAULTS = ["hard", "nosuid", "nodev", "noexec", "relatime"]
SHOWN_42 = (
    "rw,vers=4.2,rsize=262144,wsize=262144,namlen=255,hard,fatal_neterrors=none,proto=tcp,timeo=600,retrans=2,sec=sys,"
    "clientaddr=10.77.0.2,local_lock=none,addr=10.77.0.3"
)
SHOWN_3 = (
    "rw,vers=3,rsize=1048576,wsize=1048576,namlen=255,hard,nolock,proto=tcp,timeo=600,retrans=2,sec=sys,"
    "mountaddr=10.77.0.3,mountvers=3,mountport=20048,mountproto=tcp,local_lock=all,addr=10.77.0.3"
)
FLAGS = ("rw", "nosuid", "nodev", "noexec", "relatime")


def parse(value: object, version: str = "default", read_only: bool | None = None) -> nfs.Options:
    """The options, with the field that the tests look for in refusals."""
    return nfs.parse(value, "mounts[2].options", version, read_only)


def beyond_defaults(options: nfs.Options) -> list[str]:
    """The canonical options without what every mount has."""
    return [option for option in options.canonical() if option not in DEFAULTS]


@pytest.mark.parametrize(
    "value", [None, "", " ", [], (), "hard", ["hard", "nosuid"], "rw,auto,defaults,_netdev,nofail,fg"]
)
def test_asking_for_nothing_or_for_the_defaults_is_the_same(value: object) -> None:
    options = parse(value)
    assert options.canonical() == DEFAULTS
    assert options.superblock == (("hard", None),)
    assert options.flags == ("nosuid", "nodev", "noexec", "relatime")
    assert (options.unit, options.ignored, options.read_only, options.port, options.family) == (
        (),
        (),
        False,
        2049,
        None,
    )


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ("soft,timeo=100,retrans=3", ["soft", "timeo=100", "retrans=3"]),
        ("retrans=3 , timeo=100,, soft,", ["soft", "timeo=100", "retrans=3"]),
        (["timeo=100", " soft "], ["soft", "timeo=100"]),
        ("softerr,nconnect=16", ["softerr", "nconnect=16"]),
        ("softreval", ["softreval"]),
        ("rsize=16777216,wsize=1024", ["rsize=16777216", "wsize=1024"]),
        ("actimeo=5", ["actimeo=5"]),
        ("acregmin=3,acregmax=3", ["acregmin=3", "acregmax=3"]),
        ("noac,nocto", ["noac", "nocto"]),
        ("tcp", ["proto=tcp"]),
        ("proto=tcp,tcp", ["proto=tcp"]),
        ("rdma,port=20049", ["proto=rdma", "port=20049"]),
        ("sec=sys:krb5p", ["sec=sys:krb5p"]),
        ("sec=null", ["sec=none"]),
        ("nolock,mountproto=tcp,mountport=20048", ["mountproto=tcp", "mountport=20048", "nolock"]),
        ("local_lock=flock", ["local_lock=flock"]),
        ("lookupcache=positive", ["lookupcache=pos"]),
        ("rdirplus=none", ["nordirplus"]),
        ("rdirplus=force", ["rdirplus=force"]),
        ("fsc", ["fsc"]),
        ("fsc=vm-1", ["fsc=vm-1"]),
        ("xprtsec=mtls,write=eager,noalignwrite", ["xprtsec=mtls", "noalignwrite", "write=eager"]),
        ("sync,noresvport,nosharecache", ["noresvport", "sync", "nosharecache"]),
        ("context=system_u:object_r:virt_image_t:s0", ["context=system_u:object_r:virt_image_t:s0"]),
        ("fatal_neterrors=ENETUNREACH:ENETDOWN", ["fatal_neterrors=ENETDOWN:ENETUNREACH"]),
        ("ac,cto,acl,lock,async,sharecache,resvport,nofsc,nosoftreval", []),
        ("write=lazy,local_lock=none,lookupcache=all,xprtsec=none,rdirplus,alignwrite", []),
        ("x-systemd.after=a.service,x-foo=bar,x-foo=bar", ["x-systemd.after=a.service", "x-foo=bar"]),
        ("comment=tank", ["comment=tank"]),
    ],
)
def test_options_in_one_order_and_spelling(value: object, canonical: list[str]) -> None:
    options = parse(value)
    assert [option for option in beyond_defaults(options) if option not in ("soft", "softerr")] == [
        option for option in canonical if option not in ("soft", "softerr")
    ]
    assert {"hard", "soft", "softerr"} & set(options.canonical()) == ({"soft", "softerr"} & set(canonical) or {"hard"})
    assert parse(options.canonical()) == options


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        ("suid", ("nodev", "noexec", "relatime")),
        ("dev,exec", ("nosuid", "relatime")),
        ("noatime,nodiratime", ("nosuid", "nodev", "noexec", "noatime", "nodiratime")),
        ("strictatime", ("nosuid", "nodev", "noexec", "strictatime")),
        ("atime,diratime", ("nosuid", "nodev", "noexec", "relatime")),
        ("ro", ("nosuid", "nodev", "noexec", "relatime", "ro")),
    ],
)
def test_flags_of_the_mount(value: str, flags: tuple[str, ...]) -> None:
    options = parse(value)
    assert options.flags == flags
    assert options.superblock == (("hard", None),)
    assert parse(options.canonical()) == options


def test_read_only_may_be_said_by_the_field_or_by_an_option() -> None:
    assert parse("ro") == parse(None, read_only=True) == parse("ro", read_only=True)
    assert parse("rw") == parse("rw", read_only=False) == parse(None, read_only=False) == parse(None)
    assert parse("ro").read_only


OWNED = "cannot be given here"
UNKNOWN = "is not known"
CONTRADICTS = "contradicts"


@pytest.mark.parametrize(
    ("value", "option", "because"),
    [
        ("vers=4.2", "vers", OWNED),
        ("nfsvers=3", "nfsvers", OWNED),
        ("minorversion=1", "minorversion", OWNED),
        ("v4", "v4", OWNED),
        ("v4.1", "v4.1", OWNED),
        ("addr=10.0.0.1", "addr", OWNED),
        ("addr=", "addr", OWNED),
        ("mountaddr=10.0.0.1", "mountaddr", OWNED),
        ("mounthost=x", "mounthost", OWNED),
        ("clientaddr=10.0.0.1", "clientaddr", OWNED),
        ("source=x:/", "source", OWNED),
        ("remount", "remount", OWNED),
        ("bind", "bind", OWNED),
        ("user", "user", OWNED),
        ("users", "users", OWNED),
        ("owner", "owner", OWNED),
        ("noauto", "noauto", OWNED),
        ("x-systemd.automount", "x-systemd.automount", OWNED),
        ("sloppy", "sloppy", OWNED),
        ("udp", "udp", OWNED),
        ("bogus", "bogus", UNKNOWN),
        ("credentials=/etc/shadow", "credentials", UNKNOWN),
        ("password=hunter2", "password", UNKNOWN),
        ("RO", "RO", UNKNOWN),
        ("-o", "-o", UNKNOWN),
        ("--", "--", UNKNOWN),
        ("..", "..", UNKNOWN),
        ("rsizee=4096", "rsizee", UNKNOWN),
        ("_netdevs", "_netdevs", UNKNOWN),
        ("soft,hard", "hard", CONTRADICTS),
        ("soft,softerr", "soft", CONTRADICTS),
        ("ro,rw", "rw", CONTRADICTS),
        ("lock,nolock", "lock", CONTRADICTS),
        ("nolock,local_lock=none", "nolock", CONTRADICTS),
        ("ac,noac", "ac", CONTRADICTS),
        ("noac,actimeo=1", "noac", CONTRADICTS),
        ("actimeo=1,acregmin=1", "actimeo", CONTRADICTS),
        ("suid,nosuid", "nosuid", CONTRADICTS),
        ("noatime,relatime", "relatime", CONTRADICTS),
        ("noatime,atime", "atime", CONTRADICTS),
        ("fsc=a,nofsc", "fsc", CONTRADICTS),
        ("rdirplus,rdirplus=none", "rdirplus", CONTRADICTS),
        ("sync,async", "sync", CONTRADICTS),
        ("bg,fg", "bg", CONTRADICTS),
        ("acregmin=9,acregmax=3", "acregmin", "is more than acregmax"),
        ("acdirmin=9,acdirmax=3", "acdirmin", "is more than acdirmax"),
        ("timeo=1,timeo=2", "timeo", "given twice"),
        ("fsc,fsc=a", "fsc", "given twice"),
        ("tcp,proto=tcp6", "proto", "given twice"),
        ("x-systemd.mount-timeout=1,x-systemd.mount-timeout=2", "x-systemd.mount-timeout", "given twice"),
        ("migration", "migration", "works with NFS 4.0 only"),
        ("ro=1", "ro", "takes no value"),
        ("hard=", "hard", "takes no value"),
        ("timeo", "timeo", "without a value"),
        ("timeo=", "timeo", "whole number from 1"),
        ("timeo=0", "timeo", "whole number from 1"),
        ("timeo=-1", "timeo", "whole number from 1"),
        ("timeo=1.5", "timeo", "whole number from 1"),
        ("timeo=010", "timeo", "whole number from 1"),
        ("timeo=0x10", "timeo", "whole number from 1"),
        ("timeo=1e9", "timeo", "whole number from 1"),
        ("timeo=1\n", "timeo", "whole number from 1"),
        ("timeo=\u0661", "timeo", "whole number from 1"),
        ("timeo=2147483648", "timeo", "whole number from 1"),
        ("timeo=" + "9" * 200, "timeo", "whole number from 1"),
        ("nconnect=17", "nconnect", "from 1 to 16"),
        ("port=65536", "port", "from 1 to 65535"),
        ("rsize=0", "rsize", "from 1024"),
        ("proto=udp", "proto", "one of tcp"),
        ("proto", "proto", "one of tcp"),
        ("sec=", "sec", "it takes sys"),
        ("sec", "sec", "it takes sys"),
        ("sec=sys:sys", "sec", "it takes sys"),
        ("sec=sys:", "sec", "it takes sys"),
        ("sec=lkey", "sec", "it takes sys"),
        ("lookupcache=some", "lookupcache", "one of all"),
        ("rdirplus=", "rdirplus", "one of none"),
        ("fsc=", "fsc", "it takes letters"),
        ("fsc=../x", "fsc", "it takes letters"),
        ("fsc=a b", "fsc", "it takes letters"),
        ('context="system_u:object_r:nfs_t:s0"', "context", "it takes letters"),
        ("context=nfs_t", "context", "user:role:type:level"),
        ("x-systemd.growfs", "x-systemd.growfs", "not for NFS"),
        ("x-systemd.after", "x-systemd.after", "without a value"),
        ("x-systemd.after=a", "x-systemd.after", "name of a unit"),
        ("x-systemd.after=-a.service", "x-systemd.after", "name of a unit"),
        ("x-systemd.after=../a.service", "x-systemd.after", "it takes letters"),
        ("x-systemd.requires-mounts-for=a.mount", "x-systemd.requires-mounts-for", "name of a unit"),
        ("x-systemd.mount-timeout=0", "x-systemd.mount-timeout", "from 1 to 3600"),
        ("x-a=b\nExecStart=/bin/sh", "x-a", "it takes letters"),
        ("x-a=%n", "x-a", "it takes letters"),
        ("x-a=$HOME", "x-a", "it takes letters"),
        ("x-a=" + "b" * 252, "x-a", "longer than the 255 bytes"),
    ],
)
def test_what_is_refused_by_name(value: str, option: str, because: str) -> None:
    with pytest.raises(HostError) as caught:
        parse(value)
    error = caught.value
    assert (error.kind, error.field) == ("invalid", "mounts[2].options")
    assert "mount option %r " % option in error.message
    assert because in "%s | %s" % (error.message, error.hint)
    assert error.message.isprintable() and len(error.message) < 250
    assert "hunter2" not in error.message, "the value of an unknown option may be a secret"


@pytest.mark.parametrize(
    ("value", "because"),
    [
        (5, "neither a list nor a string"),
        (True, "neither a list nor a string"),
        ({"ro": True}, "neither a list nor a string"),
        (b"ro", "neither a list nor a string"),
        ([{"timeo": 100}], "is not a mount option"),
        ([100], "is not a mount option"),
        ([None], "is not a mount option"),
        (["ro,exec"], "has a comma"),
        ([""], "an option is empty"),
        (["ro", " "], "an option is empty"),
        ("=x", "is not a mount option"),
        ("ro\n", "is not a mount option"),
        ("ro\0", "is not a mount option"),
        ("\tro", "is not a mount option"),
        ("r o", "is not a mount option"),
        ("ro;id", "is not a mount option"),
        ('"ro"', "is not a mount option"),
        ("\u202ero", "is not a mount option"),
        ("\udcff", "is not a mount option"),
        ("r\u00f3", "is not a mount option"),
        ("a" * 2**20, "longer than the 255 bytes"),
        (["x-%d=%s" % (number, "b" * 200) for number in range(20)], "longer than 3072 bytes together"),
    ],
)
def test_what_is_no_list_of_options(value: object, because: str) -> None:
    with pytest.raises(HostError) as caught:
        parse(value)
    error = caught.value
    assert (error.kind, error.field) == ("invalid", "mounts[2].options")
    assert because in error.message
    assert error.message.isprintable() and len(error.message) < 250


def test_a_typing_error_is_answered_with_the_right_name() -> None:
    with pytest.raises(HostError) as caught:
        parse("rsizee=4096")
    assert caught.value.hint == "did you mean rsize?"


@pytest.mark.parametrize(
    ("value", "version", "fits"),
    [
        ("nolock", "3", True),
        ("nolock", "default", True),
        ("nolock", "4", False),
        ("mountport=20048", "4.2", False),
        ("max_connect=4", "4.1", True),
        ("max_connect=4", "3", False),
        ("trunkdiscovery", "3", False),
        ("migration", "4.0", True),
        ("migration", "4", False),
    ],
)
def test_options_of_another_version_are_refused(value: str, version: str, fits: bool) -> None:
    if fits:
        assert beyond_defaults(parse(value, version)) == [value]
        return
    with pytest.raises(HostError, match=r"does not exist in version|works with NFS 4\.0 only"):
        parse(value, version)


def test_read_only_cannot_be_said_both_ways() -> None:
    for value, read_only in [("rw", True), ("ro", False)]:
        with pytest.raises(HostError, match="contradicts read_only"):
            parse(value, read_only=read_only)


def test_what_has_no_effect_is_said() -> None:
    options = parse("bg,retry=5,intr,retry=5")
    assert options.canonical() == DEFAULTS
    assert [text.partition(":")[0] for text in options.ignored] == ["bg", "retry", "intr"]
    assert parse("retry=0").ignored == ()


def test_what_the_rest_of_the_program_asks_for() -> None:
    assert parse("port=2050").port == 2050
    assert parse("rdma").port == 20049
    assert [parse(value).family for value in ("tcp", "proto=tcp6", "rdma", "soft")] == [4, 6, 4, None]
    assert [parse(value).local_locks for value in ("nolock", "local_lock=posix", "local_lock=none", "lock")] == [
        *(True, True, False, False)
    ]
    assert parse("timeo=7").get("timeo") == "7"
    assert parse("timeo=7").get("retrans") is None
    assert parse("soft").has("soft") and not parse("soft").has("hard")


def test_what_belongs_to_systemd() -> None:
    options = parse(
        "x-systemd.requires=vpn.service,x-systemd.after=vpn.service,x-systemd.requires-mounts-for=/data,"
        "x-systemd.mount-timeout=30,x-mine=1"
    )
    assert options.unit_lines() == ["Requires=vpn.service", "After=vpn.service", "RequiresMountsFor=/data"]
    assert options.mount_timeout == 30 and parse(None).mount_timeout is None
    text = nfs.unit_options(options, "default")
    assert "x-systemd" not in text and ",x-mine=1," in text


@pytest.mark.parametrize(
    ("asked", "walk"),
    [
        ("default", ("4.2", "4.1", "4.0", "3")),
        ("3", ("3",)),
        ("4", ("4.2", "4.1", "4.0")),
        ("4.0", ("4.0",)),
        ("4.1", ("4.1",)),
        ("4.2", ("4.2",)),
    ],
)
def test_versions(asked: str, walk: tuple[str, ...]) -> None:
    assert nfs.versions(asked) == walk
    assert asked in nfs.VERSIONS


@pytest.mark.parametrize("asked", ["", "2", "4.3", "5", "4.2 ", "\n", "default,addr=1.1.1.1"])
def test_what_is_no_version(asked: str) -> None:
    for call in (nfs.versions, lambda version: parse(None, version)):
        with pytest.raises(HostError) as caught:
            call(asked)
        assert (caught.value.kind, caught.value.field) == ("invalid", "version")


def test_kernel_parameters_of_version_4() -> None:
    options = parse("nolock,ro,max_connect=2,timeo=100")
    assert nfs.superblock_params("nas.local", "10.0.0.9", "/vms", "4.2", options) == (
        "nfs4",
        [
            *(("source", "nas.local:/vms"), ("vers", "4.2"), ("addr", "10.0.0.9"), ("proto", "tcp")),
            *(("hard", None), ("timeo", "100"), ("max_connect", "2")),
        ],
    )


def test_kernel_parameters_of_version_3() -> None:
    options = parse("nolock,mountport=20048,max_connect=2,softerr")
    assert nfs.superblock_params("fd00::1", "fd00::1", "/", "3", options) == (
        "nfs",
        [
            *(("source", "[fd00::1]:/"), ("vers", "3"), ("addr", "fd00::1"), ("proto", "tcp6")),
            *(("softerr", None), ("mountport", "20048"), ("nolock", None)),
        ],
    )


def test_the_callback_address_is_for_version_4_0() -> None:
    for version, given in [("4.0", True), ("4.1", False), ("3", False)]:
        _type, params = nfs.superblock_params("nas", "10.0.0.9", "/", version, parse(None), "10.0.0.1")
        assert (("clientaddr", "10.0.0.1") in params) is given


def test_a_protocol_that_does_not_go_with_the_address() -> None:
    with pytest.raises(HostError, match="proto=tcp does not go with the address fd00::1") as caught:
        nfs.superblock_params("nas", "fd00::1", "/", "4.2", parse("proto=tcp"))
    assert caught.value.field == "options"
    _type, params = nfs.superblock_params("nas", "fd00::1", "/", "4.2", parse("proto=tcp6"))
    assert [value for key, value in params if key == "proto"] == ["tcp6"]


def test_a_source_that_the_kernel_would_not_take() -> None:
    assert nfs.source("nas", "/" + "a" * 250) == "nas:/" + "a" * 250
    with pytest.raises(HostError, match="255 bytes") as caught:
        nfs.source("nas", "/" + "a" * 251)
    assert (caught.value.kind, caught.value.field) == ("invalid", "export")


@pytest.mark.parametrize(
    ("value", "version", "text"),
    [
        (None, "default", "nosuid,nodev,noexec,relatime,hard,_netdev,nofail,retry=0"),
        ("retry=9,bg,nofail", "4", "nosuid,nodev,noexec,relatime,hard,vers=4,_netdev,nofail,retry=0"),
        ("soft,exec,ro", "4.1", "nosuid,nodev,relatime,ro,soft,vers=4.1,_netdev,nofail,retry=0"),
        ("nolock,comment=x", "3", "nosuid,nodev,noexec,relatime,hard,nolock,vers=3,comment=x,_netdev,nofail,retry=0"),
    ],
)
def test_options_of_the_boot_unit(value: str | None, version: str, text: str) -> None:
    assert nfs.unit_options(parse(value, version), version) == text


def shown(text: str, asked: nfs.Options | None = None, flags: tuple[str, ...] = FLAGS) -> dict[str, str | None]:
    """What is kept of the file-system options in mountinfo."""
    return nfs.shown_options(text.split(","), flags, asked or parse(None))


def test_what_is_kept_of_mountinfo() -> None:
    always = dict.fromkeys(["hard", "nosuid", "nodev", "noexec", "relatime"])
    assert shown(SHOWN_42) == {"proto": "tcp", "timeo": "600", "retrans": "2", **always}
    assert shown(SHOWN_3) == shown(SHOWN_42) | {"nolock": None, "local_lock": "all"}


@pytest.mark.parametrize(
    "now",
    [
        SHOWN_42.replace("vers=4.2", "vers=4.1"),
        SHOWN_42.replace("262144", "1048576"),
        SHOWN_42.replace("addr=10.77.0.3", "addr=fd00::3").replace("proto=tcp", "proto=tcp6"),
        SHOWN_42.replace("clientaddr=10.77.0.2", "clientaddr=10.77.0.5"),
        SHOWN_42.replace("proto=tcp", "proto=tcp,nconnect=4,max_connect=2"),
        SHOWN_42.replace("sec=sys", "sec=krb5"),
        SHOWN_42.replace("rw,", "ro,"),
        SHOWN_42.replace("fatal_neterrors=none,", ""),
        SHOWN_42 + ",port=2049,seclabel,some_new_key=1",
    ],
)
def test_what_may_differ_between_two_mounts_is_no_drift(now: str) -> None:
    assert shown(now) == shown(SHOWN_42)


@pytest.mark.parametrize(
    "now",
    [
        SHOWN_42.replace("hard", "soft"),
        SHOWN_42.replace("timeo=600", "timeo=100"),
        SHOWN_42.replace("retrans=2", "retrans=5"),
        SHOWN_42.replace("proto=tcp", "proto=rdma"),
        SHOWN_42 + ",noac",
        SHOWN_42 + ",nocto",
        SHOWN_42 + ",acregmin=1",
        SHOWN_42 + ",nosharecache",
        SHOWN_42 + ",lookupcache=none",
        SHOWN_42 + ",context=system_u:object_r:nfs_t:s0",
    ],
)
def test_what_somebody_changed_is_drift(now: str) -> None:
    assert shown(now) != shown(SHOWN_42)


def test_what_was_asked_for_is_compared_even_when_it_is_negotiated() -> None:
    asked = parse("rsize=262144,sec=sys")
    assert shown(SHOWN_42, asked)["rsize"] == "262144"
    assert shown(SHOWN_42.replace("rsize=262144", "rsize=8192"), asked) != shown(SHOWN_42, asked)
    assert shown(SHOWN_42.replace("sec=sys", "sec=krb5"), asked) != shown(SHOWN_42, asked)


@pytest.mark.parametrize("flags", [("ro", *FLAGS[1:]), FLAGS[:-2] + ("relatime",), FLAGS[:-1] + ("noatime",)])
def test_changed_flags_are_drift(flags: tuple[str, ...]) -> None:
    assert shown(SHOWN_42, flags=flags) != shown(SHOWN_42)


@pytest.mark.parametrize(
    ("text", "version"),
    [(SHOWN_42, "4.2"), (SHOWN_3, "3"), ("rw,vers=4,minorversion=1", "4.1"), ("rw,vers=4", "4.0"), ("rw,size=1k", "")],
)
def test_the_negotiated_version(text: str, version: str) -> None:
    assert nfs.negotiated_version(text.split(",")) == version
