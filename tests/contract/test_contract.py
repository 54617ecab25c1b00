# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract every module keeps: check, run, run, check give changed, changed, ok, ok, and the diffs agree."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.cases import ACTS, CASES, CREDENTIALS, INFORMING, MOUNTS, SERVER, Case, Item
from tests.contract.controller import Arguments, Controller, Look, Result, Task
from tests.contract.snapshot import Snapshot
from tests.contract.specs import read, read_all
from tests.lab import counts

TABLES = {
    "nfs_export_mount": "mount_users",
    "smb_share": "mount_users",
    "storage_backend": "backends",
    "iscsi_lvm": "targets",
    "storage_volume": "volumes",
    "docker_volume_driver": "docker_volumes",
    "microvm": "machines",
    "virtiofs_share": "shares",
}
"""The registry table that has a row for each item of a module."""


def name_of(case: Case) -> str:
    """As pytest shows it."""
    return "-".join([case.module, *case.covers.values(), case.what.replace(" ", "_").replace(",", "")])


def test_every_state_has_a_fixture() -> None:
    """Modules and states are those that the specs have, found here and now."""
    have = {(case.module, option, choice) for case in CASES for option, choice in case.covers.items()}
    need = set()
    for spec in read_all():
        if not spec.plural:
            assert spec.name in INFORMING
            continue
        for option in ("state", "kind"):
            need |= {(spec.name, option, choice) for choice in spec.choices(option)}
        states = {state for module, option, state in need if module == spec.name and option == "state"}
        assert states, f"{spec.name} has no state"
    assert need == have | {(module, "state", state) for module, state in ACTS}


def outcome(results: list[Result]) -> list[str]:
    """changed, ok or what went wrong, of each result."""
    return [
        "failed: " + str(result.get("msg")) if result.get("failed") else "changed" if result["changed"] else "ok"
        for result in results
    ]


def assert_as_expected(case: Case, items: tuple[Item, ...], now: Snapshot) -> None:
    """On the host is what the items ask for, and nothing else of ours."""
    sources = {item.source for item in items if item.mounted}
    assert sorted(now.mounts.values()) == sorted(sources)
    backends = [each for dummy, args in case.given for each in args.get("backends", ()) if "iqn" in each]
    luns = [item.args for item in items if item.attached] + backends
    assert now.luns == sorted(f"{each['iqn']} {each['lun']}" for each in luns)
    assert bool(now.volumes) or not any(item.attached for item in items)
    assert len(now.units) == sum(item.unit for item in items)
    given = sum(module == case.module for module, dummy in case.given)
    assert len(registered(now, case.module)) == given + sum(item.row for item in items)
    assert now.rows("journal") == [], "an intent was left open"
    assert now.processes == []
    secrets = [path for path in now.files if path.startswith(CREDENTIALS + "/")]
    assert len(secrets) == sum(item.secret for item in items), secrets
    folders = {path for path in [*now.files, *now.mounts] if path.startswith(MOUNTS + "/")}
    bound = [item for item in items if item.mounted or item.unit]
    assert len(folders) <= len(bound), f"directories without a mount: {folders}"
    assert set(now.mounts) <= folders


def registered(now: Snapshot, module: str) -> list[Any]:
    """What the registry has of a module: rows, but shares are parts of machines."""
    if module != "virtiofs_share":
        return now.rows(TABLES[module])
    return [share for row in now.rows("machines") for share in json.loads(row["config"])["shares"]]


def steps_of(module: str, args: Arguments) -> list[Task | Look]:
    """Check, run, run, check, with a look before, between, and after those that must not change anything."""
    check, run = Task(module, args, check=True), Task(module, args)
    return [Look(), check, Look(), run, Look(), run, check, Look()]


def is_first(case: Case) -> bool:
    """Whether it is the first of its module and what it covers."""
    return case is next(each for each in CASES if (each.module, each.covers) == (case.module, case.covers))


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_check_run_run_check(controller: Controller, case: Case) -> None:
    """For a list of items, all in one play with looks at host and server.

    In the first case of each state one item comes before the list, and the list comes beside it.
    """
    spec = read(case.module)
    ahead = case.items[:1] if is_first(case) else ()
    rest = case.items[len(ahead) :]
    rest = tuple(item for number, item in enumerate(rest) if item not in rest[:number])  # there is but one driver
    calls = [(each, each[0].args) for each in (ahead,) if each]
    calls.append((rest, {spec.plural: [item.args for item in rest]}))
    plays: list[Task | Look] = [Task(*each) for each in case.given]
    for items, args in calls:
        rounds = zip(*(item.before for item in items), strict=True)
        plays += [Task(case.module, {spec.plural: list(each)}) for each in rounds]
        plays += steps_of(case.module, args)
    record = controller.play(*plays)

    setup = ["changed"] * len(rest[0].before)
    expected = [*setup, "changed", "changed", "ok", "ok"]
    first, results = record.results[: len(case.given)], record.results[len(case.given) :]
    assert outcome(first) == ["changed"] * len(case.given)
    assert outcome(results) == expected * len(calls), [result.get(spec.plural) for result in results]
    there: tuple[Item, ...] = ()
    for number, (items, dummy) in enumerate(calls):
        there += items
        answers = results[number * len(expected) + len(setup) :][:4]
        assert_contract(case, items, there, answers, record.looks[number * 4 :][:4])
        single = number < len(ahead)
        assert all((result.get(spec.singular) == result[spec.plural][0]) is single for result in answers)


