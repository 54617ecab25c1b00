# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret is anywhere but in the files that are made for it: in check mode, on success, on failure, after a crash."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.canary.needles import needles, where
from tests.canary.rig import LUN, SHARE, TWIN, Rig
from tests.contract.snapshot import HOST
from tests.contract.specs import controller_names, names, read
from tests.gates.paths import MIRROR
from tests.lab import setter
from tests.lab.container import Container
from tests.lab.daemon import wait_until
from tests.lab.target import iqn
from tests.machines import guests

PLAYBOOKS = sorted(path.stem for path in (MIRROR / "playbooks").glob("*.yml"))
ROLES = sorted(path.name for path in (MIRROR / "roles").iterdir())
OLD, WRONG, TARGET = "{{ canary_old }}", "{{ canary_wrong }}", "{{ canary_target }}"
ESCAPED = "\\x'\"\n"
"""Behind a secret: what looks different in the text that is made of a list."""
Call = dict[str, Any]


def secret_options(spec: dict[str, Any]) -> set[str]:
    """The options whose values Ansible must not show, at any depth."""
    found = {name for name, option in spec.items() if option.get("no_log")}
    return found.union(*(secret_options(option["options"]) for option in spec.values() if "options" in option))


def with_secrets() -> dict[str, set[str]]:
    """Module to its options with secrets, of every module that has any."""
    found = {name: secret_options(read(name).call) for name in [*names(), *controller_names()]}
    return {name: options for name, options in found.items() if options}


@dataclass(frozen=True)
class Fixture:
    """An item that gets along; ``secrets`` are those of its options that are tried, with what is right.

    ``other``: what makes a second item of it, for which the secret is wrong.
    """

    module: str
    item: Call
    secrets: dict[str, str]
    other: Call


SMB = Fixture("storage_backend", {"kind": "smb", "share": "vms2", **SHARE}, {"password": OLD}, {"share": "vms"})
CHAP = {"iqn": iqn("chap"), "username": "host", "vg": "vg_other", "initialize": "vg_other"}
GROUP = {**LUN, "vg": "vg_canary", "initialize": "vg_canary"}
FIXTURES = {
    "smb_share": Fixture("smb_share", {"share": "vms2", **SHARE}, SMB.secrets, SMB.other),
    "iscsi_lvm": Fixture("iscsi_lvm", GROUP, {"password": OLD, "mutual_password": TARGET}, CHAP),
    "backend_smb": SMB,
    "backend_iscsi_lvm": Fixture(
        "storage_backend", {"kind": "iscsi_lvm", **GROUP, "password": OLD}, {"mutual_password": TARGET}, CHAP
    ),
    "vault_secret": Fixture(
        "vault_secret", {"file": "{{ inventory_dir }}/group_vars/microvm_hosts/vault.yml"}, {"value": OLD}, {}
    ),
}
"""For each option with a secret."""


def calls(fixture: Fixture) -> Iterator[Call]:
    """What users do with a secret, and what they do wrong."""
    spec, item = read(fixture.module), {"name": "canary", **fixture.item, **fixture.secrets}
    first, *_rest = fixture.secrets

    def call(check: bool = False, /, **options: Any) -> Call:
        return {f"microvm.host.{fixture.module}": {**item, **options}, "check_mode": check}

    def listed(*items: Call) -> Call:
        return {f"microvm.host.{fixture.module}": {spec.plural: list(items)}}

    yield from (call(check) for check in (True, False, False))
    yield listed(item, {**item, "name": "other_one", **fixture.other, first: WRONG})
    for secret, right in fixture.secrets.items():
        yield from (call(check, **{secret: WRONG}) for check in (True, False))
        if "secret_check" in spec.item:
            tried = ((True, right), (False, right), (True, WRONG), (False, WRONG), (True, ""))
            yield from (call(check, **{secret: value, "secret_check": True}) for check, value in tried)
        yield from (call(**{secret: value}) for value in (right + "{{ '\\0' }}", [right], {"a": right}))
        yield listed({**item, secret: right + ESCAPED})
        yield call(**{secret + "s": right})
        yield listed({**item, secret[:-1]: right})
    yield call(timeout=0)
    yield call(state="nonsense")
    yield listed({"name": "canary", **fixture.item, "state": "absent"})


def asked(password: Any, target: Any) -> Call:
    """Servers, asked for what they offer by somebody with a password."""
    smb = {"kind": "smb", "server": "smb1", "username": "svc", "password": password}
    lun = {"kind": "iscsi_lvm", **{key: LUN[key] for key in ("portal", "username", "mutual_username")}}
    return {"discover": [smb, {**lun, "password": password, "mutual_password": target}]}


