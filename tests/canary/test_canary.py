# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret is anywhere but in the files that are made for it: in check mode, on success, on failure, after a crash."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.canary.needles import needles, where
from tests.canary.rig import Rig, wait_for
from tests.contract.specs import controller_names, names, read
from tests.gates.paths import MIRROR

PLAYBOOKS = sorted(path.stem for path in (MIRROR / "playbooks").glob("*.yml"))
ROLES = sorted(path.name for path in (MIRROR / "roles").iterdir())
OLD, NEW, WRONG = "{{ canary_old }}", "{{ canary_new }}", "{{ canary_wrong }}"
Call = dict[str, Any]


def secret_options(spec: dict[str, Any]) -> set[str]:
    """The options whose values Ansible must not show, at any depth."""
    found = {name for name, option in spec.items() if option.get("no_log")}
    return found.union(*(secret_options(option["options"]) for option in spec.values() if "options" in option))


def with_secrets() -> dict[str, set[str]]:
    """Module to its options with secrets, of every module that has any."""
    found = {name: secret_options(read(name).call) for name in [*names(), *controller_names()]}
    return {name: options for name, options in found.items() if options}


SHARE = {"server": "smb1", "share": "vms2", "username": "svc"}
FIXTURES: dict[str, dict[str, Any]] = {
    "smb_share": {"name": "canary", **SHARE},
    "storage_backend": {"name": "canary", "kind": "smb", **SHARE},
    "vault_secret": {"name": "vault_new", "file": "{{ inventory_dir }}/group_vars/microvm_hosts/vault.yml"},
}
"""Of each module with secrets an item that gets along; the rest is made of it."""


def calls(module: str) -> Iterator[Call]:
    """What users do with a secret, and what they do wrong."""
    spec, item = read(module), FIXTURES[module]
    (secret,) = with_secrets()[module]

    def call(check: bool = False, /, **options: Any) -> Call:
        return {f"microvm.host.{module}": {**item, **options}, "check_mode": check}

    yield from (call(check, **{secret: OLD}) for check in (True, False, False))
    yield {
        f"microvm.host.{module}": {spec.plural: [{**item, secret: OLD}, {**item, "name": "other_one", secret: WRONG}]}
    }
    yield from (call(check, **{secret: WRONG}) for check in (True, False))
    if "secret_check" in spec.item:
        yield from (
            call(check, **{secret: value, "secret_check": True}) for check in (True, False) for value in (OLD, WRONG)
        )
    yield call(**{secret: OLD + "\n"})
    yield call(**{secret: OLD + "{{ '\\0' }}"})
    yield call(**{secret: [OLD]})
    yield call(**{secret: {"a": OLD}})
    yield call(**{secret + "s": OLD})
    yield {f"microvm.host.{module}": {spec.plural: [{**item, secret[:-1]: OLD}]}}
    yield call(**{secret: OLD, "timeout": 0})
    yield call(**{secret: OLD, "state": "nonsense"})
    yield call(state="absent")


def test_every_module_with_secrets_has_a_fixture() -> None:
    assert set(with_secrets()) == set(FIXTURES)
    assert all(len(options) == 1 for options in with_secrets().values())


@pytest.mark.parametrize("module", FIXTURES)
def test_modules_show_no_secret(rig: Rig, module: str) -> None:
    tasks = list(calls(module))
    with rig.watching() as seen:
        rig.run(rig.tasks(tasks))
    results = rig.results()
    assert len(results) == len(tasks)
    assert any(result.get("changed") for result in results)
    assert {"invalid"} <= {result["error"]["kind"] for result in results if result["failed"] and "error" in result}
    assert (seen.on_host, seen.here) == ({}, {})
    assert seen.looks > 5
    assert rig.leaks() == []


SET = """
import sys
from tests.lab import Lab
Lab.load(sys.argv[1]).servers["smb1"].set_password("svc", sys.stdin.read())
"""


