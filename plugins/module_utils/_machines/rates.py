# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a disk or an interface may do in a second. Private to microvm.host."""

from __future__ import annotations

import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import names

REFILL_MS = 1000
"""Both that know buckets refill them bit by bit within this time: so the size is the rate of a second."""
LEAST_BANDWIDTH = 4096
"""Bytes per second: less than a page never gets through the bucket of a second."""


def asked(given: t.Mapping[str, t.Any], field: str) -> dict[str, int]:
    """``bandwidth_limit`` (bytes per second) and ``iops_limit`` of a disk or interface, 0 for none.

    Raises HostError ``invalid``.
    """
    found = {"bandwidth_limit": 0, "iops_limit": 0}
    if given.get("bandwidth_limit") is not None:
        found["bandwidth_limit"] = names.size(given["bandwidth_limit"], field + "bandwidth_limit", LEAST_BANDWIDTH)
    if given.get("iops_limit") is not None:
        found["iops_limit"] = given["iops_limit"]
        if not 1 <= found["iops_limit"] <= 10**9:
            names.refuse(field + "iops_limit", "%d is not within 1 to 1000000000" % found["iops_limit"])
    return found


def limiter(limits: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """A RateLimiter of Firecracker's, empty for none."""
    sizes = _sizes(limits, "bandwidth", "ops")
    return {key: {"size": size, "refill_time": REFILL_MS} for key, size in sizes.items() if size}


def options(limits: t.Mapping[str, t.Any]) -> str:
    """The same in an option of Cloud Hypervisor's, with a comma before each."""
    sizes = _sizes(limits, "bw", "ops")
    return "".join(",%s_size=%d,%s_refill_time=%d" % (key, size, key, REFILL_MS) for key, size in sizes.items() if size)


def throttling(limits: t.Mapping[str, t.Any]) -> str:
    """The same in a drive of QEMU's, with a comma before each."""
    sizes = _sizes(limits, "bps", "iops")
    return "".join(",throttling.%s-total=%d" % (key, size) for key, size in sizes.items() if size)


def _sizes(limits: t.Mapping[str, t.Any], bandwidth: str, requests: str) -> dict[str, int]:
    """Both by the names that a hypervisor has for them; a definition of an older version has neither."""
    return {bandwidth: limits.get("bandwidth_limit", 0), requests: limits.get("iops_limit", 0)}
