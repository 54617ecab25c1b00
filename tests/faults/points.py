# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the strace of an undisturbed run to the places where the next one is killed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

LINE = re.compile(r"^(?P<pid>\d+) +(?:(?P<call>\w+)\((?P<rest>.*)|<\.\.\. (?P<resumed>\w+) resumed>(?P<end>.*))$")
RESULT = re.compile(r"= (\d+)(?:<.*>)?$")
WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
FORKS = ("fork", "vfork", "clone", "clone3")
NOWHERE = re.compile(r"^(/proc/|/sys/|/dev/|anon_inode)")


@dataclass(frozen=True)
class Event:
    """One call of a run. ``role`` is main, ``child N`` or ``program N``; ``count`` its number in that process."""

    role: str
    call: str
    count: int
    step: int
    where: str

    @property
    def key(self) -> str:
        """What makes it unique: role, step (registry transactions done before it), call, class of the path."""
        return f"{self.role} {self.step} {self.call} {self.where}"


def path_class(rest: str, call: str) -> str:
    """What kind of place the call is about, that which it writes: the path with everything random taken out."""
    if call == "copy_file_range":
        rest = re.sub(r"^\d+<[^>]*>, (\[\d+\]|NULL), ", "", rest)
    descriptor = re.match(r"(?:AT_FDCWD|\d+)<([^>]*)>", rest)
    quoted = re.findall(r'"((?:[^"\\]|\\.)*)"', rest)
    if call in ("fsconfig", "fsopen", "fsmount"):
        return quoted[0] if quoted else ""
    base = descriptor.group(1) if descriptor else ""
    if call in ("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "fchmod", "fchown", "fallocate"):
        found = base
    elif quoted and not quoted[-1].startswith("/") and descriptor:
        found = f"{base}/{quoted[-1]}"
    else:
        found = quoted[-1] if quoted and call != "execve" else (quoted or [base])[0]
    found = re.sub(r"^(pipe|socket):.*", r"\1", found)
    found = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{8,}", "H", found.replace("\\\\x2d", "-").replace("\\x2d", "-"))
    return re.sub(r"//+", "/", re.sub(r"\d{3,}", "N", found))


def roles(trace: str) -> dict[str, str]:
    """What each process of a trace is; programs and children of children are told apart from the module's own."""
    found: dict[str, str] = {}
    begun: dict[str, str] = {}
    forks = programs = 0
    for line in trace.splitlines():
        match = LINE.match(line)
        if not match:
            continue
        pid, call, rest = match["pid"], match["call"] or match["resumed"], match["rest"] or match["end"] or ""
        if not found:
            found[pid] = "main"
        if call not in FORKS or found.get(pid) != "main":
            continue
        begun[pid] = begun.get(pid, "") + rest
        made = RESULT.search(rest)
        if not made:
            continue
        if call == "vfork" or "CLONE_VFORK" in begun.pop(pid):
            programs += 1
            found[made[1]] = f"program {programs}"
        else:
            forks += 1
            found[made[1]] = f"child {forks}"
        begun.pop(pid, None)
    return found


def events(trace: str) -> Iterator[Event]:
    """The calls that change something, in the order in which they happened.

    What a program does after its start is its own business.
    """
    who = roles(trace)
    counts: Counter[tuple[str, str]] = Counter()
    step = 0
    for line in trace.splitlines():
        match = LINE.match(line)
        if not match or not match["call"] or match["call"] in FORKS:
            continue
        call, rest, role = match["call"], match["rest"], who.get(match["pid"])
        counts[match["pid"], call] += 1
        count = counts[match["pid"], call]
        if role is None or (role.startswith("program") and (call, count) != ("execve", 1)):
            continue
        where = path_class(rest, call)
        if (call == "openat" and not WRITING.search(rest)) or NOWHERE.match(where):
            continue
        yield Event(role, call, count, step, where)
        if role == "main" and call == "unlink" and where.endswith("registry.db-journal"):
            step += 1


def points(trace: str) -> list[Event]:
    """The unique kill points of a run."""
    found: dict[str, Event] = {}
    for event in events(trace):
        found.setdefault(event.key, event)
    return list(found.values())


def hit(trace: str) -> str | None:
    """``call path-class`` of the call at which a process was killed, None when none was."""
    for line in trace.splitlines():
        match = re.match(r"^(?:\d+ +)?(\w+)\((.*)= \?$", line)
        if match:
            return f"{match[1]} {path_class(match[2], match[1])}"
    return None
