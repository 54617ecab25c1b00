# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped AWX project, run as AWX does: by ansible-runner, with the answers of its surveys and a vault password."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible_runner
import pytest
import yaml

from tests.contract import snapshot
from tests.contract.controller import Controller, Task
from tests.gates.paths import MIRROR
from tests.lab import Host, Lab, SmbServer, counts, setter
from tests.lab.samba import USERS

PROJECT = MIRROR / "examples" / "awx"
PLAYBOOKS = sorted(path.stem for path in (MIRROR / "playbooks").glob("*.yml"))
HOST = "hv1.example.com"
PASSWORD = "example"
IN_THE_LAB = {
    "nas.example.com": "nas1",
    "/tank/vms": "/export/rw",
    "/tank/images": "/export/ro",
    "files.example.com": "smb1",
    "svc-microvm": "svc",
}
"""What the lab has in place of the example's servers, exports and user."""
SHIPPED, OTHER = "change-me", "another-one-16"
"""The password of the share in the example's vault, and one that it gets."""
AT_REST = "sed -n s/^password=//p /etc/microvm/credentials/smb-lab"

TYPES = {
    "multiplechoice": {"bool", "str"},
    "integer": {"int"},
    "text": {"str"},
    "password": {"str"},
    "multiselect": {"list"},
}
"""Kinds of survey questions, and the kinds of role variables that take their answers."""


def load(path: Path) -> Any:
    """The YAML of one file."""
    return yaml.safe_load(path.read_text())


def template(playbook: str) -> dict[str, Any]:
    """The job template of a playbook, as the arguments of awx.awx.job_template."""
    (task,) = load(PROJECT / "job_templates" / f"{playbook}.yml")
    found: dict[str, Any] = task["awx.awx.job_template"]
    return found


def setup(module: str) -> list[Any]:
    """What the playbook that sets AWX up gives to a module, call by call."""
    (play,) = load(PROJECT / "awx.yml")
    return [task[module] for task in play["tasks"] if module in task]


def answers(playbook: str, **given: Any) -> dict[str, Any]:
    """The extra vars of a launch: what a survey offers, but for what is ``given``. Choices are texts in AWX."""
    questions = template(playbook).get("survey_spec", {}).get("spec", [])
    offered = {question["variable"]: question["default"] for question in questions}
    assert set(given) <= set(offered)
    return {**offered, **given}


class Awx:
    """What AWX makes of the project: collections from its requirements, its own inventory, a machine credential."""

    def __init__(self, controller: Controller, directory: Path) -> None:
        self.directory = directory
        self.project = shutil.copytree(PROJECT, directory / "project")
        self.controller = controller
        self.collections = self.project / "collections"
        self._install()
        variables = self.project / "inventory" / "group_vars" / "microvm_hosts" / "main.yml"
        text = variables.read_text()
        for shown, real in IN_THE_LAB.items():
            assert shown in text
            text = text.replace(shown, real)
        variables.write_text(text)
        self.inventory = directory / "inventory"
        self._update_inventory()

    def _ansible(self, *command: str | Path) -> str:
        env = {key: value for key, value in self.controller.environment().items() if not key.startswith("ANSIBLE_")}
        done = subprocess.run(
            command, cwd=self.project, env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _install(self) -> None:
        """From the requirements, with the collection as it would be published in place of its address."""
        requirements = self.collections / "requirements.yml"
        wanted = load(requirements)
        (collection,) = wanted["collections"]
        assert re.fullmatch(r"https://.*/microvm/host\.git", collection["name"])
        self._ansible("ansible-galaxy", "collection", "build", MIRROR, "--output-path", self.directory)
        (artifact,) = self.directory.glob("microvm-host-*.tar.gz")
        requirements.write_text(json.dumps({"collections": [{"name": str(artifact), "type": "file"}]}))
        self._ansible("ansible-galaxy", "collection", "install", "-r", requirements, "-p", self.collections)

    def _update_inventory(self) -> None:
        """AWX reads the project's inventory without a password and gives a job what it read, by a script."""
        source = setup("awx.awx.inventory_source")[0]["source_path"]
        where = Path(source).parent
        read = self._ansible("ansible-inventory", "-i", source, "--playbook-dir", where, "--list", "--export")
        assert "__ansible_vault" in read and SHIPPED not in read
        kept = json.loads(read)
        hosts = json.loads(self.controller.inventory.read_text())["all"]["children"]["microvm_hosts"]["hosts"]
        kept["_meta"]["hostvars"].setdefault(HOST, {}).update(hosts["hv1"], ansible_user="admin")
        kept["microvm_hosts"]["hosts"] = [HOST]  # the others of the example are no hosts of the lab
        self.inventory.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(kept)}\nEND\n")
        self.inventory.chmod(0o700)

    def launch(self, playbook: str, extra: dict[str, Any], password: str = PASSWORD) -> ansible_runner.Runner:
        """Run a job to its end."""
        return ansible_runner.run(
            private_data_dir=str(self.directory),
            playbook=template(playbook)["playbook"],
            inventory=str(self.inventory),
            extravars={"awx_job_id": 7, **extra},
            cmdline="--vault-id @prompt",
            passwords={r"Vault password.*:\s*?$": password},
            envvars={"ANSIBLE_COLLECTIONS_PATH": str(self.collections)},
            quiet=True,
            timeout=300,
        )


