# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is mounted (mountinfo), and the kernel's mount API. Private to microvm.host.

The calls are those of fsopen(2), fsconfig(2), fsmount(2), move_mount(2), mount_setattr(2) (Linux 5.12 and later),
and open_tree(2), made through libc's syscall(): Python has no names for them.
"""

from __future__ import annotations

import errno
import os
import typing as t

MOVE_MOUNT_F_EMPTY_PATH = 4
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
CLOEXEC = 1
AT_FDCWD = -100
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
OPEN_TREE_CLONE = 1
AT_RECURSIVE = 0x8000
MS_SLAVE = 1 << 19
CLONE_NEWNS = 0x20000

# The numbers are the same on every architecture Linux 5.12 runs on, but alpha.
SYSCALLS = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "mount_setattr": 442,
}

ATTRIBUTES = {
    "ro": 0x1,
    "nosuid": 0x2,
    "nodev": 0x4,
    "noexec": 0x8,
    "noatime": 0x10,
    "strictatime": 0x20,
    "nodiratime": 0x80,
}
"""Per-mount flags by the names that mountinfo and mount(8) give them (MOUNT_ATTR_* of linux/mount.h)."""
ATIME_MASK = 0x70


class Mount(t.NamedTuple):
    """One line of mountinfo (proc(5)); ``flags`` belong to the mount, ``options`` to the file system.

    ``tags`` are its propagation (``shared:1``, ``master:1``; none: private).
    """

    id: int
    parent: int
    device: str
    root: str
    path: str
    flags: tuple[str, ...]
    tags: tuple[str, ...]
    fstype: str
    source: str
    options: tuple[str, ...]


def table(pid: str = "self") -> list[Mount]:
    """All mounts of a process's namespace, in the order of mountinfo: of two on one path the later is on top."""
    with open("/proc/%s/mountinfo" % pid, encoding="utf-8", errors="surrogateescape") as lines:
        return [parse_line(line) for line in lines]


def parse_line(line: str) -> Mount:
    """One mountinfo line as a Mount, with the octal escapes undone."""
    left, right = line.rstrip("\n").split(" - ", 1)
    first = left.split(" ")
    last = right.split(" ")
    options = tuple(last[2].split(",")) if len(last) > 2 else ()
    return Mount(
        id=int(first[0]),
        parent=int(first[1]),
        device=first[2],
        root=_plain(first[3]),
        path=_plain(first[4]),
        flags=tuple(first[5].split(",")),
        tags=tuple(first[6:]),
        fstype=last[0],
        source=_plain(last[1]),
        options=options,
    )


