# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets: what a good one looks like, and how one is made. Private to microvm.host."""

from __future__ import annotations

import dataclasses
import math
import secrets
import string
import unicodedata

LETTERS = string.ascii_letters + string.digits + "._+^"
"""Characters that no server refuses and no configuration file gives a meaning; 66 of them: 6 bits each."""

LEAST_BITS = 64
"""Of a generated secret: more than anybody tries through a login, or soon off a stolen hash."""

CLASSES = (string.ascii_uppercase, string.ascii_lowercase, string.digits)
"""A generated secret has one of each that its alphabet has: many servers insist."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What holds for all secrets of one kind; lengths in characters."""

    length: int
    least: int
    most: int
    given: tuple[int, int]


KINDS = {
    # fsconfig(2), by which the kernel gets it, takes 255 bytes. The shortest is for the server to judge.
    "password": Kind(32, 8, 255, (1, 255)),
    # RFC 7143, 9.2.1: a CHAP secret has 96 random bits, 16 characters of LETTERS; 12 to 16 is what initiators and
    # targets in the field take.
    "chap": Kind(16, 12, 16, (12, 16)),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a secret is made and judged."""

    kind: str
    length: int
    alphabet: str

    def faults(self) -> tuple[str, str] | None:
        """The option and what is wrong with it; None when good secrets can be made."""
        kind = KINDS[self.kind]
        if not kind.least <= self.length <= kind.most:
            return "length", "%d is not within %d to %d characters" % (self.length, kind.least, kind.most)
        if not all(letter.isascii() and letter.isprintable() and letter != " " for letter in self.alphabet):
            return "alphabet", "takes printable ASCII characters, no space"
        if len(set(self.alphabet)) != len(self.alphabet):
            return "alphabet", "has a character twice"
        bits = self.length * math.log2(len(self.alphabet) or 1)
        if bits < LEAST_BITS:
            text = "%d characters of %d can be guessed (%d bits, at least %d)"
            return "alphabet", text % (self.length, len(self.alphabet), bits, LEAST_BITS)
        return None

    def generate(self) -> str:
        """A new secret, from the system's random numbers."""
        wanted = [set(each) & set(self.alphabet) for each in CLASSES]
        while True:
            made = "".join(secrets.choice(self.alphabet) for dummy in range(self.length))
            if all(not letters or letters & set(made) for letters in wanted):
                return made

    def refusal(self, secret: str) -> str | None:
        """What is wrong with a secret, without a word of it; None when it will do."""
        least, most = KINDS[self.kind].given
        if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in secret):
            return "has a line break or another control character"
        size = len(secret.encode())
        if not least <= size <= most:
            return "has %d bytes; a secret of kind %s has %d to %d" % (size, self.kind, least, most)
        if self.kind == "chap" and not secret.isascii():
            return "has characters that are not ASCII; targets and initiators encode them differently"
        return None
