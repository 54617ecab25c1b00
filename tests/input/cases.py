# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hostile value goes into which option of which module."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.contract.specs import Spec, read_all
from tests.input import corpus

MOUNT = {"name": "input", "server": "nas1", "export": "/export/rw"}
BASES: dict[tuple[str, str], dict[str, Any]] = {
    ("nfs_export_mount", ""): MOUNT,
    ("storage_backend", "nfs"): {"kind": "nfs", **MOUNT},
    ("storage_backend", "local_file"): {"kind": "local_file", "name": "input", "path": "/var/lib/microvm/input"},
    ("docker_volume_driver", ""): {"name": "nfsd"},
    ("microvm", ""): {"name": "input", "kernel": "/boot/vmlinuz"},
    ("virtiofs_share", ""): {"vm": "input", "tag": "input", "source": "/srv"},
    ("host_info", ""): {},
}
"""Arguments that are fine, by module and kind: one option at a time is then made hostile."""

LISTED = 5
"""Each value is tried alone, every fifth one in a list too."""
ONLY_LOCAL = ("path",)
"""Options of storage_backend that are for local_file; the others go to an nfs backend."""

LONE = ("docker_volume_driver",)
"""Modules of which there is one item only: none is tried behind another."""

FIRST = {"microvm": {"name": "first"}, "virtiofs_share": {"tag": "first"}}
"""What makes the first item of a list another than the second."""

BY_NAME: dict[str, list[Any]] = {
    "name": corpus.NAMES,
    "server": corpus.SERVERS,
    "export": [value for value in corpus.PATHS if value not in ("//", "///")],
    "path": corpus.PATHS + corpus.SYSTEM,
    "mount_base": corpus.PATHS + corpus.SYSTEM,
    "options": corpus.OPTIONS,
    "timeout": corpus.SECONDS,
}
OF_MACHINES = {
    "vm": corpus.NAMES,
    "tag": corpus.NAMES,
    "kernel": [value for value in corpus.PATHS if value not in ("//", "///")],
    "vcpus": corpus.SECONDS,
    "memory": corpus.MEMORY,
    "memory_limit": corpus.MEMORY,
    "kernel_args": corpus.WORDS,
    "disks": corpus.STRUCTURES,
    "interfaces": corpus.STRUCTURES,
    "shares": corpus.STRUCTURES,
    "vsock": [*corpus.NUMBERS, 1, 2],
    "credentials": corpus.CREDENTIALS,
    "stop_timeout": corpus.SECONDS,
    "cpu_limit": [*corpus.NUMBERS, 25501],
    "thread_pool_size": [*corpus.NUMBERS, 65],
    "extra_args": corpus.ARGUMENTS,
    "translate_uid": corpus.ARGUMENTS,
    "translate_gid": corpus.ARGUMENTS,
    "source": [value for value in corpus.PATHS if isinstance(value, str) and value.startswith(("/", ".", "\n"))],
    "mount_point": corpus.PATHS,
    "owner": ["root"],
    "group": ["root"],
    "mode": ["0755", "u=rwx"],
}
"""Owner, group and mode are refused for a source that is not made."""
OF_MACHINES["binary"] = OF_MACHINES["initrd"] = OF_MACHINES["kernel"]
BY_NAME.update(OF_MACHINES)
BY_TYPE = {"bool": corpus.BOOLEANS, "int": corpus.SECONDS}


@dataclass(frozen=True)
class Case:
    """One call. ``field`` is the option that holds ``value`` and that the error must name."""

    module: str
    args: dict[str, Any]
    field: str
    value: Any

    @property
    def where(self) -> str:
        """What kind of call it is, for a message."""
        return "" if self.field in self.args else " (in a list)"


def values(name: str, option: dict[str, Any]) -> list[Any]:
    """The hostile values for one option; none at all is an error."""
    found = corpus.CHOICES if option.get("choices") else BY_NAME.get(name) or BY_TYPE.get(option["type"])
    if not found:
        raise LookupError(f"no hostile values for option {name}: {option}")
    return found


def cases() -> Iterator[Case]:
    """Every value in every option, alone or in the second item of a list."""
    for spec in read_all():
        for name, option in spec.item.items():
            for number, value in enumerate(values(name, option)):
                yield _alone(spec, name, value)
                if spec.plural and spec.name not in LONE and number % LISTED == 0:
                    yield _listed(spec, name, value)
        for name in sorted(set(spec.call) - set(spec.item) - {spec.plural}):
            for value in values(name, spec.call[name]):
                yield Case(spec.name, {spec.plural: [], name: value}, name, value)
        if spec.plural:
            for value in corpus.STRUCTURES:
                yield Case(spec.name, {spec.plural: value}, spec.plural, value)
            yield Case(spec.name, {spec.plural: [], "nosuch": 1}, "nosuch", 1)
            yield Case(spec.name, {spec.plural: [], "name": "x"}, "name", "x")


def _base(spec: Spec, name: str) -> dict[str, Any]:
    """Fine arguments for an item that has the option."""
    kind = "" if "kind" not in spec.item else "local_file" if name in ONLY_LOCAL else "nfs"
    return BASES[spec.name, kind]


def _alone(spec: Spec, name: str, value: Any) -> Case:
    return Case(spec.name, {**_base(spec, name), name: value}, name, value)


def _listed(spec: Spec, name: str, value: Any) -> Case:
    base = _base(spec, name)
    if spec.name in FIRST:
        return Case(spec.name, {spec.plural: [{**base, **FIRST[spec.name]}, {**base, name: value}]}, name, value)
    other = {"path": "/var/lib/microvm/first"} if base.get("kind") == "local_file" else {"export": "/export/rw2"}
    return Case(spec.name, {spec.plural: [{**base, "name": "first", **other}, {**base, name: value}]}, name, value)
