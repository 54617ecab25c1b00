# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of a module is what it does: its examples run, and what it returns is what RETURN says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from tests.contract import snapshot, volumes
from tests.contract.controller import Controller, Result, Task
from tests.contract.specs import Spec, controller_names, example_tasks, names, read, read_all
from tests.gates.paths import environment
from tests.lab import Host, Lab, NfsServer, SmbServer, counts
from tests.lab.samba import USERS
from tests.lab.target import TARGETS, iqn
from tests.machines import guests

Documented = dict[str, Any]


@pytest.mark.parametrize("spec", [*read_all(), *map(read, controller_names())], ids=lambda spec: spec.name)
def test_examples_are_valid(spec: Spec) -> None:
    """By the argument spec, and by the resource's own validation."""
    tasks = list(example_tasks(spec))
    assert tasks, "no example"
    for title, args in tasks:
        checked = ArgumentSpecValidator(spec.call).validate(args)
        assert not checked.error_messages, title
        if spec.resource is None:
            continue
        values = checked.validated_parameters
        listed = values.get(spec.plural)
        pairs = list(zip(listed, args[spec.plural], strict=True)) if listed is not None else [(values, args)]
        wanted = []
        for index, (value, given) in enumerate(pairs):
            item = {key: value.get(key) for key in spec.item}
            wanted.append(spec.resource.validate(item, given, f"{spec.plural}[{index}]."))
        spec.resource.together(wanted)
        assert all(each.name for each in wanted), title


VAULTED = ("vault_smb_iso", "vault_smb_templates", "vault_smb_templates_next", "vault_smb_lab")
"""Passwords that the examples take from a vault."""

TARGET_OF = {"vms": "open", "fast": "chap", "archive": "mutual"}
"""The lab's target that stands for one of the examples."""


class Examples:
    """Runs a module's examples in their order, in one play; the lab's servers stand for those that they name."""

    def __init__(self, controller: Controller, lab: Lab) -> None:
        nas, smb = lab.servers["nas1"], lab.servers["smb1"]
        assert isinstance(nas, NfsServer) and isinstance(smb, SmbServer)
        (smb.data("with space") / "templates").mkdir(exist_ok=True)
        self.controller = controller
        self.meaning = {
            "nas.example.com": "nas1",
            "archive.example.com": lab.dead_addresses(1)[0],
            "2001:db8::7": nas.address6,
            "192.0.2.9": nas.address,
            "/mnt/tank/images": "/export/ro",
            "/mnt/tank/iso": "/export/e01",
            "/mnt/tank/vms": "/export/rw",
            "/var/lib/microvm/images/vmlinuz": guests.TOY,
            "/srv/web1.raw": guests.DISK,
            "export: /vol/vol0": "export: /export/e02",
            "export: /scratch": "export: /export/rw2",
            "export: /templates": "export: /export/ro",
            "files.example.com": "smb1",
            "svc-microvm": "svc",
            "share: iso": "share: s01",
            "share: public": "share: guest",
            "Virtual Machines": "with space",
            **{"{{ %s }}" % name: USERS["svc"] for name in VAULTED},
            "san.example.com": "san1",
            "192.0.2.7": "san1",
            "2001:db8::9": lab.servers["san1"].address6,
            **{f"com.example:{name}": f"lab:{real}" for name, real in TARGET_OF.items()},
            "{{ vault_fast }}": TARGETS["chap"].chap["password"],
            "{{ vault_archive }}": TARGETS["mutual"].chap["password"],
            "{{ vault_archive_san }}": TARGETS["mutual"].chap["mutual_password"],
        }

    def run(self, spec: Spec) -> list[Result]:
        """The results of the module's own tasks; the play succeeded."""
        text = spec.examples
        for shown, real in self.meaning.items():
            text = text.replace(shown, str(real))
        playbook = self.controller.scratch / "examples.yml"
        results = self.controller.scratch / "examples.jsonl"
        play = {"hosts": snapshot.HOST, "gather_facts": False, "tasks": yaml.safe_load(text)}
        playbook.write_text(json.dumps([play]))
        results.unlink(missing_ok=True)
        done = self.controller.command(["ansible-playbook", playbook], results)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [json.loads(line)["result"] for line in results.read_text().splitlines()]
        found = [line for line in lines if (spec.plural or "registry") in line]
        assert len(found) == len(list(example_tasks(spec))), done.stdout
        return found


