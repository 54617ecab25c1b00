# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host tool as a step: its file, the link to it, and the unit that runs it at boot. Private to microvm.host."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import journal, registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Known, ReloadUnits, Step
from ansible_collections.microvm.host.plugins.module_utils._host import files, systemd
from ansible_collections.microvm.host.plugins.module_utils._tool import build

LINK = systemd.TOOL
DIRECTORY = os.path.dirname(LINK)
UNIT = os.path.join(systemd.DIRECTORY, "microvm-recover.service")
WANTS = os.path.join(systemd.DIRECTORY, "multi-user.target.wants", "microvm-recover.service")
# With the default dependencies multi-user.target would wait for it, and so for the network.
TEXT = systemd.MADE + (
    """\
[Unit]
Description=Settle and mount what microvm.host keeps on this host
DefaultDependencies=no
Requires=sysinit.target
Wants=network-online.target
After=sysinit.target basic.target network-online.target
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=exec
ExecStart=%s recover

[Install]
WantedBy=multi-user.target
"""
    % LINK
)


@dataclasses.dataclass(frozen=True)
class InstallTool(Step):
    """Put the tool ``name`` in place. ``previous``: the one there was, "" for none."""

    name: str
    previous: str
    nonce: str

    def describe(self) -> str:
        return "%s %s" % ("upgrade the host tool to" if self.previous else "install the host tool", self.name)

    def apply(self, known: Known) -> None:
        if not planned()[2]:
            return  # another item of the call needed it too
        content = build.sources()
        files.make_directories(DIRECTORY)
        path = os.path.join(DIRECTORY, self.name)
        files.write(path, build.archive(content), 0o755, self.nonce)
        _switch(path, LINK, self.nonce)
        files.write(UNIT, TEXT.encode(), 0o644, self.nonce)
        files.make_directories(os.path.dirname(WANTS))
        _switch(UNIT, WANTS, self.nonce)

    def undo(self, known: Known) -> None:
        """An upgrade stays; a first tool goes, unless another item of the call came to need it."""
        for path in (os.path.join(DIRECTORY, self.name), LINK, UNIT, WANTS):
            files.forget(path, self.nonce)
        if self.previous or _needed():
            return
        for path in (WANTS, UNIT, LINK, os.path.join(DIRECTORY, self.name)):
            files.remove(path)
        files.remove_empty(DIRECTORY)

    def finish(self, known: Known) -> None:
        """Tools before the previous one go; that one may be running."""
        for path in glob.glob(LINK + "-*"):
            if os.path.basename(path) not in (self.name, self.previous):
                files.remove(path)


def _switch(target: str, link: str, nonce: str) -> None:
    folder, name = os.path.split(link)
    temporary = os.path.join(folder, ".%s.%s" % (name, nonce))
    try:
        files.remove(temporary)
        os.symlink(target, temporary)
        os.rename(temporary, link)
        files.sync_directory(folder)
    except OSError as error:
        raise files.from_os(error, "linking %s" % link) from None


def _needed() -> bool:
    with registry.reading() as connection:
        for kept in ("mount_users WHERE persistent = 1", "targets WHERE logged_in = 1", "machines"):
            if registry.rows(connection, "SELECT 1 FROM %s LIMIT 1" % kept):
                return True
    installing = [
        row for row in journal.left_open() if any(kind == InstallTool.__name__ for kind, dummy in row["steps"])
    ]
    return len(installing) > 1


def planned() -> tuple[str, str, list[Step]]:
    """The tool there is ("" for none), the one there shall be, and the steps between; none when all is in place."""
    wanted = "microvm-tool-%s" % build.digest(build.sources())
    previous = _target(LINK)
    found = os.path.basename(previous)
    if (
        previous == os.path.join(DIRECTORY, wanted)
        and os.path.exists(previous)
        and files.text_of(UNIT) == TEXT
        and _target(WANTS) == UNIT
    ):
        return found, wanted, []
    return found, wanted, [InstallTool(wanted, found, uuid.uuid4().hex[:8]), ReloadUnits()]


def _target(link: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(link)
    return ""


KINDS: dict[str, type[Step]] = {"InstallTool": InstallTool}
