# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""mountinfo as hosts wrote it, and the flags of the mount API."""

from __future__ import annotations

import os

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import mounts

NFS4 = (
    r"48 32 0:36 / /tmp/u\040t/a#b\134c rw,nosuid,nodev,relatime shared:82 - nfs4 nas1:/export/rw "
    r"rw,vers=4.2,rsize=1048576,wsize=1048576,namlen=255,hard,fatal_neterrors=none,proto=tcp6,timeo=600,retrans=2,"
    "sec=sys,clientaddr=fd77:6d76::b,local_lock=none,addr=fd77:6d76::47\n"
)
ROOT = "20 1 98:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
BINFMT = (
    "30 22 0:25 / /proc/sys/fs/binfmt_misc rw,relatime shared:12 - autofs systemd-1 "
    "rw,fd=36,pgrp=1,timeout=0,minproto=5,maxproto=5,direct\n"
    "38 30 0:32 / /proc/sys/fs/binfmt_misc rw,nosuid,nodev,noexec,relatime shared:41 - binfmt_misc binfmt_misc rw\n"
)


def test_a_line() -> None:
    mount = mounts.parse_line(NFS4)
    assert mount[:7] == (
        48,
        32,
        "0:36",
        "/",
        r"/tmp/u t/a#b\c",
        ("rw", "nosuid", "nodev", "relatime"),
        ("shared:82",),
    )
    assert (mount.fstype, mount.source) == ("nfs4", "nas1:/export/rw")
    assert mount.options[:2] == ("rw", "vers=4.2")
    assert mount.options[-1] == "addr=fd77:6d76::47"


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (r"/a\040b", "/a b"),
        (r"/a\011b\012c", "/a\tb\nc"),
        (r"/\134040", r"/\040"),
        (r"/\134134", r"/\134"),
        (r"/\043x", "/#x"),
        ("/\u00e4\udcff", "/\u00e4\udcff"),
    ],
)
def test_escapes(written: str, path: str) -> None:
    line = "1 2 0:1 / %s rw - tmpfs %s rw\n" % (written, written)
    mount = mounts.parse_line(line)
    assert (mount.path, mount.source, mount.tags) == (path, path, ())


def test_a_line_without_options_and_with_tags() -> None:
    mount = mounts.parse_line("1 2 0:1 /sub /a rw shared:1 master:2 unbindable - tmpfs none\n")
    assert (mount.root, mount.tags, mount.options) == ("/sub", ("shared:1", "master:2", "unbindable"), ())


def test_stack_has_the_visible_one_last() -> None:
    table = [mounts.parse_line(line) for line in (ROOT + BINFMT).splitlines()]
    assert [mount.fstype for mount in mounts.stack_at("/proc/sys/fs/binfmt_misc", table)] == ["autofs", "binfmt_misc"]
    assert mounts.stack_at("/proc/sys/fs", table) == []


def test_the_table_of_this_process() -> None:
    table = mounts.table()
    assert table == mounts.table(str(os.getpid()))
    assert mounts.stack_at("/proc", table)[-1].fstype == "proc"


def test_attributes() -> None:
    assert mounts.attributes([]) == 0
    assert mounts.attributes(["rw", "relatime"]) == 0
    assert mounts.attributes(["ro", "nosuid", "nodev", "noexec", "nodev"]) == 0xF
    assert mounts.attributes(["noatime", "nodiratime"]) == 0x90


def test_what_the_kernel_said() -> None:
    assert str(mounts.KernelRefused(22, "fsconfig")) == "fsconfig: Invalid argument"
    said = ["nfs: Unknown parameter 'x'", "again"]
    assert str(mounts.KernelRefused(22, "fsconfig", said)) == (
        "fsconfig: Invalid argument (nfs: Unknown parameter 'x'; again)"
    )
