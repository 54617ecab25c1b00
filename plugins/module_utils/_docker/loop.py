# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One event loop: descriptors and clocks. Private to microvm.host.

asyncio would do, and would cost the daemon as much memory again as all the rest of it.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import time
import typing as t

Call = t.Callable[[], None]
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Timer:
    """Something to be done at a reading of time.monotonic()."""

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call

    def cancel(self) -> None:
        """It is not done any more."""
        self.call = None


class Loop:
    """Calls what is due."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.timers: list[tuple[float, int, Timer]] = []
        self.order = itertools.count()

    def watch(self, fd: int, call: Call, events: int = READ) -> None:
        """Call ``call`` whenever a descriptor is ready; a second time it replaces what was asked first."""
        if fd in self.selector.get_map():
            self.selector.modify(fd, events, call)
        else:
            self.selector.register(fd, events, call)

    def unwatch(self, fd: int) -> None:
        """No longer watch a descriptor, which may be closed already."""
        if fd in self.selector.get_map():
            self.selector.unregister(fd)

    def at(self, when: float, call: Call) -> Timer:
        """Call ``call`` once, at ``when`` (time.monotonic())."""
        timer = Timer(call)
        heapq.heappush(self.timers, (when, next(self.order), timer))
        return timer

    def turn(self) -> None:
        """Wait for what is due next, and do it."""
        while self.timers and self.timers[0][2].call is None:
            heapq.heappop(self.timers)
        left = max(0.0, self.timers[0][0] - time.monotonic()) if self.timers else None
        for key, dummy in self.selector.select(left):
            # What was done before may have taken this one away.
            if self.selector.get_map().get(key.fd) is key:
                key.data()
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            call = heapq.heappop(self.timers)[2].call
            if call is not None:
                call()

    def close(self) -> None:
        """Give its descriptors back."""
        self.selector.close()
