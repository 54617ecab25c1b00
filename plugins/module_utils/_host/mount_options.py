# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount options as text: how they are written, which a file system has, where each belongs. Private to microvm.host.

What is the same for all file systems: the flags of mount(8), what systemd reads, how an option is written and refused.
A file system adds its own as a Grammar.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.names import refuse, shown

LONGEST_VALUE = 255
"""Bytes in one value that fsconfig(2) takes."""
LONGEST_LIST = 3072
"""Bytes in all options together: mount(2), used at boot, has one page for them and for what the mount program adds."""

# Per-mount flags, by the names of mountinfo; of each group the first is what a mount gets unless asked otherwise.
FLAG_GROUPS = (
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noexec", "exec"),
    ("relatime", "atime", "noatime", "strictatime"),
    ("diratime", "nodiratime"),
    ("rw", "ro"),
)
FLAGS = ("nosuid", "nodev", "noexec", "relatime", "noatime", "strictatime", "nodiratime", "ro")

_UNIT_LINES = {
    "x-systemd.after": ("After",),
    "x-systemd.before": ("Before",),
    "x-systemd.requires": ("Requires", "After"),
    "x-systemd.wants": ("Wants", "After"),
    "x-systemd.requires-mounts-for": ("RequiresMountsFor",),
}
TIMEOUT = "x-systemd.mount-timeout"

WITHOUT_EFFECT = {
    "_netdev": "",
    "nofail": "",
    "auto": "",
    "defaults": "",
    "intr": "Linux ignores it since 2.6.25",
    "nointr": "Linux ignores it since 2.6.25",
}
"""Understood and left out; those with a text are reported, for the others it is how every mount is made."""

OWNED = {
    "noauto": "use the option persistent, set to false",
    "x-systemd.automount": "the mount is made at once, and at boot by a mount unit",
    "x-systemd.idle-timeout": "mounts are not taken away when idle",
    "remount": "the module decides when to remount",
    "loop": "only what a server shares is mounted here",
    "bind": "only what a server shares is mounted here",
    "rbind": "only what a server shares is mounted here",
    "move": "only what a server shares is mounted here",
    "user": "only root mounts here",
    "users": "only root mounts here",
    "owner": "only root mounts here",
    "group": "only root mounts here",
    "sloppy": "it would hide options that the kernel does not know",
}
"""Options of mount(8) that are refused, with what to do instead."""

_TEXT = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@+-")
_KEY = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_KNOWN_FLAGS = frozenset(flag for group in FLAG_GROUPS for flag in group)

Pair = tuple[str, t.Optional[str]]


class Options(t.NamedTuple):
    """Parsed mount options, each where it belongs and in one order.

    ``superblock``: (key, value) for fsconfig(2), None for a flag. ``flags``: flags of the mount itself, by the names of
    mountinfo. ``unit``: what only systemd and mount(8) read. ``ignored``: asked for and understood but without effect
    here, each with the reason, for a warning.
    """

    superblock: tuple[Pair, ...]
    flags: tuple[str, ...]
    unit: tuple[str, ...]
    ignored: tuple[str, ...]

    def canonical(self) -> list[str]:
        """As asked, in one spelling and with the defaults filled in; it is read back but for ``ignored``."""
        opened = [negative[2:] for negative in ("nosuid", "nodev", "noexec") if negative not in self.flags]
        return [*map(joined, self.superblock), *opened, *self.flags, *self.unit]

    def has(self, key: str) -> bool:
        """True when the superblock option was asked for (or is there by default)."""
        return any(key == known for known, _value in self.superblock)

    def get(self, key: str) -> str | None:
        """The value of a superblock option; None when it has none or was not asked for."""
        return dict(self.superblock).get(key)

    @property
    def read_only(self) -> bool:
        """Mounted read-only."""
        return "ro" in self.flags

    @property
    def mount_timeout(self) -> int | None:
        """Seconds of ``x-systemd.mount-timeout``, for TimeoutSec= of the unit."""
        for option in self.unit:
            key, _equals, value = option.partition("=")
            if key == TIMEOUT:
                return int(value)
        return None

    def unit_lines(self) -> list[str]:
        """Lines for the [Unit] section: what systemd's fstab generator makes of ``x-systemd.*`` (systemd.mount(5))."""
        lines = []
        for option in self.unit:
            key, _equals, value = option.partition("=")
            lines += ["%s=%s" % (setting, value) for setting in _UNIT_LINES.get(key, ())]
        return list(dict.fromkeys(lines))

    def unit_options(self, *more: str) -> str:
        """The value of Options= in a mount unit, ``more`` before what is for systemd. No quotes, no backslashes."""
        named = [option for option in self.unit if not option.startswith("x-systemd.")]
        return ",".join([*self.flags, *map(joined, self.superblock), *more, *named, "_netdev", "nofail"])


