# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a good secret looks like, and that those that are made are."""

from __future__ import annotations

import string

import pytest

from ansible_collections.microvm.host.plugins.plugin_utils._secret import KINDS, LETTERS, Rule


@pytest.mark.parametrize("kind", KINDS)
def test_generated_secrets_keep_their_own_rule(kind: str) -> None:
    rule = Rule(kind, KINDS[kind].length, LETTERS)
    assert rule.faults() is None
    made = {rule.generate() for dummy in range(300)}
    assert len(made) == 300
    for secret in made:
        assert len(secret) == KINDS[kind].length
        assert rule.refusal(secret) is None
        assert set(secret) <= set(LETTERS)
        for letters in (string.ascii_uppercase, string.ascii_lowercase, string.digits):
            assert set(letters) & set(secret)


def test_an_alphabet_without_digits_gives_none() -> None:
    rule = Rule("password", 40, "abcdefgh")
    assert rule.faults() is None
    assert all(set(rule.generate()) <= set("abcdefgh") for dummy in range(50))


def test_a_default_chap_secret_has_96_random_bits() -> None:
    """RFC 7143, 9.2.1. That it has a capital, a small letter and a digit takes away less than 0.2 of a bit."""
    assert len(LETTERS) == len(set(LETTERS))
    assert len(LETTERS) ** KINDS["chap"].length > 2**96.2


@pytest.mark.parametrize(
    ("rule", "option", "text"),
    [
        (Rule("password", 7, LETTERS), "length", "8 to 255"),
        (Rule("password", 256, LETTERS), "length", "8 to 255"),
        (Rule("chap", 11, LETTERS), "length", "12 to 16"),
        (Rule("chap", 17, LETTERS), "length", "12 to 16"),
        (Rule("password", 20, "abca"), "alphabet", "twice"),
        (Rule("password", 20, "abc def"), "alphabet", "no space"),
        (Rule("password", 20, "abcdefgä"), "alphabet", "ASCII"),
        (Rule("password", 10, "0123456789"), "alphabet", "guessed"),
        (Rule("password", 100, "a"), "alphabet", "guessed"),
        (Rule("password", 100, ""), "alphabet", "guessed"),
    ],
)
def test_a_rule_that_makes_bad_secrets_is_refused(rule: Rule, option: str, text: str) -> None:
    found = rule.faults()
    assert found is not None
    assert found[0] == option and text in found[1]


@pytest.mark.parametrize(
    ("kind", "secret", "text"),
    [
        ("password", "p", None),
        ("password", " with, = $ # ' \" äöü 漢 ", None),
        ("password", "x" * 255, None),
        ("password", "x" * 256, "256 bytes"),
        ("password", "ä" * 128, "256 bytes"),
        ("password", "two\nlines", "line break"),
        ("password", "two\rlines", "line break"),
        ("password", "nul\0", "line break or another control"),
        ("password", "next\x85line", "line break"),
        ("password", "line\u2028separator", "line break"),
        ("chap", "x" * 12, None),
        ("chap", "x" * 16, None),
        ("chap", "x" * 11, "11 bytes"),
        ("chap", "x" * 17, "17 bytes"),
        ("chap", "x" * 12 + "ä", "ASCII"),
    ],
)
def test_a_given_secret_is_judged_without_being_shown(kind: str, secret: str, text: str | None) -> None:
    found = Rule(kind, KINDS[kind].length, LETTERS).refusal(secret)
    assert (found is None) is (text is None)
    assert text is None or (text in (found or "") and secret not in (found or ""))
