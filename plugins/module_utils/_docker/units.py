# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd units of the volume driver: where they are and what they say. Private to microvm.host.

No setting here may give the service a mount namespace of its own (ProtectSystem=, PrivateTmp=, ReadWritePaths= ...):
containers would see empty directories instead of what it mounts.
"""

from __future__ import annotations

import os

from ansible_collections.microvm.host.plugins.module_utils._host import systemd

SOCKET = "docker-nfsd.socket"
SERVICE = "docker-nfsd.service"
PRIME = "docker-nfsd-prime.service"
ALL = (SOCKET, SERVICE, PRIME)
ADDRESS = "/run/docker/plugins/nfsd.sock"
"""Docker takes the name of the driver from the name of this file."""
BASE = "/var/lib/docker-volumes-nfsd"
"""Where volumes are mounted, each under its name."""
VERSION_FILE = "/run/microvm/docker-nfsd.version"
"""Where the running driver says which host tool it is."""

SOCKET_TEXT = """\
[Unit]
Description=Socket of Docker's volume driver nfsd (microvm.host)
Before=docker.service

[Socket]
ListenStream=%s
SocketMode=0600
DirectoryMode=0755
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""

# Before= makes it stop after Docker, whose last Unmounts it answers; KillMode=mixed lets it end them.
SERVICE_TEXT = """\
[Unit]
Description=Docker's volume driver nfsd (microvm.host)
Requires=%s
After=%s nss-lookup.target
Before=docker.service
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=%s nfsd --scope=%s
Restart=always
KillMode=mixed
TimeoutStopSec=120
LimitNOFILE=4096
UMask=0022
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER CAP_FSETID CAP_NET_BIND_SERVICE
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
LockPersonality=yes
RestrictRealtime=yes
SystemCallArchitectures=native
"""

PRIME_TEXT = """\
[Unit]
Description=Have Docker find its volume driver nfsd (microvm.host)
After=docker.service %s
PartOf=docker.service
ConditionPathExists=/run/docker.sock

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=%s nfsd --prime

[Install]
WantedBy=docker.service
"""


def texts(scope: str, prime: bool) -> dict[str, str]:
    """Unit name to text, of the units there shall be."""
    found = {
        SOCKET: systemd.MADE + SOCKET_TEXT % ADDRESS,
        SERVICE: systemd.MADE + SERVICE_TEXT % (SOCKET, SOCKET, systemd.TOOL, scope),
    }
    if prime:
        found[PRIME] = systemd.MADE + PRIME_TEXT % (SOCKET, systemd.TOOL)
    return found


def path_of(unit: str) -> str:
    """Where a unit is."""
    return os.path.join(systemd.DIRECTORY, unit)


def link_of(unit: str) -> str:
    """The link that has it started; "" for one that is started by another."""
    wanted_by = {SOCKET: "sockets.target", PRIME: "docker.service"}.get(unit)
    return os.path.join(systemd.DIRECTORY, wanted_by + ".wants", unit) if wanted_by else ""
