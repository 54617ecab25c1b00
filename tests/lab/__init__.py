# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disposable real hosts and storage servers for tests. See README.md; command line: python3 -m tests.lab."""

from __future__ import annotations

from tests.lab.borrow import borrow
from tests.lab.filer import Filer
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.machine import LabError
from tests.lab.samba import SmbServer
from tests.lab.server import NfsServer

__all__ = ["Filer", "Host", "Lab", "LabError", "NfsServer", "SmbServer", "borrow"]
