# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Debian mirror this machine uses and how it gets there, read from apt's own configuration."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Mirror:
    """How packages are fetched: `url` of Debian's main archive (None: no apt source names one), proxy and CA file."""

    url: str | None = None
    proxies: dict[str, str] = field(default_factory=dict)
    ca_file: str | None = None


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout
    except FileNotFoundError:
        return ""


def _codename() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    return ""


def _main_archive() -> str | None:
    """The URI of Debian's own main component; third-party sources and the security archive are passed over."""
    fallback = None
    text = _output("apt-get", "indextargets", "--format", "$(CREATED_BY)|$(COMPONENT)|$(ORIGIN)|$(RELEASE)|$(REPO_URI)")
    for line in text.splitlines():
        created_by, component, origin, release, uri = line.split("|")
        if created_by != "Packages" or component != "main" or "-security" in release or "security" in uri:
            continue
        if origin == "Debian":
            return uri.rstrip("/")
        if not origin and release == _codename():  # no lists downloaded yet: the origin is not known
            fallback = fallback or uri.rstrip("/")
    return fallback


def read_mirror() -> Mirror:
    """Read mirror, proxies and CA file from apt-get indextargets and apt-config."""
    proxies: dict[str, str] = {}
    ca_file = None
    for line in _output("apt-config", "dump").splitlines():
        key, dummy, value = line.partition(" ")
        value = value.strip('";')
        if not value:
            continue
        if key in ("Acquire::http::Proxy", "Acquire::https::Proxy"):
            proxies[key.split("::")[1]] = value
        elif key == "Acquire::https::CAInfo" or key.lower() == "acquire::https::cainfo":
            ca_file = value
    return Mirror(_main_archive(), proxies, ca_file)