ASKING: dict[str, list[Call]] = {
    "host_info": [
        *(asked(*pair) for pair in ((OLD, TARGET), (WRONG, TARGET), (OLD, WRONG), ("", ""))),
        *(asked(value, TARGET) for value in (OLD + ESCAPED, [OLD], {"a": OLD})),
        {"discover": [{"kind": "smb", "server": "smb1", "passwd": OLD}]},
        {"discover": {"kind": "smb", "password": OLD}},
    ]
}
"""Of modules that only tell, calls with secrets."""


def test_every_module_with_secrets_has_a_fixture() -> None:
    have: dict[str, set[str]] = {}
    for fixture in FIXTURES.values():
        have.setdefault(fixture.module, set()).update(fixture.secrets)
    changing = {name: options for name, options in with_secrets().items() if read(name).plural}
    assert have == changing
    assert with_secrets().keys() - changing.keys() <= ASKING.keys()


@pytest.mark.parametrize("module", ASKING)
def test_modules_that_tell_show_no_secret(rig: Rig, module: str) -> None:
    with rig.watching() as seen:
        rig.run(rig.tasks([{f"microvm.host.{module}": call} for call in ASKING[module]]))
    assert len(rig.results()) == len(ASKING[module])
    assert (seen.on_host, seen.here) == ({}, {})
    assert rig.leaks() == []


@pytest.mark.parametrize("name", FIXTURES)
def test_modules_show_no_secret(rig: Rig, name: str) -> None:
    tasks = list(calls(FIXTURES[name]))
    tasks.insert(3, {"microvm.host.host_info": {"refresh": True}})
    with rig.watching() as seen:
        rig.run(rig.tasks(tasks))
    results = rig.results()
    assert len(results) == len(tasks)
    assert [result["changed"] for result in results[:3]] == [True, True, False]
    assert not results[3]["failed"] and results[-1]["changed"]
    assert {"invalid"} <= {result["error"]["kind"] for result in results if result["failed"] and "error" in result}
    assert (seen.on_host, seen.here) == ({}, {})
    assert seen.looks > 5
    assert rig.leaks() == []


def test_a_machine_shows_no_secret(rig: Rig) -> None:
    """The file is the user's. systemd has a copy for the one unit while it runs; the guest gets it from there."""
    file, copy = "/etc/canary-token", "/run/credentials/microvm@canary.service/token"
    rig.host.ssh(f"umask 077; cat > {file}", stdin=rig.secrets.old)
    item = {"name": "canary", "kernel": guests.TOY, "memory": "64MiB", "credentials": {"token": file}}
    tasks: list[Call] = [{"microvm.host.microvm": item, "check_mode": check} for check in (True, False)]
    tasks += [{"microvm.host.microvm": {**item, **more}} for more in ({"state": "restarted"}, {"kernel": "/nowhere"})]
    with rig.watching() as seen:
        rig.run(rig.tasks([*tasks, {"microvm.host.host_info": {}}]))
        running = rig.on_disk()
        rig.run(rig.tasks([{"microvm.host.microvm": {"name": "canary", "state": "absent"}}]))
    results = rig.results()
    assert [result["failed"] for result in results] == [False, False, False, True, False, False], results
    assert sorted(path for path, dummy, dummy2 in running) == [file, copy]
    assert [mode & 0o007 for path, mode, dummy in running] == [0, 0], (
        "the group's bits are the mask of an ACL for the one user"
    )
    assert (seen.on_host, seen.here) == ({}, {})
    rig.host.ssh(f"rm {file}")
    assert rig.leaks() == []