@dataclasses.dataclass(frozen=True)
class Grammar:
    """The options of one file system beside those of all, each by its name.

    ``order``: those of the superblock, as they are passed. ``integers``: least and most. ``choices``, ``texts``,
    ``custom``: what a value may be; ``value_optional``: they may also stand without one. ``aliases``,
    ``value_aliases``: other spellings. ``neutral``: what the kernel does anyway. ``conflicts``: not together.
    ``ordered``: the first may not be more than the second. ``manual``: where people read about them.
    """

    name: str
    manual: str
    order: tuple[str, ...]
    integers: t.Mapping[str, tuple[int, int]]
    choices: t.Mapping[str, tuple[str, ...]]
    texts: frozenset[str]
    custom: t.Mapping[str, t.Callable[[str | None, str], str]]
    value_optional: frozenset[str]
    aliases: t.Mapping[str, Pair]
    value_aliases: t.Mapping[tuple[str, str], str]
    neutral: frozenset[str]
    without_effect: t.Mapping[str, str]
    owned: t.Mapping[str, str]
    conflicts: tuple[tuple[str, ...], ...]
    ordered: tuple[tuple[str, str], ...]

    def asked(self, items: t.Sequence[str], field: str) -> tuple[dict[str, str | None], tuple[str, ...]]:
        """The options by name, and those that only systemd reads. Raises HostError ``invalid``."""
        found: dict[str, str | None] = {}
        unit: dict[str, None] = {}
        for item in items:
            key, text = self._option(item, field)
            if key.startswith("x-") or key == "comment":
                unit[joined((key, text))] = None
                continue
            if key in found and found[key] != text:
                refuse_option(field, key, "is given twice, with different values")
            found[key] = text
        if sum(option.startswith(TIMEOUT + "=") for option in unit) > 1:
            refuse_option(field, TIMEOUT, "is given twice, with different values")
        self._check_together(found, field)
        return found, tuple(unit)

    def sorted(self, asked: dict[str, str | None], unit: tuple[str, ...], field: str) -> Options:
        """Asked options, each where it belongs."""
        pairs = ((key, asked[key]) for key in self.order if key in asked)
        result = Options(
            superblock=tuple(pair for pair in pairs if joined(pair) not in self.neutral),
            flags=_flags(asked),
            unit=unit,
            ignored=tuple(
                "%s: %s" % (key, self.without_effect[key]) for key in asked if self._is_ignored(key, asked[key])
            ),
        )
        if len(",".join(result.canonical())) > LONGEST_LIST:
            refuse(field, "the options are longer than %d bytes together" % LONGEST_LIST)
        return result

    def _option(self, item: str, field: str) -> Pair:
        """One option as (key, value), checked on its own and in its one spelling."""
        key, equals, text = item.partition("=")
        value = text if equals else None
        if not key or not _KEY.issuperset(key):
            refuse(field, "%s is not a mount option" % shown(item), "an option is a word, or a word and =value")
        if len(item.encode("utf-8", "surrogateescape")) > LONGEST_VALUE:
            refuse_option(field, key, "is longer than the %d bytes the kernel takes" % LONGEST_VALUE)
        if key in self.owned:
            refuse_option(field, key, "cannot be given here", self.owned[key])
        if key in self.aliases and value is None:
            return self.aliases[key]
        if key.startswith("x-") or key == "comment":
            return key, self._unit_value(key, value, field)
        if key in self.integers:
            return key, self._integer(key, value, field)
        if key in self.custom:
            return key, self.custom[key](value, field)
        if key in self.choices and not (value is None and key in self.value_optional):
            value = self.value_aliases.get((key, value or ""), value)
            if value not in self.choices[key]:
                refuse_option(field, key, "is %s" % said(value), "it takes one of %s" % ", ".join(self.choices[key]))
            return self.aliases.get(joined((key, value)), (key, value))
        if key in self.texts and not (value is None and key in self.value_optional):
            if not value or not _TEXT.issuperset(value) or ".." in value:
                refuse_option(field, key, "is %s" % said(value), "it takes letters, digits and ._:/@+-")
            if key == "context" and value.count(":") < 2:
                refuse_option(field, key, "is %s" % said(value), "write user:role:type:level, without quotes")
            return key, value
        if key not in self.order and key not in self.without_effect and key not in _KNOWN_FLAGS:
            self._unknown(key, field)
        if value is not None:
            refuse_option(field, key, "takes no value")
        return key, None

    def _integer(self, key: str, value: str | None, field: str) -> str:
        low, high = self.integers[key]
        digits = value or ""
        # A leading zero would be octal for the kernel and decimal for people.
        plain = digits.isascii() and digits.isdigit() and len(digits) <= 10 and (digits == "0" or digits[0] != "0")
        if not plain or not low <= int(digits) <= high:
            refuse_option(field, key, "is %s" % said(value), "it takes a whole number from %d to %d" % (low, high))
        return digits

    def _unit_value(self, key: str, value: str | None, field: str) -> str | None:
        if key in self.integers:
            return self._integer(key, value, field)
        if key.startswith("x-systemd.") and key not in _UNIT_LINES:
            known = ", ".join(sorted([*_UNIT_LINES, TIMEOUT]))
            refuse_option(field, key, "is not for %s mounts or not known" % self.name, "understood are %s" % known)
        if value is None and key not in _UNIT_LINES:
            return None
        if not value or not _TEXT.issuperset(value) or ".." in value:
            refuse_option(field, key, "is %s" % said(value), "it takes letters, digits and ._:/@+-")
        if key == "x-systemd.requires-mounts-for":
            fine = value.startswith("/")
        else:
            fine = key not in _UNIT_LINES or ("." in value and "/" not in value and not value.startswith((".", "-")))
        if not fine:
            hint = "it takes the name of a unit, or a path for requires-mounts-for"
            refuse_option(field, key, "is %s" % said(value), hint)
        return value

    def _check_together(self, asked: t.Mapping[str, str | None], field: str) -> None:
        for group in (*FLAG_GROUPS, *self.conflicts):
            found = [key for key in group if key in asked]
            if len(found) > 1:
                refuse_option(field, found[0], "contradicts %s" % found[1], "give one of them")
        for least, most in self.ordered:
            low, high = asked.get(least), asked.get(most)
            if low is not None and high is not None and int(low) > int(high):
                refuse_option(field, least, "is more than %s" % most)

    def _is_ignored(self, key: str, value: str | None) -> bool:
        return bool(self.without_effect.get(key)) and (key, value) != ("retry", "0")

    def _unknown(self, key: str, field: str) -> t.NoReturn:
        import difflib  # only when something is wrong

        near = difflib.get_close_matches(key, [*self.order, *self.without_effect, *self.owned, *_KNOWN_FLAGS], 1)
        hint = "did you mean %s?" % near[0] if near else "see %s for the options of %s" % (self.manual, self.name)
        refuse_option(field, key, "is not known", hint)


