# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taps: the service that makes those of a machine, before it and as long as it is wanted. Private to microvm.host.

A macvtap is opened as a device whose name has a number that changes, so a hypervisor gets it as an open file.
"""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import systemd
from ansible_collections.microvm.host.plugins.module_utils._machines import places
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import Config

IP = "/usr/sbin/ip"


FIRST = 3
"""The first file that a hypervisor gets, behind input, output and errors."""


def taps(config: Config, name: str) -> list[tuple[str, dict[str, t.Any]]]:
    """Name and definition of each interface that the host has too."""
    each = enumerate(config["interfaces"])
    return [(places.tap(name, index), tap) for index, tap in each if tap["type"] != "user"]


def opened(config: Config, name: str) -> dict[str, int]:
    """The macvtaps, and the number of the open file that each is for the hypervisor."""
    found = [tap for tap, each in taps(config, name) if each["type"] == "macvtap"]
    return {tap: FIRST + index for index, tap in enumerate(found)}


def with_files(config: Config, name: str, words: list[str]) -> list[str]:
    """A hypervisor's command line, with what opens its macvtaps before it."""
    options = [word for tap in opened(config, name) for word in ("--tap", tap)]
    return [systemd.TOOL, "vm-macvtap", *options, "--", *words] if options else words


def unit_text(config: Config, name: str) -> str | None:
    """The service, None for a machine without taps.

    It does not try again by itself: a machine whose network is not made does not start, and tries again with it.
    """
    found = taps(config, name)
    if not found:
        return None
    start: list[str] = []
    stop: list[str] = []
    for tap, each in found:
        start.append("ExecStartPre=-%s link delete %s" % (IP, tap))  # what a power loss of the unit left
        if each["type"] == "macvtap":
            made = (IP, each["link"], tap, each["mac"], each["mode"])
            start.append("ExecStart=%s link add link %s name %s address %s type macvtap mode %s" % made)
            start.append("ExecStart=%s vm-macvtap --tap %s --give %s" % (systemd.TOOL, tap, places.user(name)))
        else:
            several = " multi_queue" if each.get("queues", 1) > 1 else ""  # both sides must say so, or neither
            user = places.user(name)
            start.append("ExecStart=%s tuntap add name %s mode tap user %s vnet_hdr%s" % (IP, tap, user, several))
        if each["bridge"]:
            start.append("ExecStart=%s link set %s master %s" % (IP, tap, each["bridge"]))
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
        "",
    ]
    return unit(lines)


def unit(lines: t.Sequence[str]) -> str:
    """A unit's text, with who wrote it."""
    return systemd.MADE + "\n".join(lines)
