# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module vault_secret: it runs on the controller, where the vault and its passwords are."""

from __future__ import annotations

import os
import traceback
import typing as t

from ansible import constants as C
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.vault import VaultSecretsContext
from ansible.plugins.action import ActionBase

from ansible_collections.microvm.host.plugins.module_utils._core import items, result, run
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.plugin_utils._vault_file import Keys
from ansible_collections.microvm.host.plugins.plugin_utils._vault_secrets import VaultSecrets

PLURAL, SINGULAR = "secrets", "secret"
ITEM: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str"},
    "file": {"type": "path"},
    "state": {
        "type": "str",
        "default": "present",
        "choices": ["present", "staged", "promoted", "rotated", "absent"],
    },
    "value": {"type": "str", "no_log": True},
    "kind": {"type": "str", "default": "password", "choices": ["password", "chap"]},
    "length": {"type": "int"},
    "alphabet": {"type": "str"},
    "vault_id": {"type": "str"},
    "encrypt": {"type": "str", "default": "file", "choices": ["file", "values"]},
    "timeout": {"type": "int", "default": 15},
}
SPEC = {**ITEM, PLURAL: {"type": "list", "elements": "dict", "options": ITEM}}

LOST = "what a job of AWX writes to the project is thrown away with the job"
KEEP = (
    "run this where the project's repository is and commit the file, or give the secret by a credential of AWX and "
    "rotate with rotate_secret"
)


class ActionModule(ActionBase):
    """One secret by the options at the top, or many in ``secrets``."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The result, as that of every module of the collection."""
        answer: dict[str, t.Any] = super().run(tmp, task_vars)
        try:
            answer.update(self._converge(task_vars or {}))
        except HostError as error:
            answer.update(_failure(error))
        except Exception as error:
            # Not in its own words: a library's message may quote a secret.
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = "%s (%s line %s)" % (type(error).__name__, os.path.basename(last.filename), last.lineno)
            answer.update(_failure(HostError("internal", text, "please report this")))
        return answer

    def _converge(self, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        params, given = self._options()
        each, prefixes, asked = items.split(params, given, ITEM, PLURAL)
        resource = resource_of(self._loader.path_dwim, variables)
        wanted = [resource.validate(*one) for one in zip(each, asked, prefixes)]
        run.refuse_duplicates(wanted, prefixes)
        resource.together(wanted)
        outcome = resource.converge(wanted, check=self._task.check_mode)
        answer = result.of_call(outcome, PLURAL, None if params[PLURAL] is not None else SINGULAR)
        if self._task.diff:
            answer["diff"] = outcome.diff
        if outcome.errors:
            answer.update(result.failure(outcome, PLURAL), failed=True)
        return answer

    def _options(self) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
        """The options with defaults, and as given. Raises HostError ``invalid``, which quotes no value."""
        given = _plain(self._task.args)
        error = items.unreadable(given) or items.unknown(given, SPEC)
        if error is not None:
            raise error
        checked = ArgumentSpecValidator(SPEC).validate(given)
        if checked.error_messages:
            text = checked.error_messages[0]
            field = items.field_of(text, given, SPEC)
            raise HostError("invalid", text, "see ansible-doc for the options", field=field)
        return checked.validated_parameters, given


def _failure(error: HostError) -> dict[str, t.Any]:
    return {"failed": True, "changed": False, "msg": result.sentence(error), "error": error.as_dict(), PLURAL: []}


def _plain(value: t.Any) -> t.Any:
    """What Ansible gives, without the tags by which it follows where a text came from: YAML's library takes no such."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def resource_of(resolve: t.Callable[[str], str], variables: dict[str, t.Any]) -> VaultSecrets:
    """The resource with the passwords and settings of this run of Ansible."""

    def keeps() -> None:
        # Variables of every job, and the environment of its container; see "Extra variables" in AWX's job templates.
        if {"awx_job_id", "tower_job_id"} & set(variables) or "AWX_PRIVATE_DATA_DIR" in os.environ:
            raise HostError("unsupported", LOST, KEEP)

    context = VaultSecretsContext.current(optional=True)
    keys = Keys(context.secrets if context else None, C.config.get_config_value("DEFAULT_VAULT_ENCRYPT_IDENTITY"))
    home = C.config.get_config_value("ANSIBLE_HOME")
    return VaultSecrets(keys, resolve, keeps, os.path.join(home, "microvm-locks"))
