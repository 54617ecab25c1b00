# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have Docker look for its volume drivers. Private to microvm.host.

Swarm's scheduler knows a driver of this kind only after dockerd has used it once, and asks no node to.
"""

from __future__ import annotations

import socket
import sys

DOCKER = "/run/docker.sock"
SECONDS = 60.0


def run(path: str = DOCKER) -> int:
    """List Docker's volumes, which starts the drivers it finds; 1 when Docker does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(SECONDS)
            connection.connect(path)
            connection.sendall(b"GET /volumes HTTP/1.0\r\nHost: docker\r\n\r\n")
            status = connection.makefile("rb").readline(4096).decode(errors="replace").strip()
    except OSError as error:
        sys.stderr.write("%s: %s\n" % (path, error))
        return 1
    sys.stdout.write(status + "\n")
    return 0 if " 200" in status else 1