def documented(module: str) -> Documented:
    """RETURN of a module as ansible-doc reads it."""
    asked = subprocess.run(
        ["ansible-doc", "--json", f"microvm.host.{module}"], env=environment(), capture_output=True, check=True
    )
    found: Documented = json.loads(asked.stdout)[f"microvm.host.{module}"]["return"]
    return found


TYPES: dict[str, type | tuple[type, ...]] = {
    "bool": bool,
    "dict": dict,
    "float": (int, float),
    "int": int,
    "list": list,
    "str": str,
}
OF_EVERY_TASK = {"changed", "failed", "diff", "invocation", "warnings", "exception"}
"""What Ansible returns, or every module of Ansible."""


def own(result: Result) -> dict[str, Any]:
    """What a result has of the module itself."""
    return {key: value for key, value in result.items() if key not in OF_EVERY_TASK and not key.startswith("_ansible")}


MAY_BE_NONE = {"targets.error.item", "error.item", "backends.error.item", "mounts.error.item", "shares.error.item"}


class Comparison:
    """Returned values against what is documented; ``seen`` are the documented keys that were met."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.wrong: set[str] = set()

    def values(self, values: dict[str, Any], keys: Documented, where: str = "") -> None:
        """Compare a dict with the documented keys below ``where``."""
        self.wrong |= {f"{where}{key} is not documented" for key in values.keys() - keys.keys()}
        missing = {key for key, about in keys.items() if about["returned"] == "always"} - values.keys()
        self.wrong |= {f"{where}{key} is not returned" for key in missing}
        for key in values.keys() & keys.keys():
            self.value(values[key], keys[key], where + key)

    def value(self, value: Any, about: Documented, where: str) -> None:
        """Compare one value."""
        self.seen.add(where)
        if value is None and where in MAY_BE_NONE:
            return
        if not isinstance(value, TYPES[about["type"]]) or (isinstance(value, bool) and about["type"] != "bool"):
            self.wrong.add(f"{where} is {value!r}, not {about['type']}")
            return
        for each in value if isinstance(value, list) else [value]:
            if "elements" in about and not isinstance(each, TYPES[about["elements"]]):
                self.wrong.add(f"{where} has {each!r}, not {about['elements']}")
            elif "contains" in about:
                self.values(each, about["contains"], where + ".")


def all_keys(keys: Documented, where: str = "") -> Iterator[tuple[str, Documented]]:
    """Every documented key with what is said of it."""
    for key, about in keys.items():
        yield where + key, about
        yield from all_keys(about.get("contains", {}), f"{where}{key}.")


def running(host: Host, command: str) -> Callable[[], Any]:
    """A process of the host in the background; call what is returned to end it."""
    pid = host.ssh(f"{command} >/dev/null 2>&1 </dev/null & echo $!").stdout.strip()
    return lambda: host.ssh(f"kill {pid}")


BROKEN = """#!/bin/sh
case $1 in show|is-*) exec /usr/bin/systemctl "$@" ;; esac
echo no bus >&2
exit 1
"""
"""In place of systemctl: a program of the host that tells, but fails when it shall change something."""


EXPORT = {"server": "nas1", "export": "/export/e03"}
LUN = {
    "name": "kept-lun",
    "portal": "san1",
    "iqn": "iqn.2026-01.lab:open",
    "lun": 1,
    "vg": "vg_kept",
    "initialize": "vg_kept",
    "timeout": 60,
}
SHARE = {"server": "smb1", "share": "s03", "username": "svc", "password": USERS["svc"]}
MOUNTING: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "nfs_export_mount": ({"name": "kept", **EXPORT}, {"options": "timeo=300"}, {"export": "/export/e04"}),
    "storage_backend": ({"name": "kept", "kind": "nfs", **EXPORT}, {"options": "timeo=300"}, {"export": "/export/e04"}),
    "smb_share": ({"name": "kept", **SHARE}, {"options": "actimeo=3"}, {"share": "s04"}),
}
"""Modules that mount something; an item of each, an edit that needs another mount, and what makes it another item."""


def results_of_luns(controller: Controller, host: Host, spec: Spec) -> Iterator[Result]:
    """What the examples do not show: check mode, and a login that must wait as another LUN uses the session."""
    lun = {**LUN, "kind": "iscsi_lvm"} if "kind" in spec.item else LUN
    checked, made = controller.run(Task(spec.name, lun, check=True), Task(spec.name, lun))
    host.ssh("for scan in /sys/class/scsi_host/host*/scan; do echo 0 0 3 > $scan; done")
    (pending,) = controller.run(Task(spec.name, {**lun, "username": "host", "password": "any-secret-14"}))
    assert pending[spec.singular]["pending_login"] == ["LUN 3"]
    yield from (checked, made, pending)


DEFINED: dict[str, dict[str, Any]] = {
    "microvm": {"name": "kept", "kernel": guests.TOY},
    "virtiofs_share": {"vm": "kept", "tag": "usr", "source": "/usr"},
}
"""Modules that mount nothing, and an item of each that can be had."""


def other_results(controller: Controller, host: Host, spec: Spec) -> Iterator[Result]:
    """What the examples do not show: check mode, a mount in use, an option at fault, a program that fails."""
    if spec.name == "storage_volume":
        yield from volumes.other_results(controller, host)
        return
    task = spec.name
    args, edit, other = MOUNTING.get(spec.name, ({}, {}, {}))
    if "iqn" in spec.item:
        yield from results_of_luns(controller, host, spec)
        host.ssh("rm -r /usr/local/libexec/microvm")  # it is needed again below
    if spec.name == "iscsi_lvm":
        group = {"vg": "vg_new", "initialize": "vg_new"}
        args = {**LUN, **TARGETS["mutual"].chap, **group, "name": "new", "iqn": "iqn.2026-01.lab:mutual"}
    elif args:
        checked, made = controller.run(Task(task, args, check=True), Task(task, args))
        let_go = running(host, f"env -C {made[spec.singular]['path']} sleep 300")
        (pending,) = controller.run(Task(task, {**args, **edit}))
        assert any("sleep" in who for who in pending[spec.singular]["pending_remount"])
        let_go()
        yield from (checked, made, pending)
        args = {**args, "name": "new", **other}
    if spec.name == "virtiofs_share":
        (missing,) = controller.run(Task(task, {"vm": "none", **args, "tag": "a", "source": "/usr"}))
        controller.run(Task("microvm", {**DEFINED["microvm"], "state": "present"}))
        (assuming,) = controller.run(Task(task, {**DEFINED[task], "source": "/srv/none"}, check=True))
        yield from (missing, assuming)
    if spec.name == "microvm":
        (assuming,) = controller.run(Task(task, {"name": "new", "kernel": "/srv/guests/none"}, check=True))
        yield assuming
    args = args or dict(DEFINED.get(spec.name, {}))
    (invalid,) = controller.run(Task(task, {**args, "timeout": 0}))
    assert invalid["error"]["field"] == "timeout"
    host.ssh("cat > /usr/local/sbin/systemctl; chmod +x /usr/local/sbin/systemctl", stdin=BROKEN)
    try:
        (failed,) = controller.run(Task(task, args))
    finally:
        host.ssh("rm /usr/local/sbin/systemctl")
    assert failed["error"]["stderr"] == "no bus"
    yield from (invalid, failed)


@pytest.mark.parametrize("module", [name for name in names() if read(name).plural])
def test_examples_run_and_return_what_is_documented(controller: Controller, host: Host, lab: Lab, module: str) -> None:
    spec = read(module)
    if module == "storage_volume":
        volumes.prepare(controller, host)
    if module == "microvm":
        controller.run(Task("storage_backend", {"name": "local", "kind": "local_file"}))
    results = Examples(controller, lab).run(spec)
    counts.add("real mounts", len(snapshot.look(host).mounts))
    snapshot.reset(lab)
    results += other_results(controller, host, spec)
    keys = documented(module)
    compared = Comparison()
    for result in results:
        compared.values(own(result), keys)
    assert compared.wrong == set()
    every = dict(all_keys(keys))
    assert {key for key in every if key not in compared.seen} == set(), "documented, but never returned"
    for key, about in every.items():
        if "sample" in about:
            Comparison.value(compared, about["sample"], about, key)
    assert compared.wrong == set(), "samples"
    assert {key for key, about in every.items() if "contains" not in about and "sample" not in about} == set()


def test_examples_of_host_info_run_and_its_samples_are_real(controller: Controller, host: Host, lab: Lab) -> None:
    """Its items are those of the resource modules, so their RETURN holds for them."""
    examples = Examples(controller, lab)
    bare, offered = examples.run(read("host_info"))
    backends = {
        "backends": [
            {"name": "local", "kind": "local_file"},
            {"name": "nas", "kind": "nfs", "server": "nas1", "export": "/export/rw"},
        ]
    }
    mount = {"server": "nas1", "export": "/export/ro", "read_only": True}
    share = {"server": "smb1", "share": "s05", "username": "svc", "password": USERS["svc"]}
    lun = {**LUN, "layout": "thin", "portals": ["san1:3261"]}
    machine = {**DEFINED["microvm"], "shares": [{"tag": "usr", "source": "/usr"}]}
    volume = {"name": "web1-root", "backend": "nas", "size": "1MiB", "snapshots": ["fresh"]}
    controller.run(
        Task("storage_backend", backends),
        Task("nfs_export_mount", mount),
        Task("smb_share", share),
        Task("iscsi_lvm", lun),
        Task("storage_volume", volume),
        Task("microvm", machine),
    )
    host.ssh(BESIDE)
    host.ssh('python3 -c "$(cat)"', stdin=ROWS)
    let_go = running(host, "flock --no-fork /run/microvm/locks/backend-nas sleep 300")
    populated, dummy = examples.run(read("host_info"))
    let_go()
    populated["discovered"] = offered["discovered"]
    keys = documented("host_info")
    items = {
        "backends": documented("storage_backend")["backends"]["contains"],
        "mounts": documented("nfs_export_mount")["mounts"]["contains"],
        "shares": documented("smb_share")["shares"]["contains"],
        "volumes": documented("storage_volume")["volumes"]["contains"],
        "targets": documented("iscsi_lvm")["targets"]["contains"],
        **{name: keys[name]["contains"] for name in ("docker_volumes", "images", "jobs", "orphans", "discovered")},
        "machines": documented("microvm")["machines"]["contains"],
        "machine_shares": documented("virtiofs_share")["shares"]["contains"],
    }
    for result in (bare, populated):
        compared = Comparison()
        given = {
            name: {**about, "returned": "always"} for name, about in keys.items() if about["returned"] == "success"
        }
        compared.values(own(result), given)
        assert compared.wrong == set()
    (failed,) = controller.run(Task("host_info", {"timeout": 0}))
    compared = Comparison()
    compared.values(own(failed), {name: about for name, about in keys.items() if about["returned"] == "failure"})
    assert compared.wrong == set()
    assert {"msg", "error", *(f"error.{name}" for name in keys["error"]["contains"])} == compared.seen
    for key in [key for key, about in keys.items() if about["type"] == "list"]:
        sample, real = keys[key]["sample"], populated[key]
        assert bool(sample) is bool(real), key
        assert {name for item in sample for name in item} == {name for item in real for name in item}, key
        about = items.get(key) or typed(sample)
        compared = Comparison()
        for item in [*sample, *real]:
            compared.values(item, {name: {**said, "returned": "when known"} for name, said in about.items()})
        assert compared.wrong == set(), key
    assert {"export": "/export/rw"} in populated["discovered"][0]["offers"]
    assert [each["iqn"] for each in populated["discovered"][2]["offers"]] == [iqn(name) for name in TARGETS]
    intent, dummy = populated["registry"]["open_intents"]
    assert set(intent) == set(keys["registry"]["contains"]["open_intents"]["sample"][0])


ROWS = """
import sqlite3
with sqlite3.connect("/var/lib/microvm/registry.db") as registry:
    registry.execute("INSERT INTO docker_volumes (name, opts, created) VALUES (?, ?, ?)", (
        "web", '{"server": "nas1", "path": "/export/rw2"}', "2026-11-21T06:58:03Z"))
    registry.execute("INSERT INTO journal VALUES ('0', 'backend', 'nas', 4711, 0, '[]', '{}')")
    registry.execute("INSERT INTO journal VALUES ('1', 'volume', 'web2', 4712, 0, '[]', ?)", (
        '{"progress": {"percent": 40, "rate": 104857600, "seconds_left": 24.6}}',))
"""
"""What only Docker, a killed run or one under way make: a volume of Docker's and open intents."""
BESIDE = """
cd /var/lib/microvm/volumes
truncate -s 4096 stranger.raw
mkdir -p .microvm/images
truncate -s 4096 .microvm/images/%s.raw
""" % ("0f" * 32)
"""What lies on a backend beside the volumes of this host."""


def typed(sample: list[dict[str, Any]]) -> Documented:
    """What a sample says of its keys, in the form of RETURN."""
    kinds = {str: "str", int: "int", bool: "bool"}
    return {name: {"type": kinds[type(value)]} for item in sample for name, value in item.items()}
