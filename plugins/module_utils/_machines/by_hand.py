# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts for people: a machine, and the virtiofsd of a share, in the foreground. Private to microvm.host."""

from __future__ import annotations

import shlex
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._machines import places

RUN = "run"
VIRTIOFSD = "virtiofsd-run"
SCRIPTS = (RUN, VIRTIOFSD)
"""Their names in the machine's directory."""
READ_ONLY = 'mount --bind -o ro "$0" "$0" && exec "$@"'


def machine(
    name: str, words: t.Sequence[str], locks: t.Sequence[str], net: bool, tags: t.Sequence[str], nodes: t.Sequence[str]
) -> str:
    """The machine as its own user, the console on the terminal.

    ``words``: the hypervisor's command line; empty where to become that user is to come in front. ``locks``: what holds
    the locks of its disks. ``net``: it has taps. ``tags``: its shares of virtiofs. ``nodes``: its volumes under /dev.
    """
    lines = _head("Runs the microVM %s in the foreground; as root, with the service stopped." % name)
    lines.append("! systemctl -q is-active %s || { echo '%s runs'; exit 1; }" % (places.unit(name), places.unit(name)))
    lines += [_directory(name), "rm -f %s %s" % (places.control_socket(name), places.vsock_socket(name))]
    lines += ["systemctl start " + shlex.quote(places.net_unit(name))] if net else []
    for tag in tags:  # one that runs by hand is left alone
        socket = "%s.socket" % places.fs_unit(name, tag)
        lines.append(
            "[ -S %s ] || systemctl start %s" % tuple(map(shlex.quote, (places.share_socket(name, tag), socket)))
        )
    lines += ["chgrp %s %s" % (names.GROUP, shlex.quote(node)) for node in nodes]
    user = ["setpriv", "--reuid", places.user(name), "--regid", names.GROUP, "--init-groups", "--"]
    command = [*locks, *(["--"] if locks else []), *(word for each in words for word in ([each] if each else user))]
    return "\n".join([*lines, "exec " + " ".join(map(shlex.quote, command)), ""])


def virtiofsd(name: str, daemons: t.Mapping[str, tuple[t.Sequence[str], str]]) -> str:
    """The daemon of the share that is named, for one run of the machine.

    ``daemons``: by tag, the command line of its service, and the directory that is to be read-only, or empty.
    """
    lines = _head("virtiofsd-run TAG: serves a share of the microVM %s in the foreground, once; as root." % name)
    lines += [_directory(name), 'case "$1" in']
    for tag, (words, read_only) in daemons.items():
        unit = places.fs_unit(name, tag)
        by_hand = ["--socket-path=" + places.share_socket(name, tag), "--socket-group=" + names.GROUP]
        command = [word for each in words for word in (by_hand if each == "--fd=3" else [each])]
        before = ["unshare", "--mount", "sh", "-c", READ_ONLY, read_only] if read_only else []
        lines.append("%s)" % shlex.quote(tag))
        lines.append("    systemctl stop %s" % " ".join(shlex.quote(unit + kind) for kind in (".socket", ".service")))
        lines += ["    exec " + " ".join(map(shlex.quote, [*before, *command])), "    ;;"]
    usage = 'echo "usage: $0 %s" >&2; exit 2' % "|".join(daemons)
    return "\n".join([*lines, "*)", "    " + usage, "    ;;", "esac", ""])


def _head(what: str) -> list[str]:
    return ["#!/bin/sh", "# Made by microvm.host. " + what, "set -e"]


def _directory(name: str) -> str:
    """The sockets are there."""
    words = ["install", "-d", "-m", "0750", "-o", places.user(name), "-g", names.GROUP, places.runtime(name)]
    return " ".join(words)
