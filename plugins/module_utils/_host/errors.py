# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception of the collection. Private to microvm.host."""

from __future__ import annotations

import typing as t

KINDS = (
    "invalid",
    "unreachable",
    "refused",
    "auth",
    "not_found",
    "stale",
    "busy",
    "in_use",
    "full",
    "unsupported",
    "conflict",
    "timeout",
    "interrupted",
    "internal",
)


class HostError(Exception):
    """A failure the user can act on.

    ``message`` says what failed, on what and why; ``hint`` what to do next.
    ``field`` names the option at fault as the user wrote it (``backends[3].server``).
    ``command``, ``rc`` and ``stderr`` are set when a program of the host refused.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        hint: str = "",
        field: str | None = None,
        command: t.Sequence[str] | None = None,
        rc: int | None = None,
        stderr: str | None = None,
    ) -> None:
        super().__init__(message)
        if kind not in KINDS:
            raise ValueError("unknown kind of error: %s" % kind)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.field = field
        self.command = None if command is None else list(command)
        self.rc = rc
        self.stderr = stderr

    def in_field(self, field: str) -> HostError:
        """The same error, naming ``field`` when it names none yet."""
        if self.field is None:
            self.field = field
        return self

    def as_dict(self, item: str | None = None) -> dict[str, t.Any]:
        """The ``error`` of a result: kind, item and hint always, the rest when known."""
        found: dict[str, t.Any] = {"kind": self.kind, "item": item, "hint": self.hint}
        for key in ("field", "command", "rc", "stderr"):
            value = getattr(self, key)
            if value is not None:
                found[key] = value
        return found

    def packed(self) -> dict[str, t.Any]:
        """As JSON-able data, to cross the pipe from a child; ``unpacked`` reads it."""
        return dict(self.as_dict(), message=self.message)

    @classmethod
    def unpacked(cls, data: dict[str, t.Any]) -> HostError:
        """The error that ``packed`` wrote."""
        return cls(
            data["kind"],
            data["message"],
            data["hint"],
            field=data.get("field"),
            command=data.get("command"),
            rc=data.get("rc"),
            stderr=data.get("stderr"),
        )
