# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, paths and sizes: what is taken, what is refused, and that a refusal names the field and is safe to print."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

NASTY: tuple[object, ...] = (
    *("", " ", "\0", "\n", "a\n", "\r", "\t", "a\0b", "-o", "--", "%s", "${x}", "{{x}}", "$(id)", "`id`", "../x", ".."),
    *(
        "a/../b",
        "/a/../b",
        "//a",
        "/a//b",
        "/a/./b",
        "/a/.",
        "/a\\040b",
        "/a\u202eb",
        "/a\u200bb",
        "/\udcff",
        "/a\u00a0b",
    ),
    *(
        "\u202e",
        "\u200b",
        "e\u0301",
        "\u00e9",
        "a" * 256,
        "/" + "a" * 256,
        "/a" * 5000,
        "x" * 2**20,
        "~/x",
        "a b",
        "A b",
    ),
    *(None, True, False, 1.5, -1, [], {}, ["/a"], {"a": 1}, b"/a", object(), 10**5000),
)

CHECKS: tuple[Callable[[object, str], object], ...] = (
    names.name,
    names.absolute_path,
    names.export_path,
    names.mount_path,
    names.size,
)


def refusal(check: Callable[[object, str], object], value: object) -> HostError:
    """The error that ``check`` raises for ``value``."""
    with pytest.raises(HostError) as caught:
        check(value, "backends[3].server")
    return caught.value


def identified(value: object) -> str:
    """A short name for a nasty value in the report."""
    return type(value).__name__ if not isinstance(value, str) else ascii(value[:20])


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("value", NASTY, ids=identified)
def test_nasty_values_are_refused_by_field_in_short_printable_text(
    check: Callable[[object, str], object], value: object
) -> None:
    error = refusal(check, value)
    assert (error.kind, error.field) == ("invalid", "backends[3].server")
    assert error.message.startswith("backends[3].server: ")
    assert error.message.isprintable() and error.hint.isprintable()
    assert len(error.message) < 300


@pytest.mark.parametrize("value", ["a", "0", "nas-1", "a.b_c-d", "x" * 63, "a--b", "1.2"])
def test_a_name_is_taken_as_it_is(value: str) -> None:
    assert names.name(value, "name") == value


@pytest.mark.parametrize(
    "value", ["A", "a.", "-a", "a-", "_a", "a..b", "x" * 64, "a/b", "a b", "a:b", "\u00e9", "\u0661"]
)
def test_what_is_no_name(value: str) -> None:
    assert "a name has a-z" in refusal(names.name, value).hint


def test_a_name_can_be_held_shorter() -> None:
    assert names.name("x" * 27, "name", 27) == "x" * 27
    with pytest.raises(HostError, match="is not a name"):
        names.name("x" * 28, "name", 27)


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("nas.local:/mnt/tank/vms", "nas.local-mnt-tank-vms"),
        ("10.0.0.5:/a_b", "10.0.0.5-a_b"),
        ("[fd00::1]:/", "fd00-1"),
        ("NAS", "nas"),
        ("...a...b...", "a.b"),
        ("///", "unnamed"),
        ("", "unnamed"),
        ("\u65e5\u672c", "unnamed"),
        ("a\n\0b", "a-b"),
    ],
)
def test_slugs(text: str, slug: str) -> None:
    assert names.slug(text) == slug


@pytest.mark.parametrize("longest", [10, 27, 63])
def test_every_slug_is_a_name_of_the_right_length(longest: int) -> None:
    for text in [
        *(str(value) for value in NASTY if isinstance(value, str)),
        string.printable * 3,
        "a" * 53 + "." * 99 + "b",
    ]:
        slug = names.slug(text, longest)
        assert names.name(slug, "name", longest) == slug


def test_long_texts_that_begin_alike_stay_apart() -> None:
    assert names.slug("a" * 100 + "b") != names.slug("a" * 100 + "c")


def test_hash_knows_where_a_part_ends() -> None:
    hashes = {names.hash8(*parts) for parts in [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ()]}
    assert len(hashes) == 6
    assert all(len(text) == 8 and set(text) <= set("0123456789abcdef") for text in hashes)
    assert names.hash8("nas", "/vms") == "7bce4c62", "paths on disk are made of it: it must never change"