def assert_contract(
    case: Case, items: tuple[Item, ...], there: tuple[Item, ...], results: list[Result], looks: list[Snapshot]
) -> None:
    """The outcome is right; now the diffs, the answers and what was seen.

    ``items``: those of the calls. ``there``: all that are in place.
    """
    spec = read(case.module)
    start, checked, done, end = looks
    assert checked == start, "check mode changed something"
    assert_as_expected(case, there, done)
    assert end == done, "a run without changes changed something"
    counts.add("real mounts", len(set(done.mounts) - set(start.mounts)))

    check, run, *again = results
    assert check["diff"] == run["diff"] and run["diff"], "check and run disagree"
    assert [result["diff"] for result in again] == [[], []]
    for result, expected in ((check, True), (run, True), (again[0], False), (again[1], False)):
        assert len(result[spec.plural]) == len(items)
        assert all(item["changed"] is expected and bool(item["actions"]) is expected for item in result[spec.plural])
        assert "results" not in result


@pytest.mark.parametrize(("module", "state"), ACTS)
def test_an_act_gives_changed_each_time(controller: Controller, module: str, state: str) -> None:
    """And check mode says the same, without doing it."""
    spec = read(module)
    (case,) = [
        case for case in CASES if case.module == module and case.covers == {"state": "started"} and case.what == "new"
    ]
    args = {spec.plural: [{**item.args, "state": state} for item in case.items]}
    task, check = Task(module, args), Task(module, args, check=True)
    begin = Task(module, {spec.plural: [item.args for item in case.items]})
    given = [Task(*each) for each in case.given]
    record = controller.play(*given, begin, Look(), check, Look(), task, task, check)
    assert outcome(record.results) == ["changed"] * (len(given) + 5)
    assert record.looks[0] == record.looks[1], "check mode changed something"
    first, *others = record.results[len(given) + 1 :]
    assert all(result["diff"] == first["diff"] != [] for result in others)


@pytest.mark.parametrize("populated", [False, True], ids=["empty_host", "populated_host"])
@pytest.mark.parametrize("module", INFORMING)
def test_info_is_ok_four_times(controller: Controller, module: str, populated: bool) -> None:
    """Info modules change nothing, ever, and make nothing on a host that has nothing."""
    backends = [item.args for case in CASES if case.what == "new" for item in case.items if "kind" in item.args]
    before = [Task("storage_backend", {"backends": backends})] if populated else []
    steps = [Task(module, args, check) for args in INFORMING[module] for check in (True, False, False, True)]
    record = controller.play(*before, Look(), *steps, Look())
    assert outcome(record.results) == ["changed"] * len(before) + ["ok"] * len(steps)
    start, end = record.looks
    assert end == start
    for found in record.results[len(before) :]:
        assert len(found["backends"]) == (len(backends) if populated else 0)
        assert {item["name"]: item["status"] for item in found["backends"] if item["status"] != "ok"} == {}
        assert found["registry"]["exists"] is populated


def test_purge_removes_what_is_not_listed_and_keeps_files(controller: Controller) -> None:
    """``purge`` keeps the contract too."""
    (case,) = [case for case in CASES if (case.what, case.covers.get("kind")) == ("new", "nfs")]
    keep, *drop = (item.args for item in case.items)
    keep = {**keep, "default": True}
    steps = [
        Task("storage_backend", {"backends": [keep], "purge": True}, check) for check in (True, False, False, True)
    ]
    record = controller.play(Task("storage_backend", {"backends": [keep, *drop]}), Look(), *steps, Look())
    assert outcome(record.results) == ["changed", "changed", "changed", "ok", "ok"]
    assert record.results[1]["diff"] == record.results[2]["diff"] != []
    start, now = record.looks
    assert list(now.mounts.values()) == [f"{SERVER}:{keep['export']}"]
    assert [row["name"] for row in now.rows("backends")] == [keep["name"]]
    assert set(start.served) <= set(now.served), f"files of {SERVER} are gone"


def test_a_default_that_fails_leaves_another_until_it_works(controller: Controller) -> None:
    """A host with backends has a default one, whatever fails; check mode sees a server that takes no connection."""
    nas = {"name": "nas", "kind": "nfs", "server": "127.0.0.1", "export": "/export/rw", "default": True}
    local = {"name": "local", "kind": "local_file"}
    task = Task("storage_backend", {"backends": [nas, local]})
    check = Task("storage_backend", task.args, check=True)
    first, done, again, last = (controller.run(each)[0] for each in (check, task, task, check))
    assert all(result["failed"] and result["error"]["item"] == "nas" for result in (first, done, again, last))
    assert [result["changed"] for result in (first, done, again, last)] == [True, True, False, False]
    assert first["diff"] == done["diff"] and done["diff"][0]["after"]["default"] is True
    assert (again["diff"], last["diff"]) == ([], [])
    assert "the next run that can makes nas the default" in first["warnings"][0]
    assert [result["backends"][1]["default"] for result in (done, again, last)] == [True] * 3

    works = Task("storage_backend", {"backends": [{**nas, "server": SERVER}, local]})
    (moved,) = controller.run(works)
    assert [each["default"] for each in moved["backends"]] == [True, False]
    assert moved["backends"][0]["actions"][-1] == "make nas the default, in place of local"
    assert "warnings" not in moved
