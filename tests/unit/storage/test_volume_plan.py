# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a volume, planned from what was seen of backends and images."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import (
    file_store,
    kinds,
    making_steps,
    probe,
    snapshot_steps,
    volume_seen,
    volumes,
)
from ansible_collections.microvm.host.plugins.module_utils._storage.image import Image
from ansible_collections.microvm.host.plugins.module_utils._storage.volume_options import Volume

MIB = 1 << 20
BASE = {"kind": "local_file", "uuid": "u", "identity": "marker", "enabled": 1, "capabilities": [], "is_default": 0}
ROW = {"name": "web1", "backend": "local", "size": MIB, "uuid": "1234", "config": {}}
CHECKSUM, FINGERPRINT = "c" * 64, "f" * 64


def label(owner: str = "") -> dict[str, t.Any]:
    return {"name": "web1", "uuid": "1234", "owner": owner or probe.host_mark(), "hostname": owner or "here"}


def disk(**more: t.Any) -> dict[str, t.Any]:
    """A volume of 1 MiB as a look finds it."""
    return {"size": MIB, "allocated_bytes": 0, "label": label(), "snapshots": {}, **more}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> volume_seen.Seen:
    """The backends local (default) and other, with nothing on them."""
    monkeypatch.setattr(kinds, "store_of", lambda row, mounts: file_store.FileStore(row, "/" + row["name"]))
    found = object.__new__(volume_seen.Seen)
    found.stores = {}
    found.rows, found.users, found.default, found.images = {}, {}, "local", {}
    found.backends = {name: {**BASE, "name": name} for name in ("local", "other")}
    found.looks = {name: {"status": "ok", "volumes": {}} for name in found.backends}
    found.mounts = t.cast("t.Any", None)
    return found


def there(seen: volume_seen.Seen, backend: str = "local", **more: t.Any) -> None:
    """The volume web1 is registered, and is on a backend."""
    seen.rows = {"web1": dict(ROW)}
    seen.looks[backend]["volumes"]["web1"] = disk(**more)


def planned(seen: volume_seen.Seen, **options: t.Any) -> Plan:
    return volumes.Volumes().plan(Volume("web1", options.pop("state", "present"), 60, **options), seen)


def refusal(seen: volume_seen.Seen, **options: t.Any) -> HostError:
    with pytest.raises(HostError) as refused:
        planned(seen, **options)
    return refused.value


def committed(plan: Plan, path: pathlib.Path) -> registry.Row:
    """The row of a volume that a plan writes."""
    with registry.writing(str(path)) as connection:
        registry.put(connection, "backends", {"name": "local", **BASE, "config": {}})
        assert plan.commit is not None
        plan.commit(connection, {})
        (row,) = registry.rows(connection, "SELECT * FROM volumes")
    return row


@pytest.mark.parametrize(
    ("beside", "kind", "checksum", "key"),
    [
        (True, "raw", "", ""),
        (True, "raw", CHECKSUM, CHECKSUM),
        (True, "qcow2", "", FINGERPRINT),
        (False, "raw", "", FINGERPRINT),
        (False, "qcow2", CHECKSUM, CHECKSUM),
    ],
)
def test_an_image_is_put_on_the_backend_unless_it_is_there(
    seen: volume_seen.Seen, beside: bool, kind: str, checksum: str, key: str
) -> None:
    seen.images["web1"] = {"path": "/srv/a", "size": MIB, "beside": beside, "fingerprint": FINGERPRINT}
    plan = planned(seen, image=Image("/srv/a", "/srv/a", "", kind, checksum))
    (step,) = plan.steps
    assert isinstance(step, making_steps.MakeVolume)
    assert step.source is not None
    assert (step.source["key"], step.about.get("key", "")) == (key, key)
    assert plan.after == {"backend": "local", "size": MIB, "image": "/srv/a", "snapshots": []}


