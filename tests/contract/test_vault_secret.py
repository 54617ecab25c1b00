# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of the module that runs on the controller. Real vaults, real ansible-playbook; needs no lab."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret, parse_vaulttext_envelope

from tests.contract.controller import Arguments, Controller, Result, Task
from tests.contract.served import served
from tests.contract.specs import controller_names, example_tasks, read
from tests.contract.test_examples import Comparison, all_keys, documented, own
from tests.gates.paths import environment

MODULE = "vault_secret"
PASSWORD = "example"
LIB = VaultLib([("default", VaultSecret(PASSWORD.encode()))])
HEAD = "---\n# Secrets of the storage\nvault_other: 'left alone'  # by all\n"


class Local(Controller):
    """Ansible without a host to manage; ``vault/vault.yml`` in its directory is the vault."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.host = "localhost"
        self.exports = [scratch / "vault"]
        self.inventory = scratch / "inventory"
        self.vault = scratch / "vault" / "vault.yml"
        self.vault.parent.mkdir()
        self.password = scratch / "password"
        self.extra: dict[str, str] = {}
        self.password.write_text(PASSWORD)
        self.inventory.write_text("localhost ansible_connection=local\n")

    def environment(self, results: Path | None = None) -> dict[str, str]:
        """With the vault's password, and a home of its own."""
        env = super().environment(results)
        env.update(ANSIBLE_VAULT_PASSWORD_FILE=str(self.password), ANSIBLE_HOME=str(self.scratch / "home"))
        return {**env, **self.extra}

    def variables(self) -> dict[str, Any]:
        """What Ansible reads from the vault."""
        play: dict[str, Any] = {"hosts": "localhost", "gather_facts": False, "vars_files": [str(self.vault)]}
        play["tasks"] = [{"ansible.builtin.debug": {"var": "vars"}}]
        (self.scratch / "read.yml").write_text(json.dumps([play]))
        results = self.scratch / "read.jsonl"
        results.unlink(missing_ok=True)
        done = self.command(["ansible-playbook", self.scratch / "read.yml"], results)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(results.read_text())["result"]["vars"]
        return {name: value for name, value in found.items() if name.startswith("vault_")}


@pytest.fixture
def local(tmp_path: Path) -> Local:
    """A directory without a vault."""
    return Local(tmp_path)


@dataclass(frozen=True)
class Case:
    """``before`` sets up what the items start from; each of ``names`` gets ``args``, the first by itself.

    ``there``: suffixes of the variables that are there afterwards.
    """

    what: str
    covers: dict[str, str]
    before: tuple[Arguments, ...] = ()
    there: tuple[str, ...] = ("",)
    whole: bool = True


def _case(what: str, before: tuple[Arguments, ...] = (), there: tuple[str, ...] = ("",), **covers: str) -> Case:
    return Case(what, {"state": "present", "kind": "password", **covers}, before, there)


MADE: tuple[Arguments, ...] = ({},)
CASES = (
    _case("new"),
    _case("new", kind="chap"),
    _case("the one in use stays", MADE, ("", "_next"), state="staged"),
    _case("one waits", (*MADE, {"state": "staged"}), state="promoted"),
    _case("was there", MADE, (), state="absent"),
)
ACTS = {(MODULE, "rotated"): "a rotation that changes nothing is none"}
"""(module, state) that is an act and so gives changed each time, with the reason."""


def test_every_state_has_a_fixture() -> None:
    assert controller_names() == [MODULE]
    spec = read(MODULE)
    have = {(option, choice) for case in CASES for option, choice in case.covers.items()}
    acts = {("state", state) for dummy, state in ACTS}
    need = {(option, choice) for option in ("state", "kind") for choice in spec.choices(option)}
    assert need == have | acts and not have & acts


def outcome(results: list[Result]) -> list[str]:
    """changed, ok or what went wrong, of each result."""
    return [
        str(result.get("msg")) if result.get("failed") else "changed" if result["changed"] else "ok"
        for result in results
    ]


def begin(local: Local, whole: bool) -> None:
    """A vault that holds a comment and a variable of somebody else."""
    local.vault.write_bytes(LIB.encrypt(HEAD) if whole else HEAD.encode())


