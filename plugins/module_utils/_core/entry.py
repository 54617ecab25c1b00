# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every module starts and ends. The only file that knows AnsibleModule. Private to microvm.host."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import re
import sys
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.microvm.host.plugins.module_utils._core import result
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._host.names import shown

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Resource

BESIDE_LIST = frozenset({"purge", "prune_images", "timeout", "refresh"})


class Module(AnsibleModule):
    """AnsibleModule that remembers what the user gave, before defaults, and fails with a typed error only."""

    code: int | None = None
    """The exit code, once the result is told."""

    def _load_params(self) -> None:
        super()._load_params()  # type: ignore[no-untyped-call]
        self.given = {key: value for key, value in self.params.items() if not key.startswith("_ansible")}

        secrets = self._secrets()
        for field, text in _texts(self.given):
            if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
                what = field if field.split(".")[-1] in secrets else shown(text)
                self._refuse(field, "%s has a character that is not text" % what)  # Ansible can't log it
            if text.strip().lower().lstrip("+-") in ("inf", "infinity") and field.split(".")[-1] == "timeout":
                self._refuse(field, "%s is not a number of seconds" % shown(text))  # Ansible can't convert it
        for prefix, item, spec in self._places():
            for name, option in spec.items() if isinstance(item, dict) else ():
                if option.get("type") == "dict" and not _may_be_dict(item.get(name)):  # Ansible can't tell which it is
                    self._refuse(prefix + name, "%s is not a dictionary" % shown(item[name]))

    def _places(self) -> list[tuple[str, t.Any, dict[str, t.Any]]]:
        """Where options stand: what names them in messages, what the user gave there, and their spec."""
        places: list[tuple[str, t.Any, dict[str, t.Any]]] = [("", self.given, self.argument_spec)]
        for name, option in self.argument_spec.items():
            if option.get("elements") == "dict" and isinstance(self.given.get(name), list):
                each = enumerate(self.given[name])
                places += [("%s[%d]." % (name, index), item, option["options"]) for index, item in each]
        return places

    def fail_json(self, msg: str, **more: t.Any) -> t.NoReturn:
        """As AnsibleModule's, with the ``error`` every failure carries."""
        if "error" not in more:
            if msg.startswith("Unsupported parameters"):
                self._refuse_unknown()
            field = self._field_of(msg)
            if field and field not in msg:
                msg = "%s: %s" % (field, msg)
            more["error"] = HostError("invalid", msg, "see ansible-doc for the options", field=field).as_dict()
        self.code = 1
        super().fail_json(msg, **more)
        raise SystemExit(1)

    def exit_json(self, **answer: t.Any) -> t.NoReturn:
        """As AnsibleModule's."""
        self.code = 0
        super().exit_json(**answer)
        raise SystemExit(0)

    def _secrets(self) -> set[str]:
        """The options whose values no message may show."""
        specs = [self.argument_spec, *(each["options"] for each in self.argument_spec.values() if "options" in each)]
        return {name for spec in specs for name, option in spec.items() if option.get("no_log")}

    def leave_quickly(self) -> None:
        """Spare this process what a short-lived one need not do: collections, and taking the interpreter apart.

        Both write to every object, and after a fork the first write to each page is a fault: on a lab host that is a
        tenth of an unchanged call. Ansible's wrapper has removed its temporary files when ``atexit`` is reached.
        """
        gc.disable()
        atexit.register(self._leave)

    def _leave(self) -> None:
        if self.code is not None and hasattr(sys.modules["__main__"], "_ANSIBALLZ_WRAPPER"):
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(self.code)

    def _refuse(self, field: str, message: str) -> t.NoReturn:
        error = HostError("invalid", message, field=field)
        self.fail_json(result.sentence(error), error=error.as_dict())

    def _refuse_unknown(self) -> None:
        """Name an option that does not exist, with its item: AnsibleModule names only the list."""
        for prefix, item, spec in self._places():
            known = [*spec, *(alias for option in spec.values() for alias in option.get("aliases", ()))]
            for key in item if isinstance(item, dict) else ():
                if key not in known:
                    import difflib  # only when something is wrong

                    near = difflib.get_close_matches(str(key), known, 1)
                    hint = "did you mean %s?" % near[0] if near else "ansible-doc tells the options"
                    error = HostError("invalid", "%s%s is not an option" % (prefix, key), hint, prefix + str(key))
                    self.fail_json(result.sentence(error), error=error.as_dict())

    def _field_of(self, msg: str) -> str | None:
        """The option a message of AnsibleModule is about: it names all but a list whose element is no dict."""
        lists = [name for name, option in self.argument_spec.items() if option.get("elements") == "dict"]
        names = [*self.argument_spec, *(name for each in lists for name in self.argument_spec[each]["options"])]
        named = [name for name in names if re.search(r"\b%s\b" % re.escape(name), msg)]
        quoted = [name for name in named if "'%s'" % name in msg]
        given = [name for name in lists if self.given.get(name) is not None]
        return next(iter([*quoted, *named, *given]), None)


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


