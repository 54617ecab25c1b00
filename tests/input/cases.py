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
SHARE = {"name": "input", "server": "nas1", "share": "vms", "username": "svc", "password": "0f9e8d7c6b5a"}
LUN = {
    "name": "input",
    "portal": "nas1",
    "iqn": "iqn.2026-01.lab:open",
    "lun": 1,
    "vg": "vg",
    "layout": "thin",
    "username": "svc",
    "password": "proof-of-chap",
    "mutual_username": "san",
    "mutual_password": "other",
}
BASES: dict[tuple[str, str], dict[str, Any]] = {
    ("nfs_export_mount", ""): MOUNT,
    ("storage_backend", "nfs"): {"kind": "nfs", **MOUNT},
    ("storage_backend", "local_file"): {"kind": "local_file", "name": "input", "path": "/var/lib/microvm/input"},
    ("smb_share", ""): SHARE,
    ("storage_backend", "smb"): {"kind": "smb", **SHARE},
    ("iscsi_lvm", ""): LUN,
    ("storage_backend", "iscsi_lvm"): {"kind": "iscsi_lvm", **LUN},
    ("storage_volume", ""): {"name": "input", "size": "1MiB"},
    ("docker_volume_driver", ""): {"name": "nfsd"},
    ("microvm", ""): {"name": "input", "kernel": "/boot/vmlinuz"},
    ("virtiofs_share", ""): {"vm": "input", "tag": "input", "source": "/srv"},
    ("host_info", ""): {},
}
"""Arguments that are fine, by module and kind: one option at a time is then made hostile."""

LISTED = 5
"""Each value is tried alone, every fifth one in a list too."""
ONLY_LOCAL = ("path",)
"""Options of storage_backend that are for local_file."""
ONLY_SMB = (
    *("share", "subdir", "username", "password", "domain", "uid", "gid", "file_mode", "dir_mode", "seal", "sign"),
    "secret_check",
)
"""Options of storage_backend that are for smb; the others go to an nfs backend."""

ONLY_LUN = (
    *("portal", "portals", "iqn", "lun", "initiator_name", "mutual_username", "mutual_password", "vg", "initialize"),
    *("layout", "thin_pool", "access", "saferemove", "takeover"),
)
"""Options of storage_backend that are for iscsi_lvm."""

KIND_OF = {
    **dict.fromkeys(ONLY_LUN, "iscsi_lvm"),
    **dict.fromkeys(ONLY_LOCAL, "local_file"),
    **dict.fromkeys(ONLY_SMB, "smb"),
}

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
    "share": corpus.SHARES,
    "portal": corpus.PORTALS,
    "portals": [[value] for value in corpus.PORTALS if value],
    **dict.fromkeys(("iqn", "initiator_name"), corpus.IQNS),
    **dict.fromkeys(("vg", "initialize", "thin_pool"), corpus.GROUPS),
    "takeover": corpus.OWNER_IDS,
    "lun": corpus.NUMBERS,
    "mutual_username": corpus.CHAP_NAMES,
    "mutual_password": corpus.PASSWORDS,
    "subdir": corpus.SUBDIRS,
    "username": corpus.ACCOUNTS,
    "domain": corpus.ACCOUNTS,
    "password": corpus.PASSWORDS,
    **dict.fromkeys(("uid", "gid"), corpus.OWNERS),
    **dict.fromkeys(("file_mode", "dir_mode"), corpus.MODES),
    "backend": corpus.NAMES,
    "restore": corpus.NAMES,
    "size": corpus.SIZES,
    "image": corpus.IMAGES,
    "checksum": corpus.CHECKSUMS,
    "filesystem": corpus.FILE_SYSTEMS,
    "snapshots": corpus.SNAPSHOTS,
    "discover": corpus.STRUCTURES,
}
OF_MODULE = {("iscsi_lvm", "username"): corpus.CHAP_NAMES}
"""Of an option that another module knows by the same name."""
OF_MACHINES = {
    "vm": corpus.NAMES,
    "tag": corpus.NAMES,
    "kernel": [value for value in corpus.PATHS if value not in ("//", "///")],
    "vcpus": corpus.SECONDS,
    "memory": corpus.MEMORY,
    "memory_limit": corpus.MEMORY,
    "balloon_target": corpus.MEMORY,
    "wait_for": corpus.WORDS,
    "root": corpus.DISKS,
    "kernel_args": corpus.WORDS,
    "disks": corpus.STRUCTURES,
    "interfaces": corpus.STRUCTURES,
    "shares": corpus.STRUCTURES,
    "overlays": corpus.STRUCTURES,
    "lower": corpus.NAMES,
    "upper": corpus.NAMES,
    "vsock": [*corpus.COUNTS, 1, 2],
    "credentials": corpus.CREDENTIALS,
    "stop_timeout": corpus.SECONDS,
    "cpu_limit": [*corpus.COUNTS, 25501],
    "thread_pool_size": [*corpus.COUNTS, 65],
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
OF_MACHINES["binary"] = OF_MACHINES["initrd"] = OF_MACHINES["metadata"] = OF_MACHINES["kernel"]
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


def values(module: str, name: str, option: dict[str, Any]) -> list[Any]:
    """The hostile values for one option; none at all is an error."""
    found = corpus.CHOICES if option.get("choices") else BY_NAME.get(name) or BY_TYPE.get(option["type"])
    found = OF_MODULE.get((module, name), found)
    if not found:
        raise LookupError(f"no hostile values for option {name}: {option}")
    return found


def cases() -> Iterator[Case]:
    """Every value in every option, alone or in the second item of a list."""
    for spec in read_all():
        for name, option in spec.item.items():
            for number, value in enumerate(values(spec.name, name, option)):
                yield _alone(spec, name, value)
                if spec.plural and spec.name not in LONE and number % LISTED == 0:
                    yield _listed(spec, name, value)
        for name in sorted(set(spec.call) - set(spec.item) - {spec.plural}):
            for value in values(spec.name, name, spec.call[name]):
                yield Case(spec.name, {spec.plural: [], name: value}, name, value)
        if spec.plural:
            for value in corpus.STRUCTURES:
                yield Case(spec.name, {spec.plural: value}, spec.plural, value)
            yield Case(spec.name, {spec.plural: [], "nosuch": 1}, "nosuch", 1)
            yield Case(spec.name, {spec.plural: [], "name": "x"}, "name", "x")


def _base(spec: Spec, name: str) -> dict[str, Any]:
    """Fine arguments for an item that has the option."""
    kind = "" if "kind" not in spec.item else KIND_OF.get(name, "nfs")
    return BASES[spec.name, kind]


def _alone(spec: Spec, name: str, value: Any) -> Case:
    return Case(spec.name, {**_base(spec, name), name: value}, name, value)


def _listed(spec: Spec, name: str, value: Any) -> Case:
    base = _base(spec, name)
    if spec.name in FIRST:
        return Case(spec.name, {spec.plural: [{**base, **FIRST[spec.name]}, {**base, name: value}]}, name, value)
    others = {"path": "/var/lib/microvm/first", "share": "vms2", "export": "/export/rw2", "lun": 2}
    other = {key: text for key, text in others.items() if key in base}
    return Case(spec.name, {spec.plural: [{**base, "name": "first", **other}, {**base, name: value}]}, name, value)
