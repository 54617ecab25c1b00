# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets as a resource: what is refused, and how items of one call go together."""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.microvm.host.plugins.module_utils._core.result import Outcome
from ansible_collections.microvm.host.plugins.module_utils._host import deadline, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.plugin_utils._vault_file import Keys, VaultFile
from ansible_collections.microvm.host.plugins.plugin_utils._vault_secrets import VaultSecrets

SECRETS = [("default", VaultSecret(b"one"))]
LIB = VaultLib(SECRETS)
KEYS = Keys(SECRETS, None)
DEFAULTS = {
    "state": "present",
    "value": None,
    "kind": "password",
    "length": None,
    "alphabet": None,
    "vault_id": None,
    "encrypt": "file",
    "timeout": 1,
}
Call = Callable[..., Outcome]


class Scene:
    """A vault in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "vault.yml"
        self.locks = directory / "locks"
        self.lost = False
        self.resource = VaultSecrets(KEYS, lambda file: str(directory / file), self._keeps, str(self.locks))

    def _keeps(self) -> None:
        if self.lost:
            raise HostError("unsupported", "lost")

    def call(self, *items: dict[str, Any], check: bool = False) -> Outcome:
        """One call with these items."""
        wanted = [
            self.resource.validate({**DEFAULTS, "file": "vault.yml", **item}, item, f"secrets[{index}].")
            for index, item in enumerate(items)
        ]
        self.resource.together(wanted)
        return self.resource.converge(wanted, check)

    def secret(self, name: str) -> str | None:
        """What the vault has."""
        return VaultFile(str(self.path), KEYS, None, True).secret(name)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """An empty directory."""
    return Scene(tmp_path)


@pytest.mark.parametrize(
    ("item", "field", "text"),
    [
        ({"name": None}, "name", "is required"),
        ({"name": "a-b"}, "name", "not the name of a variable"),
        ({"name": "ä"}, "name", "not the name of a variable"),
        ({"name": "class"}, "name", "not the name of a variable"),
        ({"name": "a" * 129}, "name", "not the name of a variable"),
        ({"name": "a", "file": None}, "file", "is required"),
        ({"name": "a", "value": "hunter2\n"}, "value", "line break"),
        ({"name": "a", "value": ["hunter2"]}, "value", "not a text"),
        ({"name": "a", "value": "hunter2", "kind": "chap"}, "value", "7 bytes"),
        ({"name": "a", "value": "hunter2", "state": "promoted"}, "value", "takes no value"),
        ({"name": "a", "value": "hunter2", "state": "rotated"}, "value", "takes no value"),
        ({"name": "a", "length": 0}, "length", "8 to 255"),
        ({"name": "a", "alphabet": "ab"}, "alphabet", "guessed"),
        ({"name": "a", "timeout": 0}, "timeout", "1 to 3600"),
    ],
)
def test_what_is_invalid(scene: Scene, item: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(HostError) as caught:
        scene.call({"name": "good"}, item)
    assert (caught.value.kind, caught.value.field) == ("invalid", f"secrets[1].{field}")
    assert text in caught.value.message and "hunter2" not in caught.value.message + caught.value.hint
    assert not scene.path.exists()


def test_two_items_for_one_variable_are_refused(scene: Scene) -> None:
    with pytest.raises(HostError, match=r"^pw and pw_next both change pw_next$"):
        scene.call({"name": "pw", "state": "staged"}, {"name": "pw_next", "state": "absent"})


def test_the_life_of_a_secret(scene: Scene) -> None:
    assert scene.call({"name": "pw", "value": "one"}).items[0]["next"] is False
    assert scene.call({"name": "pw", "state": "staged", "value": "one"}).items[0]["changed"] is False
    assert scene.call({"name": "pw", "state": "staged", "value": "two"}).items[0]["next"] is True
    assert scene.call({"name": "pw", "state": "staged"}).items[0]["changed"] is False
    assert (scene.secret("pw"), scene.secret("pw_next")) == ("one", "two")
    scene.call({"name": "pw", "state": "staged", "value": "three"})
    assert (scene.secret("pw"), scene.secret("pw_next")) == ("one", "three")
    assert scene.call({"name": "pw", "state": "promoted"}).items[0]["actions"] == [
        "copy pw_next to pw",
        "remove pw_next",
    ]
    assert (scene.secret("pw"), scene.secret("pw_next")) == ("three", None)
    scene.call({"name": "pw", "state": "rotated"})
    assert scene.secret("pw_previous") == "three" and scene.secret("pw") not in (None, "three")
    scene.call({"name": "pw", "state": "absent"}, {"name": "pw_previous", "state": "absent"})
    assert scene.secret("pw") is scene.secret("pw_previous") is None


def test_a_blank_value_keeps(scene: Scene) -> None:
    scene.call({"name": "pw", "value": "one"})
    assert scene.call({"name": "pw", "value": ""}).items[0]["changed"] is False
    assert scene.secret("pw") == "one"


def test_no_answer_shows_a_secret(scene: Scene) -> None:
    outcomes = [
        scene.call({"name": "pw", "value": "hunter2"}),
        scene.call({"name": "pw", "state": "staged", "value": "hunter3"}),
        scene.call({"name": "pw", "state": "rotated"}),
        scene.call({"name": "pw", "kind": "chap"}),
    ]
    said = repr(outcomes)
    assert "hunter" not in said and str(scene.secret("pw")) not in said
    assert outcomes[-1].errors[0][1].kind == "conflict"  # 32 characters are none of CHAP


def test_an_item_that_fails_does_not_stop_the_others(scene: Scene) -> None:
    outcome = scene.call({"name": "a"}, {"name": "b", "state": "promoted"}, {"name": "c", "file": "gone/c.yml"})
    assert [error.kind for dummy, error in outcome.errors] == ["not_found", "not_found"]
    assert [item["changed"] for item in outcome.items] == [True, False, False]
    assert scene.secret("a")


def test_an_item_that_fails_half_way_changes_nothing(scene: Scene) -> None:
    """The second variable can't be removed: another one has its value by an anchor."""
    scene.path.write_bytes(LIB.encrypt("pw: old\npw_next: &new two\nother: *new\n"))
    outcome = scene.call({"name": "a"}, {"name": "pw", "state": "promoted"})
    assert [(name, error.kind) for name, error in outcome.errors] == [("pw", "conflict")]
    assert (scene.secret("a") is None, scene.secret("pw"), scene.secret("pw_next")) == (False, "old", "two")


