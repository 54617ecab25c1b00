# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit names and texts, and the one reload a call may need. Private to microvm.host."""

from __future__ import annotations

import os
import typing as t

DIRECTORY = "/etc/systemd/system"
MADE = "# Made by microvm.host, which overwrites changes.\n"
"""How each of our units begins."""
TOOL = "/usr/local/libexec/microvm/microvm-tool"
"""The host tool as units start it: a link to the version in use."""
RELOAD_SECONDS = 90.0
PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.")
_WORD = PLAIN | frozenset("-/=,@%+$")
_ESCAPED = [chr(byte) if chr(byte) in PLAIN else "\\x%02x" % byte for byte in range(256)]


def running() -> bool:
    """True when systemd is PID 1 (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def unit_of_path(path: str) -> str:
    """The name of the mount unit of a path, as systemd-escape --path --suffix=mount gives it."""
    parts = [part for part in path.split("/") if part]
    escaped = "-".join("".join([_ESCAPED[byte] for byte in os.fsencode(part)]) for part in parts)
    if escaped.startswith("."):
        escaped = "\\x2e" + escaped[1:]
    return (escaped or "-") + ".mount"


def literal(value: str) -> str:
    """A value for a unit file in which no specifier is expanded."""
    return value.replace("%", "%%")


def quoted(argument: str) -> str:
    """One word of a command line in a unit file, quoted when it has to be: systemd.service(5), Command lines."""
    text = literal(argument)
    if argument and _WORD.issuperset(argument):
        return text
    return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"')


def command_line(argv: t.Sequence[str]) -> str:
    """A program and its arguments for ExecStart= and its like: no specifier, no variable is expanded."""
    return " ".join([quoted(argv[0]), *(quoted(each).replace("$", "$$") for each in argv[1:])])


def mount_unit(what: str, where: str, fstype: str, options: str, seconds: int, ordering: t.Sequence[str] = ()) -> str:
    """The text of the unit that mounts ``what`` at boot; ``ordering`` are further lines of [Unit].

    ``options`` carries ``nofail``: without it systemd.mount(5) orders the unit before remote-fs.target, and a dead
    server would hold up the boot for ``seconds``.
    """
    lines = [
        "[Unit]",
        "Description=%s (microvm.host)" % literal(what),
        "Wants=network-online.target",
        "After=network-online.target",
        *ordering,
        "",
        "[Mount]",
        "What=%s" % literal(what),
        "Where=%s" % literal(where),
        "Type=%s" % fstype,
        "Options=%s" % literal(options),
        "TimeoutSec=%d" % seconds,
        "",
        "[Install]",
        "WantedBy=remote-fs.target",
        "",
    ]
    return MADE + "\n".join(lines)


def reload_units() -> None:
    """Have systemd read its unit files again; nothing to do where it does not run. Raises as command.run."""
    if running():
        from ansible_collections.microvm.host.plugins.module_utils._host import command

        command.run(["systemctl", "daemon-reload"], RELOAD_SECONDS, writes=True)


def start(unit: str, seconds: float) -> None:
    """Start a unit and wait for it. Raises as command.run."""
    from ansible_collections.microvm.host.plugins.module_utils._host import command

    command.run(["systemctl", "start", unit], seconds, writes=True)
