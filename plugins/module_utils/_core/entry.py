# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every module starts and ends. The only file that knows AnsibleModule. Private to microvm.host."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values

from ansible_collections.microvm.host.plugins.module_utils._core import archive, items, result
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.resource import Resource

archive.compile_once()  # before a module imports what it is made of
archive.borrow()


class Module(AnsibleModule):
    """AnsibleModule that remembers what the user gave, before defaults, and fails with a typed error only."""

    code: int | None = None
    """The exit code, once the result is told."""

    def __init__(self, spec: dict[str, t.Any]) -> None:
        super().__init__(argument_spec=spec, supports_check_mode=True)  # type: ignore[no-untyped-call]  # the base has no types

    def _load_params(self) -> None:
        super()._load_params()  # type: ignore[no-untyped-call]  # the base has no types
        self.given = {key: value for key, value in self.params.items() if not key.startswith("_ansible")}

        error = items.unreadable(self.given) or items.inconvertible(self.given, self.argument_spec)
        if error is not None:
            self._refuse(error)

    def _log_invocation(self) -> None:
        """As AnsibleModule's, but masked before a list becomes one text, in which a secret's quotes are escaped."""
        params = self.params
        self.params = remove_values(params, self.no_log_values)
        super()._log_invocation()  # type: ignore[no-untyped-call]  # the base has no types
        self.params = params

    def fail_json(self, msg: str, **more: t.Any) -> t.NoReturn:
        """As AnsibleModule's, with the ``error`` every failure carries."""
        if "error" not in more:
            unknown = items.unknown(self.given, self.argument_spec) if msg.startswith("Unsupported") else None
            misspelt = items.no_choice(self.given, self.argument_spec) if msg.startswith("value of ") else None
            if misspelt is not None:
                self._refuse(misspelt)
            if unknown is not None:
                # What was misspelt may be "password", and nothing would mask its value.
                self._refuse(unknown, invocation={"module_args": {}})
            field = items.field_of(msg, self.given, self.argument_spec)
            if field and field not in msg:
                msg = "%s: %s" % (field, msg)
            more["error"] = HostError("invalid", msg, "see ansible-doc for the options", field=field).as_dict()
        self.code = 1
        super().fail_json(msg, **self._with_options(more))
        raise SystemExit(1)

    def exit_json(self, **answer: t.Any) -> t.NoReturn:
        """As AnsibleModule's."""
        self.code = 0
        super().exit_json(**self._with_options(answer))
        raise SystemExit(0)

    def _with_options(self, answer: dict[str, t.Any]) -> dict[str, t.Any]:
        """An answer with the options of the call: of a long list, all with their defaults would be half of it."""
        return {"invocation": {"module_args": items.beside_defaults(self.params, self.argument_spec)}, **answer}

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

    def _refuse(self, error: HostError, **more: t.Any) -> t.NoReturn:
        self.fail_json(result.sentence(error), error=error.as_dict(), **more)


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
    module = Module(spec)
    module.leave_quickly()
    try:
        _require_root(module)
        each, fields, given = items.split(module.params, module.given, item, plural)
        from ansible_collections.microvm.host.plugins.module_utils._core import run as runner

        outcome = runner.converge(
            kind(),
            each,
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
    module = Module(options)
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


def _unforeseen(error: Exception) -> HostError:
    """The module's edge: what nobody foresaw is a typed failure too, with where it came from."""
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    text = "%s: %s (%s line %s)" % (type(error).__name__, error, os.path.basename(last.filename), last.lineno)
    return HostError("internal", text, "please report this")


def _fail(module: Module, error: HostError, plural: str) -> t.NoReturn:
    text = result.sentence(error)
    module.fail_json(text, error=error.as_dict(), changed=False, **({plural: []} if plural else {}))
