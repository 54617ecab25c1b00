# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile values for every option. None of them can be meant, so each call must be refused as invalid."""

from __future__ import annotations

from typing import Any

NUL, BELL, ESCAPE, RTL, ZERO_WIDTH, HALF = "\x00", "\x07", "\x1b[2J", "\u202e", "\u200b", "\ud800"

NAMES: list[Any] = [
    *("", " ", "  ", ".", "..", "...", "/", "//", "-", "--", "_", "-rf", "--help", "-o ro", ".hidden", "a."),
    *("a-", "_a", "../x", "a/../b", "../../etc/passwd", "a/b", "/abs", "a\\b", "C:\\x", "a b", " a", "a "),
    *("a\tb", "a\nb", "\na", "a\r", f"a{NUL}b", NUL, f"a{BELL}", f"{ESCAPE}a", f"a{RTL}b", f"a{ZERO_WIDTH}b"),
    *(f"a{HALF}", "ä", "名前", "а", "Ａ", "é", "🐙", "A", "aB", "a..b", "a" * 64, "a" * 300, "a" * 70000, "a;id"),
    *("$(id)", "`id`", "a|b", "a&b", "a>b", "a*", "a?", "a'b", 'a"b', "a%s", "%n", "%(x)s", "${HOME}", "~root"),
    *("a,b", "a=b", "a:b", "a@b", "a#b", "a+b", "a!", "[a]", "{a}", "<a>", "a'; DROP TABLE backends; --"),
    *('" OR 1=1 --', [], ["a", "b"], {}, {"a": 1}, [None], -1),
]

