# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The items of a call: one by the options at the top or many in a list; what is wrong with them, by its place.

``given`` is what the user wrote, before defaults. Private to microvm.host.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

BESIDE_LIST = frozenset({"purge", "prune_images", "timeout", "refresh"})
ALONE = {
    "purge": "name all that shall stay in %s",
    "prune_images": "add %s: [], or put the item into that list",
}
"""What only a list can have beside it, and what to do without one."""

Options = dict[str, t.Any]


def split(
    params: Options, given: Options, item: dict[str, Options], plural: str
) -> tuple[list[Options], list[str], list[Options]]:
    """The items, how messages name their options (prefix), and what the user gave for each.

    ``params`` are the options with defaults, ``item`` the spec of one item. Raises HostError ``invalid``.
    """
    aliases = {alias: name for name, option in item.items() for alias in option.get("aliases", ())}
    listed = params.get(plural)
    if listed is None:
        for option, hint in ALONE.items():
            if params.get(option):
                hint %= plural
                raise HostError("invalid", "%s is only for a call with %s" % (option, plural), hint, field=option)
        return (
            [{key: params[key] for key in item}],
            [""],
            [{aliases.get(key, key): value for key, value in given.items()}],
        )
    beside = sorted(set(given) - BESIDE_LIST - {plural})
    if beside:
        raise HostError(
            "invalid",
            "%s can't stand beside %s" % (", ".join(beside), plural),
            "put it into the items",
            field=beside[0],
        )
    found, prefixes, raw = [], [], []
    for index, values in enumerate(listed):
        if values is None:
            raise HostError("invalid", "%s[%d] is empty" % (plural, index), field="%s[%d]" % (plural, index))
        values = dict(values)
        source = given.get(plural)
        asked = dict(source[index]) if isinstance(source, list) and isinstance(source[index], dict) else {}
        asked = {aliases.get(key, key): value for key, value in asked.items()}
        if asked.get("timeout") is None and "timeout" in given:
            values["timeout"] = params["timeout"]
        found.append(values)
        prefixes.append("%s[%d]." % (plural, index))
        raw.append(asked)
    return found, prefixes, raw


def beside_defaults(params: Options, spec: dict[str, Options]) -> Options:
    """The options that are not as they are by default, those of the items of a list too."""
    found = {}
    for name, value in params.items():
        option = spec.get(name, {})
        if value is None or value == option.get("default"):
            continue
        if isinstance(value, list) and "options" in option:
            value = [beside_defaults(item, option["options"]) if isinstance(item, dict) else item for item in value]
        found[name] = value
    return found


def unreadable(given: Options) -> HostError | None:
    """The first text that Ansible can neither log nor convert. It is not shown: it may be a secret."""
    for field, text in _texts(given):
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            return HostError("invalid", "%s has a character that is not text" % field, field=field)
    return None


def inconvertible(given: Options, spec: dict[str, Options]) -> HostError | None:
    """The first option whose value Ansible fails on without telling which it is. The value is not shown."""
    for place in _places(given, spec):
        for name, value in place.given.items():  # a few of dozens, of each of many items
            option = place.options.get(name, {})
            if option.get("type") == "int" and _is_infinite(value):
                return place.refused(name, "is not a number")
            if option.get("type") == "dict" and not _may_be_dict(value):
                return place.refused(name, "is not a dictionary", _example("%s: %s", name, option))
            if option.get("elements") == "dict" and not all(map(_may_be_dict, _elements(value))):
                return place.refused(name, "is not a list of dictionaries", _example("%s: [%s]", name, option))
    return None


def _example(form: str, name: str, option: Options) -> str:
    """How a value of dictionaries is written, by the option that each of them must have."""
    inner = option.get("options") or {}
    required = [key for key, each in inner.items() if each.get("required")]
    key = next(iter([*required, *(key for key in inner if key == "name"), *inner]), "KEY")
    return "write it as " + form % (name, "{%s: ..., ...}" % key)


