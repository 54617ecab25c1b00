# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel writes into its log while something is tried. Private to microvm.host.

From /dev/kmsg (Documentation/ABI/testing/dev-kmsg): one record a read, from where the log ended when it was opened.
"""

from __future__ import annotations

import errno
import os


class Log:
    """The kernel's log from now on; empty where it can't be read."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError:
            self.close()

    def since(self, begin: str) -> list[str]:
        """The messages since then that begin with ``begin``; closes it."""
        found = []
        while self._descriptor is not None:
            try:
                record = os.read(self._descriptor, 8192).decode(errors="replace")
            except OSError as error:
                if error.errno == errno.EPIPE:
                    continue  # some were overwritten
                self.close()
                break
            message = record.partition(";")[2].partition("\n")[0]
            if message.startswith(begin):
                found.append(message)
        return found

    def close(self) -> None:
        """Stop reading."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