SERVERS: list[Any] = [
    *("", " ", ".", "..", "-", "-h", "--help", "-o", "/", "//", "nas/", "nas/export", "/nas", "nas:"),
    *("nas:2049", ":2049", "nas:/export", "nas ", " nas", "na s", "nas\n", "\nnas", "nas\tx", "nas\r\n"),
    *(f"nas{NUL}", f"{NUL}", f"na{BELL}s", f"{ESCAPE}nas", f"{RTL}nas", f"nas{ZERO_WIDTH}", f"nas{HALF}"),
    *("näs", "сервер", "例え", "🐙", "ｎａｓ", "nas。local", "-nas", "nas-", "nas..local", ".nas", "nas.-x"),
    *("nas.local..", "a" * 64, "a" * 254, ("a" * 63 + ".") * 4 + "a", "x" * 70000, "10.0.0", "10.1", "1", "0"),
    *("0x7f.1", "0x7f000001", "2130706433", "017700000001", "10.0.0.256", "10.0.0.1.1", "010.0.0.1"),
    *("10.0.0.1/24", "10.0.0.1:2049", "10.0.0.1,10.0.0.2", "10.0.0.1 10.0.0.2", "0.0.0.0", "255.255.255.255"),
    *("224.0.0.1", "::", "[::]", "ff02::1", "[ff02::1]", "::1::", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9"),
    *("12345::1", "fe80::1", "[fe80::1]", "fe80::1%", "fe80::1%../x", "fe80::1%a/b", "fe80::1%" + "x" * 16),
    *("2001:db8::1%eth0", "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]:2049", "[2001:db8::1]/x"),
    *("[[2001:db8::1]]", "[nas]", "[10.0.0.1]", "[]", "::ffff:0.0.0.0", "::g", "2001:db8::/32"),
    *("nas,addr=10.0.0.9", "nas,vers=3", "nas;id", "$(id)", "`id`", "nas|id", "nas&", "nas>x", "nas'", 'nas"'),
    *("user@nas", "nas#x", "nas?x", "nas%20x", "%n%s", "nfs://nas/x", "\\\\nas\\share", "*", "n*s", []),
    *(["a", "b"], {}, {"a": 1}, [None], -1, 1.5),
]

PATHS: list[Any] = [
    *("", " ", ".", "..", "x", "x/y", "./x", "../x", "-", "-rf", "--help", "//", "///", "/..", "/.", "/../etc"),
    *("/srv/../etc", "/srv/./x", "/srv//x", "/srv/..", "/srv/x/..", "/srv/x/../../etc/cron.d", " /srv/x"),
    *("/srv/x ", "/srv/x\n", "/srv/\nx", "\n/srv/x", "/srv/x\t", "/srv/x\r", f"/srv/{NUL}", f"/srv/x{NUL}/y"),
    *(f"/srv/{BELL}", f"/srv/{ESCAPE}", f"/srv/{RTL}txt", f"/srv/{ZERO_WIDTH}", f"/srv/{HALF}", "/srv/\\040"),
    *("/srv/a\\b", "\\srv", "C:\\srv", "file:///srv", "nas:/export", "/" + "a" * 256, "/a" * 2500),
    *("/" + "ä" * 200, "/" + "a" * 70000, [], ["/a", "/b"], {}, {"a": 1}, [None], 5, -1),
]

SYSTEM: list[Any] = [
    *("/", "/etc", "/etc/systemd/system", "/usr", "/usr/bin", "/bin", "/sbin", "/lib", "/lib64", "/boot"),
    *("/dev", "/dev/shm", "/proc", "/proc/self", "/proc/1/root", "/sys", "/sys/fs", "/run", "/run/systemd"),
    *("/root", "/root/.ssh", "/var", "/var/lib", "/var/log", "/var/run/x", "/var/lock", "/tmp", "/var/tmp"),
    *("/etc/", "/etc/cron.d", "~/x", "$HOME/x", "${HOME}/.ssh"),
]
"""Directories of the system itself; nothing may be mounted there."""

OPTIONS: list[Any] = [
    *("-o ro", "--help", "rw,ro", "hard,soft", "soft,hard", "suid,nosuid", "dev,nodev", "exec,noexec"),
    *("noatime,atime", "nosuchoption", "nosuchoption=1", "nfs", "=", "=x", "ro=1", "hard=1", "timeo", "timeo="),
    *("timeo=x", "timeo=-1", "timeo=0", "timeo=1e3", "timeo=0x10", "timeo=010", "timeo=99999999999999999999"),
    *("timeo=100,timeo=200", "retrans=x", "retrans=-1", "nconnect=0", "nconnect=17", "nconnect=x"),
    *("nconnect=1 6", "rsize=1", "rsize=-1", "wsize=99999999999", "port=0", "port=65536", "port=-1", "port=x"),
    *("port=2049x", "proto=udp", "proto=", "proto=tcp7", "udp", "sec=", "sec=root", "sec=sys:sys", "sec=../x"),
    *("vers=3", "vers=4.2", "nfsvers=3", "minorversion=1", "v3", "v4.2", "addr=10.0.0.9"),
    *("addr=10.0.0.1,addr=10.0.0.2", "mountaddr=10.0.0.9", "mounthost=x", "clientaddr=10.0.0.9", "source=x:/y"),
    *("noauto", "x-systemd.automount", "x-systemd.idle-timeout=1", "x-systemd.device-timeout=1"),
    *("x-systemd.nosuch=1", "x-systemd.after=../x", "x-systemd.after=", "x-systemd.after=a b.service"),
    *("x-systemd.after=a.service\nExecStart=/bin/sh", "x-systemd.requires-mounts-for=x"),
    *("x-systemd.requires-mounts-for=/srv/../etc", "x-systemd.mount-timeout=x", "x-systemd.mount-timeout=0"),
    *("x-systemd.mount-timeout=1,x-systemd.mount-timeout=2", "x-systemd.wants=%n"),
    *("x-systemd.before=-x.service", "remount", "bind", "rbind", "move", "loop", "user", "users", "owner"),
    *("group", "sloppy", "ro\nExecStart=/bin/sh", "ro\n", "\nro", "ro\r", "ro\trw", "ro rw", f"ro{NUL}"),
    *(f"{NUL}", f"r{BELL}o", f"{ESCAPE}ro", f"{RTL}ro", f"ro{ZERO_WIDTH}", f"ro{HALF}", "rö", "ｒｏ", "🐙"),
    *("ro;id", "$(id)", "`id`", "ro|id", "ro%n", "%s=%s", "context=a b", 'context="x,y"', "fsc=../x"),
    *("context=../x", "context=\n", "comment=a b", "comment=x\ny", "x-foo=a b", "x-foo=..", "local_lock=x"),
    *("lookupcache=x", "noac,actimeo=3", "actimeo=3,acregmin=1", "acregmin=9,acregmax=1", "lock,nolock"),
    *("acl,noacl", "write=x", "RO", "Hard", "ro..", "../../etc/passwd", "a" * 300, "timeo=" + "9" * 300),
    *("ro," * 2000 + "x", "context=" + "a" * 256, "x-foo=" + "a" * 70000, [["ro"]], [{}], {}, {"ro": True}, 1),
    *(-1, 1.5, True, False, [1], [None], ["ro", "rw"], ["ro\n"], ["ro,rw"], ["vers=3"], [NUL]),
]

SHARES: list[Any] = [
    *(
        "",
        " ",
        ".",
        "..",
        "/",
        "//",
        "//nas/vms",
        "a/b",
        "a\\b",
        "\\\\nas\\vms",
        "../x",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\r",
    ),
    *("a\tb", f"a{NUL}", f"a{BELL}", f"{ESCAPE}a", f"a{ZERO_WIDTH}b", f"a{RTL}b", f"a{HALF}", "a" * 81, "a" * 70000),
    *(
        "a,b",
        "a=b",
        "a:b",
        "a;b",
        "a*",
        "a?",
        'a"b',
        "a<b",
        "a>b",
        "a|b",
        "a+b",
        "[a]",
        [],
        ["a"],
        {"a": 1},
        [None],
    ),
]

SUBDIRS: list[Any] = [
    *(" ", ".", "..", "/", "/a", "../x", "a/../b", "a/./b", "a//b", "a\\b", "a ", "a\n", "\na", "a\tb", "a\r"),
    *(
        f"a{NUL}",
        f"a{BELL}",
        f"{ESCAPE}a",
        f"a{ZERO_WIDTH}b",
        f"a{RTL}b",
        f"a{HALF}",
        "a" * 256,
        "a/" * 200,
        "x" * 70000,
    ),
]

ACCOUNTS: list[Any] = [
    *(" ", " a", "a ", "LAB\\svc", "LAB/svc", "a,b", "a:b", 'a"b', "a\n", "\na", "a\r", "a\tb", "a\npassword=x"),
    *(f"a{NUL}", f"a{BELL}", f"{ESCAPE}a", f"a{ZERO_WIDTH}b", f"a{RTL}b", f"a{HALF}", "a" * 105, "a" * 70000),
    *(["a,b"], {"a": 1}),
]

PASSWORDS: list[Any] = [
    *("a\nb", "a\n", "\na", "a\rb", "a\tb", f"a{NUL}b", f"a{BELL}", f"{ESCAPE}a", f"a{HALF}", "a" * 256, "ä" * 128),
    *("x" * 70000, "a\nusername=root", "a\ndomain=x"),
]

PORTALS: list[Any] = [
    *(" ", ":", ":3260", "san:", "san:0", "san:65536", "san:x", "san:-1", "san:3260,1", "san:3260:1", "[::1", "::1]"),
    *(
        "[san]:3260",
        "a b",
        "a/b",
        "//san",
        "iscsi://san",
        "../x",
        "-san",
        f"san{NUL}",
        f"{RTL}san",
        "s\u00e4n",
        "san\n",
    ),
    *("san:3260\n", "san:\u00b3", "10.1", "0.0.0.0", "255.255.255.255:1", "x" * 300, "x" * 70000, {}, {"a": 1}),
]

IQNS: list[Any] = [
    *("", " ", "iqn", "iqn.", "iqn.2026-01", "iqn.2026-01.", "iqn.2026.com", "iqn.2026-1.com", "iqn.20x6-01.com"),
    *("IQN.2026-01.com", "iqn.2026-01.com example", "iqn.2026-01.a/b", "iqn.2026-01.a/../../etc", "iqn.2026-01.a\n"),
    *("eui.12", "eui.001122334455667g", "naa.12345", "naa.", "../../etc/passwd", f"iqn.2026-01.a{NUL}", "[]"),
    *(f"iqn.2026-01.{RTL}a", "iqn.2026-01.\u00e4", "iqn.2026-01.a,3260,1", "-", "--login", "x" * 70000, [], {}, 5),
    "iqn.2026-01.com.example:" + "x" * 220,
]

GROUPS: list[Any] = [
    *(
        " ",
        ".",
        "..",
        "-vg",
        "--force",
        "a/b",
        "../x",
        "a b",
        "a\n",
        "\na",
        "a\tb",
        f"a{NUL}",
        f"{RTL}a",
        "\u00fc",
        "a,b",
    ),
    *("a@b", "a=b", "a:b", "@tag", "a;b", "$(id)", "a*", "x" * 61, "x" * 70000, [], {}, ["a"], {"a": 1}),
]

OWNER_IDS: list[Any] = [
    *(" ", "a b", "a/b", "-a", 'a"b', "a'b", "a]b", "a\n", f"a{NUL}", f"{RTL}a", "\u00fc", "x" * 129, "x" * 70000),
    *([], {}, ["a"], {"a": 1}, 'x"]}global{'),
]

CHAP_NAMES: list[Any] = [
    *(
        "",
        " ",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\r",
        "a\tb",
        "a\npassword=x",
        f"a{NUL}",
        f"a{BELL}",
        f"{ESCAPE}a",
        f"a{HALF}",
    ),
    *("a" * 256, "a" * 70000),
]

NUMBERS: list[Any] = [
    *("", " ", "x", "1.5", "0x10", "1 2", "-", f"1{NUL}", "\u221e", -1, "-1", 256, 2**31, 10**30, 1.5, [], [1], {}),
]

OWNERS: list[Any] = [
    *("", " ", "x", "root", "1.5", "0x10", "1 2", "-", f"1{NUL}", "∞", -1, "-1", 2**32 - 1, 2**32, 10**30),
    [],
]

MODES: list[Any] = [
    *(
        "",
        " ",
        "rw",
        "u=rw",
        "0999",
        "1770",
        "07777",
        "777777",
        "-1",
        "0x1ff",
        "660 ",
        f"660{NUL}",
        "六六〇",
        "6" * 70000,
    ),
    *(-1, 0o1000, 10**30, 1.5, True, [], ["0660"], {}, {"a": 1}),
]

CHOICES: list[Any] = [
    *("", " ", "nosuch", "MOUNTED", "Present", "present ", " present", "present\n", f"present{NUL}", "présent"),
    *(f"{RTL}present", "../present", "-present", "present,absent", "present;id", "4.3", "5", "-1", "x" * 70000),
    *([], {}, ["present", "absent"], 7, 1.5),
]

BOOLEANS: list[Any] = [
    *("", " ", "maybe", "2", "-1", "tru", "ja", "да", f"true{NUL}", f"{RTL}true", "true false"),
    *("x" * 70000, 2, -1, 1.5, [], [True], {}, {"a": True}, "None", "~", "[]", "$(true)", "../true"),
]

SECONDS: list[Any] = [
    *("", " ", "x", "1.5", "0x10", "1 2", "15s", "-", "--15", "15\n\n1", f"15{NUL}", f"{RTL}15", "∞"),
    *("NaN", "inf", 0, -1, 3601, 2**31, 2**63, 10**30, 1.5, [], [15], {}, {"a": 15}, "x" * 70000, "0", "-1"),
    *("99999", "$(id)", "../1"),
]

SIZES: list[Any] = [
    *("", " ", "x", "-1", "0", "1000", "4GB", "4 GiB", "1.5G", "1e99", "0x200", "+512", "512\n", "\n512", f"512{NUL}"),
    *(f"{RTL}512", "∞", "٥١٢", "9" * 300, "1" * 70000, "8EiB", "iB", "G", "inf", "NaN", "512;id", "$(id)", "../512"),
    *(0, -512, 1.5, 10**30, 2**63, True, [], ["512"], {}, {"a": 512}),
]

ONLY_WITHIN = ("x", "x/y", "-", "-rf", "--help", "nas:/export", " /srv/x")
"""Paths that are none of the host, but may be one of a file on a backend."""

IMAGES: list[Any] = [
    *(path for path in PATHS if isinstance(path, str) and path not in ONLY_WITHIN),
    *("volume:", "volume:../x", "volume:A", "volume:a/b", f"volume:a{NUL}", "volume: a"),
]

CHECKSUMS: list[Any] = ["", "x", "0" * 63, "0" * 65, "g" * 64, "md5:" + "0" * 32, "sha256:", "0" * 64 + "\n", [], {}]

FILE_SYSTEMS: list[Any] = [
    *("x", "", 5, [], ["ext4"], {}, {"type": "ntfs"}, {"type": "ext4", "nosuch": 1}, {"label": "x"}),
    *({"type": "ext4", "label": label} for label in ("a\nb", "-F", "x" * 17, "a/b", f"a{BELL}", f"a{NUL}")),
    *({"type": "ext4", "owner": owner} for owner in ("root", "-1", "1:", "1:2:3", "1 2", "9" * 20, "$(id)")),
    *({"type": "ext4", "directories": [path]} for path in ("..", "/etc", "a/../b", "a//b", "", "a\nb", "x" * 256)),
]

BANDWIDTHS: list[Any] = ["1GB", "1K", 0, -1, 1.5, True, [], "9" * 5000, "²"]
RATES: list[Any] = [0, -1, 10**10, "x", []]
DISKS: list[Any] = [
    *("x", [], ["x"], {"nosuch": 1}, {"path": "x"}, {"path": "/a", "volume": "a"}, {"path": "/a", "size": "1M"}),
    *({"path": f"/a{NUL}"}, {"volume": "../x"}, {"size": "1GB"}, {"size": []}, {"image": ""}, {"serial": "a b"}),
    *({"backend": "A"}, {"checksum": "0" * 64}, {"cache": "x"}, {"io": "native"}, {"format": "raw"}),
    *({"path": "/a", "bandwidth_limit": limit} for limit in BANDWIDTHS),
    *({"path": "/a", "iops_limit": limit} for limit in RATES),
]
"""In place of a disk."""
SNAPSHOTS: list[Any] = [[""], ["A"], ["a", "a"], ["../x"], ["a/b"], ["a@b"], [f"a{NUL}"], ["a" * 64], "a b", {}, [{}]]

MEMORY: list[Any] = [
    *("", " ", "x", "1GB", "1.5GiB", "1 GiB", "-1", "0", "1KiB", "1g", "GiB", "0x10M", "9" * 30, f"64MiB{NUL}"),
    *(-1, 1, 1.5, True, [], ["1GiB"], {}, {"a": 1}, 2**70, "64MiB\n", "∞", "$(id)"),
]
COUNTS: list[Any] = ["", " ", "x", "1.5", "0x10", "-", f"15{NUL}", -1, 2**31 * 4, 10**30, 1.5, [], [15], {}, {"a": 15}]
WORDS: list[Any] = ["a\nb", f"a{NUL}", f"a{BELL}", f"{ESCAPE}a", f"{RTL}a", f"a{ZERO_WIDTH}", f"a{HALF}", "a\rb"]
ARGUMENTS: list[Any] = [*([word] for word in [*WORDS, ""]), {}, {"a": 1}]
CREDENTIALS: list[Any] = [
    *("x", 5, ["a"], {"a/b": "/x"}, {"": "/x"}, {"a" * 32: "/x"}, {"a b": "/x"}, {"a": "x"}, {"a": ""}, {"a": 5}),
    *({"a": []}, {"a": "/x:y"}, {"a": "/x\ny"}, {"a": "/../x"}, {"a,b": "/x"}),
]

STRUCTURES: list[Any] = [
    *("x", "a=b", "a,b", f"{NUL}", 5, -1, 1.5, True, ["x"], [5], [None], [[]], [[{}]], [True], {"name": {}}),
    *([{"nosuch": 1}], [{"../x": 1}], [{f"na{NUL}me": 1}], [{"": 1}], [{"name": "a"}, None]),
    *([{"name": "a"}, {"name": "a"}], "x" * 70000),
]
"""In place of a list of items."""
