# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this host can run what is asked of a machine; a call that plans twice looks once. Private to microvm.host."""

from __future__ import annotations

import functools
import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import command, deadline
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._machines import fit, hypervisor, places
from ansible_collections.microvm.host.plugins.module_utils._machines.seen import LOOK_SECONDS

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan
    from ansible_collections.microvm.host.plugins.module_utils._machines.definition import Config
    from ansible_collections.microvm.host.plugins.module_utils._shares.virtiofs import Daemon


class Checks:
    """What was found of one call's machines."""

    def __init__(self) -> None:
        self._recent: set[str] = set()
        """Binaries whose version will do; to run one takes as long as to start a machine."""
        self._fits: dict[str, tuple[Config, hypervisor.Chosen]] = {}
        """Definitions that this host can run."""

    def binary(self, plan: Plan, config: Config, chosen: hypervisor.Chosen, prefix: str, written: bool) -> None:
        """Refuse a binary that is too old; ``written``: the unit that starts it is yet to be."""
        if not os.path.exists(chosen.binary):
            text = "there is no file %s" % chosen.binary
            plan.assumes.append(HostError("not_found", text, "the role prepare_host installs it"))
            return
        changed = written or hypervisor.newer(chosen, places.unit_file(places.unit(plan.name)))
        if changed and chosen.binary not in self._recent:
            hypervisor.refuse_old(chosen, prefix + ("binary" if config["binary"] else "hypervisor"))
            self._recent.add(chosen.binary)

    def host(self, plan: Plan, config: Config, chosen: hypervisor.Chosen, prefix: str, daemon: Daemon | None) -> None:
        """Refuse what this host can't run; check mode assumes that what is missing comes with an earlier task."""
        if daemon is not None and not os.path.exists(daemon.path):
            text = "there is no file %s" % daemon.path
            plan.assumes.append(HostError("not_found", text, "the role prepare_host installs virtiofsd"))
        if self._fits.get(plan.name) == (config, chosen):
            return
        try:
            work = functools.partial(fit.refuse_unfit_for, places.user(plan.name), config, chosen, prefix)
            deadline.call(work, LOOK_SECONDS, "looking at kernel, disks and shares")
            self._fits[plan.name] = (config, chosen)
        except HostError as error:
            if error.kind != "not_found" or not command.reading_only():
                raise
            plan.assumes.append(error)