def test_playbooks_and_roles_show_no_secret(rig: Rig) -> None:
    """In the order of a life: checked, made, failing, rotated, made again, reported, removed."""
    given = rig.project.parent.parent / f"{rig.scratch.name}-given.yml"  # what users give is theirs to keep
    given.write_text(f"rotate_secret: {rig.secrets.new}\n")
    wrong = given.with_suffix(".wrong.yml")
    wrong.write_text(f"rotate_secret: {rig.secrets.wrong}\n")
    setter.write(rig.project / "set.yml", rig.lab.name)
    rotate = ["-e", "rotate_backend=share", "-e", "rotate_variable=vault_share"]
    set_it = ["-e", f"rotate_tasks={rig.project}/set.yml"]
    life: list[tuple[str, list[str], bool]] = [
        ("site", ["--check"], True),
        ("site", [], True),
        ("rotate_credentials", [*rotate, "-e", f"@{wrong}"], False),
        ("rotate_credentials", [*rotate, "-e", f"@{given}", "--check"], False),
        ("rotate_credentials", [*rotate, *set_it, "-e", f"@{given}"], True),
    ]
    lun = ["-e", "rotate_backend=lun", "-e", "rotate_variable=vault_lun", "-e", f"@{given}"]
    later: list[tuple[str, list[str], bool]] = [
        ("rotate_credentials", lun, True),
        ("site", [], True),
        ("evacuate", ["-e", f"evacuate_from={HOST}", "-e", f"evacuate_to={TWIN}"], True),
        ("report", [], True),
        ("remove", [], True),
    ]
    assert sorted({playbook for playbook, dummy, dummy2 in [*life, *later]}) == PLAYBOOKS
    text = "".join((MIRROR / "playbooks" / f"{name}.yml").read_text() for name in PLAYBOOKS)
    assert [role for role in ROLES if f"microvm.host.{role}\n" not in text] == []
    with rig.watching() as seen:
        done = [(playbook, rig.run(f"microvm.host.{playbook}", *arguments) == 0) for playbook, arguments, dummy in life]
    rig.san.set_secret("host2", rig.secrets.new)  # the server's own tool takes it as an argument
    with rig.watching() as then:
        done += [
            (playbook, rig.run(f"microvm.host.{playbook}", *arguments) == 0) for playbook, arguments, dummy in later
        ]
        at_rest = rig.on_disk()
    output = (rig.scratch / "output").read_text()
    assert done == [(playbook, works) for playbook, dummy, works in [*life, *later]], output[-6000:]
    assert (seen.on_host, seen.here, then.on_host, then.here) == ({}, {}, {}, {})
    assert rig.leaks() == []
    assert [path for path, dummy, dummy2 in at_rest] == [], "remove leaves no secret"
    assert [rig.in_vault(name) for name in ("vault_share", "vault_lun")] == [rig.secrets.new] * 2


WAITING = "pgrep -xf /usr/bin/python3"
"""A module on its way: with pipelining it is an interpreter without arguments."""


@pytest.mark.parametrize(
    ("name", "how"), [*(("backend_smb", how) for how in ("INT", "ABRT", "KILL", "ansible")),
                      *(("backend_iscsi_lvm", how) for how in ("INT", "KILL"))]
)  # fmt: skip
def test_a_crash_shows_no_secret(rig: Rig, name: str, how: str) -> None:
    """The server is silent, so that the module waits with the secret in its hands."""
    server: Container = {"backend_smb": rig.smb, "backend_iscsi_lvm": rig.san}[name]
    fixture = FIXTURES[name]
    item = {"name": "canary", **fixture.item, **fixture.secrets, "timeout": 30}
    server.pause()
    try:
        with rig.watching() as seen:
            with rig.start(rig.tasks([{"microvm.host.storage_backend": item}])) as process:
                wait_until(lambda: bool(rig.host.ssh(WAITING, check=False).stdout), 60, "the module")
                if how == "ansible":
                    process.kill()
                else:
                    rig.host.ssh(f"kill -{how} $({WAITING} | head -1)")
                process.wait(120)
            rig.host.ssh("pkill -xf /usr/bin/python3", check=False)
    finally:
        server.resume()
    assert (seen.on_host, seen.here) == ({}, {})
    assert rig.leaks() == []


RECORD = f"grep -rls auth.password /var/lib/iscsi/nodes/{iqn('mutual')}"
"""The node record with a secret in it."""


def test_a_crash_with_the_secret_at_rest_leaves_it_nowhere_else(rig: Rig) -> None:
    """Killed between the node record and the commit; the next run settles it, and one more takes all away."""
    fixture = FIXTURES["backend_iscsi_lvm"]
    item = {"name": "canary", **fixture.item, **fixture.secrets}
    with rig.watching() as seen:
        with rig.start(rig.tasks([{"microvm.host.storage_backend": item}])) as process:
            wait_until(lambda: bool(rig.host.ssh(RECORD, check=False).stdout), 60, "the node record")
            rig.host.ssh(f"kill -KILL $({WAITING} | head -1)", check=False)
            process.wait(120)
        assert rig.leaks() == []
        rig.run(rig.tasks([{"microvm.host.storage_backend": each} for each in (item, {**item, "state": "absent"})]))
    assert not any(result["failed"] for result in rig.results()[-2:]), rig.results()[-2:]
    assert (seen.on_host, seen.here) == ({}, {})
    assert rig.on_disk() == []
    assert rig.leaks() == []


def test_without_pipelining_ansible_writes_the_arguments_of_modules(rig: Rig) -> None:
    """Not ours to prevent, and documented; it also shows that the watch sees what there is to see."""
    item = {"name": "canary", **SMB.item, **SMB.secrets}
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
