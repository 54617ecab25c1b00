# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A place that is another host's, as a group on a LUN can be: how that is told. Private to microvm.host.

``owner`` is the host by its system ID, "" when the group has none.
"""

from __future__ import annotations


def told(owner: str) -> str:
    """Whose it is, for a message."""
    return "belongs to %s" % (owner or "no host")


def hint(owner: str) -> str:
    """What to do about it."""
    from ansible_collections.microvm.host.plugins.module_utils._storage import iscsi_lvm  # seldom needed

    first = "do it there; if that host is dead for good, switch it off and" if owner else "if no host uses it,"
    return "%s take the group: storage_backend with takeover: %s" % (first, owner or iscsi_lvm.UNOWNED)
