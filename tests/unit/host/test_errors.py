# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's one exception: what a result says of it, and its way through a pipe."""

from __future__ import annotations

import json

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

FULL = HostError(
    "refused",
    "mount.nfs4 failed on web1",
    hint="see the exports of the server",
    field="backends[3].server",
    command=("mount", "-t", "nfs4"),
    rc=32,
    stderr="access denied",
)


def test_a_result_names_what_is_known_and_nothing_else() -> None:
    assert HostError("full", "no space left").as_dict("a") == {"kind": "full", "item": "a", "hint": ""}
    assert FULL.as_dict("b") == {
        "kind": "refused",
        "item": "b",
        "hint": "see the exports of the server",
        "field": "backends[3].server",
        "command": ["mount", "-t", "nfs4"],
        "rc": 32,
        "stderr": "access denied",
    }


def test_an_exit_code_of_0_is_known() -> None:
    assert HostError("internal", "odd", rc=0).as_dict()["rc"] == 0


@pytest.mark.parametrize("error", [FULL, HostError("stale", "gone")])
def test_an_error_crosses_a_pipe_whole(error: HostError) -> None:
    back = HostError.unpacked(json.loads(json.dumps(error.packed())))
    assert (str(back), back.message, back.as_dict("x")) == (str(error), error.message, error.as_dict("x"))


def test_the_first_field_named_stays() -> None:
    assert HostError("invalid", "x").in_field("size").in_field("volumes[0]").field == "size"


def test_a_kind_outside_the_contract_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="unknown kind of error: oops"):
        raise HostError("oops", "x")
