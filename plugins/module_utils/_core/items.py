# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The items of a call: one by the options at the top or many in a list; what is wrong with them, by its place.

``given`` is what the user wrote, before defaults. Private to microvm.host.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

BESIDE_LIST = frozenset({"purge", "prune_images", "timeout", "refresh"})

Options = dict[str, t.Any]


def split(
    params: Options, given: Options, item: dict[str, Options], plural: str
) -> tuple[list[Options], list[str], list[Options]]:
    """The items, how messages name their options (prefix), and what the user gave for each.

    ``params`` are the options with defaults, ``item`` the spec of one item. Raises HostError ``invalid``.
    """
    names = {alias: name for name, option in item.items() for alias in option.get("aliases", ())}
    listed = params.get(plural)
    if listed is None:
        for option in ("purge", "prune_images"):
            if params.get(option):
                hint = "name all that shall stay in %s" % plural
                raise HostError("invalid", "%s is only for a call with %s" % (option, plural), hint, field=option)
        return (
            [{key: params[key] for key in item}],
            [""],
            [{names.get(key, key): value for key, value in given.items()}],
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
        asked = {names.get(key, key): value for key, value in asked.items()}
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
    for prefix, item, options in _places(given, spec):
        for name, value in item.items() if isinstance(item, dict) else ():  # a few of dozens, of each of many items
            option = options.get(name, {})
            if option.get("type") == "int" and _is_infinite(value):
                return HostError("invalid", "%s%s is not a number" % (prefix, name), field=prefix + name)
            if option.get("type") == "dict" and not _may_be_dict(value):
                text = "%s%s is not a dictionary" % (prefix, name)
                return HostError("invalid", text, _example("%s: %s", name, option), field=prefix + name)
            if option.get("elements") == "dict" and not all(map(_may_be_dict, _elements(value))):
                text = "%s%s is not a list of dictionaries" % (prefix, name)
                return HostError("invalid", text, _example("%s: [%s]", name, option), field=prefix + name)
    return None


def _example(form: str, name: str, option: Options) -> str:
    """How a value of dictionaries is written, by the option that each of them must have."""
    inner = option.get("options") or {}
    required = [key for key, each in inner.items() if each.get("required")]
    key = next(iter([*required, *(key for key in inner if key == "name"), *inner]), "KEY")
    return "write it as " + form % (name, "{%s: ..., ...}" % key)


def unknown(given: Options, spec: dict[str, Options]) -> HostError | None:
    """An option that does not exist, with its item: AnsibleModule names only the list."""
    for prefix, item, options in _places(given, spec):
        known = [*options, *(alias for option in options.values() for alias in option.get("aliases", ()))]
        for key in item if isinstance(item, dict) else ():
            if key not in known:
                import difflib  # only when something is wrong

                near = difflib.get_close_matches(str(key), known, 1)
                hint = "did you mean %s?" % near[0] if near else "ansible-doc tells the options"
                return HostError("invalid", "%s%s is not an option" % (prefix, key), hint, prefix + str(key))
    return None


def field_of(msg: str, given: Options, spec: dict[str, Options]) -> str | None:
    """The option a message of AnsibleModule is about: it names all but a list whose element is no dict."""
    lists = [name for name, option in spec.items() if option.get("elements") == "dict"]
    names = [*spec, *(name for each in lists for name in spec[each]["options"])]
    text = msg[len("value of ") :] if msg.startswith("value of ") else msg  # not the option "value"
    named = [name for name in names if re.search(r"\b%s\b" % re.escape(name), text)]
    quoted = [name for name in named if "'%s'" % name in msg]
    listed = [name for name in lists if given.get(name) is not None]
    return next(iter([*quoted, *named, *listed]), None)


def _places(given: Options, spec: dict[str, Options]) -> list[tuple[str, t.Any, dict[str, Options]]]:
    """Where options stand: what names them in messages, what the user gave there, and their spec."""
    places: list[tuple[str, t.Any, dict[str, Options]]] = [("", given, spec)]
    for name, option in spec.items():
        if option.get("elements") == "dict" and isinstance(given.get(name), list):
            each = enumerate(given[name])
            places += [("%s[%d]." % (name, index), item, option["options"]) for index, item in each]
    return places


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