@pytest.mark.parametrize("whole", [True, False], ids=["file", "values"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join([*case.covers.values(), case.what.replace(" ", "_")]))
def test_check_run_run_check(local: Local, case: Case, whole: bool) -> None:
    """One secret by the options at the top, then a list of others."""
    begin(local, whole)
    spec = read(MODULE)
    base = {"file": str(local.vault), "kind": case.covers["kind"]}
    groups = (["vault_one"], ["vault_two", "vault_three"])
    steps: list[Task] = []
    for names in groups:
        steps += [
            Task(MODULE, {spec.plural: [{**base, **each, "name": name} for name in names]}) for each in case.before
        ]
        items: list[Arguments] = [{**base, "name": name, "state": case.covers["state"]} for name in names]
        args = items[0] if len(items) == 1 else {spec.plural: items}
        steps += [Task(MODULE, args, check) for check in (True, False, False, True)]
    start = served(local.exports)
    lines = local.lines(*steps)
    half = len(lines) // 2
    for names, part, first in ((groups[0], lines[:half], start), (groups[1], lines[half:], lines[half - 1]["served"])):
        looks = [first, *(line["served"] for line in part)][-5:]
        results = [line["result"] for line in part][-4:]
        assert_contract(results, [json.loads(json.dumps(look)) for look in looks], len(names))
    values = local.variables()
    assert set(values) == {"vault_other", *(name + end for names in groups for name in names for end in case.there)}
    assert local.vault.stat().st_mode & 0o777 == 0o600
    text = (LIB.decrypt(local.vault.read_bytes()) if whole else local.vault.read_bytes()).decode()
    assert text.startswith(HEAD)
    secrets = [value for name, value in values.items() if name != "vault_other"]
    assert len(set(secrets)) == len(secrets)
    said = json.dumps(lines) + ("" if whole else text)
    assert not [secret for secret in secrets if secret in said]


def assert_contract(results: list[Result], looks: list[Any], count: int) -> None:
    """``looks`` were taken before the first of the four calls and after each."""
    spec = read(MODULE)
    start, checked, done, *rest = looks
    assert checked == start != done and rest == [done, done]
    assert outcome(results) == ["changed", "changed", "ok", "ok"]
    check, run, *again = results
    assert check["diff"] == run["diff"] and len(run["diff"]) == count
    assert [result["diff"] for result in again] == [[], []]
    for result in results:
        assert len(result[spec.plural]) == count and "results" not in result
        assert (spec.singular in result) is (count == 1)
        assert all(bool(item["actions"]) is item["changed"] for item in result[spec.plural])


def test_rotation_is_an_act(local: Local) -> None:
    """Changed each time, also in check mode; the secret before is kept."""
    args = {"name": "vault_one", "file": str(local.vault)}
    act = {**args, "state": "rotated"}
    results = local.run(Task(MODULE, args), *(Task(MODULE, act, check) for check in (True, False)))
    first = local.variables()
    results += local.run(Task(MODULE, act), Task(MODULE, act, check=True))
    second = local.variables()
    assert outcome(results) == ["changed"] * 5
    assert results[1]["diff"] == results[2]["diff"]
    assert second["vault_one_previous"] == first["vault_one"] != second["vault_one"]


CLIENT = """#!/bin/sh
[ "$1" = --vault-id ] || exit 3
case $2 in dev) echo one;; prod) echo two;; *) exit 2;; esac
"""


def test_vault_ids_and_a_client_script(local: Local) -> None:
    client = local.scratch / "keys-client"
    client.write_text(CLIENT)
    client.chmod(0o700)
    del local.password
    local.password = Path(os.devnull)
    local.extra = {"ANSIBLE_VAULT_IDENTITY_LIST": f"dev@{client},prod@{client}", "ANSIBLE_VAULT_PASSWORD_FILE": ""}
    args = {"name": "vault_one", "file": str(local.vault)}
    (ambiguous,) = local.run(Task(MODULE, args))
    assert ambiguous["error"]["kind"] == "invalid" and ambiguous["error"]["field"] == "vault_id"
    (made,) = local.run(Task(MODULE, {**args, "vault_id": "prod"}))
    assert made["secret"]["vault_id"] == "prod"
    assert parse_vaulttext_envelope(local.vault.read_bytes())[3] == "prod"
    assert b"vault_one" in VaultLib([("prod", VaultSecret(b"two"))]).decrypt(local.vault.read_bytes())
    (kept,) = local.run(Task(MODULE, {**args, "name": "vault_two", "vault_id": "dev"}))
    assert kept["changed"] and parse_vaulttext_envelope(local.vault.read_bytes())[3] == "prod"
    local.extra["ANSIBLE_VAULT_ENCRYPT_IDENTITY"] = "dev"
    (made,) = local.run(Task(MODULE, {**args, "file": str(local.scratch / "second.yml")}))
    assert made["secret"]["vault_id"] == "dev"


@pytest.mark.parametrize("how", ["variable", "environment"])
def test_a_job_of_awx_may_not_write(local: Local, how: str) -> None:
    """As AWX runs it: its variables are extra vars, its environment that of the container."""
    begin(local, True)
    extra = ["-e", "awx_job_id=7"] if how == "variable" else []
    local.extra = {} if extra else {"AWX_PRIVATE_DATA_DIR": "/runner"}
    args = {"name": "vault_other", "file": str(local.vault)}
    tasks = [{f"microvm.host.{MODULE}": args}, {f"microvm.host.{MODULE}": {**args, "name": "vault_new"}}]
    (local.scratch / "job.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    results = local.scratch / "job.jsonl"
    before = local.vault.read_bytes()
    done = local.command(["ansible-playbook", *extra, local.scratch / "job.yml"], results)
    there, refused = (json.loads(line)["result"] for line in results.read_text().splitlines())
    assert outcome([there]) == ["ok"]
    assert refused["error"]["kind"] == "unsupported" and "credential of AWX" in refused["error"]["hint"], done.stdout
    assert local.vault.read_bytes() == before


def test_hosts_that_write_at_once_lose_nothing(local: Local) -> None:
    """A play over many hosts, without run_once: each writes a secret of its own."""
    hosts = [f"host{number}" for number in range(12)]
    local.inventory.write_text("".join(f"{host} ansible_connection=local\n" for host in hosts))
    task = {f"microvm.host.{MODULE}": {"name": "vault_{{ inventory_hostname }}", "file": str(local.vault)}}
    (local.scratch / "all.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    done = local.command(["ansible-playbook", "--forks", "12", local.scratch / "all.yml"])
    assert done.returncode == 0, done.stdout + done.stderr
    found = yaml.safe_load(LIB.decrypt(local.vault.read_bytes()))
    assert set(found) == {f"vault_{host}" for host in hosts}


@pytest.mark.parametrize(
    ("args", "kind", "field", "hint"),
    [
        ({"nmae": "vault_one"}, "invalid", "nmae", "name"),
        ({"name": "vault_one", "kind": "smb"}, "invalid", "kind", "ansible-doc"),
        ({"name": "vault_one", "length": "many"}, "invalid", "length", "ansible-doc"),
        ({"secrets": [{"name": "vault_one", "vale": "hunter2"}]}, "invalid", "secrets[0].vale", "value"),
        ({"name": "vault_one", "secrets": []}, "invalid", "name", "into the items"),
        ({"name": "vault_one", "value": "hunter2\n"}, "invalid", "value", ""),
        ({"name": "vault_one", "value": {"a": "hunter2"}}, "invalid", "value", ""),
        ({"name": "vault_one", "state": "promoted"}, "not_found", None, "state=present"),
        ({"name": "vault_one", "file": "/proc/nothing/vault.yml"}, "not_found", "file", "another file"),
    ],
)
def test_failures_are_typed_and_show_no_secret(
    local: Local, args: Arguments, kind: str, field: str | None, hint: str
) -> None:
    file = {} if "secrets" in args else {"file": str(local.vault)}
    (found,) = local.run(Task(MODULE, {**file, **args}))
    assert found["failed"] and not found["changed"]
    assert (found["error"]["kind"], found["error"].get("field")) == (kind, field)
    assert hint in found["error"]["hint"]
    assert "hunter2" not in json.dumps(found)
    assert not local.vault.exists()


def test_examples_run_and_return_what_is_documented(local: Local) -> None:
    spec = read(MODULE)
    inventory = local.scratch / "inventory.d"
    (inventory / "group_vars" / "microvm_hosts").mkdir(parents=True)
    (inventory / "hosts.yml").write_text("microvm_hosts: {hosts: {localhost: {ansible_connection: local}}}\n")
    local.inventory = inventory / "hosts.yml"
    local.extra = {
        "ANSIBLE_VAULT_IDENTITY_LIST": f"storage@{local.password}",
        "ANSIBLE_VAULT_ENCRYPT_IDENTITY": "default",
    }
    results = local.scratch / "examples.jsonl"
    play = {"hosts": "microvm_hosts", "gather_facts": False, "tasks": yaml.safe_load(spec.examples)}
    (local.scratch / "examples.yml").write_text(json.dumps([{**play, "vars": {"nas_token": "given at the prompt"}}]))
    done = local.command(["ansible-playbook", local.scratch / "examples.yml"], results)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line)["result"] for line in results.read_text().splitlines()]
    found = [result for result in found if spec.plural in result]
    assert len(found) == len(list(example_tasks(spec)))
    found += local.run(
        Task(MODULE, {"name": "vault_gone", "file": str(local.vault), "state": "promoted"}),
    )
    found += local.run(Task(MODULE, {"name": "vault_one", "file": str(local.vault), "timeout": 0}))
    keys = documented(MODULE)
    compared = Comparison()
    for result in found:
        compared.values(own(result), keys)
    assert compared.wrong == set()
    assert {key for key in dict(all_keys(keys)) if key not in compared.seen} == set(), "documented, but never returned"


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """Of documented options what an argument spec says too."""
    found = {}
    for name, about in options.items():
        kept = {key: about[key] for key in ("type", "default", "elements") if about.get(key) is not None}
        if about.get("choices"):
            kept["choices"] = sorted(about["choices"])
        if about.get("suboptions"):
            kept["options"] = plain(about["suboptions"])
        found[name] = kept
    return found


def bare(spec: dict[str, Any]) -> dict[str, Any]:
    """Of an argument spec what the documentation says too."""
    found = {}
    for name, option in spec.items():
        found[name] = {key: value for key, value in option.items() if key != "no_log"}
        if "choices" in option:
            found[name]["choices"] = sorted(option["choices"])
        if "options" in option:
            found[name]["options"] = bare(option["options"])
    return found


@pytest.mark.parametrize("module", controller_names())
def test_options_are_documented_as_they_are(module: str) -> None:
    """What ansible-test's validate-modules does for modules that run on hosts."""
    asked = subprocess.run(
        ["ansible-doc", "--json", f"microvm.host.{module}"], env=environment(), capture_output=True, check=True
    )
    options = json.loads(asked.stdout)[f"microvm.host.{module}"]["doc"]["options"]
    assert plain(options) == bare(read(module).call)


GIVEN = " comma, = $ # ' \" \\ ä {{ '{{' }} "
"""As it stands in the playbook; Ansible makes two braces of the template."""


def test_a_given_secret_is_read_as_it_was_given(local: Local) -> None:
    begin(local, True)
    args = {"name": "vault_one", "file": str(local.vault)}
    steps = [{**args, "value": GIVEN}, {**args, "value": ""}, {**args, "value": GIVEN}, {**args, "value": "other"}]
    results = local.run(*(Task(MODULE, each) for each in steps))
    assert outcome(results) == ["changed", "ok", "ok", "changed"]
    assert local.variables()["vault_one"] == "other"
    assert results[1]["secret"] == {**results[2]["secret"]}
    local.run(Task(MODULE, {**args, "state": "staged", "value": GIVEN}))
    assert local.variables()["vault_one_next"] == " comma, = $ # ' \" \\ ä {{ "