def unknown(given: Options, spec: dict[str, Options]) -> HostError | None:
    """An option that does not exist, with its item: AnsibleModule names only the list."""
    for place in _places(given, spec):
        known = [*place.options, *(alias for each in place.options.values() for alias in each.get("aliases", ()))]
        for key in place.given:
            if key not in known:
                return place.refused(str(key), "is not an option", _near(key, known) or "ansible-doc tells the options")
    return None


def no_choice(given: Options, spec: dict[str, Options]) -> HostError | None:
    """An option whose value is none of its choices, with its item: AnsibleModule names only the list."""
    for place in _places(given, spec):
        for name, value in place.given.items():
            choices = place.options.get(name, {}).get("choices")
            if choices and isinstance(value, str) and value not in choices:
                text = "is not one of %s: %s" % (", ".join(map(str, choices)), names.shown(value))
                return place.refused(name, text, _near(value, choices) or "choose one of these")
    return None


def named(text: str, item: Options) -> str:
    """What is said of an item of a list, with the item's name in front when it has one."""
    name = item.get("name")
    return "%s: %s" % (name, text) if isinstance(name, str) and names.is_name(name, names.LONGEST_NAME) else text


def _near(word: t.Any, known: t.Sequence[t.Any]) -> str:
    """The hint what was meant, empty when nobody knows."""
    import difflib  # only when something is wrong

    near = difflib.get_close_matches(str(word), list(map(str, known)), 1)
    return "did you mean %s?" % near[0] if near else ""


def field_of(msg: str, given: Options, spec: dict[str, Options]) -> str | None:
    """The option a message of AnsibleModule is about: it names all but a list whose element is no dict."""
    lists = [name for name, option in spec.items() if option.get("elements") == "dict"]
    known = [*spec, *(name for each in lists for name in spec[each]["options"])]
    text = msg[len("value of ") :] if msg.startswith("value of ") else msg  # not the option "value"
    told = [name for name in known if re.search(r"\b%s\b" % re.escape(name), text)]
    quoted = [name for name in told if "'%s'" % name in msg]
    listed = [name for name in lists if given.get(name) is not None]
    return next(iter([*quoted, *told, *listed]), None)


class _Place(t.NamedTuple):
    """Where options stand: what names them in messages, what the user gave there, their spec, and the item of a list
    that they are a part of.
    """

    prefix: str
    given: Options
    options: dict[str, Options]
    item: Options

    def refused(self, name: str, text: str, hint: str = "") -> HostError:
        """What is wrong with one of them."""
        field = self.prefix + name
        return HostError("invalid", named("%s %s" % (field, text), self.item), hint, field=field)


def _places(given: t.Any, spec: dict[str, Options], prefix: str = "", item: Options | None = None) -> list[_Place]:
    """The places of a call, the outer ones first: the call itself, items of lists, and dictionaries inside them."""
    if not isinstance(given, dict):
        return []
    found = [_Place(prefix, given, spec, item or {})]
    for name, value in given.items():
        options = spec.get(name, {}).get("options")
        if options and isinstance(value, list):
            for index, each in enumerate(value):
                found += _places(each, options, "%s%s[%d]." % (prefix, name, index), item or each)
        elif options:
            found += _places(value, options, "%s%s." % (prefix, name), item)
    return found


def _is_infinite(value: t.Any) -> bool:
    return isinstance(value, (str, float)) and str(value).strip().lower().lstrip("+-") in ("inf", "infinity")


def _elements(value: t.Any) -> list[t.Any]:
    """What Ansible may take for the elements of a list; a text with commas it splits."""
    return value if isinstance(value, list) else [value]


def _may_be_dict(value: t.Any) -> bool:
    """Whether a given value is a dictionary, or a text that Ansible may take for one: JSON or key=value."""
    return value is None or isinstance(value, dict) or (isinstance(value, str) and ("=" in value or "{" in value))


def _texts(value: t.Any, field: str = "") -> t.Iterator[tuple[str, str]]:
    """Every text in what the user gave, with the option it stands in."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            name = str(key)
            yield field or "the options", name
            yield from _texts(inner, "%s.%s" % (field, name) if field else name)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _texts(inner, "%s[%d]" % (field, index))
