# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SMB options: what is taken and where it goes, what is refused and why, and what mountinfo says about drift."""

from __future__ import annotations

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import cifs
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

DEFAULTS = ["hard", "iocharset=utf8", "nosuid", "nodev", "noexec", "relatime"]
SHOWN = (
    "rw,vers=3.1.1,cache=strict,upcall_target=app,username=svc,uid=0,forceuid,gid=0,forcegid,addr=10.77.1.81,"
    "file_mode=0660,dir_mode=0770,iocharset=utf8,hard,nounix,serverino,mapposix,reparse=nfs,nativesocket,"
    "symlink=native,rsize=4194304,wsize=4194304,bsize=1048576,echo_interval=60,actimeo=1,closetimeo=1"
)
"""As Linux 7.2 shows a share that was mounted with the default options."""
FLAGS = ("rw", "nosuid", "nodev", "noexec", "relatime")
WANTED = {
    "server": "nas",
    "share": "Virtual Machines",
    "subdir": "a/b",
    "username": "svc",
    "domain": "LAB",
    "version": "3.1.1",
    "uid": 0,
    "gid": 7,
    "file_mode": "0660",
    "dir_mode": "0770",
    "seal": True,
    "sign": False,
    "credentials": "/etc/microvm/credentials/x",
}


@pytest.mark.parametrize("value", [None, "", [], "hard", "rw,auto,_netdev,nofail,cache=strict,serverino"])
def test_asking_for_nothing_or_for_the_defaults_is_the_same(value: object) -> None:
    options = cifs.parse(value, "options")
    assert options.canonical() == DEFAULTS
    assert cifs.parse(options.canonical(), "options") == options
    assert (options.port, options.read_only) == (445, False)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("soft", "I/O errors"),
        ("password=x", "use the option password"),
        ("pass=x", "use the option password"),
        ("credentials=/etc/shadow", "the module writes the file"),
        ("username=x", "use the option username"),
        ("guest", "leave out username"),
        ("vers=1.0", "use the option version"),
        ("uid=5", "use the option of that name"),
        ("prefixpath=x", "use the option subdir"),
        ("sec=krb5", "it takes one of ntlmssp, ntlmsspi"),
        ("actimeo=x", "whole number"),
        ("actimeo=3,acregmax=3", "contradicts"),
        ("multichannel,nomultichannel", "contradicts"),
        ("timeo=3", "is not known"),
        ("cache=fast", "it takes one of strict"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(value: str, says: str) -> None:
    with pytest.raises(HostError) as caught:
        cifs.parse(value, "shares[1].options")
    error = caught.value
    assert (error.kind, error.field) == ("invalid", "shares[1].options")
    assert says in error.message + " " + error.hint


def test_the_kernel_gets_the_password_and_the_unit_only_the_file() -> None:
    options = cifs.parse("actimeo=3,x-systemd.after=a.service", "options")
    params = cifs.superblock_params(WANTED, "10.0.0.1", options, "s,e=c ret")
    assert params[:7] == [
        ("source", "//nas/Virtual Machines/a/b"),
        ("ip", "10.0.0.1"),
        ("vers", "3.1.1"),
        ("nosharesock", None),
        ("user", "svc"),
        ("domain", "LAB"),
        ("pass", "s,e=c ret"),
    ]
    assert ("hard", None) in params and ("seal", None) in params and ("gid", "7") in params
    assert ("nosharesock", None) not in cifs.superblock_params({**WANTED, "version": "3"}, "10.0.0.1", options, None)
    text = cifs.unit_options(WANTED, options)
    assert "vers=3.1.1,nosharesock" in text
    assert "credentials=/etc/microvm/credentials/x" in text and "s,e=c ret" not in text
    assert text.startswith("nosuid,nodev,noexec,relatime,hard,") and text.endswith("_netdev,nofail")


def test_a_guest_has_no_credentials() -> None:
    wanted = {**WANTED, "username": "", "domain": "", "version": "default", "credentials": ""}
    options = cifs.parse(None, "options")
    assert ("user", "") in cifs.superblock_params(wanted, "10.0.0.1", options, None)
    assert "guest" in cifs.unit_options(wanted, options).split(",")
    assert "credentials" not in cifs.unit_options(wanted, options)


def test_what_the_kernel_shows_is_reduced_to_what_people_change() -> None:
    options = cifs.parse(None, "options")
    then = cifs.shown_options(SHOWN.split(","), FLAGS, options)
    assert then["hard"] is None and then["username"] == "svc" and then["file_mode"] == "0660"
    negotiated = SHOWN.replace("rsize=4194304", "rsize=65536").replace("addr=10.77.1.81", "addr=10.77.1.82")
    assert cifs.shown_options(negotiated.split(","), FLAGS, options) == then
    drifted = SHOWN.replace("actimeo=1", "actimeo=9").replace(",hard", ",soft")
    assert cifs.shown_options(drifted.split(","), FLAGS, options) != then
    asked = cifs.parse("rsize=65536", "options")
    assert cifs.shown_options(SHOWN.split(","), FLAGS, asked)["rsize"] == "4194304"
    assert cifs.negotiated_version(SHOWN.split(",")) == "3.1.1"


@pytest.mark.parametrize("value", ["vms", "with space", "v$", "Ünïcode", "a" * 80])
def test_names_of_shares(value: str) -> None:
    assert cifs.share(value, "share") == value


@pytest.mark.parametrize(
    "value", ["", " ", "a/b", "a\\b", "//s/a", " a", "a:b", "a*", "a\n", "a" * 81, ".", "..", 5, None]
)
def test_what_is_no_name_of_a_share(value: object) -> None:
    with pytest.raises(HostError) as caught:
        cifs.share(value, "backends[0].share")
    assert caught.value.field == "backends[0].share"


@pytest.mark.parametrize(("value", "found"), [(None, ""), ("", ""), ("a", "a"), ("a/b/", "a/b"), ("a b", "a b")])
def test_directories_in_a_share(value: object, found: str) -> None:
    assert cifs.subdir(value, "subdir") == found


@pytest.mark.parametrize("value", ["/a", "../a", "a/../b", "a//b", "a\\b", "a\n", "./a", 5])
def test_what_is_no_directory_in_a_share(value: object) -> None:
    with pytest.raises(HostError) as caught:
        cifs.subdir(value, "subdir")
    assert caught.value.field == "subdir"


@pytest.mark.parametrize("value", ["LAB\\svc", "LAB/svc", "a,b", "", " a", "a ", "a\nb", "a" * 105, 'a"b'])
def test_what_is_no_account(value: str) -> None:
    with pytest.raises(HostError) as caught:
        cifs.account(value, "username")
    assert caught.value.field == "username"


@pytest.mark.parametrize(("value", "found"), [("0660", "0660"), (0o660, "0660"), ("770", "0770"), (0, "0000")])
def test_permissions(value: object, found: str) -> None:
    assert cifs.mode(value, "file_mode") == found


@pytest.mark.parametrize("value", ["", "rw", "0999", "1770", -1, 0o7777, True, None, "0" * 9, 1.5, []])
def test_what_is_no_permissions(value: object) -> None:
    with pytest.raises(HostError) as caught:
        cifs.mode(value, "file_mode")
    assert caught.value.field == "file_mode"


def test_versions_have_one_spelling() -> None:
    assert [cifs.version(value, "version") for value in (None, "3.11", "3.1.1", "2.0")] == [
        "default",
        "3.1.1",
        "3.1.1",
        "2.0",
    ]
    assert all(cifs.speaks(cifs.version(value, "version")) for value in cifs.VERSIONS)
    with pytest.raises(HostError, match="is no version of SMB"):
        cifs.version("4.2", "version")


def test_a_source_longer_than_the_kernel_takes_is_refused() -> None:
    with pytest.raises(HostError, match="longer than the 255 bytes"):
        cifs.source("nas", "vms", "a" * 250)