def test_playbooks_and_roles_show_no_secret(rig: Rig) -> None:
    """In the order of a life: checked, made, made again, failing, rotated, reported, removed."""
    given = rig.project.parent.parent / f"{rig.scratch.name}-given.yml"  # what users give is theirs to keep
    given.write_text(f"rotate_secret: {rig.secrets.new}\n")
    wrong = given.with_suffix(".wrong.yml")
    wrong.write_text(f"rotate_secret: {rig.secrets.wrong}\n")
    argv = [sys.executable, "-c", SET, rig.lab.name]
    task = {
        "ansible.builtin.command": {
            "argv": argv,
            "chdir": str(MIRROR),
            "stdin": "{{ rotate_new }}",
            "stdin_add_newline": False,
        }
    }
    (rig.project / "set.yml").write_text(json.dumps([task]))
    rotate = ["-e", "rotate_backend=share", "-e", "rotate_variable=vault_share"]
    set_it = ["-e", f"rotate_tasks={rig.project}/set.yml"]
    life: list[tuple[str, list[str], bool]] = [
        ("site", ["--check"], True),
        ("site", ["-e", "docker_volumes_enabled=false"], True),
        ("site", [], True),
        ("rotate_credentials", [*rotate, "-e", f"@{wrong}"], False),
        ("rotate_credentials", [*rotate, "-e", f"@{given}", "--check"], False),
        ("rotate_credentials", [*rotate, *set_it, "-e", f"@{given}"], True),
        ("report", [], True),
        ("remove", [], True),
    ]
    assert sorted({playbook for playbook, dummy, dummy2 in life}) == PLAYBOOKS
    text = "".join((MIRROR / "playbooks" / f"{name}.yml").read_text() for name in PLAYBOOKS)
    assert [role for role in ROLES if f"microvm.host.{role}\n" not in text] == []
    with rig.watching() as seen:
        done = [(playbook, rig.run(f"microvm.host.{playbook}", *arguments) == 0) for playbook, arguments, dummy in life]
        at_rest = rig.on_disk()
    output = (rig.scratch / "output").read_text()
    assert done == [(playbook, works) for playbook, dummy, works in life], output[-6000:]
    assert (seen.on_host, seen.here) == ({}, {})
    assert rig.leaks() == []
    assert [path for path, dummy, dummy2 in at_rest] == [], "remove leaves no secret"
    assert f"vault_share: {rig.secrets.new}" in rig.lib.decrypt(rig.vault.read_bytes()).decode().replace('"', "")


WAITING = "pgrep -xf /usr/bin/python3"
"""A module on its way: with pipelining it is an interpreter without arguments."""


@pytest.mark.parametrize("how", ["INT", "ABRT", "KILL", "ansible"])
def test_a_crash_shows_no_secret(rig: Rig, how: str) -> None:
    """The server is silent, so that the module waits with the secret in its hands."""
    item = {**FIXTURES["storage_backend"], "password": OLD, "timeout": 30}
    rig.smb.pause()
    try:
        with rig.watching() as seen:
            with rig.start(rig.tasks([{"microvm.host.storage_backend": item}])) as process:
                wait_for(lambda: rig.host.ssh(WAITING, check=False).stdout, 60, "the module")
                if how == "ansible":
                    process.kill()
                else:
                    rig.host.ssh(f"kill -{how} $({WAITING} | head -1)")
                process.wait(120)
            rig.host.ssh("pkill -xf /usr/bin/python3", check=False)
    finally:
        rig.smb.resume()
    assert (seen.on_host, seen.here) == ({}, {})
    assert rig.leaks() == []


def test_without_pipelining_ansible_writes_the_arguments_of_modules(rig: Rig) -> None:
    """Not ours to prevent, and documented; it also shows that the watch sees what there is to see."""
    item = {**FIXTURES["storage_backend"], "password": OLD}
    with rig.watching() as seen:
        assert rig.run(rig.tasks([{"microvm.host.storage_backend": item}]), pipelining=False) == 0
    assert [path for path in seen.on_host if "/.ansible/tmp/" in path] == list(seen.on_host) != []
    assert rig.leaks() == [], "Ansible removes it at the end of the task"


def test_the_watch_sees_arguments_environment_and_files(rig: Rig) -> None:
    """The watch itself: what must not be is found."""
    secret = rig.secrets.old
    script = f"sleep 3 & A={secret} sleep 4 & exec -a {secret} sleep 4 & echo {secret} > /tmp/found; wait"
    with rig.watching() as seen:
        rig.host.ssh(["bash", "-c", script])
    kinds = {path.rpartition("/")[2] for path in seen.on_host}
    assert kinds >= {"cmdline", "environ", "found"}
    assert any("/tmp/found" in leak for leak in rig.leaks())
    rig.host.ssh(f"logger {shlex.quote(secret)}; rm /tmp/found")
    assert any(leak.startswith("journal") for leak in rig.leaks())


def test_a_secret_is_seen_in_every_form() -> None:
    import base64

    secret = "Cnry7OldqWzXv4"
    wanted = needles([secret])
    forms = [secret.encode(), secret.encode("utf-16-le"), secret.encode().hex().encode()]
    forms += [base64.b64encode(b"x" * before + secret.encode() + b"yz") for before in range(6)]
    assert all(where(b"some " + form + b" more", wanted) for form in forms)
    assert where(b"nothing to see", wanted) == []