@pytest.fixture
def smb(lab: Lab) -> Iterator[SmbServer]:
    """The server of the share, with the password of the example."""
    server = lab.servers["smb1"]
    assert isinstance(server, SmbServer)
    server.set_password("svc", SHIPPED)
    yield server
    server.set_password("svc", USERS["svc"])


@pytest.fixture
def awx(controller: Controller, smb: SmbServer, tmp_path: Path) -> Awx:
    """The project, ready for jobs on a bare host."""
    return Awx(controller, tmp_path / "private")


def changed(job: ansible_runner.Runner) -> int:
    """How many tasks changed something, by the statistics in the job's events; the job was successful."""
    said = job.stdout.read()
    assert job.status == "successful", said
    (stats,) = [event["event_data"] for event in job.events if event["event"] == "playbook_on_stats"]
    assert stats["processed"] == {HOST: 1}, said
    assert not stats["failures"] and not stats["dark"] and not stats["rescued"], said
    return int(stats["changed"].get(HOST, 0))


def test_the_project_runs_by_ansible_runner(awx: Awx, controller: Controller, host: Host) -> None:
    assert changed(awx.launch("site", answers("site"))) == 3
    mounts = snapshot.look(host).mounts
    assert sorted(mounts.values()) == ["//smb1/vms", "nas1:/export/ro", "nas1:/export/rw"]
    counts.add("real mounts", len(mounts))

    (other,) = controller.run(Task("nfs_export_mount", {"server": "nas1", "export": "/export/e01"}))
    assert other["changed"]
    assert changed(awx.launch("site", answers("site"))) == 0
    assert len(snapshot.look(host).mounts) == 4
    assert changed(awx.launch("site", answers("site", storage_purge="true"))) == 1
    assert snapshot.look(host).mounts == mounts

    job = awx.launch("report", answers("report"))
    assert changed(job) == 0
    (table,) = [
        event["event_data"]["res"]["msg"]
        for event in job.events
        if event["event"] == "runner_on_ok" and event["event_data"]["task"] == "Show the storage of all hosts"
    ]
    assert any(re.match(rf"{HOST} +nfs-prod +nfs +ok ", line) for line in table), table

    assert changed(awx.launch("remove", answers("remove"))) > 0
    bare = snapshot.look(host)
    assert (bare.mounts, bare.units, bare.tables) == ({}, [], None)


def ended(job: ansible_runner.Runner, text: str) -> None:
    """The job has failed and says this, and no secret."""
    said = " ".join(job.stdout.read().split())
    assert job.status == "failed" and text in said, said
    assert OTHER not in said and SHIPPED not in said


def test_a_secret_is_rotated_by_a_job(awx: Awx, lab: Lab, smb: SmbServer, host: Host) -> None:
    """A credential gives it in place of the inventory, or the survey does; the project's vault is never written."""

    def rotate(secret: str = "", **more: Any) -> ansible_runner.Runner:
        asked = answers("rotate_credentials", rotate_backend="smb-lab", rotate_secret=secret)
        return awx.launch("rotate_credentials", {**asked, **more})

    def at_rest() -> str:
        return host.ssh(AT_REST).stdout.rstrip("\n")

    assert changed(awx.launch("site", answers("site"))) == 3
    smb.set_password("svc", OTHER)
    ended(rotate(OTHER, rotate_variable="vault_smb_lab"), "is thrown away with the job")
    assert at_rest() == SHIPPED
    credential = {"vault_smb_lab": OTHER}
    job = rotate(**credential)
    assert changed(job) == 1 and at_rest() == OTHER
    assert OTHER not in job.stdout.read() + json.dumps(list(job.events))

    ended(awx.launch("site", answers("site")), "refuses the login")
    assert at_rest() == OTHER, "what the inventory has is not proven"
    assert changed(awx.launch("site", {**answers("site"), **credential})) == 0
    setter.write(tasks := awx.project / "set_on_nas.yml", lab.name)
    assert changed(rotate(SHIPPED, rotate_tasks=str(tasks))) == 2 and at_rest() == SHIPPED


