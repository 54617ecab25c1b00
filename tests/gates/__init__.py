# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates: what must hold before a change lands. Each file is one of them or a tool they share."""
