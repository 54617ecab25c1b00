# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taps: the service that makes those of a machine, before it and as long as it is wanted. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import systemd
from ansible_collections.microvm.host.plugins.module_utils._machines import places
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import Config

IP = "/usr/sbin/ip"


def taps(config: Config, name: str) -> list[tuple[str, str]]:
    """Name and bridge ("" for none) of each tap."""
    each = enumerate(config["interfaces"])
    return [(places.tap(name, index), tap["bridge"]) for index, tap in each if tap["type"] == "tap"]


def unit_text(config: Config, name: str) -> str | None:
    """The service, None for a machine without taps. A bridge that is not there yet is waited for, by trying again."""
    found = taps(config, name)
    if not found:
        return None
    start: list[str] = []
    stop: list[str] = []
    for tap, bridge in found:
        start.append("ExecStartPre=-%s link delete %s" % (IP, tap))  # what a power loss of the unit left
        start.append("ExecStart=%s tuntap add name %s mode tap user %s vnet_hdr" % (IP, tap, places.user(name)))
        if bridge:
            start.append("ExecStart=%s link set %s master %s" % (IP, tap, bridge))
        start.append("ExecStart=%s link set %s up" % (IP, tap))
        stop.append("ExecStopPost=-%s link delete %s" % (IP, tap))
    lines = [
        "[Unit]",
        "Description=Taps of the microVM %s (microvm.host)" % name,
        "PartOf=" + places.unit(name),
        "After=network.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=oneshot",
        "RemainAfterExit=yes",
        *start,
        *stop,
        "Restart=on-failure",
        "RestartSec=2",
        "",
    ]
    return made(lines)


def made(lines: t.Sequence[str]) -> str:
    """A unit's text, with who wrote it."""
    return systemd.MADE + "\n".join(lines)
