# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the README shows is what happens: its commands, its errors, its play and its table of files, taken from it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pexpect
import pytest
import yaml

from ansible_collections.microvm.host.plugins.module_utils._host.errors import KINDS
from tests import demo
from tests.contract import snapshot
from tests.contract.controller import Controller
from tests.gates.mirror import files_of
from tests.gates.paths import BUILD, MIRROR, environment
from tests.lab import Host, Lab, NfsServer, counts
from tests.lab.samba import USERS
from tests.lab.target import TARGETS, iqn
from tests.machines import guests

README = (MIRROR / "README.md").read_text()
PASSWORD = "example"
RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0 ", re.MULTILINE)


def section(title: str) -> str:
    """The text below a heading."""
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match[1]


def blocks(title: str, language: str) -> list[str]:
    """The code of one language below a heading."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)
    assert found, f"no {language} below {title}"
    return [str(code) for code in found]


class Names:
    """What the README's names mean in the lab, in what is run and in what is said."""

    def __init__(self, lab: Lab) -> None:
        dead = lab.dead_addresses(1)[0]
        self.meaning = {
            "nas.example.com": "nas1",
            "smb.example.com": "smb1",
            "/tank/vms": "/export/rw",
            "/tank/images": "/export/ro",
            "files.example.com": "smb1",
            "svc-microvm": "svc",
            "san.example.com": "san1",
            "iqn.2026-01.com.example:vms": iqn("chap"),
            "tank-vms": "export-rw",
            "192.0.2.1": dead,
            "/var/lib/microvm/images/vmlinuz": guests.TOY,
            "/srv/images/web1.raw": guests.DISK,
        }

    def of(self, text: str) -> str:
        """The text as it is to be in the lab."""
        for shown, real in self.meaning.items():
            text = text.replace(shown, real)
        return text


def environment_of(home: Path) -> dict[str, str]:
    """Of a user with an empty home, where nothing is installed yet."""
    env = {key: value for key, value in environment().items() if not key.startswith("ANSIBLE_")}
    home.mkdir(exist_ok=True)
    return {**env, "HOME": str(home), "ANSIBLE_LOCALHOST_WARNING": "0"}


