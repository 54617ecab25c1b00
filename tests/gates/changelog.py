# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make changelog``: the entry of the version that galaxy.yml names, of its fragments and of what documents itself.

antsibull-changelog looks for new plugins and roles only when it makes an entry, so the one there is goes first.
"""

from __future__ import annotations

import datetime
import shutil
import subprocess

import yaml

from tests.gates.mirror import mirror
from tests.gates.paths import MIRROR, ROOT, environment

ENTRIES = "changelogs/changelog.yaml"


def main() -> None:
    """Write ``ENTRIES`` and CHANGELOG.md anew; the date of the entry stays."""
    mirror()
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    entries = yaml.safe_load((ROOT / ENTRIES).read_text())
    before = entries["releases"].pop(version, {})
    (MIRROR / ENTRIES).write_text(yaml.safe_dump(entries))
    date = before.get("release_date", datetime.date.today().isoformat())
    command = ["antsibull-changelog", "release", "--date", date, "--reload-plugins"]
    subprocess.run(command, cwd=MIRROR, env=environment(), check=True)
    for name in (ENTRIES, "CHANGELOG.md"):
        shutil.copyfile(MIRROR / name, ROOT / name)


if __name__ == "__main__":
    main()
