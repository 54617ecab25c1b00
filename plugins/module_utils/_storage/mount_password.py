# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords of mounts: what proves a new one, puts it at rest, gives it to a live mount. Private to microvm.host.

Loaded when it is not as it should be.
"""

from __future__ import annotations

import os
import typing as t
import uuid

from ansible_collections.microvm.host.plugins.module_utils._core import registry
from ansible_collections.microvm.host.plugins.module_utils._core.plan import Plan, Step
from ansible_collections.microvm.host.plugins.module_utils._host import holders, secret
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError
from ansible_collections.microvm.host.plugins.module_utils._storage import credentials, filesystems, mount_changes

if t.TYPE_CHECKING:
    from ansible_collections.microvm.host.plugins.module_utils._storage.mount import Part, Use
    from ansible_collections.microvm.host.plugins.module_utils._storage.observed import Seen


def bring(use: Use, seen: Seen, row: registry.Row | None, part: Part, found: str) -> None:
    """The steps that prove a password and put it at rest, and give it to a live mount.

    ``found`` is the state of its file: see credentials.state.
    """
    from_file = row["asked"].get("credentials") if row else ""
    system = filesystems.guarded(use.asked)
    login = system.login(use.asked) if system else None
    if from_file and (login is None or login.file != from_file):
        part.steps.append(removal(from_file))
    if system is None or login is None or found == "current":
        return
    if found == "missing" and not use.secret:
        text = "%s logs in as %s, and no password is given or kept" % (system.source(use.asked), login.username)
        raise HostError("invalid", text, "give the password", field="password")
    if part.before:
        part.before["password"], part.after["password"] = found, "current"
    stack = seen.stack(row["path"]) if row else []
    if found != "edited":
        _prove(use, seen, row, part, bool(stack) and not system.can_renew())
    part.steps.append(_write_credentials(login, use, found, seen))
    if found != "edited" and row is not None and stack and not mount_changes.goes_out(part.steps, placing=True):
        part.steps.append(_renew(use, row))


def _prove(use: Use, seen: Seen, row: registry.Row | None, part: Part, remount: bool) -> None:
    """The steps that prove a password; ``remount``: a live mount gets it only when it is mounted again."""
    who = holders.of_mount(row["path"]) if row and remount else []
    if row and remount and not mount_changes.goes_out(part.steps, placing=True):
        if not who:
            part.steps.append(mount_changes.attach(use, seen, row["path"], replaces=True))
            return
        part.pending = who
        text = "%s keeps its old password while it is in use by %s: the first run that finds it idle mounts it again"
        part.warnings.append(text % (row["path"], ", ".join(who)))
    if not mount_changes.goes_out(part.steps):
        from ansible_collections.microvm.host.plugins.module_utils._storage import credential_steps

        part.steps.insert(0, credential_steps.Prove(use.asked, use.secret, use.seconds))


def _write_credentials(login: credentials.Login, use: Use, found: str, seen: Seen) -> Step:
    from ansible_collections.microvm.host.plugins.module_utils._storage import credential_steps

    return credential_steps.WriteCredentials(
        file=login.file,
        username=login.username,
        domain=login.domain,
        secret=use.secret,
        replaces=found != "missing",
        makes=mount_changes.missing(os.path.dirname(login.file), seen, use.seconds),
        nonce=uuid.uuid4().hex[:8],
    )


def removal(file: str) -> Step:
    """The step that removes a credentials file."""
    from ansible_collections.microvm.host.plugins.module_utils._storage import credential_steps

    return credential_steps.RemoveCredentials(file, uuid.uuid4().hex[:8])


def _renew(use: Use, row: registry.Row) -> Step:
    from ansible_collections.microvm.host.plugins.module_utils._storage import credential_steps

    return credential_steps.RenewSecret(use.asked, row["path"], row["address"] or "", use.secret, use.seconds)


def proven(name: str, use: Use) -> Plan:
    """The plan of a use whose password is only tried: it changes nothing, and takes one login."""
    system = filesystems.guarded(use.asked)
    if system is None:
        raise HostError("invalid", "there is no password to check: nobody logs in", field="secret_check")
    login, given = t.cast("credentials.Login", system.login(use.asked)), secret.of(use.secret)
    if given is None:
        credentials.password(login)  # raises when there is none

    def prove() -> dict[str, t.Any]:
        system.prove(use.asked, use.seconds, given)
        return {}

    return Plan(name, {}, {}, proof=prove, seconds=use.seconds)
