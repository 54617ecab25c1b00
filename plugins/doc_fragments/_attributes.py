# Copyright (c) 2026 microvm.host contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all modules promise. Private to microvm.host."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments: of every module, of those that keep a resource, that only tell, that run on the controller."""

    DOCUMENTATION = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/microvm.host.host) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - microvm.host.host
  platform:
    description: The platforms that can be operated against.
    support: full
    platforms: linux
    details:
      - Tested on Debian 12 and Debian 13.
requirements:
  - Python 3.9 or newer, its standard library only
  - root on the managed host
"""

    RESOURCE = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
    details:
      - Nothing is changed on the host or on a server. At most a connection is opened, to see whether a server answers.
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: full
    details:
      - One entry for each item that changes. Check mode shows the same diff as the run.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
    support: full
requirements:
  - Linux 5.12 or newer, for mounts that are probed before anybody can see them
notes:
  - All items are validated before any is touched. After that they are independent; one that fails is rolled back and
    reported while the others go on, and the task then fails naming the failed ones.
  - Nothing waits without a limit. What may hang on a dead server runs in a child process that has a deadline.
  - A resource that is unchanged and in place, but whose server does not answer, is not a failure. It is returned with
    its status, and a warning is given. A change that was needed and could not be made is a failure.
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
    details:
      - This module never changes anything.
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: N/A
    details:
      - This module never changes anything.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
    support: full
    details:
      - This module never changes anything.
"""

    CONTROLLER = r"""
options: {}
attributes:
  action:
    description:
      - Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
    details:
      - All of it runs on the controller.
  action_group:
    description: Use C(group/microvm.host.host) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - microvm.host.host
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
  diff_mode:
    description:
      - Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: full
    details:
      - One entry for each item that changes. It tells that there is a secret, or another one; never the secret.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
    support: partial
    details:
      - All states but O(state=rotated), which makes a new secret each time.
  platform:
    description: The platforms that can be operated against.
    support: full
    platforms: posix
requirements:
  - ansible-core 2.19 or newer on the controller
"""
