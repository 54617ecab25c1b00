# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an unchanged call loads: what it needs and no more, for on a host Python compiles all of it each time."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._storage import probe
from tests.unit.storage import test_mount_plan

HERE = "ansible_collections.microvm.host.plugins.module_utils."
CALL = """
import functools, json, sys, types

HERE, folder, line, resource, item = json.loads(sys.argv[1])
from {0}_core import registry, run
from {0}_host import mounts, systemd

for function in ("reading", "writing"):
    setattr(registry, function, functools.partial(getattr(registry, function), folder + "/registry.db"))
systemd.DIRECTORY = folder
mounts.table = lambda: [mounts.parse_line(line)]
tool = types.SimpleNamespace(planned=lambda: ("tool", "tool", []), KINDS={{}})
if resource == "mount":
    from {0}_storage import mount_resource, nfs

    made = mount_resource.Mounts("mount", nfs, lambda: tool)
elif resource == "volume":
    from {0}_storage import volumes

    made = volumes.Volumes()
else:
    from {0}_storage import backends

    made = backends.Backends(lambda: tool)
outcome = run.converge(made, [item], [item], [""], purge=False, check=False)
loaded = sorted(name[len(HERE):] for name in sys.modules if name.startswith(HERE) and name.count(".") > 5)
print(json.dumps([outcome.items, loaded]))
""".format(HERE)

MOUNT = {
    "_core": {"journal", "plan", "registry", "resource", "result", "run"},
    "_host": {"deadline", "errors", "mount_options", "mounts", "names", "net", "nfs", "secret", "systemd", "files"},
    "_storage": {
        *("credentials", "filesystems", "mount", "mount_report", "mount_resource", "nfs", "observed", "probe", "units"),
    },
}
BACKEND = {**MOUNT, "_storage": MOUNT["_storage"] - {"mount_resource"} | {"backends", "kinds", "mounted"}}
VOLUME = {
    "_core": MOUNT["_core"] - {"resource"},
    "_host": {"command", "copy", "deadline", "errors", "files", "lease", "mounts", "names", "systemd"},
    "_storage": {
        *("disks", "file_disks", "file_store", "image", "kinds", "local_file", "observed", "probe", "standby", "store"),
        *("users", "volume_changes", "volume_options", "volume_refusals", "volume_report", "volume_seen", "volumes"),
    },
}
EXPORT = {"name": "vms", "server": "nas1", "export": "/export/rw", "timeout": 15}
ITEMS: dict[str, dict[str, t.Any]] = {
    "mount": {
        **EXPORT,
        "state": "mounted",
        "persistent": True,
        "probe": "read",
        "read_only": False,
        "path": test_mount_plan.PATH,
        "mount_base": "/var/lib/microvm/mounts",
    },
    "backend": {**EXPORT, "kind": "nfs", "state": "present", "enabled": True, "default": None},
    "volume": {
        "name": "vms",
        "backend": "disk",
        "size": "512",
        "state": "present",
        "timeout": 15,
        **dict.fromkeys(("adopt", "move", "shrink", "takeover", "forget"), False),
    },
}


def with_a_volume(folder: pathlib.Path) -> None:
    """The volume vms, 512 bytes, on a backend that is a directory."""
    label = {"name": "vms", "uuid": "u", "owner": probe.host_mark(), "hostname": "hv1"}
    (folder / "vms.raw").write_bytes(bytes(512))
    (folder / "vms.json").write_text(json.dumps(label))
    config = {"path": str(folder)}
    row = {"name": "disk", "kind": "local_file", "config": config, "uuid": "d", "identity": "weak", "capabilities": []}
    with registry.writing() as connection:
        registry.put(connection, "backends", {**row, "enabled": 1, "is_default": 0})
        registry.put(connection, "volumes", {"name": "vms", "backend": "disk", "size": 512, "uuid": "u", "config": {}})


@pytest.mark.parametrize(("resource", "needed"), [("mount", MOUNT), ("backend", BACKEND), ("volume", VOLUME)])
def test_an_unchanged_call_loads_what_it_needs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, resource: str, needed: dict[str, set[str]]
) -> None:
    world = test_mount_plan.World(tmp_path, monkeypatch)
    world.made(test_mount_plan.use(resource + ":vms"))
    config = test_mount_plan.use().asked
    row = {"name": "vms", "kind": "nfs", "config": config, "uuid": "u", "identity": "weak", "capabilities": []}
    with registry.writing() as connection:
        registry.put(connection, "backends", {**row, "enabled": 1, "is_default": 1})
    if resource == "volume":
        with_a_volume(tmp_path)
    asked = [HERE, str(tmp_path), world.lines[0], resource, ITEMS[resource]]
    done = subprocess.run(
        [sys.executable, "-c", CALL, json.dumps(asked)],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(registry.__file__).parents[6])},
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    items, loaded = json.loads(done.stdout)
    assert [(item["name"], item["changed"], item.get("error")) for item in items] == [("vms", False, None)]
    assert loaded == sorted("%s.%s" % (layer, name) for layer, names in needed.items() for name in names)