def run(
    kind: t.Callable[[], Resource],
    item: dict[str, t.Any],
    plural: str,
    singular: str,
    call: dict[str, t.Any] | None = None,
) -> None:
    """Run a resource module: ``item`` is the spec of one item's options, ``call`` of those beside the list."""
    spec = dict(item)
    spec[plural] = {"type": "list", "elements": "dict", "options": item}
    spec.update(call or {})
    module = Module(argument_spec=spec, supports_check_mode=True)  # type: ignore[no-untyped-call]
    module.leave_quickly()
    try:
        _require_root(module)
        items, fields, given = _items(module, item, plural)
        from ansible_collections.microvm.host.plugins.module_utils._core import run as runner

        outcome = runner.converge(
            kind(),
            items,
            given,
            fields,
            purge=bool(module.params.get("purge") or module.params.get("prune_images")),
            check=module.check_mode,
        )
    except HostError as error:
        _fail(module, error, plural)
    except Exception as error:
        _fail(module, _unforeseen(error), plural)
    for text in outcome.warnings:
        module.warn(text)
    answer = result.of_call(outcome, plural, None if module.params.get(plural) is not None else singular)
    if module._diff:
        answer["diff"] = outcome.diff
    if outcome.errors:
        module.fail_json(**result.failure(outcome, plural), **answer)
    module.exit_json(**answer)


def inform(gather: t.Callable[..., dict[str, t.Any]], options: dict[str, t.Any]) -> None:
    """Run an info module: ``gather`` takes the options by name and returns the result."""
    module = Module(argument_spec=options, supports_check_mode=True)  # type: ignore[no-untyped-call]
    module.leave_quickly()
    try:
        _require_root(module)
        answer = gather(**{key: module.params[key] for key in options})
    except HostError as error:
        _fail(module, error, "")
    except Exception as error:
        _fail(module, _unforeseen(error), "")
    for text in answer.pop("warnings", ()):
        module.warn(text)
    module.exit_json(changed=False, **answer)


def _require_root(module: Module) -> None:
    if module.check_mode:
        from ansible_collections.microvm.host.plugins.module_utils._host import command

        command.only_read()
    if os.geteuid() != 0:
        raise HostError("refused", "this module manages the host and is not running as root", "use become: true (-b)")
    if os.readlink("/proc/self/ns/mnt") != os.readlink("/proc/1/ns/mnt"):
        raise HostError(
            "unsupported",
            "this process has a mount namespace of its own: what it mounts the host would not see",
            "connect to the host itself, not through a service with a private mount namespace",
        )


def _items(
    module: Module, item: dict[str, t.Any], plural: str
) -> tuple[list[dict[str, t.Any]], list[str], list[dict[str, t.Any]]]:
    """The items, how messages name their options (prefix), and what the user gave for each."""
    names = {alias: name for name, option in item.items() for alias in option.get("aliases", ())}
    listed = module.params.get(plural)
    if listed is None:
        for option in ("purge", "prune_images"):
            if module.params.get(option):
                hint = "name all that shall stay in %s" % plural
                raise HostError("invalid", "%s is only for a call with %s" % (option, plural), hint, field=option)
        given = {names.get(key, key): value for key, value in module.given.items()}
        return [{key: module.params[key] for key in item}], [""], [given]
    beside = sorted(set(module.given) - BESIDE_LIST - {plural})
    if beside:
        raise HostError(
            "invalid",
            "%s can't stand beside %s" % (", ".join(beside), plural),
            "put it into the items",
            field=beside[0],
        )
    items, prefixes, raw = [], [], []
    for index, values in enumerate(listed):
        if values is None:
            raise HostError("invalid", "%s[%d] is empty" % (plural, index), field="%s[%d]" % (plural, index))
        values = dict(values)
        source = module.given.get(plural)
        asked = dict(source[index]) if isinstance(source, list) and isinstance(source[index], dict) else {}
        asked = {names.get(key, key): value for key, value in asked.items()}
        if asked.get("timeout") is None and "timeout" in module.given:
            values["timeout"] = module.params["timeout"]
        items.append(values)
        prefixes.append("%s[%d]." % (plural, index))
        raw.append(asked)
    return items, prefixes, raw


def _unforeseen(error: Exception) -> HostError:
    """The module's edge: what nobody foresaw is a typed failure too, with where it came from."""
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    text = "%s: %s (%s line %s)" % (type(error).__name__, error, os.path.basename(last.filename), last.lineno)
    return HostError("internal", text, "please report this")


def _fail(module: Module, error: HostError, plural: str) -> t.NoReturn:
    text = result.sentence(error)
    module.fail_json(text, error=error.as_dict(), changed=False, **({plural: []} if plural else {}))
