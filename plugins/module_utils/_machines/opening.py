# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening files as a machine's hypervisor will, which is a user of its own. Private to microvm.host."""

from __future__ import annotations

import grp
import os
import pwd

from ansible_collections.microvm.host.plugins.module_utils._host import files, names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError


def become(user: str) -> None:
    """Have the rights of a machine's user in this process, for good; of one yet to be made, those that any has."""
    try:
        entry = pwd.getpwnam(user)
        uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        uid, gid = names.GID, _group()  # not nobody, who owns what a server does not tell the owner of
    os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _group() -> int:
    try:
        return grp.getgrnam(names.GROUP).gr_gid
    except KeyError:
        return names.GID


def refuse_closed(what: str, path: str, writable: bool, user: str, field: str | None = None) -> None:
    """Open a file as the process that became ``user``. Raises HostError ``not_found`` or ``refused``."""
    try:
        os.close(os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC))
    except FileNotFoundError:
        hint = "make it, or its backend is not mounted"
        raise HostError("not_found", "there is no %s %s" % (what, path), hint, field=field) from None
    except PermissionError:
        text = "the user %s may not %s the %s %s" % (user, "write to" if writable else "read", what, path)
        mode = "0660" if writable else "0640"
        hint = "give it to the group %s with mode %s, and let that group into its directory" % (names.GROUP, mode)
        raise HostError("refused", text, hint, field=field) from None
    except OSError as error:
        refused = files.from_os(error, "opening the %s %s" % (what, path))
        raise (refused.in_field(field) if field else refused) from None