def test_smaller_than_its_image_is_refused(seen: volume_seen.Seen) -> None:
    seen.images["web1"] = {"path": "/srv/a", "size": MIB, "beside": True, "fingerprint": FINGERPRINT}
    error = refusal(seen, size=MIB // 2, image=Image("/srv/a", "/srv/a", "", "raw", ""))
    assert (error.kind, error.field) == ("invalid", "size")


def test_the_size_of_an_image_that_is_not_there_yet_is_not_told(seen: volume_seen.Seen) -> None:
    seen.images["web1"] = {"error": "there is no /srv/a", "kind": "not_found"}
    plan = planned(seen, image=Image("/srv/a", "/srv/a", "", "raw", ""))
    assert plan.after == {"backend": "local", "image": "/srv/a", "snapshots": []}
    assert plan.actions() == ["make volume web1 on local"]
    assert [each.kind for each in plan.assumes] == ["not_found"]


def test_an_unchanged_volume_has_no_steps(seen: volume_seen.Seen) -> None:
    there(seen)
    assert planned(seen, size=MIB).steps == []


@pytest.mark.parametrize(
    ("options", "kind", "hint"),
    [
        ({"backend": "other"}, "conflict", "storage_volume with move: true"),
        ({"size": MIB // 2}, "conflict", "shrink: true"),
        ({"restore": "gone"}, "not_found", "it has none"),
        ({"filesystem": {"type": "xfs"}}, "conflict", "not replaced"),
    ],
)
def test_what_is_refused_says_which_option_would_do_it(
    seen: volume_seen.Seen, options: dict[str, t.Any], kind: str, hint: str
) -> None:
    there(seen)
    seen.rows["web1"]["config"] = {"filesystem": {"type": "ext4"}}
    error = refusal(seen, **options)
    assert error.kind == kind
    assert hint in error.hint


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ({"label": label("other")}, "conflict"),
        ({"label": None}, "conflict"),
        ({"holder": {"holder": "machine a", "hostname": "hv1", "pid": 1, "since": "now"}}, "in_use"),
    ],
)
@pytest.mark.parametrize("options", [{"size": 2 * MIB}, {"snapshots": ("a",)}, {"state": "absent"}])
def test_what_is_not_ours_or_in_use_is_left_alone(
    seen: volume_seen.Seen, found: dict[str, t.Any], kind: str, options: dict[str, t.Any]
) -> None:
    there(seen, **found)
    if found.get("label") == label("other") and options.get("state") == "absent":
        assert planned(seen, state="absent").actions() == ["forget volume web1, which is that of other now"]
        return
    assert refusal(seen, **options).kind == kind


def test_only_what_another_host_holds_may_be_taken_over(seen: volume_seen.Seen) -> None:
    held = {"holder": "machine a", "hostname": "hv1", "pid": 1, "since": "now"}
    for host, hint in ((probe.host_mark(), "stop what uses it"), ("0" * 8, "takeover: true")):
        there(seen, holder={**held, "host": host})
        error = refusal(seen, size=2 * MIB)
        assert error.kind == "in_use" and hint in error.hint
        assert ("takeover" in error.hint) == (host == "0" * 8)


def test_a_volume_of_another_host_is_adopted_only_when_that_is_asked_for(seen: volume_seen.Seen) -> None:
    seen.looks["local"]["volumes"]["web1"] = disk(label=label("hv2"))
    assert "adopt: true" in refusal(seen, size=MIB).hint
    plan = planned(seen, adopt=True, size=2 * MIB)
    assert [step.describe() for step in plan.steps] == [
        "adopt volume web1 on local from hv2",
        "grow volume web1 on local to 2097152 bytes",
    ]


def test_a_backend_that_is_down_leaves_its_volumes_as_they_are(seen: volume_seen.Seen) -> None:
    there(seen)
    seen.looks["local"] = {"status": "unreachable"}
    assert planned(seen, size=MIB, snapshots=()).steps == []
    assert refusal(seen, size=2 * MIB).kind == "unreachable"
    assert refusal(seen, snapshots=("now",)).kind == "unreachable", "who asks for one relies on it"


OWNER = "hv2.d3be1e87"
HOLDER = {"holder": "machine a", "hostname": "hv1", "pid": 1, "since": "now"}


def standby(seen: volume_seen.Seen, owner: str = OWNER, **held: t.Any) -> None:
    """The volume web1 is registered, and another host has taken its backend over."""
    there(seen)
    seen.looks["local"] = {"status": "standby", "owner": owner, "volumes": held}


def test_a_volume_whose_backend_went_to_another_host_is_only_forgotten(seen: volume_seen.Seen) -> None:
    standby(seen)
    plan = planned(seen, state="absent")
    assert plan.actions() == ["forget volume web1: backend local belongs to hv2.d3be1e87 now, its data stays"]
    assert [type(step).__name__ for step in plan.steps] == ["Record"], "nothing on the LUN is touched"
    assert plan.diff() == {"before": {"backend": "local", "size": MIB}, "after": {}}
    assert plan.commit is not None


def test_it_is_not_forgotten_while_something_on_this_host_uses_it(seen: volume_seen.Seen) -> None:
    standby(seen, web1={"label": None, "snapshots": {}, "holder": HOLDER})
    assert refusal(seen, state="absent").kind == "in_use"
    standby(seen)
    seen.users = {"web1": {"m"}}
    assert "machine m" in refusal(seen, state="absent").message


@pytest.mark.parametrize("status", ["unreachable", "logged_out", "foreign", "unsupported"])
def test_a_backend_that_nobody_can_tell_of_keeps_its_volumes(seen: volume_seen.Seen, status: str) -> None:
    there(seen)
    seen.looks["local"] = {"status": status}
    error = refusal(seen, state="absent")
    assert "can't delete volume web1: backend local" in error.message and "forget: true" in error.hint


@pytest.mark.parametrize("looked", [{"status": "unreachable"}, {"status": "foreign"}, {}])
def test_a_volume_is_only_forgotten_when_that_is_asked_for(seen: volume_seen.Seen, looked: dict[str, t.Any]) -> None:
    there(seen)
    seen.looks["local"] = looked or seen.looks["local"]
    plan = planned(seen, state="absent", forget=True)
    assert plan.actions() == ["forget volume web1, its data stays on backend local"]
    assert [type(step).__name__ for step in plan.steps] == ["Record"], "nothing on the backend is touched"
    seen.rows = {}
    assert planned(seen, state="absent", forget=True).steps == []
    if not looked:
        assert planned(seen, adopt=True).actions()[0] == "adopt volume web1 on local from here"


def test_nor_is_it_forgotten_in_use(seen: volume_seen.Seen) -> None:
    there(seen, holder=HOLDER)
    assert refusal(seen, state="absent", forget=True).kind == "in_use"
    there(seen)
    seen.users = {"web1": {"m"}}
    assert refusal(seen, state="absent", forget=True).kind == "in_use"


@pytest.mark.parametrize("forget", [True, False])
def test_one_that_another_host_took_is_forgotten_while_that_uses_it(seen: volume_seen.Seen, forget: bool) -> None:
    there(seen, label=label("another"), holder=HOLDER)
    plan = planned(seen, state="absent", forget=forget)
    assert [type(step).__name__ for step in plan.steps] == ["Record"]
    assert "which is that of" in plan.actions()[0]


def test_nor_are_volumes_forgotten_for_a_group_of_nobody(seen: volume_seen.Seen) -> None:
    standby(seen, owner="")
    error = refusal(seen, state="absent")
    assert "belongs to no host" in error.message and "takeover: none" in error.hint


def test_a_new_one_on_standby_is_told_whose_it_is_and_what_to_do(seen: volume_seen.Seen) -> None:
    standby(seen)
    seen.rows = {}
    error = refusal(seen, size=MIB)
    assert (error.kind, error.message) == (
        "in_use",
        "can't make or find volume web1: backend local belongs to hv2.d3be1e87",
    )
    assert "do it there" in error.hint and "takeover: hv2.d3be1e87" in error.hint


def test_the_diff_of_a_new_volume_is_its_configuration(seen: volume_seen.Seen) -> None:
    inner = {"type": "ext4", "label": "data"}
    plan = planned(seen, size=MIB, filesystem=inner, snapshots=("b", "a"))
    told = {"backend": "local", "size": MIB, "filesystem": inner, "snapshots": ["a", "b"]}
    assert plan.diff() == {"before": {}, "after": told}
    there(seen)
    seen.rows["web1"]["config"] = {"image": "/srv/a", "filesystem": inner}
    gone = planned(seen, state="absent").diff()
    assert gone is not None
    assert gone["before"] == {"backend": "local", "size": MIB, "image": "/srv/a", "filesystem": inner, "snapshots": []}


def test_a_move_grows_the_file_system_that_is_known(seen: volume_seen.Seen) -> None:
    there(seen)
    inner = {"type": "ext4"}
    seen.rows["web1"]["config"] = {"filesystem": inner}
    for size, grown in ((2 * MIB, inner), (MIB, None)):
        made = planned(seen, backend="other", move=True, size=size).steps[-1]
        assert isinstance(made, making_steps.MakeVolume)
        assert (made.size, made.filesystem) == (size, grown)
    error = refusal(seen, backend="other", move=True, filesystem={"type": "xfs"})
    assert (error.kind, error.field) == ("conflict", "filesystem")


@pytest.mark.parametrize("snapshots", [(), ("new",)])
def test_a_move_deletes_the_snapshots_that_shall_not_be(seen: volume_seen.Seen, snapshots: tuple[str, ...]) -> None:
    there(seen, snapshots={"old": MIB})
    plan = planned(seen, backend="other", move=True, snapshots=snapshots)
    taken = [f"take the snapshot {each} of volume web1 on other" for each in snapshots]
    assert plan.actions()[:2] == ["delete the snapshot old of volume web1 on local", "move volume web1 on local away"]
    assert plan.actions()[3:] == taken
    assert (plan.before["snapshots"], plan.after["snapshots"]) == (["old"], list(snapshots))


@pytest.mark.parametrize(
    ("options", "kind", "field", "hint"),
    [
        ({}, "conflict", "move", "snapshots: [] deletes them"),
        ({"snapshots": ("old", "new")}, "conflict", "move", "snapshots: [] deletes them"),
        ({"snapshots": (), "restore": "old"}, "conflict", "restore", "in a call of its own"),
        ({"snapshots": (), "restore": "gone"}, "not_found", "restore", "it has old"),
        ({"snapshots": (), "size": MIB // 2}, "conflict", "size", "in a call of its own"),
    ],
)
def test_a_move_loses_nothing_that_is_asked_for(
    seen: volume_seen.Seen, options: dict[str, t.Any], kind: str, field: str, hint: str
) -> None:
    there(seen, snapshots={"old": MIB})
    error = refusal(seen, backend="other", move=True, **options)
    assert (error.kind, error.field) == (kind, field)
    assert hint in error.hint


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"restore": "short"}, MIB),
        ({"restore": "short", "size": MIB // 2}, MIB // 2),
        ({"restore": "short", "size": 4 * MIB}, 4 * MIB),
        ({"restore": "long"}, 2 * MIB),
        ({"restore": "long", "size": 4 * MIB}, 4 * MIB),
        ({"restore": "long", "size": MIB, "shrink": True}, MIB),
    ],
)
def test_a_restored_disk_has_the_size_of_the_item_or_room_for_the_snapshot(
    seen: volume_seen.Seen, tmp_path: pathlib.Path, options: dict[str, t.Any], size: int
) -> None:
    there(seen, snapshots={"short": MIB // 2, "long": 2 * MIB})
    seen.rows["web1"]["config"] = {"filesystem": {"type": "ext4"}}
    plan = planned(seen, **options)
    (step,) = plan.steps
    assert isinstance(step, snapshot_steps.RestoreSnapshot)
    assert (step.size, step.filesystem) == (size, "ext4")
    assert plan.actions() == [f"restore the snapshot {options['restore']} of volume web1 on local, with {size} bytes"]
    assert (plan.before["size"], plan.after["size"]) == (MIB, size)
    assert committed(plan, tmp_path / "registry")["size"] == size


def test_a_snapshot_is_not_cut_unless_that_is_asked_for(seen: volume_seen.Seen) -> None:
    there(seen, snapshots={"long": 2 * MIB})
    error = refusal(seen, restore="long", size=MIB)
    assert (error.kind, error.field) == ("conflict", "size")
    assert error.message == f"the snapshot long of volume web1 has {2 * MIB} bytes, {MIB} are asked for"
    assert "shrink: true" in error.hint


def test_a_backend_that_is_not_enabled_gets_no_volume(seen: volume_seen.Seen) -> None:
    there(seen)
    seen.backends["other"]["enabled"] = 0
    assert refusal(seen, backend="other", move=True).kind == "refused"
    seen.rows = {}
    assert refusal(seen, backend="other", size=MIB).field == "backend"
    seen.looks["other"]["volumes"]["web1"] = disk(label=label("hv2"))
    error = refusal(seen, backend="other", adopt=True)
    assert (error.kind, error.field) == ("refused", "backend")


@pytest.mark.parametrize("options", [{"state": "absent"}, {"size": 2 * MIB}, {"backend": "other", "move": True}])
def test_where_nothing_can_be_written_nothing_is_begun(seen: volume_seen.Seen, options: dict[str, t.Any]) -> None:
    there(seen)
    seen.looks[options.get("backend", "local")]["read_only"] = True
    error = refusal(seen, **options)
    assert (error.kind, error.field) == ("refused", "backend")
    assert planned(seen, size=MIB).steps == []
    assert planned(seen, state="absent", forget=True).steps != []


@pytest.mark.parametrize("old", [False, True])
def test_more_than_any_disk_there_can_have_is_invalid(seen: volume_seen.Seen, old: bool) -> None:
    if old:
        there(seen)
    seen.looks["local"]["largest"] = 4 * MIB
    error = refusal(seen, size=5 * MIB)
    assert (error.kind, error.field) == ("invalid", "size")
    assert "backend local" in error.message and error.hint


def test_nothing_to_adopt_is_told(seen: volume_seen.Seen) -> None:
    error = refusal(seen, adopt=True)
    assert (error.kind, error.field) == ("not_found", "adopt")
    assert "a new disk" in planned(seen, adopt=True, size=MIB).warnings[0]


def test_an_option_that_changes_nothing_is_no_failure_of_a_dead_backend(seen: volume_seen.Seen) -> None:
    there(seen)
    seen.looks["local"] = {"status": "unreachable"}
    assert planned(seen, size=MIB, shrink=True).steps == []
    assert refusal(seen, size=MIB // 2, shrink=True).kind == "unreachable"


def test_an_image_named_where_none_is_known_is_told_of_once(seen: volume_seen.Seen, tmp_path: pathlib.Path) -> None:
    there(seen)
    named = Image("/srv/a", "/srv/a", "", "raw", "")
    plan = planned(seen, image=named)
    assert plan.actions() == ["know that volume web1 is of /srv/a"]
    assert (plan.before["image"], plan.after["image"], len(plan.warnings)) == (None, "/srv/a", 1)
    seen.rows["web1"] = committed(plan, tmp_path / "registry.db")
    plan = planned(seen, image=named)
    assert (plan.steps, plan.warnings) == ([], [])


@pytest.mark.parametrize(("known", "warned"), [("/srv/a", []), ("/srv/b", ["it was made from /srv/b"])])
def test_a_known_image_stays(seen: volume_seen.Seen, known: str, warned: list[str]) -> None:
    there(seen, label={**label(), "image": known})
    plan = planned(seen, image=Image("/srv/a", "/srv/a", "", "raw", ""))
    assert plan.steps == []
    assert [text.partition(" and ")[0] for text in plan.warnings] == warned
