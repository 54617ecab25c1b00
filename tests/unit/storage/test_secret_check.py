# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""secret_check proves a secret and changes nothing, whatever else an item says."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import smb
from ansible_collections.microvm.host.plugins.module_utils._storage.backends import Backends
from ansible_collections.microvm.host.plugins.module_utils._storage.mount_resource import Mounts
from ansible_collections.microvm.host.plugins.module_utils._storage.targets import Targets


def no_tool() -> Any:
    """Nothing here gets as far as the host tool."""
    return pytest.fail("asked for the host tool")


RESOURCES: dict[str, Any] = {
    "backend": Backends(no_tool),
    "share": Mounts("share", smb, no_tool),
    "target": Targets(no_tool),
}
ITEM = {"name": "a", "timeout": 5, "enabled": True, "secret_check": True}


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=list(RESOURCES))
def test_nothing_is_removed_by_a_check(resource: Any) -> None:
    item = {**ITEM, "state": "absent"}
    with pytest.raises(HostError) as refused:
        resource.validate(item, item, "them[1].")
    assert (refused.value.kind, refused.value.field) == ("invalid", "them[1].secret_check")


@pytest.mark.parametrize(("name", "state"), [("share", "unmounted"), ("target", "logged_out")])
def test_an_item_that_is_called_by_its_name_is_checked_too(name: str, state: str) -> None:
    item = {**ITEM, "state": state, "persistent": True, "probe": "read"}
    wanted = RESOURCES[name].validate(item, item, "")
    assert wanted.use is None
    assert getattr(wanted, "check", False) or getattr(wanted, "secret_check", False)