class Shell:
    """Runs the README's lines as they stand; ``localhost`` is the lab's host, whose user has to use sudo."""

    def __init__(self, controller: Controller, names: Names, directory: Path) -> None:
        host = json.loads(controller.inventory.read_text())["all"]["children"]["microvm_hosts"]["hosts"]["hv1"]
        inventory = directory / "localhost.yml"
        inventory.write_text(json.dumps({"all": {"hosts": {"localhost": {**host, "ansible_user": "admin"}}}}))
        self.names = names
        self.env = {
            **environment_of(directory / "home"),
            "ANSIBLE_INVENTORY": str(inventory),
            "ANSIBLE_COLLECTIONS_PATH": str(BUILD),
        }

    def run(self, line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """One line; its exit code is for the caller to judge."""
        return subprocess.run(
            ["bash", "-c", self.names.of(line)],
            cwd=cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture
def shell(controller: Controller, lab: Lab, tmp_path: Path) -> Shell:
    """The user of the README, with a bare host."""
    return Shell(controller, Names(lab), tmp_path)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as git has it, edits included."""
    directory = tmp_path_factory.mktemp("clone")
    for name in files_of(MIRROR):
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(MIRROR / name, target)
    for words in (["init"], ["add", "--all"], ["-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-mx"]):
        subprocess.run(["git", *words], cwd=directory, check=True, capture_output=True)
    return directory


def installed(home: Path) -> set[str]:
    """The files of the collection in a home."""
    top = home / ".ansible" / "collections" / "ansible_collections" / "microvm" / "host"
    return {str(path.relative_to(top)) for path in (top / "plugins").rglob("*.py")}


def test_five_lines_on_ones_own_host(shell: Shell, host: Host, clone: Path, tmp_path: Path) -> None:
    (code,) = blocks("On your own host", "console")
    lines = code.splitlines()
    assert len(lines) == 5
    install, *rest = lines
    del shell.env["ANSIBLE_COLLECTIONS_PATH"]
    done = shell.run(install, clone)
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = [False, True, True, False]
    for line, mounted in zip(rest, wanted, strict=True):
        done = shell.run(line, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert ("CHANGED" in done.stdout) is ("host_info" not in line), done.stdout
        mounts = snapshot.look(host).mounts
        assert list(mounts.values()) == (["nas1:/export/rw"] if mounted else [])
        counts.add("real mounts", len(mounts))
    assert "--check" in rest[0] and rest[0].replace(" --check --diff", "") == rest[1]


def test_git_and_tarball_install_the_same(clone: Path, tmp_path: Path) -> None:
    (code,) = blocks("On your own host", "console")
    match = re.search(r"\S+\.tar\.gz", code)
    assert match is not None and "`ansible-galaxy collection build`" in section("On your own host")
    found = []
    by_git = code.splitlines()[0]
    by_tarball = f"ansible-galaxy collection build && ansible-galaxy collection install {match[0]} && rm {match[0]}"
    for number, line in enumerate((by_git, by_tarball)):
        home = tmp_path / str(number)
        subprocess.run(["bash", "-c", line], cwd=clone, env=environment_of(home), check=True, capture_output=True)
        found.append(installed(home))
    assert found[0] == found[1] != set()


def failures() -> list[tuple[str, str, str]]:
    """Command, message and kind of each failure that the README shows."""
    (code,) = blocks("What it says when it fails", "console")
    found = []
    for call in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        line, said = call.split("\n", 1)
        match = re.fullmatch(r"(.*) \((\w+)\)", " ".join(said.split()))
        assert match is not None, said
        found.append((line, match[1], match[2]))
    return found


def test_it_shows_three_errors() -> None:
    assert [kind for line, message, kind in failures()] == ["invalid", "refused", "unreachable"]


@pytest.mark.parametrize(("line", "message", "kind"), failures(), ids=lambda value: value if value in KINDS else "")
def test_an_error_is_what_it_shows(
    shell: Shell, host: Host, tmp_path: Path, line: str, message: str, kind: str
) -> None:
    done = shell.run(line, tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    result = json.loads(done.stdout.partition("=> ")[2])
    assert (result["msg"], result["error"]["kind"]) == (shell.names.of(message), kind)
    left = snapshot.look(host)
    assert (left.mounts, left.units, left.rows("mounts"), left.rows("journal")) == ({}, [], [], [])


def test_it_names_all_kinds_of_errors() -> None:
    match = re.search(r"kinds are `([^`]+)`", section("What it says when it fails"))
    assert match is not None
    assert tuple(match[1].replace(",", " ").split()) == KINDS


@pytest.mark.parametrize(("server", "goes_on"), [("dead", True), ("nas1", False)], ids=["unreachable", "not_found"])
def test_the_rescue_goes_on_after_one_kind_only(controller: Controller, lab: Lab, server: str, goes_on: bool) -> None:
    (code,) = [code for code in blocks("What it says when it fails", "yaml") if "rescue:" in code]
    assert "error.kind" in code
    tasks = yaml.safe_load(
        code.replace("archive.example.com", lab.dead_addresses(1)[0] if server == "dead" else server)
    )
    playbook = controller.scratch / "rescue.yml"
    playbook.write_text(json.dumps([{"hosts": "microvm_hosts", "gather_facts": False, "tasks": tasks}]))
    done = controller.command(["ansible-playbook", playbook])
    assert (done.returncode == 0) is goes_on, done.stdout + done.stderr
    assert re.search(rf" failed={0 if goes_on else 1} .* rescued=1 ", done.stdout), done.stdout
    assert ("the server has no such export" in done.stdout.split("Fail for any other reason")[1]) is not goes_on


SHARE = {"server": "smb1", "share": "vms", "username": "svc", "password": USERS["svc"]}
LUN = {"portal": "san1", "iqn": iqn("open"), "lun": 1, "vg": "vg_vms", "initialize": "vg_vms", "timeout": 60}
EVERYTHING = {
    "storage_backends": [
        {"name": "nas", "kind": "nfs", "server": "nas1", "export": "/export/rw", "default": True},
        {"name": "files", "kind": "smb", **SHARE},
        {"name": "san", "kind": "iscsi_lvm", **LUN},
    ],
    "storage_volumes": [{"name": "web1-data", "backend": "nas", "size": "1MiB"}],
    "microvm_machines": [
        {
            "name": "web1",
            "kernel": guests.TOY,
            "memory": "64MiB",
            "interfaces": [{"type": "tap"}],
            "shares": [{"tag": "keys", "source": "/usr/share/keyrings"}],
        }
    ],
    "docker_volumes_enabled": True,
}
"""What leaves something of each sort on a host."""


def test_the_demo_is_as_shown(controller: Controller, nas: NfsServer, host: Host) -> None:
    """Its table, and what its machine says."""
    demo.prepare(host, nas)
    playbook(controller, "microvm.host.site", json.dumps(demo.WANTED))
    said = playbook(controller, "microvm.host.report", "{}")
    rows = [" ".join(re.split(r"[ \",]+", line.strip(' ",'))) for line in said.splitlines()]
    table, console = blocks("The demo", "text")
    assert demo.spoken(host) == console
    (nas.data("rw2") / "hello").unlink()
    for line in table.splitlines():
        pattern = re.sub(r"[\d.]+ [KMGT]iB", "SIZE", " ".join(re.split(r"[ ,]+", line)))
        assert any(re.fullmatch(re.escape(pattern).replace("SIZE", r"[\d.]+ [KMGT]iB"), row) for row in rows), line


def test_it_lists_all_that_it_puts_on_a_host(controller: Controller, lab: Lab, nas: NfsServer, host: Host) -> None:
    """Each new path is listed, each listed path appears, remove.yml leaves what it says; volumes stop it."""
    table, told = section("What it puts on a host").split("```console", 1)
    listed = re.findall(r"`(/[^`]+)`", table)
    exports = snapshot.exports(lab)
    before = snapshot.look(host)
    playbook(controller, "microvm.host.site", json.dumps(EVERYTHING))
    (nas.data("rw") / "another.raw").write_text("somebody's")
    after = snapshot.look(host, exports)
    new = (set(after.files) | set(after.mounts)) - set(before.files)
    parents = {str(parent) for path in listed for parent in Path(path).parents}

    def covers(pattern: str, path: str) -> bool:
        return path == pattern or path.startswith(pattern + "/") or fnmatch(path, pattern) or path in parents

    assert {path for path in new if not any(covers(pattern, path) for pattern in listed)} == set()
    assert {pattern for pattern in listed if not any(covers(pattern, path) for path in new - parents)} == set()

    done = controller.command(["ansible-playbook", "microvm.host.remove"])
    assert done.returncode != 0 and "hv1 has 1 volume(s): web1-data; nothing was removed" in done.stdout, done.stdout
    kept = snapshot.look(host)
    assert (kept.mounts, kept.luns) == (after.mounts, after.luns)
    assert [kept.rows(table) for table in ("volumes", "machines")] == [
        after.rows(table) for table in ("volumes", "machines")
    ]

    playbook(controller, "microvm.host.remove", json.dumps({"remove_volumes": "delete"}))
    bare = snapshot.look(host, exports)
    left = set(bare.files) - set(before.files)
    assert "empty directory `/var/lib/microvm/mounts`, and those of open-iscsi" in told and "local volumes" in told
    left -= {f"/var/lib/iscsi/{name}" for name in ("nodes", "static", "ifaces")}
    stays = ("/var/lib/microvm/mounts", "/var/lib/microvm/volumes")
    assert {path for path in left - parents if not path.startswith(stays)} == set()
    assert (bare.mounts, bare.luns, bare.volumes) == (before.mounts, before.luns, before.volumes)
    assert host.ssh("grep ^mvm- /etc/passwd; ls -d /sys/class/net/mv* || true").stdout == ""
    kept_there = {path for path in after.served if not Path(path).name.startswith("web1-data")}
    assert kept_there <= set(bare.served) and any(path.endswith("/backend.json") for path in kept_there)


ROLES = sorted(path.parent.name for path in (MIRROR / "roles").glob("*/README.md"))


@pytest.mark.parametrize("role", ROLES)
def test_the_example_of_a_role_runs(controller: Controller, lab: Lab, role: str) -> None:
    text = (MIRROR / "roles" / role / "README.md").read_text()
    every = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (code,) = [block for block in every if f"microvm.host.{role}" in block]
    path = controller.scratch / "role.yml"
    path.write_text(Names(lab).of(code))
    playbook(controller, str(path), json.dumps({"vault_vms_password": USERS["svc"]}))


def playbook(controller: Controller, name: str, variables: str) -> str:
    """Run a playbook, and return what it printed."""
    done = controller.command(["ansible-playbook", name, "-e", variables])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


SITE = MIRROR / "examples" / "site"


def bare_yaml(text: str) -> str:
    """A file as the README shows it: without licence and document start."""
    return re.sub(r"\A(#.*\n)*(---\n)?", "", text)


def test_the_inventory_it_shows_is_the_one_that_is_shipped() -> None:
    shown = re.findall(r"`([\w./]+)`:\n\n```(?:yaml|ini)\n(.*?)```", section("Three hosts"), re.DOTALL)
    assert [name for name, code in shown] == [
        "ansible.cfg",
        "inventory/hosts.yml",
        "inventory/group_vars/microvm_hosts/main.yml",
        "site.yml",
    ]
    for name, code in shown:
        assert code == bare_yaml((SITE / name).read_text()), name


CHAP = TARGETS["chap"].account
assert CHAP is not None
SECRETS = {"vault_become_password": PASSWORD, "vault_smb_lab": USERS["svc"], "vault_san1": CHAP[1]}
"""What belongs into the example's vault."""


@pytest.fixture
def three(lab: Lab) -> Iterator[Lab]:
    """Three hosts with Debian 12, whose user needs the password for sudo."""
    name = f"{lab.name}-three"
    Lab.take_down(name)
    lab = Lab.up(name, hosts=3, servers=["nfs", "smb", "iscsi"], prepared=True, suite="bookworm")
    try:
        for host in lab.hosts.values():
            host.keep_bytecode()
            host.ssh(f"echo admin:{PASSWORD} | chpasswd; sed -i s/NOPASSWD:// $(grep -l ^admin /etc/sudoers.d/*)")
        yield lab
    finally:
        lab.down()


def test_three_hosts(three: Lab, tmp_path: Path) -> None:
    """The commands as they stand, then the last one again, on the example with the lab's names in it."""
    shutil.copytree(SITE, tmp_path / "examples" / "site")
    inventory = tmp_path / "examples" / "site" / "inventory"
    variables = inventory / "group_vars" / "microvm_hosts"
    main, vault = variables / "main.yml", variables / "vault.yml"
    main.write_text(Names(three).of(main.read_text()) + "report_timeout: 30\n")  # three hosts on few cores
    vault.write_text(
        re.sub(r"^(\w+): change-me$", lambda line: f"{line[1]}: {SECRETS[line[1]]}", vault.read_text(), flags=re.M)
    )
    known: dict[str, Any] = json.loads(three.inventory.read_text())["all"]["children"]["microvm_hosts"]["hosts"]
    (inventory / "host_vars").mkdir()
    for name, connection in known.items():
        connection.pop("ansible_user")
        (inventory / "host_vars" / f"{name}.example.com.yml").write_text(json.dumps(connection))

    (code,) = blocks("Three hosts", "console")
    *dummy, check, run = code.splitlines()
    assert check == f"{run} --check --diff"
    shell = pexpect.spawn(
        "bash",
        ["-ec", f"{code}\n{run}"],
        cwd=str(tmp_path),
        env={**environment(), "ANSIBLE_HOST_KEY_CHECKING": "0"},
        encoding="utf-8",
        timeout=240,
        dimensions=(50, 200),
    )
    said = ""
    while shell.expect([r"(?i)vault password[^:\n]*: ", pexpect.EOF]) == 0:
        said += shell.before
        shell.sendline(PASSWORD)
    said = (said + shell.before).replace("\r", "")
    shell.close()
    assert shell.exitstatus == 0, said
    assert "$ANSIBLE_VAULT" in vault.read_text()
    recaps = [(name.removesuffix(".example.com"), int(changed)) for name, changed in RECAP.findall(said)]
    assert recaps == [(name, changed) for changed in (3, 3, 0) for name in ("hv1", "hv2", "hv3")], said
    rows = re.findall(r"^ *\"(hv\d)\.example\.com +([\w-]+) +\w+ +(ok|standby) ", said, re.MULTILINE)
    assert (
        len([row for row in rows if row[1] in ("nfs-prod", "smb-lab", "local", "scratch") and row[2] == "ok"]) == 20
    ), said
    owners = [row for row in rows if row[1:] == ("san1", "ok")]
    assert len(owners) == 2 and owners[0] == owners[1], "one host owns the group, the same in both runs"
    assert len([row for row in rows if row[1:] == ("san1", "standby")]) == 4, said

    places = set()
    for host in three.hosts.values():
        seen = host.ssh("grep -E ' - (nfs4?|cifs) ' /proc/self/mountinfo").stdout.splitlines()
        mounts = {line.split()[4]: line.partition(" - ")[2].split()[1] for line in seen}
        assert sorted(mounts.values()) == ["//smb1/vms", "nas1:/export/ro", "nas1:/export/rw"]
        places.add(frozenset(mounts))
        counts.add("real mounts", len(mounts))
    assert len(places) == 1, "the hosts took one export for different backends"