def items(value: object, field: str) -> tuple[str, ...]:
    """The single options of a list or a comma string, stripped of surrounding spaces. Raises HostError ``invalid``."""
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(item.strip(" ") for item in value.split(",") if item.strip(" "))
    if not isinstance(value, (list, tuple)):
        refuse(field, "%s is neither a list nor a string of mount options" % shown(value))
    for item in value:
        if not isinstance(item, str):
            refuse(field, "%s is not a mount option" % shown(item), "write each option as text, as in timeo=100")
        if "," in item:
            refuse(field, "%s has a comma" % shown(item), "make each option an item of its own")
        if not item.strip(" "):
            refuse(field, "an option is empty")
    return tuple(item.strip(" ") for item in value)


def set_read_only(asked: dict[str, str | None], read_only: bool | None, field: str) -> None:
    """Add what the user's option ``read_only`` says, None when it was not given. Raises HostError ``invalid``."""
    if read_only is None:
        return
    contrary = "rw" if read_only else "ro"
    if contrary in asked:
        hint = "say it once, by read_only"
        refuse_option(field, contrary, "contradicts read_only: %s" % str(read_only).lower(), hint)
    asked["ro" if read_only else "rw"] = None


def shown_flags(flags: t.Iterable[str]) -> dict[str, str | None]:
    """Of the per-mount flags that mountinfo shows, those that change only when somebody changes the mount."""
    return {flag: None for flag in flags if flag in FLAGS}


def joined(pair: Pair) -> str:
    """An option as it is written."""
    key, value = pair
    return key if value is None else "%s=%s" % (key, value)


def said(value: str | None) -> str:
    """A value for a message."""
    return "without a value" if value is None else shown(value)


def refuse_option(field: str, key: str, message: str, hint: str = "") -> t.NoReturn:
    """Raise the HostError of an option that cannot be meant."""
    refuse(field, "mount option %s %s" % (shown(key), message), hint)


def _flags(asked: t.Container[str]) -> tuple[str, ...]:
    chosen = []
    for group in FLAG_GROUPS:
        chosen.append(next((flag for flag in group if flag in asked), group[0]))
    if "atime" in chosen:  # mount(8): only takes noatime back, which leaves the kernel's default
        chosen[chosen.index("atime")] = "relatime"
    return tuple(flag for flag in FLAGS if flag in chosen)