def _plain(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\043", "#"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def stack_at(path: str, mounts: t.Iterable[Mount]) -> list[Mount]:
    """The mounts on ``path``, the visible one last."""
    return [mount for mount in mounts if mount.path == path]


def in_host_namespace() -> bool:
    """True when this process sees the mounts of PID 1 and what it mounts will be seen by the host."""
    return os.readlink("/proc/self/ns/mnt") == os.readlink("/proc/1/ns/mnt")


class KernelRefused(OSError):
    """A mount call failed; ``said`` is what the kernel wrote into the file-system context, if anything."""

    def __init__(self, number: int, call: str, said: t.Sequence[str] = ()) -> None:
        super().__init__(number, os.strerror(number))
        self.call = call
        self.said = list(said)

    def __str__(self) -> str:
        text = "%s: %s" % (self.call, os.strerror(self.errno or 0))
        return text + (" (%s)" % "; ".join(self.said) if self.said else "")


def _syscall(name: str, *arguments: t.Any) -> int:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(ctypes.c_long(SYSCALLS[name]), *arguments)
    if result < 0:
        raise KernelRefused(ctypes.get_errno(), name)
    return int(result)


def attributes(flags: t.Iterable[str]) -> int:
    """The MOUNT_ATTR_* bits of per-mount flags (names of ATTRIBUTES; ``relatime`` is no bit)."""
    return sum(ATTRIBUTES.get(flag, 0) for flag in set(flags))


def detached(fstype: str, parameters: t.Iterable[tuple[str, str | None]], flags: t.Iterable[str]) -> int:
    """Mount a file system where nobody can see it and return the descriptor of its root.

    ``parameters`` are (key, value) pairs for fsconfig, None for a flag. Closing the descriptor, or dying, unmounts.
    Raises KernelRefused with the kernel's own words.
    """
    import ctypes

    context = _opened(fstype)
    try:
        _set(context, parameters)
        _config(context, FSCONFIG_CMD_CREATE, None, None)
        return _syscall("fsmount", ctypes.c_int(context), ctypes.c_uint(CLOEXEC), ctypes.c_uint(attributes(flags)))
    except KernelRefused as refused:
        raise KernelRefused(refused.errno or 0, refused.call, _messages(context)) from None
    finally:
        os.close(context)


def reconfigure(path: str, parameters: t.Iterable[tuple[str, str | None]]) -> None:
    """Give the file system mounted at ``path`` other options. Raises KernelRefused with the kernel's words."""
    import ctypes

    arguments = (ctypes.c_int(AT_FDCWD), ctypes.c_char_p(os.fsencode(path)), ctypes.c_uint(CLOEXEC))
    context = _syscall("fspick", *arguments)
    try:
        _set(context, parameters)
        _config(context, FSCONFIG_CMD_RECONFIGURE, None, None)
    except KernelRefused as refused:
        raise KernelRefused(refused.errno or 0, refused.call, _messages(context)) from None
    finally:
        os.close(context)


def takes(fstype: str, key: str, value: str) -> bool:
    """Whether this kernel's file system knows an option; nothing is mounted and nobody is asked."""
    context = None
    try:
        context = _opened(fstype)
        _set(context, [(key, value)])
    except KernelRefused:
        return False
    finally:
        if context is not None:
            os.close(context)
    return True


def _opened(fstype: str) -> int:
    import ctypes

    return _syscall("fsopen", ctypes.c_char_p(fstype.encode()), ctypes.c_uint(CLOEXEC))


def _set(context: int, parameters: t.Iterable[tuple[str, str | None]]) -> None:
    import ctypes

    for key, value in parameters:
        if value is None:
            _config(context, FSCONFIG_SET_FLAG, ctypes.c_char_p(key.encode()), None)
        else:
            text = ctypes.c_char_p(os.fsencode(value))
            _config(context, FSCONFIG_SET_STRING, ctypes.c_char_p(key.encode()), text)


def _config(context: int, command: int, key: t.Any, value: t.Any) -> None:
    import ctypes

    _syscall("fsconfig", ctypes.c_int(context), ctypes.c_uint(command), key, value, ctypes.c_int(0))


def _messages(context: int) -> list[str]:
    """What the kernel logged in the context: one message a read, ENODATA when there is no more."""
    found: list[str] = []
    while len(found) < 20:
        try:
            line = os.read(context, 8192)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            break
        found.append(line.decode(errors="replace").strip().split(" ", 1)[-1])
    return found


def attach(mount: int, path: str) -> None:
    """Put a detached mount in place at ``path``, an existing directory."""
    import ctypes

    _syscall(
        "move_mount",
        ctypes.c_int(mount),
        ctypes.c_char_p(b""),
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH),
    )


def own_namespace() -> None:
    """Give this process a copy of the mounts; what it changes nobody else sees, and it goes with the process."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(ctypes.c_int(CLONE_NEWNS)) != 0:
        raise KernelRefused(ctypes.get_errno(), "unshare")
    record = (ctypes.c_uint64 * 4)(0, 0, MS_SLAVE, 0)
    flags = ctypes.c_uint(AT_RECURSIVE)
    _syscall("mount_setattr", ctypes.c_int(AT_FDCWD), ctypes.c_char_p(b"/"), flags, record, ctypes.c_size_t(32))


def bind(source: str, path: str) -> None:
    """Have the file or directory ``source`` at ``path`` too, without what is mounted below it. Raises KernelRefused."""
    import ctypes

    flags = ctypes.c_uint(OPEN_TREE_CLONE | os.O_CLOEXEC)
    tree = _syscall("open_tree", ctypes.c_int(AT_FDCWD), ctypes.c_char_p(os.fsencode(source)), flags)
    try:
        attach(tree, path)
    finally:
        os.close(tree)


def detach(path: str) -> None:
    """Unmount what is on top at ``path``; never lazily, never by force. Raises KernelRefused (EBUSY when in use)."""
    _unmount(path, UMOUNT_NOFOLLOW)


def let_go(path: str) -> None:
    """Take what is on top at ``path`` out of the tree; who uses it keeps it, and with the last it is unmounted.

    Nothing is lost and nobody sees whether it ever ends. Raises KernelRefused.
    """
    _unmount(path, UMOUNT_NOFOLLOW | MNT_DETACH)


def _unmount(path: str, how: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(ctypes.c_char_p(os.fsencode(path)), ctypes.c_int(how)) != 0:
        raise KernelRefused(ctypes.get_errno(), "umount")


def set_flags(path: str, flags: t.Iterable[str]) -> None:
    """Give the mount at ``path`` exactly these per-mount flags, in place (mount_setattr)."""
    import ctypes

    wanted = attributes(flags)
    clear = (sum(ATTRIBUTES.values()) & ~wanted) | ATIME_MASK
    record = (ctypes.c_uint64 * 4)(wanted, clear, 0, 0)
    _syscall(
        "mount_setattr",
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.c_uint(0),
        record,
        ctypes.c_size_t(32),
    )