def test_check_mode_writes_nothing(scene: Scene) -> None:
    assert scene.call({"name": "a"}, check=True).items[0]["changed"] is True
    assert os.listdir(scene.path.parent) == []


def test_where_it_would_be_lost_nothing_is_written(scene: Scene) -> None:
    scene.call({"name": "a"})
    before = scene.path.read_bytes()
    scene.lost = True
    assert scene.call({"name": "a"}).errors == []
    for check in (True, False):
        ((name, error),) = scene.call({"name": "b"}, check=check).errors
        assert (name, error.kind) == ("b", "unsupported")
    assert scene.path.read_bytes() == before


def test_another_run_that_writes_is_waited_for(scene: Scene) -> None:
    scene.locks.mkdir()
    lock = scene.locks / ("vault-" + names.slug(str(scene.path)))
    with lock.open("w") as held:
        held.write("4711")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        ((dummy, error),) = scene.call({"name": "a"}).errors
    assert error.kind == "busy" and "4711" in error.message
    assert scene.call({"name": "a"}).errors == []


def test_a_write_that_fails_fails_what_would_have_changed(scene: Scene) -> None:
    """The limit on the size of a file stops write(2) in its middle, as a full disk does."""
    scene.call({"name": "a"})
    before = scene.path.read_bytes()
    scene.call({"name": "x", "file": "other.yml"})  # so that the lock's directory is there

    def work() -> list[Any]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        outcome = scene.call({"name": "a"}, {"name": "b"})
        return [[name, error.kind] for name, error in outcome.errors]

    assert deadline.call(work, 10, "writing") == [["b", "internal"]]
    assert scene.path.read_bytes() == before
    assert sorted(os.listdir(scene.path.parent)) == ["locks", "other.yml", "vault.yml"]


def test_what_is_in_the_way_is_named(scene: Scene) -> None:
    (scene.path.parent / ".vault.yml.microvm").mkdir()
    ((dummy, error),) = scene.call({"name": "a"}).errors
    assert error.kind in ("conflict", "refused") and str(scene.path) in error.message
