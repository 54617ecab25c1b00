# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A LUN without a volume group, perhaps seen by several hosts: one of them formats it. Private to microvm.host."""

from __future__ import annotations

import contextlib
import dataclasses
import time

from ansible_collections.microvm.host.plugins.module_utils._host import deadline, disk, iscsi, lvm
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import iscsi_lvm

POLL_SECONDS = 0.3
CLAIM_HOLDS = 15.0
"""How long a claim of another host on a blank LUN is respected after its last beat, s: that host is dead then."""
FORMAT_SECONDS = 600.0
"""How long hosts may compete for a LUN before one gives up, s."""


@dataclasses.dataclass(frozen=True)
class BlankLun:
    """The LUN ``asked``, this host's ``device``, as host ``own`` meets it. ``pv``: the UUID that it gives it.

    ``allowed``: it may be formatted. ``seconds``: of each command. ``progress`` is told of every sign of life.
    """

    asked: iscsi_lvm.Asked
    device: iscsi.Disk
    own: str
    pv: str
    allowed: bool
    seconds: float
    progress: deadline.Progress

    def formatted(self, seen: lvm.Found) -> lvm.Found:
        """What is on it in the end: this host's group, or that of another host which formatted it meanwhile.

        ``seen``: what LVM has just said. Raises HostError: ``conflict`` when it is not blank, ``not_found`` when it
        is and may not be formatted, ``busy`` when other hosts are at it for too long; OSError.
        """
        node, where = self.device.node, "%s (%s)" % (iscsi_lvm.shown(self.asked), self.device.node)
        signs, there = self._signs(), disk.claimed(node)
        if self.allowed and there.who and not lvm.is_own(there.host, self.own):
            seen, there = self._wait()
            signs = [] if seen.pv else self._signs()
        elif signs:  # perhaps another host's, made since it was looked at
            seen = lvm.look(node)
        if seen.pv:
            return seen
        if signs:
            text = "%s is not blank: %s" % (where, "; ".join(signs))
            raise HostError("conflict", text, "check lun; wipe it by hand (wipefs -a) if that may go", field="lun")
        if not self.allowed:
            text = "%s carries no volume group" % where
            hint = "to format it, which destroys what is on it, give initialize: %s" % self.asked["vg"]
            raise HostError("not_found", text, hint, field="initialize")
        mine = "%s %s" % (self.own, self.pv)
        while not (disk.claim(node, mine, there) and not self._signs() and disk.renew(node, mine)):
            seen, there = self._wait()
            if seen.pv:
                return seen
        self._format(mine)
        self.progress.alive()
        seen = lvm.look(node)
        if seen.pv != self.pv or seen.group is None or not lvm.is_own(seen.group.system_id, self.own):
            text = "%s was formatted by another host at the same time" % where
            raise HostError("conflict", text, "run this again: it will be on standby")
        return seen

    def _format(self, mine: str) -> None:
        node = self.device.node

        def at_it() -> None:
            self.progress.alive()
            with contextlib.suppress(OSError):  # what is wrong with the disk the command itself tells better
                disk.renew(node, mine)

        for words in (
            ["pvcreate", "--uuid", self.pv, "--norestorefile", node],
            ["vgcreate", "--setautoactivation", "n", self.asked["vg"], node],
        ):
            self.progress.alive()
            if not disk.renew(node, mine):
                text = "%s is being formatted by another host too" % iscsi_lvm.shown(self.asked)
                raise HostError("busy", text, "run this again")
            lvm.change(node, self.own, words, self.seconds, alive=at_it)

    def _wait(self) -> tuple[lvm.Found, disk.Claim]:
        """The group that another host makes; without it when that host has given up, or its claim stands still."""
        node = self.device.node
        head, seen = b"", lvm.Found("", None)
        there, since = disk.claimed(node), time.monotonic()
        until = since + FORMAT_SECONDS
        while True:
            now = disk.head(node)
            if now != head:
                head, seen = now, lvm.look(node)
            claim = disk.claimed(node)
            if claim != there:
                there, since = claim, time.monotonic()
            still = time.monotonic() - since
            if seen.group or still >= (CLAIM_HOLDS if there.who else disk.CLAIM_SECONDS):
                return seen, there
            if time.monotonic() >= until:
                text = "%s is being formatted by %s" % (iscsi_lvm.shown(self.asked), there.host)
                raise HostError("busy", text, "run this again")
            self.progress.alive()
            time.sleep(POLL_SECONDS)  # the other host tells nobody when it is done

    def _signs(self) -> list[str]:
        self.progress.alive()
        signs = disk.signs(self.device.name)
        self.progress.alive()
        return signs
