# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All steps of machines, by the names that a journal has of them. Private to microvm.host."""

from __future__ import annotations

from ansible_collections.microvm.host.plugins.module_utils._core.plan import Record, ReloadUnits, Step
from ansible_collections.microvm.host.plugins.module_utils._machines import live_steps, made_steps, start_steps

KINDS: dict[str, type[Step]] = {
    kind.__name__: kind
    for kind in (
        made_steps.MakeUser,
        made_steps.MakeSource,
        made_steps.ExtractKernel,
        made_steps.WriteMachine,
        live_steps.StopMachine,
        start_steps.StartMachine,
        live_steps.PauseMachine,
        live_steps.RegisterVolume,
        live_steps.TellGuest,
        live_steps.SetBalloon,
        made_steps.RemoveMachine,
        Record,
        ReloadUnits,
    )
}
