# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""microvm-tool: what a host does without Ansible. Private to microvm.host."""

from __future__ import annotations

import argparse


def main(version: str) -> int:
    """Run the sub-command of the command line; the exit code is 0 when all of it succeeded."""
    parser = argparse.ArgumentParser(prog="microvm-tool", description="What a microvm.host host does without Ansible.")
    parser.add_argument("--version", action="version", version="microvm-tool %s" % version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "recover",
        help="settle what killed runs left open, check the mounts of backends, and mount what failed at boot",
    )
    parser.parse_args()
    from ansible_collections.microvm.host.plugins.module_utils._tool import recover

    return recover.run()