def test_the_vault_credential_is_needed(awx: Awx, host: Host) -> None:
    start = snapshot.look(host)
    job = awx.launch("site", answers("site"), password="wrong")
    assert job.status == "failed"
    assert "no vault secrets were found that could decrypt" in " ".join(job.stdout.read().split())
    assert snapshot.look(host) == start


def test_every_playbook_has_a_job_template() -> None:
    assert PLAYBOOKS
    assert sorted(path.stem for path in (PROJECT / "job_templates").glob("*.yml")) == PLAYBOOKS
    for playbook in PLAYBOOKS:
        assert template(playbook)["playbook"] == f"{playbook}.yml"
        (play,) = load(PROJECT / f"{playbook}.yml")
        assert play["import_playbook"] == f"microvm.host.{playbook}"
    assert [f"job_templates/{playbook}.yml" for playbook in PLAYBOOKS] == sorted(setup("ansible.builtin.import_tasks"))


OWN_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "evacuate": {
        "evacuate_from": {"type": "str"},
        "evacuate_to": {"type": "str"},
        "evacuate_dead": {"type": "bool", "default": False},
    },
    "remove": {"remove_volumes": {"type": "str", "default": "refuse"}},
}
"""Variables of playbooks themselves, in the form of an argument spec."""


def options_of(playbook: str) -> dict[str, dict[str, Any]]:
    """The variables of a playbook: its own, and those of its roles by their argument specs."""
    found = dict(OWN_OPTIONS.get(playbook, {}))
    assert all(name in (MIRROR / "playbooks" / f"{playbook}.yml").read_text() for name in found)
    for play in load(MIRROR / "playbooks" / f"{playbook}.yml"):
        for role in play.get("roles", []):
            directory = MIRROR / "roles" / role["role"].rpartition(".")[2]
            found.update(load(directory / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"])
    return found


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_survey_asks_for_variables_of_the_roles(playbook: str) -> None:
    wanted = template(playbook)
    questions = wanted.get("survey_spec", {}).get("spec", [])
    options = options_of(playbook)
    assert wanted["survey_enabled"] is bool(questions) is bool(options)
    for question in questions:
        option = options[question["variable"]]
        assert option["type"] in TYPES[question["type"]]
        assert {"question_name", "question_description", "required", "default"} <= set(question)
        default = str(question["default"]).lower()
        assert default == str(option.get("default", "")).lower()
        if question["type"] == "multiplechoice":
            assert question["default"] in question["choices"]
        if option["type"] == "bool":
            assert sorted(question["choices"]) == ["false", "true"]
        if question["type"] == "integer":
            assert question["min"] <= question["default"] <= question["max"]


def lines(path: Path) -> list[str]:
    """The lines of a file that are no comments."""
    return [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]


def test_execution_environment_metadata_agree() -> None:
    """ansible-builder takes from a collection the two files that its metadata name; both are shipped."""
    meta = load(MIRROR / "meta" / "execution-environment.yml")
    assert meta == {"version": 1, "dependencies": {"python": "requirements.txt", "system": "bindep.txt"}}
    ignored = load(MIRROR / "galaxy.yml")["build_ignore"]
    assert not set(meta["dependencies"].values()) & set(ignored)
    assert lines(MIRROR / "requirements.txt") == []
    packages = [re.fullmatch(r"([a-z-]+) \[platform:(dpkg|rpm)\]", line) for line in lines(MIRROR / "bindep.txt")]
    assert all(packages) and {match[2] for match in packages if match} == {"dpkg", "rpm"}
    wanted = load(PROJECT / "execution-environment.yml")
    assert wanted["version"] == 3
    assert (PROJECT / wanted["dependencies"]["galaxy"]).is_file()
    oldest = load(MIRROR / "meta" / "runtime.yml")["requires_ansible"].removeprefix(">=").removesuffix(".0")
    assert wanted["dependencies"]["ansible_core"]["package_pip"].startswith(f"ansible-core>={oldest}")
