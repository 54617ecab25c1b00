# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults: a kill at every call that changes something, power loss, dead servers, full disks, two hosts racing."""