@pytest.mark.parametrize(
    ("value", "path"),
    [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/mnt/a b", "/mnt/a b"), ("/m/..a", "/m/..a"), ("/m/a#%s", "/m/a#%s")],
)
def test_paths(value: str, path: str) -> None:
    assert names.absolute_path(value, "path") == path
    assert names.export_path(value, "export") == path


def test_paths_of_other_scripts_and_of_full_length() -> None:
    for path in ["/\u00e9", "/e\u0301", "/\u65e5\u672c", "/" + "a" * 255, "/" + "\u00e9" * 127]:
        assert names.absolute_path(path, "path") == path
    assert names.absolute_path("/" + "/".join(["a" * 99] * 40), "path")
    assert "longer than 255 bytes" in refusal(names.absolute_path, "/" + "\u00e9" * 128).message
    assert "longer than 4096 bytes" in refusal(names.absolute_path, "/a" * 2049).message
    assert "longer than 1024 bytes" in refusal(names.export_path, "/a" * 513).message
    assert "ends in a space" in refusal(names.export_path, "/a ").message
    assert "not as \\040" in refusal(names.export_path, "/a\\040b").hint


@pytest.mark.parametrize(
    "value", ["/mnt", "/srv/x", "/opt/x", "/home", "/data", "/var/lib/microvm/mounts/a", "/tmp/x", "/library"]
)
def test_where_a_mount_may_go(value: str) -> None:
    assert names.mount_path(value, "path") == value


@pytest.mark.parametrize(
    "value",
    [
        "/",
        "/etc",
        "/etc/x",
        "/usr/share",
        "/lib64/",
        "/proc/1",
        "/run/x",
        "/var",
        "/var/run/x",
        "/var/lib/microvm",
        "/boot/efi",
    ],
)
def test_where_a_mount_may_not_go(value: str) -> None:
    assert "would hide directories of the system" in refusal(names.mount_path, value).message


@pytest.mark.parametrize(
    ("path", "base", "answer"),
    [
        ("/a", "/a", True),
        ("/a/b", "/a", True),
        ("/ab", "/a", False),
        ("/a", "/", True),
        ("/", "/", True),
        ("/", "/a", False),
    ],
)
def test_under(path: str, base: str, answer: bool) -> None:
    assert names.under(path, base) is answer


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (1, 1),
        ("4096", 4096),
        ("1K", 1024),
        ("1KiB", 1024),
        ("512MiB", 512 * 1024**2),
        ("4G", 4 * 1024**3),
        ("4GiB", 4 * 1024**3),
        ("2T", 2 * 1024**4),
        ("1PiB", 1024**5),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_sizes(value: object, size: int) -> None:
    assert names.size(value, "size") == size


@pytest.mark.parametrize(
    "value",
    [
        "1.5G",
        "1e99",
        "0x10",
        "-1",
        "+1",
        " 1",
        "1 G",
        "1g",
        "1gib",
        "1Gib",
        "G",
        "iB",
        "1iB",
        "1B",
        "1EiB",
        "1K1",
        "1KK",
        "\u0661",
    ],
)
def test_what_is_no_size(value: str) -> None:
    assert "is not a size" in refusal(names.size, value).message


@pytest.mark.parametrize(("value", "hint"), [("4GB", "4GiB"), ("4MB", "4MiB"), ("4kB", "4KiB"), ("4Kb", "4KiB")])
def test_a_size_that_may_mean_two_things_is_refused_with_the_right_spelling(value: str, hint: str) -> None:
    assert hint in refusal(names.size, value).hint


@pytest.mark.parametrize("value", [0, "0", -5])
def test_a_size_below_the_least(value: object) -> None:
    assert "less than 1 bytes" in refusal(names.size, value).message


@pytest.mark.parametrize("value", [2**63, "9223372036854775808", "8192P"])
def test_a_size_no_file_can_have(value: object) -> None:
    assert "more than a file can have" in refusal(names.size, value).message


@pytest.mark.parametrize("value", NASTY, ids=identified)
def test_shown_is_short_and_printable(value: object) -> None:
    text = names.shown(value)
    assert text and text.isprintable() and len(text) <= 90
    text.encode("utf-8")


def test_shown_cuts_what_escaping_made_long() -> None:
    assert len(names.shown("\U000e0001" * 80)) <= 90
    assert names.shown("nas") == "'nas'"
